package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

const ms = time.Millisecond

// at is an instant at which both clocks show the same.
func at(d time.Duration) instant { return instant{d, d} }

// lessee is a lease of 80 ms and the other nodes n2 to n5.
type lessee struct {
	lease
	peers []*peer
}

func newLessee() *lessee {
	l := &lessee{peers: []*peer{{id: "n2", bit: 2}, {id: "n3", bit: 4}, {id: "n4", bit: 8}, {id: "n5", bit: 16}}}
	l.length = leaseLength(100 * ms)
	return l
}

// acked has a peer, n2 being 2, acknowledge an append of a term.
func (l *lessee) acked(n int, term uint64, sent instant) { l.note(l.peers[n-2], term, sent) }

// voters is a quorum of sets of voters as masks, n1 being bit 1, n2 bit 2, n3 bit 4.
func voters(masks ...uint64) *quorum {
	q := &quorum{}
	for i, mask := range masks {
		s := voterSet{index: uint64(i + 1), mask: mask}
		for ; mask != 0; mask &= mask - 1 {
			s.voters++
		}
		q.sets = append(q.sets, s)
	}
	return q
}

// P2: a lease lasts for its length from when the append was sent that completes a majority.
func TestLeaseLastsFromTheSendTimeOfAMajority(t *testing.T) {
	for name, c := range map[string]struct {
		q     *quorum
		acks  map[int]int // ms, by node
		until int         // ms, 0 for no lease
	}{
		"nobody of three":                   {voters(7), nil, 0},
		"one of three":                      {voters(7), map[int]int{2: 10}, 90},
		"both others of three, the newest":  {voters(7), map[int]int{2: 10, 3: 30}, 110},
		"one of five":                       {voters(31), map[int]int{2: 10}, 0},
		"two of five, the older of them":    {voters(31), map[int]int{2: 10, 4: 30}, 90},
		"four of five, the second newest":   {voters(31), map[int]int{2: 10, 3: 20, 4: 30, 5: 40}, 110},
		"no voter acknowledges":             {voters(7), map[int]int{4: 10, 5: 10}, 0},
		"this node has no vote, one of two": {voters(6), map[int]int{2: 10}, 0},
		"this node has no vote, both":       {voters(6), map[int]int{2: 10, 3: 30}, 90},
		"two configurations, one satisfied": {voters(7, 25), map[int]int{2: 10, 3: 30}, 0},
		"two configurations, both":          {voters(7, 25), map[int]int{2: 10, 4: 30}, 90},
		"no configuration":                  {&quorum{}, map[int]int{2: 10}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLessee()
			for n, sent := range c.acks {
				l.acked(n, 3, at(time.Duration(sent)*ms))
			}
			l.renew(c.q, l.peers)
			end := time.Duration(c.until) * ms
			if got := l.holds(at(end-1), 3, c.q); got != (c.until > 0) {
				t.Errorf("just before the end it holds: %v", got)
			}
			if l.holds(at(end), 3, c.q) {
				t.Error("it holds at its end")
			}
		})
	}
}

// P2: a lease holds by both clocks or not at all: the one that is ahead ends it.
func TestLeaseEndsByTheClockThatIsAhead(t *testing.T) {
	l, q := newLessee(), voters(7)
	l.acked(2, 3, at(10*ms))
	l.renew(q, l.peers)
	for now, want := range map[instant]bool{
		{89 * ms, 89 * ms}:       true,
		{time.Hour, 20 * ms}:     false, // the machine was suspended, or the clock has jumped
		{20 * ms, time.Hour}:     false,
		{-time.Hour, 100 * ms}:   false, // the other clock has jumped back
		{-time.Hour, 89 * ms}:    true,
		{90 * ms, 89 * ms}:       false,
		{89 * ms, 90 * ms}:       false,
		{time.Hour, time.Hour}:   false,
		{100 * ms, -1 * ms}:      false,
		{0, 0}:                   true,
		{10 * ms, 10*ms + 79*ms}: true,
	} {
		if got := l.holds(now, 3, q); got != want {
			t.Errorf("at %v: %v", now, got)
		}
	}
	l.acked(2, 3, instant{-time.Hour, 50 * ms}) // sent after the jump
	l.renew(q, l.peers)
	if l.holds(instant{60 * ms, 60 * ms}, 3, q) || !l.holds(instant{10*ms - time.Hour, 60 * ms}, 3, q) {
		t.Error("the jump back is not taken over with the next append")
	}
}

// P2: each condition that fails ends the lease.
func TestLeaseEndsWithEachCondition(t *testing.T) {
	q := voters(7)
	now := at(20 * ms)
	for name, f := range map[string]func(l *lessee) (term uint64, q *quorum){
		"another term":                   func(*lessee) (uint64, *quorum) { return 4, q },
		"an earlier term":                func(*lessee) (uint64, *quorum) { return 2, q },
		"the configuration has changed":  func(*lessee) (uint64, *quorum) { return 3, voters(7) },
		"leases are not wanted":          func(l *lessee) (uint64, *quorum) { l.length = 0; return 3, q },
		"it was withdrawn":               func(l *lessee) (uint64, *quorum) { l.withdraw(); return 3, q },
		"it was given up":                func(l *lessee) (uint64, *quorum) { l.end(3); return 3, q },
		"given up, and renewed after it": func(l *lessee) (uint64, *quorum) { l.end(3); l.acked(3, 3, now); l.renew(q, l.peers); return 3, q },
		"one of a later term was":        func(l *lessee) (uint64, *quorum) { l.end(5); l.end(4); return 3, q },
		"the voter was removed":          func(l *lessee) (uint64, *quorum) { l.renew(q, l.peers[1:]); return 3, q },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLessee()
			l.acked(2, 3, at(10*ms))
			l.renew(q, l.peers)
			if !l.holds(now, 3, q) {
				t.Fatal("it does not hold before")
			}
			if term, q := f(l); l.holds(now, term, q) {
				t.Error("it holds")
			}
		})
	}
}

// P2: what was acknowledged in one term counts in no other.
func TestAcknowledgementsCountInTheirTermOnly(t *testing.T) {
	l, q := newLessee(), voters(7)
	l.acked(2, 3, at(10*ms))
	l.acked(3, 4, at(12*ms))
	l.acked(2, 3, at(50*ms)) // it comes late
	l.renew(q, l.peers)
	if l.holds(at(20*ms), 3, q) || !l.holds(at(91*ms), 4, q) || l.holds(at(92*ms), 4, q) {
		t.Error("terms are mixed")
	}
	l.end(3) // of a term that is over
	if !l.holds(at(20*ms), 4, q) {
		t.Error("the end of one term's lease is the end of the next one's")
	}
}

// An answer that comes late does not take back what a later append has won.
func TestLateAnswerDoesNotShortenTheLease(t *testing.T) {
	l, q := newLessee(), voters(7)
	l.acked(2, 3, at(30*ms))
	l.acked(2, 3, at(10*ms))
	l.renew(q, l.peers)
	if !l.holds(at(109*ms), 3, q) {
		t.Error("shortened")
	}
}

// A node that is the only voter needs nobody, but gives its lease up like any other.
func TestOnlyVoterHasALease(t *testing.T) {
	l, q := newLessee(), voters(1)
	if !l.holds(at(time.Hour), 3, q) {
		t.Error("no lease")
	}
	l.end(3)
	if l.holds(at(time.Hour), 3, q) {
		t.Error("a lease that was given up")
	}
}

// P2: whatever the election timeout, the lease of the slowest clock that the kernel allows is
// over before the election timeout of the fastest one.
func TestLeaseIsShorterThanElectionTimeoutsOfOtherClocks(t *testing.T) {
	const off = 0.1005
	for _, election := range []time.Duration{minElection, 50 * ms, 50*ms + 999*time.Microsecond, 250 * ms, 10 * time.Second} {
		lasts := float64(leaseLength(election)) / (1 - off)
		if others := float64(election.Truncate(ms)) / (1 + off); lasts > others || lasts < 0.95*others {
			t.Errorf("%v: %v by the fastest clock", election, time.Duration(lasts-others))
		}
	}
}

// leaser is node n1 of three with leases of 80 ms, and what n2 and n3 have told.
func leaser(t *testing.T) *Node {
	t.Helper()
	n, _ := viewer(t)
	n.lease.length = leaseLength(n.cfg.ElectionTimeout)
	for i, id := range []string{"n2", "n3"} {
		n.peer(id).pledges(pledged{process: [16]byte{byte(i + 1)}, keeps: true, election: n.cfg.ElectionTimeout})
		n.peer(id).answersRaft([16]byte{byte(i + 1)})
	}
	return n
}

// renewed tells whether n1 has a lease in term 3 when n2 has acknowledged an append and
// meanwhile was called while that was under way.
func renewed(n *Node, meanwhile func(n2 *peer)) bool {
	p := n.peer("n2")
	c := n.claim(p)
	meanwhile(p)
	n.acknowledged(c, 3)
	return n.lease.holds(n.instant(), 3, n.quorum.Load())
}

// P2: an acknowledgement counts only if it is certain that the process that gave it keeps the
// same rules with the same election timeout.
func TestAcknowledgementsOfUnknownProcessesDoNotCount(t *testing.T) {
	if n := leaser(t); !renewed(n, func(*peer) {}) {
		t.Fatal("no lease although all is well")
	}
	if renewed(leaser(t), func(p *peer) {
		p.pledges(pledged{process: [16]byte{9}, keeps: true, election: 100 * ms})
		p.answersRaft([16]byte{9})
	}) {
		t.Error("an answer counts although the process was replaced meanwhile")
	}
	fine := pledged{process: [16]byte{1}, keeps: true, election: 100 * ms}
	other, old, slow := fine, fine, fine
	other.process, old.keeps, slow.election = [16]byte{9}, false, 101*ms
	for name, f := range map[string]func(n2 *peer){
		"another process answers raft":       func(p *peer) { p.answersRaft(other.process) },
		"another process has told":           func(p *peer) { p.pledges(other) },
		"it is of an earlier release":        func(p *peer) { p.pledges(old) },
		"it has another election timeout":    func(p *peer) { p.pledges(slow) },
		"raft has not been connected to it":  func(p *peer) { p.answersRaft([16]byte{}) },
		"it has told nothing, nor connected": func(p *peer) { p.pledges(pledged{}); p.answersRaft([16]byte{}) },
	} {
		t.Run(name, func(t *testing.T) {
			if renewed(leaser(t), f) {
				t.Error("it counts when it comes about meanwhile")
			}
			n := leaser(t)
			f(n.peer("n2"))
			if renewed(n, func(*peer) {}) {
				t.Error("it counts when it was so before")
			}
		})
	}
}

// The lease is off while any voter is known to keep other rules, or nothing is known of it.
func TestLeaseNeedsEveryVoterToKeepTheRules(t *testing.T) {
	for want, told := range map[string]pledged{
		"n3 has not answered yet":                 {},
		"n3 is of a release that knows no leases": {process: [16]byte{1}, election: 100 * ms},
		"n3 has an election timeout of 250ms":     {process: [16]byte{1}, keeps: true, election: 250 * ms},
		"":                                        {process: [16]byte{1}, keeps: true, election: 100 * ms},
	} {
		n := leaser(t)
		n.peer("n3").pledges(told)
		if got := n.unpledged(n.quorum.Load()); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := renewed(n, func(*peer) {}); got != (want == "") {
			t.Errorf("%q: a lease is there: %v", want, got)
		}
	}
	n := leaser(t)
	n.reconfigure(2, raft.Configuration{Servers: []raft.Server{{ID: "n1"}, {ID: "n2"}, {ID: "n4"}}})
	if got := n.unpledged(n.quorum.Load()); got != "n4 has not answered yet" {
		t.Errorf("a new voter: %q", got)
	}
	if got := n.unpledged(nil); got == "" {
		t.Error("no configuration is no reason")
	}
}

// Whether a node keeps the rules is told with its answers to pings, by the process at the
// other end; nodes of earlier releases tell nothing of it.
func TestPledgesAreToldWithPings(t *testing.T) {
	l, c := link1(t)
	for _, told := range []struct {
		kind  byte
		keeps bool
		want  string
	}{
		{tellMore, true, ""},
		{tellMore, false, "is of a release that knows no leases"},
		{tellMore, true, ""},
		{tellPing, true, "is of a release that knows no leases"},
	} {
		l.ping(c.Boot())
		answer(t, l, told.kind, &report{election: 100 * ms, more: addition{wall: 1, timed: true, keeps: told.keeps}})
		if got := l.peer.unpledged(100 * ms); got != told.want {
			t.Errorf("%+v: %q", told, got)
		}
	}
}
