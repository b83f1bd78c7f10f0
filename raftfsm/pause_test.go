package raftfsm_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// While a Proposer pauses, what it had taken is applied, what comes is refused
// definitely, ticks included, and nothing more is proposed. Afterwards it goes on.
func TestPauseBringsTheLogToRest(t *testing.T) {
	r := newMaster(t)
	r.loop.Keep()
	r.loop.Hold()
	before := r.send(incr("a"))
	eventually(t, "the entry is in raft's hands", func() bool { return r.loop.Waiting() == 1 })
	second := r.send(incr("a"))
	paused := make(chan error, 1)
	go func() { paused <- r.prop.Pause(t.Context()) }()
	eventually(t, "it refuses", func() bool {
		return r.refuses()
	})
	if err := r.prop.Expire(t.Context(), []store.Victim{{Key: "a"}}); !errors.Is(err, raftfsm.ErrRefused) {
		t.Errorf("a tick during a pause: %v", err)
	}
	select {
	case err := <-paused:
		t.Fatalf("Pause returned %v with an entry in raft's hands", err)
	case <-time.After(20 * time.Millisecond):
	}
	r.loop.Release()
	if err := <-paused; err != nil {
		t.Fatal(err)
	}
	waitDone(t, before)
	waitDone(t, second)
	wantEndings(t, before, ":1\r\n")
	wantEndings(t, second, ":2\r\n")
	entries := len(r.loop.Log())
	during := r.submit(incr("a"))
	wantEndings(t, during, refused)
	if err := r.prop.Pause(t.Context()); !errors.Is(err, raftfsm.ErrRefused) {
		t.Errorf("a pause within a pause: %v", err)
	}
	if n := len(r.loop.Log()); n != entries {
		t.Errorf("%d entries were proposed during the pause", n-entries)
	}
	r.prop.Resume()
	after := r.submit(incr("a"))
	wantEndings(t, after, ":3\r\n")
}

// A pause that does not come to rest in time, or in which the gate is shut, is none;
// the next establishing ends it.
func TestPauseEndsWithTheGate(t *testing.T) {
	r := newMaster(t)
	r.loop.Hold()
	flying := r.send(incr("a"))
	eventually(t, "the entry is in raft's hands", func() bool { return r.loop.Waiting() == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := r.prop.Pause(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Pause with a hanging raft: %v", err)
	}
	r.prop.Resume()
	paused := make(chan error, 1)
	go func() { paused <- r.prop.Pause(t.Context()) }()
	eventually(t, "it refuses", func() bool {
		return r.refuses()
	})
	r.prop.StepDown()
	if err := <-paused; !errors.Is(err, raftfsm.ErrRefused) {
		t.Errorf("Pause over a lost leadership: %v", err)
	}
	waitDone(t, flying)
	wantEndings(t, flying, doubt)
	r.loop.Release()
	r.establish(r.loop.Elect())
	again := r.submit(incr("b"))
	wantEndings(t, again, ":1\r\n")
}

// What a client has been answered is covered by the index of the moment: a reply can
// come while its entry is being applied.
func TestAnsweredCoversEveryReply(t *testing.T) {
	r := newMaster(t)
	for range 200 {
		r.submit(incr("a"))
		index := r.fsm.Answered()
		if err := r.fsm.WaitApplied(t.Context(), index); err != nil {
			t.Fatal(err)
		}
		if last := r.fsm.Applied(); last != index {
			t.Fatalf("the reply came with index %d, its entry has %d", index, last)
		}
	}
}

// send submits requests without waiting for them.
func (r *rig) send(reqs ...command.Request) *command.Batch {
	b := batch(reqs...)
	r.prop.Submit(b)
	return b
}

// refuses tells whether the Proposer takes nothing, without waiting for what it takes.
func (r *rig) refuses() bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return errors.Is(r.prop.PutSettings(ctx, settings), raftfsm.ErrRefused)
}
