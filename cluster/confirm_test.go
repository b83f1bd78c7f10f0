package cluster_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/testkit"
)

// confirm asks a node for proof that it leads, for at most d.
func confirm(m *member, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return m.node.Confirm(ctx)
}

// Followers are never confirmed; the leader is, as often as it is asked.
func TestOnlyTheLeaderIsConfirmed(t *testing.T) {
	told(t, nil, func(t testing.TB, c *trio) {
		l := c.leader()
		for range 100 {
			if err := confirm(l, 5*time.Second); err != nil {
				t.Fatal(err)
			}
		}
		c.leadsAlone(l)
	})
}

// Callers that come while a round is under way share the next one.
func TestCallersShareRounds(t *testing.T) {
	told(t, nil, func(t testing.TB, c *trio) {
		l := c.leader()
		c.wires.slow(c.others(l)[0].id, l.id, 2*time.Millisecond)
		c.wires.slow(c.others(l)[1].id, l.id, 2*time.Millisecond)
		before := l.node.Stats().Rounds
		const callers = 400
		var wg sync.WaitGroup
		var failed atomic.Int64
		for range callers {
			wg.Go(func() {
				if confirm(l, 5*time.Second) != nil {
					failed.Add(1)
				}
			})
		}
		wg.Wait()
		after := l.node.Stats().Rounds
		if failed.Load() > 0 || after.Confirmed-before.Confirmed > callers/4 {
			t.Errorf("%d callers took %d rounds, %d failed", callers, after.Confirmed-before.Confirmed, failed.Load())
		}
	})
}

// One voter is asked first; while it is silent the other one confirms.
func TestOtherVoterConfirmsWhenTheFirstIsSilent(t *testing.T) {
	told(t, nil, func(t testing.TB, c *trio) {
		l := c.leader()
		for _, m := range c.others(l) {
			c.wires.isolate(m.id, l.id)
			began := clock.Mono()
			if err := confirm(l, 5*time.Second); err != nil {
				t.Fatalf("%s silent: %v", m.id, err)
			}
			if took := clock.Mono() - began; took > testElection {
				t.Fatalf("%s silent: confirmed after %v", m.id, took)
			}
			c.wires.heal()
			c.eventually("contact with "+m.id, func() bool {
				return !slices.ContainsFunc(l.node.View().Peers, func(p cluster.PeerView) bool { return !p.Contact })
			})
		}
	})
}

// A leader cut off from the others is confirmed by nobody from then on: not while it
// believes to lead, and not by answers that were under way and arrive after a new
// leader was elected.
func TestOldAnswersNeverConfirmDeposedLeader(t *testing.T) {
	told(t, nil, oldAnswersNeverConfirm)
}

func oldAnswersNeverConfirm(t testing.TB, c *trio) {
	old := c.leader()
	rest := c.others(old)
	// Questions still reach the others, but answers do not reach the leader: those it
	// gets later were given before the new leader was elected.
	for _, m := range rest {
		c.wires.hold(m.id, old.id)
	}
	v := old.node.View()
	if !v.IsLeader {
		t.Fatal("it was deposed before that")
	}
	term := v.Term
	var lies, asked atomic.Int64
	var elected atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				late := elected.Load()
				err := old.node.Confirm(ctx)
				if late {
					asked.Add(1)
				}
				if err == nil && late && old.node.Stats().Term == term {
					lies.Add(1)
				}
				<-time.After(100 * time.Microsecond)
			}
		})
	}
	pause(testElection / 4)
	for _, m := range rest {
		c.wires.hold(old.id, m.id)
	}
	c.leaderAmong(rest[0].id, rest[1].id)
	elected.Store(true)
	pause(testElection / 2)
	c.wires.heal() // the old answers arrive now, and the news of the new term behind them
	c.eventually("the old leader hears of the new term", func() bool { return old.node.Stats().Term > term })
	cancel()
	wg.Wait()
	if lies.Load() > 0 {
		c.test.Errorf("%d of %d answers confirmed a deposed leader", lies.Load(), asked.Load())
	}
	if asked.Load() == 0 {
		t.Error("nobody asked after the election")
	}
}

// A round that began before the partition does not answer callers that came after
// it, and ends with an error when no majority answers for two election timeouts.
func TestRoundWithoutMajorityEnds(t *testing.T) {
	told(t, nil, func(t testing.TB, c *trio) {
		l := c.leader()
		c.wires.isolate(l.id, c.others(l)[0].id, c.others(l)[1].id)
		began := clock.Mono()
		err := confirm(l, 10*time.Second)
		if err == nil {
			c.test.Error("confirmed although it is cut off")
		}
		if took := clock.Mono() - began; took > 4*testElection || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("took %v: %v", took, err)
		}
	})
}

// A cluster of one confirms itself once it is established, and at once.
func TestClusterOfOneConfirmsItself(t *testing.T) {
	m := single(t, nil)
	eventually(t, "confirmation", func() bool { return confirm(m, time.Second) == nil })
	v := m.node.View()
	if !v.IsLeader || v.Leader != v.Self || !v.Ready || !v.Quorum || m.node.Addr() != nil {
		t.Errorf("view %+v", v)
	}
}

// single is a started cluster of one.
func single(t *testing.T, tweak func(*cluster.Config)) *member {
	t.Helper()
	m := &member{id: "solo", cfg: cluster.Config{
		NodeID: "solo", Dir: testkit.MemoryDir(t), ElectionTimeout: testElection, Logger: testLogger(t, "solo"),
	}}
	if tweak != nil {
		tweak(&m.cfg)
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.stop()
		<-m.ended
		if m.node != nil {
			_ = m.node.Close()
		}
	})
	return m
}

// BenchmarkConfirm measures rounds with many callers at a time, and with one.
func BenchmarkConfirm(b *testing.B) {
	for _, callers := range []int{1, 50} {
		b.Run(map[int]string{1: "alone", 50: "fifty"}[callers], func(b *testing.B) {
			c := started(b, func(cfg *cluster.Config) { cfg.Dial = nil })
			l := c.leader()
			before := l.node.Stats().Rounds
			b.ReportAllocs()
			b.ResetTimer()
			var left atomic.Int64
			left.Store(int64(b.N))
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for left.Add(-1) >= 0 {
						if err := l.node.Confirm(context.Background()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			rounds := l.node.Stats().Rounds.Confirmed - before.Confirmed
			b.ReportMetric(float64(rounds)/b.Elapsed().Seconds(), "rounds/s")
		})
	}
}
