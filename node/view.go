package node

import (
	"context"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/sentinelapi"
	"github.com/holdfast/holdfast/store"
)

// failoverTimeout is what Sentinel clients are told a failover takes at most:
// the bound promised for a crash.
const failoverTimeout = 2 * time.Second

// View is the cluster as the Sentinel port of this node shows it. If this node is
// the master, that is confirmed after the call began; if it cannot be, the view
// has no master.
func (n *Node) View() sentinelapi.View {
	v := n.awaitLeader()
	if v.Leader == v.Self && v.Leader != "" {
		ctx, cancel := context.WithTimeout(context.Background(), n.masterBound())
		defer cancel()
		if n.raft.Confirm(ctx) != nil {
			v.Leader = ""
		}
	}
	return n.sentinelView(&v)
}

// patience is for how long whoever asks for the master is kept waiting while none is known.
// An election takes less if all goes well.
func (n *Node) patience() time.Duration { return 2 * n.masterBound() }

// awaitLeader is the present View. If there will be a better answer in a moment it waits for
// that: clients that were told nothing would ask again and again, or give up, and those
// that were sent to a master that hands over would be sent away again.
func (n *Node) awaitLeader() cluster.View {
	last := n.clock.Boot() + n.patience()
	for {
		turned := n.roles.turned.Next()
		v, now := n.raft.View(), n.clock.Boot()
		left := min(n.betterUntil(&v, now), last) - now
		if left <= 0 {
			return v
		}
		t := time.NewTimer(left)
		select {
		case <-turned:
		case <-t.C:
		}
		t.Stop()
	}
}

// betterUntil is until when, by clock.Boot, something better than v may be waited for; 0 if
// it is good. Without a majority there is nothing to wait for: other nodes may know more.
func (n *Node) betterUntil(v *cluster.View, now time.Duration) time.Duration {
	if h := n.handovers.hush.Load(); h != nil && v.LeaderTerm <= h.term && now < h.until {
		return h.until
	}
	switch {
	case v.Leader != "":
		return 0
	case n.handovers.present.Load() != nil:
		return now + n.masterBound()
	case !v.Quorum:
		return 0
	}
	if since := n.roles.masterless.Load(); since != 0 {
		return time.Duration(since) + n.patience()
	}
	return now + n.patience() // nobody has looked since
}

// sentinelView shows a View of the cluster as Sentinel shows its masters.
func (n *Node) sentinelView(v *cluster.View) sentinelapi.View {
	cfg := n.settings.Config()
	view := sentinelapi.View{
		Name:            cfg.MasterNames[0],
		Names:           cfg.MasterNames,
		Term:            v.Term,
		Self:            v.Self,
		Master:          v.Leader,
		MasterKnown:     v.Leader != "",
		Quorum:          len(v.Voters)/2 + 1,
		DownAfter:       n.masterBound().Milliseconds(),
		FailoverTimeout: failoverTimeout.Milliseconds(),
		Election:        cfg.ElectionTimeout.Milliseconds(),
		Options:         n.keeper.all(),
	}
	if view.MasterKnown {
		n.roles.lastMaster.Store(&sighting{id: v.Leader, at: n.clock.Boot()})
	} else if last := n.roles.lastMaster.Load(); last != nil {
		view.Master, view.MasterGone = last.id, (n.clock.Boot() - last.at).Milliseconds()
	}
	for _, id := range v.Voters {
		m, ok := n.member(v, id)
		if !ok {
			continue // it has never told where it serves clients
		}
		view.Nodes = append(view.Nodes, n.sentinelNode(v, m))
	}
	if view.MasterKnown && !hasNode(view.Nodes, view.Master) {
		view.MasterKnown = false // confirmed, but nobody knows its address yet
	}
	return view
}

// sighting is when a master was last named.
type sighting struct {
	id string
	at time.Duration // by clock.Boot
}

func hasNode(nodes []sentinelapi.Node, id string) bool {
	for i := range nodes {
		if nodes[i].ID == id {
			return true
		}
	}
	return false
}

// sentinelNode shows one member.
func (n *Node) sentinelNode(v *cluster.View, m store.Member) sentinelapi.Node {
	node := sentinelapi.Node{
		ID:       m.ID,
		RunID:    m.RunID,
		Data:     sentinelapi.Addr{Host: m.DataHost, Port: m.DataPort},
		Sentinel: sentinelapi.Addr{Host: m.SentinelHost, Port: m.SentinelPort},
		RoleFor:  v.TermAge.Milliseconds(),
		Offset:   int64(n.fsm.Applied()),
		LinkUp:   v.Leader != "",
		Priority: n.priority(v, m.ID),
	}
	if m.ID == v.Self {
		return node
	}
	for i := range v.Peers {
		p := &v.Peers[i]
		if p.ID != m.ID {
			continue
		}
		node.Contact = p.Age.Milliseconds()
		node.Offset = int64(p.Applied)
		node.Down, node.Cut = !p.Contact, !p.Linked
		if node.Down {
			node.DownFor = max(0, (p.Age - n.masterBound()).Milliseconds())
			node.LinkUp, node.LinkDown = false, p.Age.Milliseconds()
		}
	}
	if v.Leader != "" && v.Leader != m.ID {
		n.showRecord(&node)
	}
	return node
}

// showRecord makes what this node sees of a replica agree with what subscribers are told
// of it while there is a master: down as long as the master says so. If the master says
// that it is up again, this node takes that for true for a moment, until it has to be in
// contact as well.
func (n *Node) showRecord(node *sentinelapi.Node) {
	h, ok := n.health()[node.ID]
	if !ok || h.Down == node.Down {
		return
	}
	since := n.news.since(node.ID, n.clock.Boot())
	switch {
	case h.Down && !node.Down:
		node.Down, node.DownFor = true, since.Milliseconds()
		node.LinkUp, node.LinkDown = false, since.Milliseconds()
	case !h.Down && since < n.masterBound():
		node.Down, node.Cut, node.DownFor = false, false, 0
		node.LinkUp, node.LinkDown = true, 0
	}
}
