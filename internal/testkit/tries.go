package testkit

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Tries tells a story up to so many times, until it passes, and fails the test when it
// never does. It is for what no test can tell from a defect by one look: a bound on
// time, or a master that stays in office, on a machine that may stand still for a
// moment. A defect fails every telling. What must never happen, however slow the
// machine is (a lost write, an old value, two masters), is reported to the test
// itself, not to the telling: that is not told again.
//
// A telling is a testing.TB with an end of its own: what is left to its Cleanup has
// been cleaned up before the next one begins. Errors go to the test's log.
func Tries(t testing.TB, most int, story func(t testing.TB)) {
	t.Helper()
	for n := 1; ; n++ {
		try := &telling{TB: t}
		try.run(story)
		switch {
		case !try.Failed() || t.Failed():
			return
		case n == most:
			t.Fatalf("failed %d times, the last time: %s", most, try.said())
			return
		}
		t.Logf("try %d of %d: %s", n, most, try.said())
	}
}

// telling stands for the test in one try. Like a test it may be used by several
// goroutines at a time.
type telling struct {
	testing.TB

	mu struct {
		sync.Mutex
		failed  bool
		errors  []string
		cleanup []func()
	}
}

// run tells the story, and cleans up after it, in goroutines that FailNow may end.
func (t *telling) run(story func(t testing.TB)) {
	t.apart(func() { story(t) })
	for {
		t.mu.Lock()
		n := len(t.mu.cleanup)
		if n == 0 {
			t.mu.Unlock()
			return
		}
		f := t.mu.cleanup[n-1]
		t.mu.cleanup = slices.Delete(t.mu.cleanup, n-1, n)
		t.mu.Unlock()
		t.apart(f)
	}
}

func (t *telling) apart(f func()) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f()
	}()
	<-ended
}

func (t *telling) note(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.failed = true
	if len(text) > 0 {
		t.mu.errors = append(t.mu.errors, strings.TrimSpace(text))
	}
}

// said is what has been complained of.
func (t *telling) said() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.mu.errors, "; ")
}

func (t *telling) Cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.cleanup = append(t.mu.cleanup, f)
}

func (t *telling) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.failed
}

func (t *telling) Fail()                           { t.note("") }
func (t *telling) Error(args ...any)               { t.note(fmt.Sprintln(args...)) }
func (t *telling) Errorf(form string, args ...any) { t.note(fmt.Sprintf(form, args...)) }

func (t *telling) FailNow() {
	t.Fail()
	runtime.Goexit()
}

func (t *telling) Fatal(args ...any) {
	t.Error(args...)
	runtime.Goexit()
}

func (t *telling) Fatalf(form string, args ...any) {
	t.Errorf(form, args...)
	runtime.Goexit()
}
