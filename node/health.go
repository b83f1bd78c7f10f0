package node

import (
	"context"
	"maps"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// health is what the cluster has recorded of its nodes' health.
func (n *Node) health() map[string]store.Health {
	if sys := n.system.Load(); sys != nil {
		return sys.Health
	}
	return nil
}

// healthNow is the health of all nodes that clients can be told of, as this node sees
// it. lost is the master that was lost, "" if none was.
func (n *Node) healthNow(v *cluster.View, lost string) map[string]store.Health {
	recorded, members := n.health(), n.members()
	now := make(map[string]store.Health, len(v.Voters))
	for _, id := range v.Voters {
		if _, ok := members[id]; !ok {
			continue // where it serves clients has to be recorded first
		}
		h := n.healthOf(v, id, recorded[id])
		if id == lost {
			h.Down, h.Deposed = true, true
		}
		now[id] = h
	}
	return now
}

// healthOf is the health of one node; last is what was recorded. A node is down when it
// has answered nothing for two election timeouts, and up again when it has answered what it
// was asked after it was recorded as down.
func (n *Node) healthOf(v *cluster.View, id string, last store.Health) store.Health {
	if id == v.Self {
		return store.Health{Process: v.Process}
	}
	h := store.Health{Down: true, Process: last.Process}
	for i := range v.Peers {
		p := &v.Peers[i]
		if p.ID != id {
			continue
		}
		h.Down = !p.Contact && p.Age >= n.masterBound()
		if p.Contact && p.Process != 0 {
			h.Process = p.Process
		}
		if last.Down && p.Age >= n.news.since(id, n.clock.Boot()) {
			h.Down = true
		}
	}
	h.Deposed = last.Deposed && h.Down
	return h
}

// healthAtElection is what this node records when it becomes master: the master before it
// is down, unless it has handed over. Should that one answer nevertheless, the next record
// says so.
func (n *Node) healthAtElection() map[string]store.Health {
	v := n.raft.View()
	lost := n.news.master()
	if lost == v.Self || v.Transferred {
		lost = ""
	}
	return n.healthNow(&v, lost)
}

// recordHealth commits the health of the nodes if it differs from what is recorded, and
// once in each term: it lets the others learn at once that the establishing entry was
// committed.
func (n *Node) recordHealth(ctx context.Context, v *cluster.View) {
	if n.fsm.Level() < raftfsm.LevelHealth {
		return
	}
	now := n.healthNow(v, "")
	if n.roles.recordedIn == v.Term && maps.Equal(now, n.health()) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.bound())
	defer cancel()
	if n.proposer.PutHealth(ctx, now) == nil { // else another master does it, or this one at the next turn
		n.roles.recordedIn = v.Term
	}
}

// unrecorded tells whether the health of a node differs from what is recorded.
func (n *Node) unrecorded(v *cluster.View) bool {
	if n.fsm.Level() < raftfsm.LevelHealth {
		return false
	}
	recorded := n.health()
	for _, id := range v.Voters {
		if last, ok := recorded[id]; !ok || n.healthOf(v, id, last) != last {
			return true
		}
	}
	return len(recorded) != len(v.Voters)
}
