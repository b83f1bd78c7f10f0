package node

import (
	"context"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// raiseLevel raises the cluster's apply level to the highest that every node speaks.
func (n *Node) raiseLevel(ctx context.Context, v *cluster.View) {
	from := n.fsm.Level()
	to := min(n.spoken(v), raftfsm.Level)
	if to <= from {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.bound())
	defer cancel()
	if err := n.proposer.RaiseLevel(ctx, to); err != nil {
		return // another master does it, or this one at the next turn
	}
	n.log.Info("the apply level was raised: every node speaks it; earlier releases cannot take part any more", "from", from, "to", to)
}

// spoken is the highest apply level that every voter speaks, by what it tells now
// and by its replicated record, and 0 while not all of them are here to ask. Nodes that
// answer and are no voters count as well.
func (n *Node) spoken(v *cluster.View) int {
	here := map[string]store.Member{n.self.ID: n.own()}
	for i := range v.Peers {
		p := &v.Peers[i]
		if r := n.told.of(p.ID, p.Info); r.ok && p.Contact {
			here[p.ID] = r.member
		}
	}
	recorded := n.members()
	for _, id := range v.Voters {
		if _, ok := here[id]; !ok || here[id] != recorded[id] {
			return 0
		}
	}
	level := n.self.Level
	for _, m := range here {
		level = min(level, m.Level)
	}
	return level
}
