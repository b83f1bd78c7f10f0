package cluster

import (
	"context"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// watchLoop keeps the View: it looks at everything whenever there is a hint, and a
// few times per election timeout in any case. It pings, and confirms this node while
// nobody else asks for it.
func (n *Node) watchLoop(ctx context.Context) {
	tick := time.NewTicker(n.pingEvery())
	defer tick.Stop()
	soon, hurrying := time.NewTimer(time.Hour), false
	soon.Stop()
	defer soon.Stop()
	for {
		passed := false
		select {
		case <-ctx.Done():
			return
		case <-n.hint:
		case <-tick.C:
			passed = true
			n.pulse.Ring()
			n.beat()
		case <-soon.C:
			n.ping()
			soon.Reset(n.pingEvery() / hurry)
		}
		n.stalled.Store(n.logs.outstanding() > stallLimit)
		if r := n.raftNode(); r != nil {
			n.refreshQuorum(r)
			latest := n.quorum.Load().latest()
			n.watchRemoval(&latest, r.CommitIndex(), clock.Mono())
		}
		n.keepLinks(ctx)
		n.publish()
		n.confirm.refresh(n.cfg.Clock.Boot(), n.cfg.ElectionTimeout/2)
		if wants := n.unsettled(); wants != hurrying {
			if hurrying = wants; wants {
				soon.Reset(n.pingEvery() / hurry)
			} else {
				soon.Stop()
			}
		}
		if passed && n.cfg.Observe.Beat != nil {
			n.cfg.Observe.Beat()
		}
	}
}

// linked are the links that run. It belongs to the goroutine of watchLoop.
type linked struct {
	of    *roster
	stops map[*peer]context.CancelFunc
}

// keepLinks runs a link to every node of the roster, and ends those to others.
func (n *Node) keepLinks(ctx context.Context) {
	now := n.roster.Load()
	if now == n.linked.of || n.raftNode() == nil {
		return
	}
	n.linked.of = now
	for p, stop := range n.linked.stops {
		if now.byID[p.id] != p {
			stop()
			delete(n.linked.stops, p)
		}
	}
	for _, p := range now.list {
		if n.linked.stops[p] != nil {
			continue
		}
		alive, stop := context.WithCancel(ctx)
		n.linked.stops[p] = stop
		n.wg.Go(func() {
			defer stop()
			p.link.run(alive)
		})
	}
}

// watchProgress has the leader see who keeps up: a peer does that has acknowledged
// what was committed at the last look.
func (n *Node) watchProgress(r *raft.Raft, now time.Duration) {
	goal := n.goal
	n.goal = r.CommitIndex()
	if r.State() != raft.Leader {
		goal = 0
	}
	for _, p := range n.others() {
		p.keepUp(goal, p.contact(now, n.window()), now)
	}
}

// hurry is how many pings are sent in place of one while it is open who leads.
const hurry = 12

// unsettled tells whether a term has begun a moment ago whose leader is not known
// yet: until it is, clients ask in vain.
func (n *Node) unsettled() bool {
	v := n.view.Load()
	return len(n.others()) > 0 && v.TermAge < 4*n.window() && v.LeaderTerm < v.Term
}

// pingEvery is the time between two pings.
func (n *Node) pingEvery() time.Duration { return n.cfg.ElectionTimeout / 3 }

// beat is what is done between two waits of pingEvery.
func (n *Node) beat() {
	r := n.raftNode()
	if r == nil {
		return
	}
	n.ping()
	for _, p := range n.others() {
		p.link.stale(int(max(4*n.window(), 2*time.Second) / n.pingEvery()))
	}
	n.watchProgress(r, n.cfg.Clock.Boot())
	n.compact.consider(n, r)
	n.keepAddresses(r)
}

// ping asks every other node for a report.
func (n *Node) ping() {
	if n.raftNode() == nil {
		return
	}
	now := n.cfg.Clock.Boot()
	for _, p := range n.others() {
		p.link.ping(now)
	}
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
	if _, ok := n.leading(); !ok || n.cfg.alone() || !n.tryChange() {
		return
	}
	c := change{node: n, raft: r}
	if c.look() != nil {
		<-n.changing
		return
	}
	for _, m := range c.members {
		addr := n.cfg.announced()
		if m.ID != n.cfg.NodeID {
			p := n.peer(m.ID)
			if p == nil || !p.contact(n.cfg.Clock.Boot(), n.window()) {
				continue
			}
			addr = p.announced()
		}
		if addr != m.Addr {
			n.log.Info("a node has another address", "node", m.ID, "old", m.Addr, "new", addr)
			m.Addr = addr
			n.move(r, m, c.index)
			return
		}
	}
	<-n.changing
}

// tryChange begins a change of the configuration unless one is under way.
func (n *Node) tryChange() bool {
	select {
	case n.changing <- struct{}{}:
		return true
	default:
		return false
	}
}

// move commits a member's new address in the background.
func (n *Node) move(r *raft.Raft, m Member, prev uint64) {
	bound := 4 * n.window()
	add := r.AddVoter
	if !m.Voter {
		add = r.AddNonvoter
	}
	n.background(bound, func() error {
		return add(raft.ServerID(m.ID), raft.ServerAddress(m.Addr), prev, bound).Error()
	}, func(err error) {
		if err != nil {
			n.log.Info("the new address is not committed yet", "node", m.ID, "err", err)
		}
		<-n.changing
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
