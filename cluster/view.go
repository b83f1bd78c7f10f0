package cluster

import (
	"hash/maphash"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// View is the cluster as this node sees it at one instant. It and its slices are
// never changed.
type View struct {
	Self string
	Term uint64
	// TermAge is for how long this node has been in Term.
	TermAge time.Duration
	// RaftLeader: raft has elected this node in Term. IsLeader: and the state machine
	// has applied the establishing entry of Term, and nothing speaks against leading
	// it: no higher term, contact with the majority, no hanging append. It says
	// nothing of what other nodes have done meanwhile: Confirm does.
	RaftLeader, IsLeader bool
	// Transferred: this node leads Term because the leader before it has handed over to it.
	Transferred bool
	Process     uint64 // drawn by this process at its start, never 0
	// Leader is the node that may be named as master now: it was confirmed within two
	// election timeouts. "" if there is none.
	Leader     string
	LeaderTerm uint64 // in which Leader is master

	Voters  []string // in order
	Members []Member // of the latest configuration, voters and others, in order; none before raft runs
	Peers   []PeerView
	Quorum  bool   // a majority, this node included, has had contact within two election timeouts
	Ready   bool   // the state machine has caught up since the start; never taken back
	State   string // for people: forming, Follower, Candidate, Leader, Shutdown
	Waiting string // what formation, or a node without a vote yet, waits for; for people
	Cluster string // the cluster's id, "" while there is none

	DiskLow   bool // too little of this node's disk is free
	DiskShort bool // so are too many disks, this node's or those of others, for it to take writes as master

	leaderUntil, quorumUntil time.Duration // clock.Boot
}

// LeaderUntil is until when, by clock.Boot, Leader may be named by what is known so far.
func (v *View) LeaderUntil() time.Duration { return v.leaderUntil }

// PeerView is another node.
type PeerView struct {
	ID      string
	Addr    string        // of its raft port
	DiskLow bool          // it has said that its disk is low; a master does not
	Voter   bool          // in the latest configuration
	Contact bool          // it has answered a ping of the last two election timeouts
	Linked  bool          // the connection on which it is asked is up
	Age     time.Duration // since the last ping it has answered, or since this node's start
	Process uint64        // that of its View, of the process seen last; 0 if none was
	Info    []byte        // its Source.Info; not to be changed
	Term    uint64
	Applied uint64 // index its state machine had reached
	Acked   uint64 // index up to which it has acknowledged this node's log, 0 unless this node leads
}

// View returns the present view. What has become too old since it was made is
// left out. Safe for concurrent use.
func (n *Node) View() View {
	v := *n.view.Load()
	now := n.cfg.Clock.Boot()
	if now >= v.leaderUntil {
		v.Leader = ""
	}
	if now >= v.quorumUntil {
		v.Quorum = false
	}
	if v.IsLeader {
		term, ok := n.leading()
		v.IsLeader = ok && term == v.Term && v.Quorum
	}
	return v
}

// Changed receives after a new view was published that differs in more than ages
// and indexes. It holds one hint: whoever gets it looks at View, and there is one
// receiver.
func (n *Node) Changed() <-chan struct{} { return n.changed }

// Look says that something may have changed that the cluster cannot see by itself:
// the state machine has applied an establishing entry.
func (n *Node) Look() { n.look() }

// look asks for another view.
func (n *Node) look() {
	select {
	case n.hint <- struct{}{}:
	default:
	}
}

// window is for how long an answer tells of the present: two election timeouts.
func (n *Node) window() time.Duration { return 2 * n.cfg.ElectionTimeout }

// settled tells whether nothing is waited for: an answer to a ping that says what the
// one before it said need not be looked at before the next turn of the watch.
func (n *Node) settled() bool {
	v := n.View()
	return v.Ready && v.Quorum && v.Leader != "" && !n.unsettled() && !slices.ContainsFunc(v.Peers, func(p PeerView) bool { return !p.Contact })
}

// publish makes a view, and lets go of the claim to lead if there is none any more.
func (n *Node) publish() {
	old := n.view.Load()
	v := n.observe(n.cfg.Clock.Boot())
	n.view.Store(v)
	if old.IsLeader && !v.IsLeader {
		n.confirm.abandon()
	}
	if differs(old, v) {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
}

// observe looks at everything.
func (n *Node) observe(now time.Duration) *View {
	v := &View{
		Self:        n.cfg.NodeID,
		State:       "forming",
		Cluster:     n.clusterID(),
		Process:     process{instance: n.instance}.number(),
		Waiting:     *n.waiting.Load(),
		quorumUntil: n.quorumUntil(),
	}
	v.Quorum = now < v.quorumUntil
	if r := n.raftNode(); r != nil {
		latest := n.quorum.Load().latest()
		v.Voters, v.Members = latest.ids, latest.members
		v.Term = r.CurrentTerm()
		v.State = r.State().String()
		v.RaftLeader = r.State() == raft.Leader && n.highest.Load() <= v.Term
		v.Transferred = v.RaftLeader && n.transferred.Load() == v.Term
	}
	n.sawOwnTerm(v, now)
	v.Peers = n.peerViews(v, now)
	v.DiskLow, v.DiskShort = n.space.low(), n.short(now)
	v.TermAge = now - n.termSince
	if term, ok := n.leading(); ok && term == v.Term {
		v.IsLeader = v.Quorum
	}
	v.Leader, v.LeaderTerm, v.leaderUntil = n.named(v, now)
	v.Ready = n.caughtUp(v)
	return v
}

// sawOwnTerm takes note of a new term of this node. If it leads, acknowledgements
// start anew: those of its earlier terms are about entries that may have been cut off
// since. Called by publish only.
func (n *Node) sawOwnTerm(v *View, now time.Duration) {
	if v.Term == n.lastTerm && v.RaftLeader == n.wasLeader {
		return
	}
	if v.Term != n.lastTerm {
		n.termSince = now
	}
	if v.RaftLeader {
		n.elections.Add(1)
		for _, p := range n.others() {
			p.forgetAcks()
		}
	}
	n.lastTerm, n.wasLeader = v.Term, v.RaftLeader
}

func (n *Node) peerViews(v *View, now time.Duration) []PeerView {
	others := n.others()
	list := make([]PeerView, 0, len(others))
	for _, p := range others {
		rep, asked := p.last()
		if asked == 0 {
			asked = n.started
		}
		acked := p.acked()
		if !v.RaftLeader {
			acked = 0
		}
		list = append(list, PeerView{
			ID: p.id, Addr: p.announced(), Voter: slices.Contains(v.Voters, p.id),
			Contact: p.contact(now, n.window()), Linked: p.link.up(), Age: now - asked, Process: p.process(),
			DiskLow: rep.low, Info: rep.info, Term: rep.term, Applied: rep.applied, Acked: acked,
		})
	}
	return list
}

// quorumUntil is until when this node has contact with a majority, if nothing more
// is answered.
func (n *Node) quorumUntil() time.Duration {
	q := n.quorum.Load()
	if q.met(selfBit) {
		return 1<<63 - 1
	}
	// The instants at which contacts end, the latest first: the majority lasts until
	// the first one ends that it cannot do without.
	type end struct {
		at  time.Duration
		bit uint64
	}
	var ends []end
	for _, p := range n.others() {
		if _, asked := p.last(); asked != 0 {
			ends = append(ends, end{asked + n.window(), p.bit})
		}
	}
	slices.SortFunc(ends, func(a, b end) int { return int(b.at - a.at) })
	mask := uint64(selfBit)
	for _, e := range ends {
		if mask |= e.bit; q.met(mask) {
			return e.at
		}
	}
	return 0
}

// named is the node that may be named as master, of which term, and until when.
func (n *Node) named(v *View, now time.Duration) (id string, best uint64, until time.Duration) {
	hidden := n.veil.hides(now)
	if v.IsLeader && !hidden {
		if age, ok := n.confirm.age(v.Term, now); ok && age < n.window() {
			return n.cfg.NodeID, v.Term, now - age + n.window()
		}
	}
	for _, p := range n.others() {
		rep, asked := p.last()
		// Its last confirmed round began at least this long ago.
		end := asked - rep.age + n.window()
		if rep.master && asked != 0 && now < end && rep.term > best {
			best, id, until = rep.term, p.id, end
		}
	}
	if id != "" && best < v.Term && v.RaftLeader && !hidden {
		return "", 0, 0 // this node was elected after it
	}
	return id, best, until
}

// caughtUp tells whether the state machine has reached what the master had applied
// when this node first heard of it.
func (n *Node) caughtUp(v *View) bool {
	if n.ready.Load() {
		return true
	}
	switch {
	case v.IsLeader:
		n.ready.Store(true)
	case n.target == 0 && v.Leader != "" && v.Leader != v.Self:
		if p := n.peer(v.Leader); p != nil { // otherwise it was removed since
			rep, _ := p.last()
			n.target = max(rep.applied, 1)
		}
	}
	if n.target != 0 && n.cfg.Source.Applied() >= n.target {
		n.ready.Store(true)
	}
	return n.ready.Load()
}

// differs tells whether there is something new in v.
func differs(old, v *View) bool {
	if old.Term != v.Term || old.RaftLeader != v.RaftLeader || old.IsLeader != v.IsLeader || old.Leader != v.Leader ||
		old.DiskLow != v.DiskLow || old.DiskShort != v.DiskShort || old.Quorum != v.Quorum || old.Ready != v.Ready || old.State != v.State || old.Waiting != v.Waiting ||
		!slices.Equal(old.Members, v.Members) || len(old.Peers) != len(v.Peers) {
		return true
	}
	for i := range v.Peers {
		a, b := &old.Peers[i], &v.Peers[i]
		if a.DiskLow != b.DiskLow || a.Process != b.Process || a.Contact != b.Contact || a.Linked != b.Linked || a.Addr != b.Addr || string(a.Info) != string(b.Info) {
			return true
		}
	}
	return false
}

// reignOf is the term in which this node is to be named as master, 0 if it is not.
func (n *Node) reignOf(now time.Duration) uint64 {
	if term, ok := n.leading(); ok && n.view.Load().IsLeader {
		if n.veil.hides(now) {
			return 0
		}
		return term
	}
	return n.veil.parting.Load()
}

// report is this node's answer to a ping of one who has the record with the given
// hash.
func (n *Node) report(has uint64) report {
	r := report{
		term:     n.raftNode().CurrentTerm(),
		election: n.cfg.ElectionTimeout,
		applied:  n.cfg.Source.Applied(),
		low:      n.space.low(),
	}
	r.instant, r.more.timed = n.cfg.Source.Time()
	r.more.wall = n.cfg.Clock.WallMilli()
	r.more.keeps = true
	now := n.cfg.Clock.Boot()
	if term := n.reignOf(now); term != 0 {
		if age, confirmed := n.confirm.age(term, now); confirmed {
			r.term, r.master, r.age = term, true, age
		}
	}
	info := n.cfg.Source.Info()
	if len(info) > MaxInfo {
		return r
	}
	if r.hash = maphash.Bytes(n.seed, info) | 1; r.hash != has { // never 0, which is to have none
		r.info = info
	}
	return r
}
