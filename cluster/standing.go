package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
)

// ErrForeignCluster is why a node stops whose directory belongs to another
// cluster than the one its peers are in.
var ErrForeignCluster = errors.New("the data directory belongs to another cluster than the peers do")

// ErrDuplicate is why a node stops whose id another live process has.
var ErrDuplicate = errors.New("another process with this node's id is alive")

// ErrRemoved is why a node stops that is not a member of its cluster any more.
var ErrRemoved = errors.New("this node was removed from its cluster; to take it in again empty its data directory and start it with join")

// patience is for how long peers must keep refusing a node as a duplicate until
// it stops: a process that ended a moment ago is not to keep its successor out.
const patience = 3 * time.Second

// standing is what the peers make of this node, from proved refusals only.
type standing struct {
	mu      sync.Mutex
	foreign map[string]string        // by peer: the cluster it belongs to
	twin    map[string]time.Duration // by peer: since when (clock.Mono) it refuses this node as a duplicate
}

// admitted takes note that a peer has accepted this node.
func (n *Node) admitted(p *peer) {
	n.standing.mu.Lock()
	defer n.standing.mu.Unlock()
	delete(n.standing.foreign, p.id)
	delete(n.standing.twin, p.id)
}

// notAdmitted logs why a dial failed, and stops the node if that says that it
// must not be part of this cluster.
func (n *Node) notAdmitted(p *peer, addr string, err error) {
	var r *refusal
	if errors.As(err, &r) && r.verdict == unknownNode && r.proved && r.cluster != "" && r.cluster == n.clusterID() {
		n.doubt.Store(true) // it was removed, or the other one is behind: a leader knows
		n.log.Debug("another node does not know this one", "node", p.id, "addr", addr)
		return
	}
	if !errors.As(err, &r) || r.verdict == notServingYet || r.verdict == unformed {
		n.log.Debug("no connection", "node", p.id, "addr", addr, "err", err)
		return
	}
	n.grumble("dial "+p.id, slog.LevelWarn, "another node refuses this one", "node", p.id, "addr", addr, "reason", r.Error())
	if r.proved {
		n.weigh(p, r)
	}
}

// weigh stops the node when a majority of the list is together in another cluster,
// or a peer goes on to see another process with this node's id.
func (n *Node) weigh(p *peer, r *refusal) {
	now := clock.Mono()
	n.standing.mu.Lock()
	defer n.standing.mu.Unlock()
	switch r.verdict {
	case wrongCluster:
		n.standing.foreign[p.id] = r.cluster
		together := 0
		for _, c := range n.standing.foreign {
			if c == r.cluster {
				together++
			}
		}
		if together > (len(n.others())+1)/2 {
			n.fail(fmt.Errorf("%w (ours is %s, theirs %s)", ErrForeignCluster, n.clusterID(), r.cluster))
		}
	case duplicate:
		since, known := n.standing.twin[p.id]
		if !known {
			n.standing.twin[p.id] = now
		} else if now-since > patience {
			n.fail(fmt.Errorf("%w: node %s sees it", ErrDuplicate, p.id))
		}
	default:
	}
}
