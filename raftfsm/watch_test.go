package raftfsm_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// watcher keeps what it is told while it watches.
type watcher struct {
	mu       sync.Mutex
	watching bool
	asked    int
	heard    []string
	on       func() // called by Changed
}

func (w *watcher) Watching() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	return w.watching
}

func (w *watcher) Changed(origin int64, events []store.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range events {
		w.heard = append(w.heard, fmt.Sprintf("%d %s(%s)", origin, e.Name, e.Key))
	}
	if w.on != nil {
		w.on()
	}
}

func (w *watcher) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	heard := w.heard
	w.heard = nil
	return heard
}

// A watcher is told of each unit that changed something, with the connection that
// submitted it, before that is answered; of what others proposed too, without one. While
// it does not watch it is asked at most once per unit and told nothing.
func TestWatcherHearsBeforeTheAnswer(t *testing.T) {
	r := newMaster(t)
	w := r.watch
	w.mu.Lock()
	w.watching = true
	w.mu.Unlock()
	check := func(what string, want ...string) {
		t.Helper()
		if got := w.take(); !slices.Equal(got, want) {
			t.Errorf("%s: heard %q, want %q", what, got, want)
		}
	}
	b := batch(set("a", "1"), get("a"), req(raftfsm.SpecIncr, "a"), set("n", "1"), set("a", "2"))
	b.Origin = 7
	answered := 0
	w.on = func() {
		for i := range b.Requests {
			if b.Requests[i].Outcome != command.Pending {
				answered++
			}
		}
		w.on = nil
	}
	r.prop.Submit(b)
	waitDone(t, b)
	if answered != 0 {
		t.Errorf("%d requests were answered before the watcher heard of the first", answered)
	}
	check("a batch", "7 set(a)", "7 set(n)", "7 set(a)")

	r.submit(transaction(nil, set("x", "1"), set("y", "1")))
	check("a transaction without an origin", "0 set(x)", "0 set(y)")

	r.submit(setUntil("due", r.fsm.Instant()+1000))
	check("a key with a deadline", "0 set(due)")

	w.mu.Lock()
	w.watching, w.asked = false, 0
	w.mu.Unlock()
	r.submit(set("a", "3"), set("b", "3"), get("a"))
	check("nobody watches")
	if w.asked > 2 {
		t.Errorf("asked %d times about two changes", w.asked)
	}
}
