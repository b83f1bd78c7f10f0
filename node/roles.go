package node

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/sentinelapi"
)

// roles is what this node is to its clients. It follows the cluster's View,
// which is a level: every hint leads to another look at the whole.
type roles struct {
	current atomic.Pointer[respserver.Role]
	hint    chan struct{} // something other than the View may have changed
	quorum  atomic.Bool   // this node has contact with a majority

	establishing atomic.Bool              // an establishing entry is under way
	lastMaster   atomic.Pointer[sighting] // the last master that was named

	// The rest belongs to the goroutine of watchRoles.
	announced sentinelapi.View // the last view with a master that subscribers were told
}

func (r *roles) init() {
	r.hint = make(chan struct{}, 1)
	r.current.Store(&respserver.Role{Loading: true})
}

// Role is the present role. It is one atomic load.
func (r *roles) Role() respserver.Role { return *r.current.Load() }

// look asks for another look.
func (r *roles) look() {
	select {
	case r.hint <- struct{}{}:
	default:
	}
}

// watchRoles follows the View until ctx ends. At the end it lets go of what
// leadership there is: what is unsent is refused, what is sent is in doubt.
func (n *Node) watchRoles(ctx context.Context) error {
	every := time.NewTicker(n.settings.Config().ElectionTimeout / 4) // ages pass without a hint
	defer every.Stop()
	defer n.proposer.StepDown()
	for {
		n.follow(ctx, n.raft.View())
		select {
		case <-ctx.Done():
			return nil
		case <-n.raft.Changed():
		case <-n.roles.hint:
		case <-every.C:
		}
	}
}

// follow makes the role what the view says it is.
func (n *Node) follow(ctx context.Context, v cluster.View) {
	if v.RaftLeader && !v.IsLeader {
		n.establish(ctx, v.Term)
	}
	n.takeSettings()
	next := n.roleOf(v)
	last := n.roles.Role()
	if last.Master && !next.Master {
		n.stepDown(&next)
	} else if next != last {
		n.roles.current.Store(&next)
	}
	if next.Master != last.Master || next.Loading != last.Loading {
		n.log.Info("role", "master", next.Master, "loading", next.Loading, "term", v.Term, "leader", v.Leader)
	}
	n.followQuorum(v)
	n.tellSubscribers(v)
}

// stepDown ends this node's time as master. Connections end before the role
// changes: a client that was served by the master is never served by a replica
// on the same connection.
func (n *Node) stepDown(next *respserver.Role) {
	n.data.CloseClients()
	n.proposer.StepDown()
	n.roles.current.Store(next)
	n.data.CloseClients() // those who came in between
}

// roleOf is what clients are told for a view.
func (n *Node) roleOf(v cluster.View) respserver.Role {
	r := respserver.Role{Master: v.IsLeader, Loading: !v.Ready}
	if v.Leader == "" || v.Leader == v.Self {
		return r
	}
	if m, ok := n.member(v, v.Leader); ok {
		r.MasterHost, r.MasterPort, r.LinkUp = m.DataHost, m.DataPort, true
	}
	return r
}

// followQuorum closes the Sentinel clients of a node that has lost the majority,
// so that they ask another one.
func (n *Node) followQuorum(v cluster.View) {
	if had := n.roles.quorum.Swap(v.Quorum); had && !v.Quorum {
		n.log.Warn("contact with the majority lost; Sentinel clients are sent away")
		n.sentinel.CloseClients()
	}
}

// establish commits the establishing entry of a term this node has just won, in
// the background; one at a time.
func (n *Node) establish(ctx context.Context, term uint64) {
	if !n.roles.establishing.CompareAndSwap(false, true) {
		return // the next look tries again
	}
	go func() { // ends with ctx or the bound
		ctx, cancel := context.WithTimeout(ctx, n.bound())
		defer cancel()
		if err := n.proposer.Establish(ctx, term); err != nil {
			n.log.Warn("cannot establish leadership", "term", term, "err", err)
		}
		n.roles.establishing.Store(false)
		n.raft.Look()
	}()
}

// tellSubscribers publishes what has changed for Sentinel clients: after the new
// master serves and after replies show the new view.
func (n *Node) tellSubscribers(v cluster.View) {
	view := n.sentinelView(v)
	if !view.MasterKnown || !v.Ready {
		return
	}
	for _, m := range sentinelapi.Diff(n.roles.announced, view) {
		n.hub.Publish(m.Channel, []byte(m.Payload))
	}
	n.roles.announced = view
}
