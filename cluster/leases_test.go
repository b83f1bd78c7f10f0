package cluster_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/clock"
)

// leasing has nodes go by leases.
func leasing(cfg *cluster.Config) { cfg.Lease = true }

// holds waits until the node that leads has a lease.
func (c *trio) holds() *member {
	c.t.Helper()
	var l *member
	c.eventually("a lease", func() bool {
		l = c.leader()
		return l.node.Stats().Lease.Off == ""
	})
	return l
}

// off waits until a node has no lease for the given reason, and returns the words.
func (m *member) off(t *testing.T, reason string) string {
	t.Helper()
	var s cluster.LeaseStats
	eventually(t, m.id+" has no lease: "+reason, func() bool {
		s = m.node.Stats().Lease
		return s.Off == reason
	})
	return s.Why
}

// While the lease holds the leader is confirmed without rounds, and followers never are.
func TestLeaseConfirmsWithoutRounds(t *testing.T) {
	c := started(t, leasing)
	l := c.holds()
	for range 5 { // a stall of the test may end a lease
		before := l.node.Stats()
		const asked = 1000
		for range asked {
			if err := confirm(l, time.Second); err != nil {
				t.Fatal(err)
			}
		}
		after := l.node.Stats()
		if after.Lease.Used-before.Lease.Used == asked && after.Rounds.Begun-before.Rounds.Begun < asked/10 {
			for _, m := range c.others(l) {
				if confirm(m, time.Second) == nil || m.node.Stats().Lease.Off != cluster.LeaseReplica {
					t.Errorf("%s is confirmed or has a lease", m.id)
				}
			}
			return
		}
	}
	t.Errorf("the lease is hardly used: %+v", l.node.Stats().Lease)
}

// Without the setting there is no lease, and that is said.
func TestNoLeaseUnlessWanted(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	if s := l.node.Stats().Lease; s.Off != cluster.LeaseUnwanted || s.Used+s.Missed > 0 {
		t.Errorf("got %+v", s)
	}
}

// P2: from the instant at which a new leader is confirmed the old one, cut off, never is, and
// its lease has ended before that.
func TestLeaseOfIsolatedLeaderEndsBeforeTheNextBegins(t *testing.T) {
	c := started(t, leasing)
	for range 3 {
		old := c.holds()
		rest := c.others(old)
		var elected atomic.Bool
		var lies, asked atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				for ctx.Err() == nil {
					late := elected.Load()
					if old.node.Confirm(ctx) == nil {
						asked.Add(1)
						if late {
							lies.Add(1)
						}
					}
					<-time.After(50 * time.Microsecond)
				}
			})
		}
		c.wires.isolate(old.id, rest[0].id, rest[1].id)
		c.leaderAmong(rest[0].id, rest[1].id)
		elected.Store(true)
		pause(testElection / 2)
		cancel()
		wg.Wait()
		if lies.Load() > 0 {
			t.Errorf("confirmed %d times while another leads", lies.Load())
		}
		if asked.Load() == 0 {
			t.Error("it was never confirmed: the test shows nothing")
		}
		c.wires.heal()
		c.eventually("the old leader follows", func() bool { v := old.node.View(); return !v.RaftLeader && v.Leader != "" })
	}
}

// Reads go on by rounds while a voter has another election timeout, and the lease comes with
// the same one.
func TestLeaseIsOffWhileElectionTimeoutsDiffer(t *testing.T) {
	other := 2 * testElection
	c := started(t, func(cfg *cluster.Config) {
		leasing(cfg)
		if cfg.NodeID == "n3" {
			cfg.ElectionTimeout = other
		}
	})
	l := c.leader()
	if l.id == "n3" {
		c.lead(c.members["n1"])
		l = c.members["n1"]
	}
	if why := l.off(t, cluster.LeaseVoters); why != "n3 has an election timeout of 300ms" {
		t.Errorf("said %q", why)
	}
	if err := confirm(l, time.Second); err != nil || l.node.Stats().Lease.Missed == 0 {
		t.Errorf("no round instead: %v", err)
	}
	other = testElection
	c.kill("n3")
	c.members["n3"].cfg.ElectionTimeout = testElection
	c.start("n3")
	c.holds()
}

// With one of three nodes down the lease goes on; a leader that has never heard of the third
// one has none until it does.
func TestLeaseWithOneNodeDown(t *testing.T) {
	c := started(t, leasing)
	l := c.holds()
	rest := c.others(l)
	c.kill(rest[0].id)
	pause(testElection)
	c.holds()
	c.kill(l.id)
	c.kill(rest[1].id)
	c.start(l.id)
	c.start(rest[1].id)
	l = c.leader()
	if why := l.off(t, cluster.LeaseVoters); why != rest[0].id+" has not answered yet" {
		t.Errorf("said %q", why)
	}
	c.start(rest[0].id)
	c.holds()
}

// A leader whose majority is silent says so.
func TestLeaseEndsWhenNobodyAcknowledges(t *testing.T) {
	c := started(t, leasing)
	l := c.holds()
	for _, m := range c.others(l) {
		c.wires.hold(m.id, l.id)
	}
	seen := false
	c.eventually("it gives up", func() bool {
		s := l.node.Stats().Lease
		seen = seen || s.Off == cluster.LeaseSilence && strings.Contains(s.Why, "120ms")
		return s.Off == cluster.LeaseReplica
	})
	if !seen {
		t.Error("it never said that nobody acknowledges")
	}
}

// P3: a handover ends the lease first, works although voters have pledged themselves a moment
// ago, and the successor gets a lease of its own.
func TestHandoverMovesTheLease(t *testing.T) {
	c := started(t, leasing)
	old := c.holds()
	next := c.others(old)[0]
	c.eventually("it has the whole log", func() bool { return old.node.Acked(next.id) == old.node.Stats().LastIndex })
	before := next.node.Stats().Elections
	began := clock.Mono()
	if err := old.node.HandOver(next.id); err != nil {
		t.Fatal(err)
	}
	c.eventually("the successor leads", func() bool { return next.node.Stats().Elections > before })
	if took := clock.Mono() - began; took > testElection {
		t.Errorf("it took %v: voters did not vote at once", took)
	}
	if confirm(old, time.Second) == nil && old.node.Stats().Term < next.node.Stats().Term {
		t.Error("the old leader is confirmed")
	}
	c.eventually("the successor has a lease", func() bool { return next.node.Stats().Lease.Off == "" })
}

// P2: a leader whose handover has failed has no lease in that term any more: its order may
// still be on the way. Rounds confirm it.
func TestFailedHandoverLeavesNoLease(t *testing.T) {
	c := started(t, leasing)
	l := c.holds()
	next := c.others(l)[0]
	c.eventually("it has the whole log", func() bool { return l.node.Acked(next.id) == l.node.Stats().LastIndex })
	term := l.node.Stats().Term
	c.wires.isolate(next.id, l.id)
	if err := l.node.HandOver(next.id); err == nil {
		t.Fatal("it succeeded")
	}
	c.wires.heal()
	for range 20 {
		if s := l.node.Stats(); s.Term == term && s.Lease.Off != cluster.LeaseYielded && s.Lease.Off != cluster.LeaseReplica {
			t.Fatalf("in the same term: %+v", s.Lease)
		}
		if err := confirm(c.leader(), 5*time.Second); err != nil {
			t.Errorf("no round confirms: %v", err)
		}
		pause(testElection / 20)
	}
}

// P2: an order to stand for election that was delayed, and arrives in the term of a later
// leader, does not make voters forget what they have pledged.
func TestDelayedOrderToStandElectsNobody(t *testing.T) {
	c := started(t, leasing)
	l := c.holds()
	target := c.others(l)[0]
	c.eventually("it has the whole log", func() bool { return l.node.Acked(target.id) == l.node.Stats().LastIndex })
	before := target.node.Stats()
	if err := l.node.OrderToStand(target.id); err != nil { // without the word that comes before it
		t.Fatal(err)
	}
	c.eventually("it withholds its own vote", func() bool { return target.node.Stats().Lease.Withheld > before.Lease.Withheld })
	if s := target.node.Stats(); s.Elections > before.Elections {
		t.Errorf("elected in term %d", s.Term)
	}
	c.put("a", "1")
	c.holds()
}

// P2: followers that a leader keeps in touch with give no vote; once it is gone they do.
func TestFollowersWithholdVotesWhileInTouch(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	rest := c.others(l)
	c.eventually("contact", func() bool { return rest[0].node.View().Leader == l.id })
	for range 50 {
		if term := rest[0].node.Stats().Term; rest[0].node.MayVote(term+1, rest[1].id) == nil && rest[0].node.View().Leader == l.id {
			t.Fatal("it would vote for another follower")
		}
		pause(time.Millisecond)
	}
	c.wires.isolate(l.id, rest[0].id, rest[1].id)
	c.leaderAmong(rest[0].id, rest[1].id)
}

// P2: a node whose election timeout was longer before votes for nobody, itself included,
// before that time has passed since its start; after that it goes by the new one.
func TestRestartedNodeWaitsForAsLongAsItHadPledged(t *testing.T) {
	const long = 700 * time.Millisecond
	m := single(t, func(cfg *cluster.Config) { cfg.ElectionTimeout = long })
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	restart := func() time.Duration {
		m.stop()
		<-m.ended
		if err := m.node.Close(); err != nil {
			t.Fatal(err)
		}
		m.cfg.ElectionTimeout = testElection / 2
		began := clock.Mono()
		if err := m.start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
		return clock.Mono() - began
	}
	if took := restart(); took < long {
		t.Errorf("elected after %v", took)
	}
	eventually(t, "an election sooner than that", func() bool { return restart() < long })
}

// A cluster of one that goes by leases has one from its first term on.
func TestClusterOfOneHasALease(t *testing.T) {
	m := single(t, leasing)
	eventually(t, "a lease", func() bool { return m.node.Stats().Lease.Off == "" && confirm(m, time.Second) == nil })
}

// P2: a voter that was started anew, and knows of no leader, gives no vote while the lease may
// hold that its last acknowledgement before has prolonged.
func TestRestartedVoterKeepsThePledgeOfItsPredecessor(t *testing.T) {
	c := started(t, func(cfg *cluster.Config) {
		leasing(cfg)
		cfg.ElectionTimeout = 4 * testElection
	})
	shown := 0
	for range 4 {
		l := c.holds()
		voter, other := c.others(l)[0], c.others(l)[1]
		c.wires.isolate(other.id, l.id, voter.id) // the lease rests on the voter alone
		pause(2 * testElection)
		c.wires.isolate(voter.id, l.id)
		c.kill(voter.id)
		c.start(voter.id)
		term := l.node.Stats().Term
		eventually(t, "the end of the lease", func() bool {
			votes := voter.node.Formed() && voter.node.MayVote(term+1, other.id) == nil
			held := l.node.Stats().Lease.Off == ""
			if votes && held {
				t.Error("it votes for another while the lease holds")
			}
			if held && voter.node.Formed() {
				shown++
			}
			return !held
		})
		c.wires.heal()
	}
	if shown == 0 {
		t.Skip("the voter took longer to start than the lease lasted") // on a machine as busy as that
	}
}

// P2: such an order wins no votes either where the node that gets it has lost touch with the
// leader, and others have not.
func TestDelayedOrderWinsNoVotesOfOthers(t *testing.T) {
	c := started(t, leasing)
	for range 20 { // the order does nothing if it finds a candidate
		l := c.holds()
		target, other := c.others(l)[0], c.others(l)[1]
		c.wires.isolate(target.id, l.id)
		eventually(t, "it has lost touch", func() bool { return target.node.Silent() >= testElection })
		before := target.node.Stats()
		if err := other.node.OrderToStand(target.id); err != nil {
			t.Fatal(err)
		}
		pause(testElection)
		after := target.node.Stats()
		if after.Elections > before.Elections {
			t.Errorf("elected in term %d", after.Term)
		}
		c.wires.heal()
		if after.Term > before.Term {
			return
		}
	}
	t.Error("it never stood")
}
