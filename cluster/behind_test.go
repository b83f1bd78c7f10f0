package cluster

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// gatedBackend appends only what it is let to, one call for each value in gate.
type gatedBackend struct {
	backend
	gate chan error
	last atomic.Uint64 // the highest durable index
}

func (g *gatedBackend) StoreLogs(entries []*raft.Log) error {
	if err := <-g.gate; err != nil {
		return err
	}
	if err := g.backend.StoreLogs(entries); err != nil {
		return err
	}
	g.last.Store(entries[len(entries)-1].Index)
	return nil
}

// leading is a store of a leader who needs others, before a gate, with entry 1 in it.
func leading(t *testing.T, failed *error) (*logStore, *gatedBackend) {
	t.Helper()
	s := mustLogs(t, LogStoreWAL, t.TempDir(), failed)
	s.maxBytes, s.cache = behindBytes, newLogCache(64, 2*behindBytes)
	t.Cleanup(func() { _ = s.back.Close() })
	must(t, s.StoreLogs(entries(1, 1)))
	g := &gatedBackend{backend: s.back, gate: make(chan error)}
	g.last.Store(1)
	s.back = g
	s.leads, s.needsOthers = func() bool { return true }, func() bool { return true }
	return s, g
}

// waits tells that f goes on only after the gate has let one append pass.
func (g *gatedBackend) waits(t *testing.T, what string, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		t.Fatalf("%s did not wait: %v", what, err)
	case <-time.After(20 * time.Millisecond): // f would have had time to end
	}
	g.gate <- nil
	must(t, <-done)
}

// P1: a leader goes on before its commands are durable, sees them, and knows when
// they are; whoever must not go on waits.
func TestLeaderGoesOnBeforeItsDisk(t *testing.T) {
	for name, wait := range map[string]func(s *logStore) error{
		"settle":        func(s *logStore) error { return s.settle(2) },
		"last index":    func(s *logStore) error { _, err := s.LastIndex(); return err },
		"truncation":    func(s *logStore) error { return s.DeleteRange(1, 2) },
		"not in memory": func(s *logStore) error { s.cache.clear(); return s.GetLog(2, new(raft.Log)) },
		"read by a follower": func(s *logStore) error {
			s.leads = func() bool { return false }
			return s.GetLog(2, new(raft.Log))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var failed error
			s, g := leading(t, &failed)
			must(t, s.StoreLogs(entries(2, 2)))
			var l raft.Log
			if err := s.GetLog(2, &l); err != nil || l.Index != 2 || g.last.Load() != 1 {
				t.Fatalf("entry %d, %v, durable up to %d", l.Index, err, g.last.Load())
			}
			must(t, s.settle(1))
			g.waits(t, name, func() error { return wait(s) })
			if failed != nil || g.last.Load() != 2 {
				t.Errorf("durable up to %d, stopped with %v", g.last.Load(), failed)
			}
		})
	}
}

// P1: what is not a command, what a follower appends, and what a leader can commit
// alone is durable when StoreLogs returns, with everything before it.
func TestOthersWaitForTheirDisk(t *testing.T) {
	no := func() bool { return false }
	for name, change := range map[string]func(s *logStore, e *raft.Log){
		"configuration": func(_ *logStore, e *raft.Log) {
			e.Type, e.Data = raft.LogConfiguration, raft.EncodeConfiguration(raft.Configuration{})
		},
		"barrier":    func(_ *logStore, e *raft.Log) { e.Type = raft.LogBarrier },
		"follower":   func(s *logStore, _ *raft.Log) { s.leads = no },
		"alone":      func(s *logStore, _ *raft.Log) { s.needsOthers = no },
		"many bytes": func(_ *logStore, e *raft.Log) { e.Data = make([]byte, behindBytes+1) },
	} {
		t.Run(name, func(t *testing.T) {
			var failed error
			s, g := leading(t, &failed)
			must(t, s.StoreLogs(entries(2, 2)))
			next := entries(3, 3)
			change(s, next[0])
			done := make(chan error)
			go func() { done <- s.StoreLogs(next) }()
			g.gate <- nil
			select {
			case <-done:
				t.Fatal("it did not wait")
			case g.gate <- nil:
			}
			must(t, <-done)
			if failed != nil || g.last.Load() != 3 {
				t.Errorf("durable up to %d, stopped with %v", g.last.Load(), failed)
			}
		})
	}
}

// P1: when what was left behind cannot be written the node stops, nobody is told that
// it is durable, and nothing is appended any more.
func TestFailureBehindIsFinal(t *testing.T) {
	var failed error
	s, g := leading(t, &failed)
	must(t, s.StoreLogs(entries(2, 2)))
	g.gate <- errors.New("input/output error")
	if err := s.settle(2); !errors.Is(err, errBroken) || failed == nil {
		t.Fatalf("settled with %v, stopped with %v", err, failed)
	}
	must(t, s.settle(1))
	if err := s.StoreLogs(entries(3, 3)); !errors.Is(err, errBroken) {
		t.Errorf("append: %v", err)
	}
	if _, err := s.LastIndex(); !errors.Is(err, errBroken) {
		t.Errorf("last index: %v", err)
	}
	if g.last.Load() != 1 {
		t.Errorf("durable up to %d", g.last.Load())
	}
}

// P1: an append that was on its way when the disk failed does not make what failed look
// durable.
func TestNothingIsLeftBehindAFailure(t *testing.T) {
	var b behind
	none := func() {}
	if !b.leave(entries(2, 3), 2, none) || len(b.next(0)) != 2 {
		t.Fatal("entries 2 and 3 are not being written")
	}
	b.abandon()
	if b.leave(entries(4, 4), 1, none) {
		t.Error("an entry was taken after the failure")
		b.next(0)
		b.abandon() // as its write fails as well
	}
	for index, want := range map[uint64]bool{1: true, 2: false, 3: false, 4: false} {
		if b.wait(index) != want {
			t.Errorf("entry %d: durable %v, want %v", index, !want, want)
		}
	}
}

// Any mixture of appends of all kinds, waits and reads: what settle has promised is
// durable, and the log is what was appended, in order.
func TestBehindAgreesWithModel(t *testing.T) {
	var failed error
	s, g := leading(t, &failed)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case g.gate <- nil:
			case <-done:
				return
			}
		}
	}()
	last := uint64(1)
	var waiters sync.WaitGroup
	for range 2000 {
		batch := entries(last+1, last+1+rand.Uint64N(4))
		if rand.IntN(10) == 0 {
			batch[0].Type = raft.LogBarrier
		}
		must(t, s.StoreLogs(batch))
		last = batch[len(batch)-1].Index
		index := 1 + rand.Uint64N(last)
		waiters.Go(func() {
			if err := s.settle(index); err != nil || g.last.Load() < index {
				t.Errorf("settled %d with %v, durable up to %d", index, err, g.last.Load())
			}
		})
		var l raft.Log
		if err := s.GetLog(index, &l); err != nil || l.Index != index {
			t.Fatalf("entry %d is %d, %v", index, l.Index, err)
		}
	}
	waiters.Wait()
	must(t, s.settle(last))
	close(done)
	if end, err := g.LastIndex(); end != last || err != nil || failed != nil {
		t.Errorf("the log ends at %d, %v; appended up to %d; stopped with %v", end, err, last, failed)
	}
}
