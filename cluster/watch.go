package cluster

import (
	"context"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// watchLoop keeps the View: it looks at everything whenever there is a hint, and a
// few times per election timeout in any case. It pings, and confirms this node while
// nobody else asks for it.
func (n *Node) watchLoop(ctx context.Context) {
	tick := time.NewTicker(n.pingEvery())
	defer tick.Stop()
	for {
		passed := false
		select {
		case <-ctx.Done():
			return
		case <-n.hint:
		case <-tick.C:
			passed = true
			n.beat()
		}
		n.stalled.Store(n.logs.outstanding() > stallLimit)
		if r := n.raftNode(); r != nil {
			n.refreshQuorum(r)
		}
		n.publish()
		n.confirm.refresh(n.cfg.Clock.Boot(), n.cfg.ElectionTimeout/2)
		if passed && n.cfg.Observe.Beat != nil {
			n.cfg.Observe.Beat()
		}
	}
}

// pingEvery is the time between two pings.
func (n *Node) pingEvery() time.Duration { return n.cfg.ElectionTimeout / 4 }

// beat is what is done once per quarter of an election timeout.
func (n *Node) beat() {
	r := n.raftNode()
	if r == nil {
		return
	}
	now := n.cfg.Clock.Boot()
	for _, p := range n.others {
		p.link.ping(now)
		p.link.stale(int(max(4*n.window(), 2*time.Second) / n.pingEvery()))
	}
	n.compact.consider(n, r)
	n.keepAddresses(r)
}

// warnElection says once per second that a peer has another election timeout.
func (n *Node) warnElection(p *peer, theirs time.Duration) {
	n.grumble("election "+p.id, slog.LevelWarn, "another node has another election timeout", "node", p.id, "theirs", theirs, "ours", n.cfg.ElectionTimeout)
}

// warnSlow says that the disk is too slow for the election timeout: heartbeats wait
// for appends, and a few slow ones in a row look like a node that is gone.
func (n *Node) warnSlow(took time.Duration) {
	n.grumble("slow", slog.LevelWarn, "appends to the log take long for this election timeout; use a faster disk or a longer timeout",
		"took", took, "election_timeout", n.cfg.ElectionTimeout)
}

// keepAddresses has the leader write into raft's configuration where voters have
// moved to. raft itself finds them by what they announce.
func (n *Node) keepAddresses(r *raft.Raft) {
	if _, ok := n.leading(); !ok || len(n.others) == 0 || !n.moving.CompareAndSwap(false, true) {
		return
	}
	f := r.GetConfiguration() // does not wait
	if f.Error() != nil || f.Index() > r.CommitIndex() {
		n.moving.Store(false)
		return
	}
	for _, s := range f.Configuration().Servers {
		addr := n.cfg.announced()
		if string(s.ID) != n.cfg.NodeID {
			p := n.peers[string(s.ID)]
			if p == nil || !p.contact(n.cfg.Clock.Boot(), n.window()) {
				continue
			}
			addr = p.announced()
		}
		if addr == string(s.Address) || s.Suffrage != raft.Voter {
			continue
		}
		n.log.Info("a node has another address", "node", s.ID, "old", s.Address, "new", addr)
		n.move(r, s.ID, raft.ServerAddress(addr), f.Index())
		return
	}
	n.moving.Store(false)
}

// move commits a voter's new address in the background.
func (n *Node) move(r *raft.Raft, id raft.ServerID, addr raft.ServerAddress, prev uint64) {
	bound := 4 * n.window()
	n.background(bound, func() error { return r.AddVoter(id, addr, prev, bound).Error() }, func(err error) {
		if err != nil {
			n.log.Info("the new address is not committed yet", "node", id, "err", err)
		}
		n.moving.Store(false)
	})
}

// background waits for f in a goroutine, but no longer than bound or until the node
// stops, and then calls done. A future of raft may never resolve; then the goroutine
// that waits for it stays.
func (n *Node) background(bound time.Duration, f func() error, done func(error)) {
	result := make(chan error, 1)
	go func() { result <- f() }() // ends with f
	n.wg.Go(func() {
		t := time.NewTimer(bound)
		defer t.Stop()
		select {
		case err := <-result:
			done(err)
		case <-t.C:
			done(context.DeadlineExceeded)
		case <-n.ctx.Done():
			done(errClosed)
		}
	})
}
