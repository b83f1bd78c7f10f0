package raftfsm_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// bubbleClock is the clock of a synctest bubble.
type bubbleClock struct{ start time.Time }

func (b bubbleClock) WallMilli() int64    { return time.Now().UnixMilli() }
func (b bubbleClock) Boot() time.Duration { return time.Since(b.start) + time.Hour }

// pass lets the bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

// inBubble runs fn with a master whose ticks run, in a time of its own.
func inBubble(t *testing.T, delay time.Duration, fn func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newFSMOn(t, bubbleClock{start: time.Now()})
		r.run()
		r.loop.SetDelay(delay)
		r.establish(1)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.prop.RunTicks(ctx, nil) }()
		fn(t, r)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// expiredAt is the index and stamp at which each key's removal was told.
func (r *rig) expired() map[string]uint64 {
	at := map[string]uint64{}
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	for _, u := range r.sink.updates {
		for _, e := range u.Events {
			if e.Name == "expired" {
				at[e.Key] = u.Index
			}
		}
	}
	return at
}

// Property: P4. On an idle master no key outlives its deadline by 100 ms, and
// none is removed before it.
func TestTicksEndKeysOnTime(t *testing.T) {
	inBubble(t, 2*time.Millisecond, func(t *testing.T, r *rig) {
		t.Helper()
		now := r.fsm.Instant()
		for i := range int64(40) {
			r.submit(setUntil(fmt.Sprint(i), now+1000+i*37))
		}
		for range 300 {
			pass(10 * time.Millisecond)
			synctest.Wait()
			gone, instant := r.expired(), r.fsm.Instant()
			for i := range int64(40) {
				_, ended := gone[fmt.Sprint(i)]
				deadline := now + 1000 + i*37
				if ended && instant < deadline {
					t.Fatalf("key %d ended %d ms early", i, deadline-instant)
				}
				if !ended && instant > deadline+100 {
					t.Fatalf("key %d outlived its deadline by %d ms", i, instant-deadline)
				}
			}
		}
		if len(r.expired()) != 40 {
			t.Fatalf("%d keys ended", len(r.expired()))
		}
	})
}

// Property: a backlog of due keys is removed at once, at most 512 in an entry,
// and client requests wait for no more than the entries in raft's hands.
func TestBacklogOfDueKeysYieldsToClients(t *testing.T) {
	inBubble(t, time.Millisecond, func(t *testing.T, r *rig) {
		t.Helper()
		const keys = 50_000
		end := r.fsm.Instant() + 60_000
		var reqs []command.Request
		for i := range keys {
			reqs = append(reqs, setUntil(fmt.Sprint(i), end))
		}
		r.submit(reqs...)
		pass(time.Duration(end-r.fsm.Instant()) * time.Millisecond)
		var worst time.Duration
		for len(r.expired()) < keys {
			start := time.Now()
			r.submit(set("client", "v"))
			worst = max(worst, time.Since(start))
			if late := r.fsm.Instant() - end; late > 1000 {
				t.Fatalf("%d of %d keys ended after %d ms", len(r.expired()), keys, late)
			}
		}
		if worst > 5*time.Millisecond {
			t.Errorf("a client waited %v", worst)
		}
		perEntry := map[uint64]int{}
		for _, index := range r.expired() {
			perEntry[index]++
		}
		for index, n := range perEntry {
			if n > 512 {
				t.Errorf("entry %d removed %d keys", index, n)
			}
		}
	})
}

// Property: each key is removed at the same index on every node, by the tick.
func TestKeysEndAtTheSameIndexEverywhere(t *testing.T) {
	inBubble(t, time.Millisecond, func(t *testing.T, r *rig) {
		t.Helper()
		r.loop.Keep()
		now := r.fsm.Instant()
		for i := range int64(2000) {
			r.submit(setUntil(fmt.Sprint(i), now+3000+i%7*100))
		}
		pass(20 * time.Second)
		synctest.Wait()
		twin := newFSMOn(t, bubbleClock{start: time.Now()})
		twin.apply(1, raftfsm.EstablishEntry(0, "c1", settings))
		for _, l := range r.loop.Log() {
			twin.fsm.Apply(l)
		}
		here, there := r.expired(), twin.expired()
		if len(here) != 2000 || len(there) != 2000 {
			t.Fatalf("%d and %d keys ended", len(here), len(there))
		}
		for k, index := range here {
			if there[k] != index {
				t.Fatalf("key %s ended at %d and at %d", k, index, there[k])
			}
		}
	})
}

// Property: a node that is not master proposes nothing and removes nothing, but
// keeps up with the deadlines: as master it needs no time to find what is due.
func TestFollowerOnlyKeepsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFSMOn(t, bubbleClock{start: time.Now()})
		r.run()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.prop.RunTicks(ctx, nil) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		start := time.Now().UnixMilli()
		r.apply(1, raftfsm.EstablishEntry(start, "c1", settings))
		for i := range uint64(1000) {
			r.apply(i+2, raftfsm.Entry(start, 1, setUntil(fmt.Sprint(i), start+int64(i)*60_000)))
		}
		pass(10 * time.Hour)
		synctest.Wait()
		if n := len(r.expired()); n != 0 || r.prop.Stats().Entries != 0 {
			t.Fatalf("%d keys removed, %d entries proposed", n, r.prop.Stats().Entries)
		}
		met := r.fsm.View(0, func(rd *store.Reader) {
			if rd.Find([]byte("5")) != nil || rd.Find([]byte("900")) == nil {
				t.Error("reads do not see the instant")
			}
		})
		if !slices.ContainsFunc(met, func(v store.Victim) bool { return v.Key == "5" }) {
			t.Errorf("victims %v", met)
		}
		victims, ready := r.store.Due(nil, r.fsm.Instant(), 10_000)
		if !ready || len(victims) < 600 {
			t.Fatalf("the first look finds %d of 600 due keys, done %v", len(victims), ready)
		}
	})
}
