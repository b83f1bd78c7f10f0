package node

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/sentinelapi"
	"github.com/holdfast/holdfast/store"
)

// news is what the log has told of the cluster and Sentinel subscribers have not been
// told yet. The log has it in one order for all nodes; each publishes it when its own
// replies show it.
type news struct {
	hint chan struct{}

	mu struct {
		sync.Mutex
		queue  []report
		last   report                   // the newest, told or not
		turned map[string]time.Duration // by node: clock.Boot when its record came to say up or down
	}

	// The rest belongs to the goroutine of tellNews.
	told     sentinelapi.View // what subscribers know; the zero View at first
	caughtUp bool             // the log has told what there was before this node came
	shown    sighting         // the newest master that replies have shown, and since when
	behind   time.Duration    // clock.Boot since when another master may be named than was told; 0 if none
}

// report is the cluster after an entry of the log.
type report struct {
	master string // whose establishing entry was the last one; "" if that is not known
	term   uint64 // of that entry, or of a snapshot that has it
	health map[string]store.Health
}

// maxReports bounds what waits while no master can be named. What is dropped is not lost:
// reports say how things are, not how they change.
const maxReports = 256

func (s *news) init() {
	s.hint = make(chan struct{}, 1)
	s.mu.turned = map[string]time.Duration{}
}

// master is the node whose establishing entry was the last one, as far as is known.
func (s *news) master() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.last.master
}

// applied takes note of an entry that has changed the system state to sys, or of a
// snapshot that took its place. now is clock.Boot.
func (s *news) applied(u *raftfsm.Update, sys *store.System, now time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := report{s.mu.last.master, s.mu.last.term, sys.Health}
	switch {
	case u.Restored:
		next.master, next.term = "", u.Term // whose that is has to be recognized
	case u.Establishing:
		next.master, next.term = u.Master, u.Term
	}
	for id, h := range next.health {
		if last, ok := s.mu.last.health[id]; !ok || last.Down != h.Down {
			s.mu.turned[id] = now
		}
	}
	s.mu.last = next
	if len(s.mu.queue) == maxReports {
		s.mu.queue = slices.Delete(s.mu.queue, 0, maxReports/2)
	}
	s.mu.queue = append(s.mu.queue, next)
}

// recognize takes note of who is master of a term. A snapshot does not tell it: it may hold
// the establishing entry of the master that goes on recording after it.
func (s *news) recognize(master string, term uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if master == "" || s.mu.last.master != "" || s.mu.last.term != term {
		return
	}
	s.mu.last.master = master
	for i := range s.mu.queue {
		if r := &s.mu.queue[i]; r.master == "" && r.term == term {
			r.master = master
		}
	}
}

// since is for how long the record of a node has said what it says.
func (s *news) since(id string, now time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now - s.mu.turned[id]
}

// newest is what the log says now. All that waits is dropped.
func (s *news) newest() report {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.queue = nil
	return s.mu.last
}

// latest is what the log says now, and whether there is something that waits.
func (s *news) latest() (r report, waiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.last, len(s.mu.queue) > 0
}

// ready takes the reports that can be told while replies name leader as master, in order.
// Those of masters before it are dropped; those of a master after it wait until it may be
// named.
func (s *news) ready(leader string) []report {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, to := 0, 0
	for i := range s.mu.queue {
		if s.mu.queue[i].master == leader {
			if i > to {
				from = i
			}
			to = i + 1
		}
	}
	list := slices.Clone(s.mu.queue[from:to])
	s.mu.queue = slices.Delete(s.mu.queue, 0, to)
	return list
}

// tellNews publishes on the Sentinel port what has changed, until ctx ends. watchRoles asks
// for it after the roles are what the view says, and beats see to it that nothing waits
// for longer than they come.
func (n *Node) tellNews(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.news.hint:
		}
		v := n.shownView()
		if v == nil {
			continue
		}
		if left := n.repliesFirst(v); left > 0 {
			pause(ctx, left)
			poke(n.news.hint) // it may be another master by then
			continue
		}
		n.tellSubscribers(v)
	}
}

// shownView is what replies show, nil if watchRoles is about to look again.
func (n *Node) shownView() *cluster.View {
	v := n.roles.followed.Load()
	if v == nil || n.raft.View().Leader != v.Leader {
		return nil
	}
	return v
}

// lead is for how long replies show a new master before subscribers are told of it. Who
// asks for the master when it changes, and subscribes too, is to get the answer first:
// ioredis with failoverDetector ends for good if it hears of a new master while it asks,
// and it asks 50 ms after its connection has ended: in a handover just before there is a
// new master to show.
const lead = 100 * time.Millisecond

// repliesFirst is for how long subscribers are not to be told of the master in v.
func (n *Node) repliesFirst(v *cluster.View) time.Duration {
	if told := n.news.told.Master; v.Leader == "" || told == "" || told == v.Leader {
		if v.Leader != "" {
			n.news.shown = sighting{} // a master between is not shown any more
		}
		return 0
	}
	now := n.clock.Boot()
	if n.news.shown.id != v.Leader {
		n.news.shown = sighting{v.Leader, now}
	}
	return n.news.shown.at + lead - now
}

// tellSubscribers publishes what has changed for Sentinel clients: after the new
// master serves and after replies show the new view.
func (n *Node) tellSubscribers(v *cluster.View) {
	n.news.recognize(v.Leader, v.LeaderTerm)
	if !n.news.caughtUp || !v.Ready {
		n.beginToTell(v)
		return
	}
	if _, ok := n.member(v, v.Leader); v.Leader == "" || !ok {
		return
	}
	for _, r := range n.news.ready(v.Leader) {
		n.tell(n.announcement(v, r))
	}
	if r, waiting := n.news.latest(); n.news.told.Master == v.Leader && !waiting && n.moved(v) {
		n.tell(n.announcement(v, r))
	}
	n.catchUp(v)
}

// beginToTell takes note of what replies show already while this node catches up, without
// telling it: what the log repeats is no news. If the master is another one when the node
// has caught up, those who listen since before hear that much.
func (n *Node) beginToTell(v *cluster.View) {
	now := n.news.newest()
	if _, ok := n.member(v, v.Leader); v.Leader == "" || !ok {
		return
	}
	n.news.caughtUp = v.Ready
	next := n.announcement(v, now)
	switch told := n.news.told.Master; {
	case told == "" || told == v.Leader:
		n.news.told = next
	case v.Ready:
		next.Recorded = false
		n.tell(next)
	}
}

// moved tells whether a node has told another address than subscribers know. The log may
// have told it before that node's own word has come, which is what replies go by.
func (n *Node) moved(v *cluster.View) bool {
	for i := range n.news.told.Nodes {
		known := &n.news.told.Nodes[i]
		if m, ok := n.member(v, known.ID); ok && (known.Data != dataAddr(&m) || known.Sentinel != sentinelAddr(&m)) {
			return true
		}
	}
	return false
}

func dataAddr(m *store.Member) sentinelapi.Addr {
	return sentinelapi.Addr{Host: m.DataHost, Port: m.DataPort}
}

func sentinelAddr(m *store.Member) sentinelapi.Addr {
	return sentinelapi.Addr{Host: m.SentinelHost, Port: m.SentinelPort}
}

// catchUp announces a master of which the log has not told this node: it is behind, or the
// establishing entry is part of a snapshot. Usually the log is only a moment late. Before
// masters record health there is nothing in the log to be in order with.
func (n *Node) catchUp(v *cluster.View) {
	if n.news.told.Master == v.Leader {
		n.news.behind = 0
		return
	}
	now := n.clock.Boot()
	if n.news.behind == 0 {
		n.news.behind = now
	}
	if len(n.health()) > 0 && now-n.news.behind < n.masterBound() {
		return
	}
	n.news.behind = 0
	next := n.announcement(v, report{v.Leader, v.Term, n.health()})
	next.Recorded = false
	n.tell(next)
}

// tell publishes what makes the difference between next and what subscribers know, under
// each name of the master.
func (n *Node) tell(next sentinelapi.View) {
	for _, name := range next.Names {
		for _, m := range sentinelapi.Diff(n.news.told.For(name), next.For(name)) {
			n.hub.Publish(m.Channel, []byte(m.Payload))
		}
	}
	n.news.told = next
}

// announcement is the cluster as subscribers are told of it: the nodes and their health as
// the log says, at the addresses that replies show.
func (n *Node) announcement(v *cluster.View, r report) sentinelapi.View {
	view := sentinelapi.View{
		Names: n.settings.Config().MasterNames, Term: max(r.term, n.news.told.Term), Self: v.Self,
		Master: v.Leader, MasterKnown: true, Recorded: len(r.health) > 0, Quorum: len(v.Voters)/2 + 1,
	}
	ids := v.Voters
	if view.Recorded {
		ids = slices.Sorted(maps.Keys(r.health))
	}
	for _, id := range ids {
		m, ok := n.member(v, id)
		if !ok {
			continue
		}
		h := r.health[id]
		view.Nodes = append(view.Nodes, sentinelapi.Node{
			ID: id, RunID: m.RunID, Down: h.Down, Deposed: h.Deposed, Process: h.Process,
			Data: dataAddr(&m), Sentinel: sentinelAddr(&m),
		})
	}
	return view
}
