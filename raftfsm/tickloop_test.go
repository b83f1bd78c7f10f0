package raftfsm_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// removals is how often each key's removal was told.
func (r *rig) removals() map[string]int {
	count := map[string]int{}
	r.sink.mu.Lock()
	defer r.sink.mu.Unlock()
	for _, u := range r.sink.updates {
		for _, e := range u.Events {
			if e.Class == store.ClassExpired {
				count[e.Key]++
			}
		}
	}
	return count
}

// Property: P4. A tick that raft does not resolve for long keeps no key alive once
// raft goes on, and no key goes twice.
func TestTicksGoOnAfterRaftWasStuck(t *testing.T) {
	inBubble(t, 0, func(t *testing.T, r *rig) {
		t.Helper()
		for i := range 600 { // more than one tick
			r.submit(setUntil(fmt.Sprint(i), r.fsm.Instant()+100))
		}
		r.loop.Hold()
		pass(12 * time.Second) // twice the time after which a proposal is given up
		if n := len(r.removals()); n != 0 {
			t.Fatalf("%d keys went while raft was stuck", n)
		}
		r.loop.Release()
		pass(150 * time.Millisecond)
		if n := r.fsm.Stats().Expired; n != 600 {
			t.Errorf("%d keys are gone, want 600", n)
		}
		for key, n := range r.removals() {
			if n != 1 {
				t.Errorf("%s went %d times", key, n)
			}
		}
	})
}

// Property: P4. Ticks lost with the leadership are proposed again by whoever is
// master next, at once, and none while nobody is.
func TestTicksGoOnAfterLosingLeadership(t *testing.T) {
	for _, committed := range []bool{false, true} {
		inBubble(t, 0, func(t *testing.T, r *rig) {
			t.Helper()
			r.submit(setUntil("k", r.fsm.Instant()+100))
			r.loop.Hold()
			pass(170 * time.Millisecond)
			if r.loop.Waiting() != 1 {
				t.Fatalf("%d entries are in flight, want the tick", r.loop.Waiting())
			}
			r.prop.StepDown()
			r.loop.Lose(committed)
			entries := r.prop.Stats().Entries
			pass(time.Second)
			if got := r.prop.Stats().Entries; got != entries {
				t.Errorf("%d entries were proposed behind a shut gate", got-entries)
			}
			r.loop.Release()
			r.establish(r.loop.Elect())
			pass(60 * time.Millisecond)
			if r.removals()["k"] != 1 {
				t.Errorf("committed %v: the key went %d times", committed, r.removals()["k"])
			}
		})
	}
}

// Property: P4. A session that is prolonged while its end is already on the way
// stays: the tick is behind in the log and names the old deadline.
func TestProlongedKeyOutlivesTheTickOnItsWay(t *testing.T) {
	inBubble(t, 100*time.Millisecond, func(t *testing.T, r *rig) {
		t.Helper()
		end := r.fsm.Instant() + 1000
		r.submit(setUntil("k", end), setUntil("other", end))
		pass(time.Duration(end-10-r.fsm.Instant()) * time.Millisecond)
		b := batch(req(raftfsm.SpecExpire, "k", fmt.Sprint(end+5000)))
		r.prop.Submit(b)
		pass(90 * time.Millisecond)
		if ticks := r.prop.Stats().Ticks; ticks == 0 {
			t.Fatal("no tick is on its way")
		}
		waitDone(t, b)
		wantEndings(t, b, ":1\r\n")
		pass(time.Second)
		if r.value("k") != "v" || r.removals()["k"] != 0 || r.removals()["other"] != 1 {
			t.Errorf("k is %q, removals %v", r.value("k"), r.removals())
		}
		pass(5 * time.Second)
		if r.value("k") != null || r.removals()["k"] != 1 {
			t.Errorf("k is %q, removals %v", r.value("k"), r.removals())
		}
	})
}

// Property: the loop of the ticks ends when it is told to, although raft does not
// answer, and the tick on its way still does its work.
func TestTickLoopEndsWhileRaftIsStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newFSMOn(t, bubbleClock{start: time.Now()})
		r.run()
		r.establish(1)
		r.submit(setUntil("k", r.fsm.Instant()+100))
		r.loop.Hold()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- r.prop.RunTicks(ctx, nil) }()
		pass(200 * time.Millisecond)
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the loop waits for raft")
		}
		r.loop.Release()
		synctest.Wait()
		if r.removals()["k"] != 1 {
			t.Errorf("removals %v", r.removals())
		}
	})
}

// Property: P4. A key that a read beside an entry has found gone is gone for every
// node that has applied the entry, before its removal is in the log: on a replica
// whose own clock is hours behind, after a restore, and for the commands of a master
// whose stamps are behind. None of them brings it back.
func TestKeyGoneToARidingReadStaysGone(t *testing.T) {
	r := newMaster(t)
	r.loop.Keep()
	end := r.fsm.Instant() + 1000
	r.submit(setUntil("k", end))
	r.clock.Advance(time.Second)
	wantEndings(t, r.submit(set("x", "1"), get("k"), get("k")), ok, null, null)
	if n := r.fsm.Stats().Expired; n != 0 {
		t.Fatalf("%d keys were removed: the test shows nothing", n)
	}
	if got := r.value("k"); got != null {
		t.Errorf("the master shows %q", got)
	}

	replica, restored := newFSMOn(t, &clock.Fake{}), newFSMOn(t, &clock.Fake{})
	replica.apply(1, raftfsm.EstablishEntry(wall, "c1", settings))
	log := r.loop.Log()
	for i, l := range log {
		if i == len(log)-1 && replica.value("k") != "v" {
			t.Errorf("a replica shows %q before it has applied the entry", replica.value("k"))
		}
		replica.fsm.Apply(l)
	}
	if err := restored.restore(r.snapshot()); err != nil {
		t.Fatal(err)
	}
	next := log[len(log)-1].Index + 1
	for name, node := range map[string]*rig{"replica": replica, "restored": restored} {
		if got := node.value("k"); got != null {
			t.Errorf("%s: shows %q", name, got)
		}
		node.apply(next, raftfsm.Entry(wall, 1, req(raftfsm.SpecExpire, "k", fmt.Sprint(end+1_000_000)), get("k")))
		if got, n := node.value("k"), node.removals()["k"]; got != null || n != 1 {
			t.Errorf("%s: %q, and %d removals, after a command that prolongs it", name, got, n)
		}
	}
	if replica.fsm.Digest() != restored.fsm.Digest() {
		t.Error("the nodes differ")
	}
}

// Property: P4. A read beside an entry looks at the entry's instant and not at the
// present one: a key that became due while the entry was on its way is shown, for a
// later master could show it too.
func TestRidingReadLooksAtTheStamp(t *testing.T) {
	r := newMaster(t)
	r.submit(setUntil("k", r.fsm.Instant()+1000))
	r.clock.Advance(999 * time.Millisecond)
	r.loop.Hold()
	b := batch(set("x", "1"), get("k"))
	r.prop.Submit(b)
	eventually(t, "in flight", func() bool { return r.loop.Waiting() == 1 })
	r.clock.Advance(time.Hour)
	r.loop.Release()
	waitDone(t, b)
	wantEndings(t, b, ok, "$1\r\nv\r\n")
	wantEndings(t, r.submit(set("x", "2"), get("k")), ok, null)
}
