package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
)

// A lease lets the leader confirm itself without asking anybody (Raft thesis, section
// 6.4.1). Whoever acknowledges an append has pledged itself not to help elect another
// leader for one election timeout (see pledge.go); the append was sent before it
// arrived. So if a majority has acknowledged appends that were sent at s or later, no
// other leader is elected before s plus an election timeout, by the clocks of those
// nodes. Clocks are trusted for one thing only, that they do not go too unequally
// fast: see leaseShare. docs/adr/0022-leases.md has the proof.

// The lease lasts for leaseShare/leaseWhole of an election timeout. The kernel changes
// the speed of its clocks by 10 % and 500 ppm at most (adjtimex(2), tick and freq). If
// the leader's clock is as slow and the others' are as fast as that, their election
// timeout is over after (1−0.1005)/(1+0.1005) = 81.7 % of one by the leader's clock.
const (
	leaseShare = 8
	leaseWhole = 10
)

// instant is the present by two clocks. A lease has to hold by both, so that either may
// be wrong: CLOCK_BOOTTIME counts the time the machine was suspended, the other one
// is not shifted by faults.
type instant struct {
	boot time.Duration // Config.Clock
	mono time.Duration // clock.Mono
}

func (n *Node) instant() instant { return instant{n.cfg.Clock.Boot(), clock.Mono()} }

func (i instant) plus(d time.Duration) instant { return instant{i.boot + d, i.mono + d} }

// before tells whether i is before end by both clocks.
func (i instant) before(end instant) bool { return i.boot < end.boot && i.mono < end.mono }

// lease is for how long this node may take itself for the leader. Safe for concurrent
// use.
type lease struct {
	length time.Duration // 0 if no confirmation goes by leases; set before the node runs
	grant  atomic.Pointer[grant]
	ended  atomic.Uint64 // the last term in which this node has given up its lease for good

	used, missed atomic.Uint64 // confirmations by a lease, and those that had to ask although leases are wanted

	mu struct {
		sync.Mutex
		term uint64            // of sent
		sent map[*peer]instant // when the newest append was sent that the peer has acknowledged
	}
}

// grant is a lease that was computed. It never changes.
type grant struct {
	term   uint64
	quorum *quorum // a majority of it has acknowledged
	until  instant
}

// leaseLength is how long a lease lasts with an election timeout, of which other nodes
// are told whole milliseconds.
func leaseLength(election time.Duration) time.Duration {
	return election.Truncate(time.Millisecond) * leaseShare / leaseWhole
}

// note takes note that p has acknowledged an append of a term.
func (l *lease) note(p *peer, term uint64, sent instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if term > l.mu.term {
		l.mu.term, l.mu.sent = term, map[*peer]instant{}
	}
	if last, ok := l.mu.sent[p]; term == l.mu.term && (!ok || last.mono < sent.mono) {
		l.mu.sent[p] = sent
	}
}

// renew computes the lease from what a majority of q has acknowledged. Only those of
// others count.
func (l *lease) renew(q *quorum, others []*peer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	acks := make([]ack, 0, len(others))
	for _, p := range others {
		if sent, ok := l.mu.sent[p]; ok {
			acks = append(acks, ack{p.bit, sent})
		}
	}
	boot, ok := oldest(q, acks, func(a ack) time.Duration { return a.sent.boot })
	mono, also := oldest(q, acks, func(a ack) time.Duration { return a.sent.mono })
	if !ok || !also {
		l.grant.Store(nil)
		return
	}
	l.grant.Store(&grant{l.mu.term, q, instant{boot, mono}.plus(l.length)})
}

// ack is when the newest append was sent that one peer has acknowledged.
type ack struct {
	bit  uint64
	sent instant
}

// oldest is the latest time, by one of the clocks, that a majority has acknowledged
// appends of.
func oldest(q *quorum, acks []ack, at func(ack) time.Duration) (time.Duration, bool) {
	slices.SortFunc(acks, func(a, b ack) int { return cmp.Compare(at(b), at(a)) })
	mask := uint64(selfBit)
	for _, a := range acks {
		if mask |= a.bit; q.met(mask) {
			return at(a), true
		}
	}
	return 0, false
}

// withdraw takes the lease away until it is computed anew.
func (l *lease) withdraw() { l.grant.Store(nil) }

// end gives up the lease of a term for good.
func (l *lease) end(term uint64) {
	for {
		old := l.ended.Load()
		if term <= old || l.ended.CompareAndSwap(old, term) {
			return
		}
	}
}

// holds tells whether the lease of a term, which this node leads, held at now. now has to be
// read before the call, and the term be looked at after that: then what was given up
// meanwhile does not count.
func (l *lease) holds(now instant, term uint64, q *quorum) bool {
	if l.length == 0 || l.ended.Load() >= term {
		return false
	}
	if q.met(selfBit) {
		return true // another leader would need this node's own vote
	}
	g := l.grant.Load()
	return g != nil && g.term == term && g.quorum == q && now.before(g.until)
}

// leased tells whether a lease confirms that this node was the established leader at an instant
// after the call began.
func (n *Node) leased() bool {
	if n.lease.length == 0 {
		return false
	}
	now := n.instant()
	if term, ok := n.leading(); ok && n.lease.holds(now, term, n.quorum.Load()) {
		n.lease.used.Add(1)
		return true
	}
	n.lease.missed.Add(1)
	return false
}

// claim is an append under way that the lease may count from.
type claim struct {
	peer    *peer
	process [16]byte // that has pledged itself; zero if the append does not count
	sent    instant
}

// claim notes what has to be known before an append is sent.
func (n *Node) claim(p *peer) claim {
	if n.lease.length == 0 {
		return claim{}
	}
	return claim{p, p.pledgedProcess(n.cfg.ElectionTimeout), n.instant()}
}

// acknowledged takes note that an append of a term was, with success. It counts if the
// process that answered is one that has pledged itself: connections to another one
// are dialed before anything is sent to it, so the same one before and after is the one
// that has answered.
func (n *Node) acknowledged(c claim, term uint64) {
	if c.process == [16]byte{} || c.peer.pledgedProcess(n.cfg.ElectionTimeout) != c.process {
		return
	}
	n.lease.note(c.peer, term, c.sent)
	q := n.quorum.Load()
	if n.unpledged(q) != "" {
		n.lease.withdraw()
		return
	}
	n.lease.renew(q, n.others())
}

// unpledged says of a voter that is not known to keep this node's rules for leases,
// "" if all are.
func (n *Node) unpledged(q *quorum) string {
	if q == nil {
		return "the configuration is not known yet"
	}
	for i := range q.sets {
		for _, id := range q.sets[i].ids {
			if id == n.cfg.NodeID {
				continue
			}
			p := n.peer(id)
			if p == nil {
				return id + " is not connected"
			}
			if why := p.unpledged(n.cfg.ElectionTimeout); why != "" {
				return id + " " + why
			}
		}
	}
	return ""
}

// yield gives up the lease of the term this node leads, for good, because another node
// is about to be told to stand for election. It returns the term.
func (n *Node) yield() (uint64, error) {
	term, ok := n.electedIn()
	if !ok {
		return 0, ErrNotMaster
	}
	n.lease.end(term)
	return term, nil
}

// Why a lease does not hold.
const (
	LeaseUnwanted = "read-mode"        // confirmations are not to go by leases
	LeaseReplica  = "not-master"       // this node is not the established leader
	LeaseYielded  = "handover"         // a handover was begun in this term
	LeaseVoters   = "voters"           // a voter is not known to keep the same rules
	LeaseSilence  = "acknowledgements" // no majority has acknowledged anything lately
)

// LeaseStats are about leases. Of this node's own, Off is why it does not hold, one of
// the constants above, "" if it does, and Why says the same to people.
type LeaseStats struct {
	Off, Why     string
	Used, Missed uint64 // confirmations by a lease, and those that had to ask although leases are wanted
	Withheld     uint64 // votes this node has not given because of what it had pledged
}

// leaseStats looks whether the lease holds now.
func (n *Node) leaseStats() LeaseStats {
	s := LeaseStats{Used: n.lease.used.Load(), Missed: n.lease.missed.Load(), Withheld: n.pledge.withheld.Load()}
	now := n.instant()
	term, ok := n.leading()
	q := n.quorum.Load()
	switch {
	case n.lease.length == 0:
		s.Off, s.Why = LeaseUnwanted, "read-mode is not lease"
	case !ok:
		s.Off, s.Why = LeaseReplica, "this node is not the master"
	case n.lease.ended.Load() >= term:
		s.Off, s.Why = LeaseYielded, "a handover was begun in this term"
	case n.lease.holds(now, term, q):
	default:
		s.Off, s.Why = LeaseSilence, fmt.Sprintf("no majority has acknowledged an append within %v", n.lease.length)
		if why := n.unpledged(q); why != "" {
			s.Off, s.Why = LeaseVoters, why
		}
	}
	return s
}
