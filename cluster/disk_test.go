package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
)

// An error of the log stops the node with a message, and the others go on.
func TestLogErrorStopsTheNode(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			c := started(t, nil)
			var broken atomic.Bool
			l := c.leader()
			victim := l
			if who == "follower" {
				victim = c.others(l)[0]
			}
			c.kill(victim.id)
			victim = c.startBroken(victim.id, func() error {
				if broken.Load() {
					return syscall.EIO
				}
				return nil
			})
			if who == "leader" {
				c.lead(victim)
			} else {
				c.eventually("it follows", func() bool { return victim.node.View().Ready })
			}
			broken.Store(true)
			go victim.node.Apply([]byte("a=b"), time.Second)
			for _, m := range c.others(victim) {
				m.node.Apply([]byte("a=b"), time.Second)
			}
			victim.stopsWith(t, syscall.EIO, 10*time.Second)
			c.kill(victim.id)
			c.put("k", "v")
		})
	}
}

// A leader whose append hangs stops claiming and sending heartbeats, and another one
// takes over.
func TestLeaderWithHangingDiskIsReplaced(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	c.kill(l.id)
	hang := make(chan struct{})
	var hanging atomic.Bool
	m := c.startBroken(l.id, func() error {
		if hanging.Load() {
			<-hang
		}
		return nil
	})
	defer close(hang)
	c.lead(m)
	hanging.Store(true)
	m.node.Apply([]byte("a=b"), time.Second)
	rest := c.others(m)
	c.eventually("it stops claiming", func() bool { return !m.node.View().IsLeader })
	c.leaderAmong(rest[0].id, rest[1].id)
	if err := confirm(m, testElection); err == nil {
		t.Error("confirmed with a hanging disk")
	}
	hanging.Store(false)
}

// P1: entries reach the others before the leader's own disk has them, and none of them
// is acknowledged before it does.
func TestNothingIsCommittedBeforeTheLeadersDisk(t *testing.T) {
	told(t, nil, func(t testing.TB, c *trio) {
		l := c.leader()
		c.kill(l.id)
		gate := make(chan struct{})
		var gated atomic.Bool
		m := c.startBroken(l.id, func() error {
			if gated.Load() {
				<-gate
			}
			return nil
		})
		open := sync.OnceFunc(func() { close(gate) })
		defer open()
		c.lead(m)
		c.eventually("its log is quiet", func() bool {
			s := m.node.Stats()
			return s.Log.Outstanding == 0 && s.AppliedIndex == s.LastIndex
		})
		gated.Store(true)
		before := m.node.Stats().CommitIndex
		future := m.node.Apply([]byte("a=b"), time.Second)
		for _, other := range c.others(m) {
			c.eventually("another has it", func() bool { return other.node.Stats().LastIndex > before })
		}
		pause(50 * time.Millisecond) // both have long answered
		if s := m.node.Stats(); s.CommitIndex != before || m.fsm.get("a") != "" {
			t.Errorf("committed up to %d, before %d", s.CommitIndex, before)
		}
		open()
		if err := future.Error(); err != nil {
			t.Error(err)
		}
	})
}

// One follower is gone and the disk of the other one stalls for 200 ms once a
// second: the leader stays, at the default election timeout.
func TestStallingFollowerDoesNotCostTheLeadership(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	c := started(t, func(cfg *cluster.Config) { cfg.ElectionTimeout = 250 * time.Millisecond })
	l := c.leader()
	rest := c.others(l)
	c.kill(rest[0].id)
	var calls atomic.Int64
	m := c.startBroken(rest[0].id, func() error {
		if calls.Add(1)%20 == 0 { // the writes below come every 50 ms
			pause(200 * time.Millisecond)
		}
		return nil
	})
	c.eventually("it follows", func() bool { return m.node.View().Ready })
	c.kill(rest[1].id)
	l = c.leader()
	if l == m {
		t.Skip("the slow node was elected")
	}
	term, before := l.node.Stats().Term, calls.Load()
	for range 80 {
		if err := l.node.Apply([]byte("k=v"), time.Second).Error(); err != nil {
			t.Fatal(err)
		}
		pause(50 * time.Millisecond)
	}
	if got := l.node.Stats().Term; got != term || calls.Load()-before < 80 {
		t.Errorf("term %d became %d after %d appends", term, got, calls.Load()-before)
	}
}

// Snapshots are made when the log has grown by enough bytes, the log is cut, and a
// node that was away gets the snapshot.
func TestSnapshotsAreMadeByBytes(t *testing.T) {
	var made atomic.Int64
	c := started(t, func(cfg *cluster.Config) {
		cfg.Log.SnapshotBytes, cfg.Log.TrailingBytes = 64<<10, 1
		cfg.Observe.Snapshot = func(_ time.Duration, err error) {
			if err == nil {
				made.Add(1)
			}
		}
	})
	away := c.others(c.leader())[0]
	c.kill(away.id)
	value := strings.Repeat("x", 1<<10)
	l := c.leader()
	for i := range 400 {
		if err := l.node.Apply([]byte(fmt.Sprint("k", i, "=", value)), time.Second).Error(); err != nil {
			c.put(fmt.Sprint("k", i), value)
		}
	}
	c.eventually("a snapshot", func() bool { return made.Load() > 1 })
	c.eventually("the counter starts again", func() bool { return l.node.Stats().Log.SinceSnapshot < 400<<10 })
	m := c.start(away.id)
	for i := range 400 {
		c.sees(m, fmt.Sprint("k", i), value)
	}
	if s := l.node.Stats(); s.SnapshotIndex == 0 || s.Snapshots.Made == 0 {
		t.Errorf("stats %+v", s)
	}
}

// Snapshot makes one on demand, and again when there is nothing new.
func TestSnapshotOnDemand(t *testing.T) {
	m := single(t, nil)
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	if err := m.node.Apply([]byte("k=v"), time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.node.Snapshot(context.Background()); err != nil {
			t.Fatal(err)
		}
		pause(2 * time.Millisecond) // raft names snapshots of one index after the millisecond
	}
	m.stop()
	<-m.ended
	if err := m.node.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the value", func() bool { return m.fsm.get("k") == "v" })
}

// An entry over the limit is refused before raft sees it.
func TestOversizedCommandIsRefused(t *testing.T) {
	m := single(t, func(cfg *cluster.Config) { cfg.Log.MaxEntryBytes = 1 << 10 })
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	if err := m.node.Apply(make([]byte, 1<<10+1), time.Second).Error(); !errors.Is(err, cluster.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if err := m.node.Apply(make([]byte, 1<<10), time.Second).Error(); err != nil {
		t.Errorf("an entry of the limit: %v", err)
	}
}

// A follower that is far behind gets big entries in requests of bounded size.
func TestBigEntriesReachAFollowerThatWasAway(t *testing.T) {
	count, size := 8, 5<<20
	if testing.Short() {
		count, size = 4, 3<<20 // more than one request all the same
	}
	told(t, nil, func(t testing.TB, c *trio) {
		m := c.others(c.leader())[0]
		c.kill(m.id)
		value := strings.Repeat("x", size)
		for i := range count {
			c.put(fmt.Sprint("k", i), value)
		}
		m = c.start(m.id)
		for i := range count {
			c.sees(m, fmt.Sprint("k", i), value)
		}
	})
}

// In a release the control file of faults does nothing.
func TestReleaseIgnoresTheControlFile(t *testing.T) {
	if cluster.Disturbable() {
		t.Skip("built with the tag faults")
	}
	m := single(t, nil)
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	if err := os.WriteFile(filepath.Join(m.cfg.Dir, "faults.json"), []byte(`{"store":"eio"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	pause(100 * time.Millisecond)
	if err := m.node.Apply([]byte("a=b"), time.Second).Error(); err != nil {
		t.Error(err)
	}
}
