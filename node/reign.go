package node

import (
	"context"
	"sync/atomic"

	"github.com/holdfast/holdfast/cluster"
)

// reign is how far this node has come in being master of a term: raft elects it,
// its establishing entry is applied and opens the Proposer (keepEstablished), its
// role is master (watchRoles), and only then the cluster may hold it for the
// established leader, confirm it and tell others (Source.Established).
type reign struct {
	hint    chan struct{} // there may be a term to establish
	attempt atomic.Pointer[attempt]
	opened  atomic.Pointer[opening] // the last one
	steps   atomic.Uint64           // how often this node has stepped down
	serving atomic.Uint64           // the term in which the role is master, 0 if it is not
}

// attempt is an establishing entry under way.
type attempt struct {
	term   uint64
	cancel context.CancelFunc
}

// opening says that the Proposer was open for a term after this node had stepped
// down so many times. Stepping down makes it void.
type opening struct{ term, steps uint64 }

func (r *reign) init() { r.hint = make(chan struct{}, 1) }

// open tells whether the Proposer takes requests as that of the leader of term.
func (r *reign) open(term uint64) bool {
	o := r.opened.Load()
	return o != nil && *o == opening{term, r.steps.Load()}
}

// follow gives up an attempt whose term has passed, and asks for one if this
// node leads a term.
func (r *reign) follow(v *cluster.View) {
	if a := r.attempt.Load(); a != nil && (!v.RaftLeader || v.Term != a.term) {
		a.cancel()
	}
	if v.RaftLeader && !r.open(v.Term) {
		r.look()
	}
}

// look asks keepEstablished for another look.
func (r *reign) look() { poke(r.hint) }

// poke leaves a hint in a channel that holds one.
func poke(hint chan struct{}) {
	select {
	case hint <- struct{}{}:
	default:
	}
}

// keepEstablished has the establishing entry of every term this node wins
// committed, until ctx ends. watchRoles asks for it, also when the Proposer has shut
// itself since; finding it open costs nothing.
func (n *Node) keepEstablished(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.reign.hint:
		}
		if v := n.raft.View(); v.RaftLeader {
			n.establish(ctx, v.Term)
		}
	}
}

// establish opens the Proposer for a term this node leads.
func (n *Node) establish(ctx context.Context, term uint64) {
	ctx, cancel := context.WithTimeout(ctx, n.bound())
	defer cancel()
	n.reign.attempt.Store(&attempt{term, cancel})
	defer n.reign.attempt.Store(nil)
	if !n.awaitTime(ctx) {
		return
	}
	now := opening{term, n.reign.steps.Load()}
	if err := n.proposer.Establish(ctx, term); err != nil {
		n.log.Warn("leadership is not established", "term", term, "err", err)
		return
	}
	if !n.reign.open(term) {
		n.reign.opened.Store(&now)
		n.roles.look()
	}
}
