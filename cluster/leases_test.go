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

// While the lease holds the leader is confirmed without rounds, and followers never are.
func TestLeaseConfirmsWithoutRounds(t *testing.T) {
	told(t, leasing, func(t testing.TB, c *trio) {
		l := c.holds()
		before := l.node.Stats()
		const asked = 1000
		for range asked {
			if err := confirm(l, 5*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		after := l.node.Stats()
		if after.Lease.Used-before.Lease.Used < asked || after.Rounds.Begun-before.Rounds.Begun >= asked/10 {
			t.Errorf("the lease is hardly used: %+v", after.Lease) // a standstill ends one
		}
		c.leadsAlone(l)
		for _, m := range c.others(l) {
			if off := m.node.Stats().Lease.Off; off != cluster.LeaseReplica {
				t.Errorf("%s has a lease, or would: %q", m.id, off)
			}
		}
	})
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
	shown := 0
	for range 20 {
		if c.isolatedLeaseEnds(t) {
			shown++
		}
		if shown == 3 {
			return
		}
	}
	t.Errorf("the leader was confirmed before it was cut off in %d rounds of 20 only", shown)
}

// isolatedLeaseEnds cuts off the leader while two ask it to confirm itself, and tells
// whether it did before.
func (c *trio) isolatedLeaseEnds(t *testing.T) bool {
	t.Helper()
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
	c.eventually("it is confirmed", func() bool { return asked.Load() > 0 || !old.node.View().IsLeader })
	c.wires.isolate(old.id, rest[0].id, rest[1].id)
	next := c.leaderAmong(rest[0].id, rest[1].id)
	elected.Store(true)
	pause(testElection / 2)
	cancel()
	wg.Wait()
	if lies.Load() > 0 {
		t.Errorf("confirmed %d times while another leads", lies.Load())
	}
	term := next.node.Stats().Term
	c.wires.heal()
	c.eventually("the old leader hears of the next one", func() bool { return old.node.Stats().Term >= term })
	return asked.Load() > 0
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
	want := map[bool]string{false: "n3 has an election timeout of 300ms", true: "n1 has an election timeout of 150ms"}
	c.eventually("no lease, and a round instead", func() bool {
		l := c.leader()
		s := l.node.Stats().Lease
		if s.Off == "" {
			t.Errorf("%s has a lease", l.id)
		}
		return s.Off == cluster.LeaseVoters && s.Why == want[l.id == "n3"] &&
			confirm(l, time.Second) == nil && l.node.Stats().Lease.Missed > 0
	})
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
	c.eventually("it says of whom it has never heard", func() bool {
		s := c.leader().node.Stats().Lease
		if s.Off == "" {
			t.Error("a lease without having heard of all")
		}
		return s.Off == cluster.LeaseVoters && s.Why == rest[0].id+" has not answered yet"
	})
	c.start(rest[0].id)
	c.holds()
}

// A leader whose majority is silent says so. It does for as long as raft lets it lead after
// its lease has ended, which is a moment.
func TestLeaseEndsWhenNobodyAcknowledges(t *testing.T) {
	c := started(t, leasing)
	for range 20 {
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
		c.wires.heal()
		if seen {
			return
		}
	}
	t.Error("it never said that nobody acknowledges")
}

// P3: a handover ends the lease first, works although voters have pledged themselves a moment
// ago, and the successor gets a lease of its own.
func TestHandoverMovesTheLease(t *testing.T) {
	told(t, leasing, func(t testing.TB, c *trio) {
		old := c.holds()
		next := c.others(old)[0]
		c.eventually("it has the whole log", func() bool { return old.node.Acked(next.id) == old.node.Stats().LastIndex })
		term := old.node.Stats().Term
		began := clock.Mono()
		if err := old.node.HandOver(next.id); err != nil {
			t.Fatal(err)
		}
		var v cluster.View
		c.eventually("the successor leads", func() bool { v = next.node.View(); return v.RaftLeader && v.Term > term })
		if took := clock.Mono() - began; took > testElection {
			t.Errorf("it took %v: voters did not vote at once", took)
		}
		if confirm(old, time.Second) == nil && old.node.Stats().Term < v.Term {
			c.test.Error("the old leader is confirmed")
		}
		c.eventually("the successor has a lease", func() bool { return next.node.Stats().Lease.Off == "" })
	})
}

// P2: a leader whose handover has failed has no lease in that term any more: its order may
// still be on the way. Rounds confirm it.
func TestFailedHandoverLeavesNoLease(t *testing.T) {
	told(t, leasing, func(t testing.TB, c *trio) {
		l := c.holds()
		next := c.others(l)[0]
		c.eventually("it has the whole log", func() bool { return l.node.Acked(next.id) == l.node.Stats().LastIndex })
		term := l.node.Stats().Term
		c.wires.isolate(next.id, l.id)
		if err := l.node.HandOver(next.id); err == nil {
			t.Fatal("it succeeded")
		}
		c.wires.heal()
		if s := l.node.Stats().Lease; s.Off != cluster.LeaseYielded {
			t.Fatalf("after it: %+v", s) // or it did not come to the order
		}
		for range 20 {
			s := l.node.Stats().Lease
			same := l.node.Stats().Term == term // and was when the lease was looked at
			if same && s.Off != cluster.LeaseYielded && s.Off != cluster.LeaseReplica {
				c.test.Errorf("in the same term: %+v", s)
				return
			}
			c.leader() // confirmed by a round
			pause(testElection / 20)
		}
	})
}

// P2: an order to stand for election that was delayed, and arrives in the term of a later
// leader, does not make voters forget what they have pledged.
func TestDelayedOrderToStandElectsNobody(t *testing.T) {
	told(t, leasing, func(t testing.TB, c *trio) {
		l := c.holds()
		target := c.others(l)[0]
		c.eventually("it has the whole log", func() bool { return l.node.Acked(target.id) == l.node.Stats().LastIndex })
		before := target.node.Stats()
		if err := l.node.OrderToStand(target.id); err != nil { // without the word that comes before it
			t.Fatal(err)
		}
		c.eventually("it withholds its own vote", func() bool {
			s := target.node.Stats()
			return s.Lease.Withheld > before.Lease.Withheld || s.Elections > before.Elections
		})
		if s := target.node.Stats(); s.Elections > before.Elections {
			c.leaseEndedBefore(l, target)
			t.Errorf("elected in term %d", s.Term) // its pledge is over if it stood still for that long
		}
		c.put("a", "1")
		c.holds()
	})
}

// leaseEndedBefore wants the lease of a leader to be over once another node leads.
func (c *trio) leaseEndedBefore(old, next *member) {
	c.t.Helper()
	v := next.node.View()
	held := old.node.Stats().Lease.Off == ""
	if term := old.node.Stats().Term; held && v.RaftLeader && term < v.Term {
		c.test.Errorf("%s leads in term %d while the lease of %s holds in term %d", next.id, v.Term, old.id, term)
	}
}

// P2: followers that a leader keeps in touch with give no vote; once it is gone they do.
func TestFollowersWithholdVotesWhileInTouch(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	seen := 0
	c.eventually("votes withheld", func() bool {
		for _, m := range c.others(l) {
			at := clock.Mono()
			silent := m.node.Silent()
			err := m.node.MayVote(m.node.Stats().Term+1, "another")
			if silent >= testElection-(clock.Mono()-at) {
				continue // it was out of touch, perhaps ever since its start, or could have been
			}
			if err == nil {
				t.Fatalf("%s would vote for another after %v", m.id, silent)
			}
			seen++
		}
		return seen >= 50
	})
	rest := c.others(l)
	c.wires.isolate(l.id, rest[0].id, rest[1].id)
	c.leaderAmong(rest[0].id, rest[1].id)
}

// P2: a node whose election timeout was longer before votes for nobody, itself included,
// before that time has passed since its start; after that it goes by the new one.
func TestRestartedNodeWaitsForAsLongAsItHadPledged(t *testing.T) {
	const long = 1500 * time.Millisecond
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
	told(t, leasing, func(t testing.TB, c *trio) {
		for range 20 { // the order does nothing if it finds a candidate
			l := c.holds()
			target, other := c.others(l)[0], c.others(l)[1]
			c.eventually("it is in touch", func() bool {
				return target.node.Silent() < testElection || !l.node.View().IsLeader
			})
			c.wires.isolate(target.id, l.id)
			c.eventually("it has lost touch", func() bool {
				return target.node.Silent() >= testElection || !l.node.View().IsLeader
			})
			before := target.node.Stats()
			lost := target.node.Silent() >= testElection && target.node.View().State == "Follower"
			err := other.node.OrderToStand(target.id)
			pause(testElection)
			after := target.node.Stats()
			if after.Elections > before.Elections {
				c.leaseEndedBefore(l, target)
				t.Fatalf("elected in term %d", after.Term) // others have lost touch if they stood still for that long
			}
			c.wires.heal()
			if err == nil && lost && after.Term > before.Term {
				return
			}
		}
		t.Error("it never stood")
	})
}
