package raftfsm

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
)

func lineOf(sizes ...int) *line {
	q := &line{}
	for _, n := range sizes {
		q.push(part{}, n)
	}
	return q
}

// landing is a pace after an entry that had 3 batches together with those beside it.
func landing(c *pace) *pace {
	c.landed(3, time.Millisecond, func() {})
	c.until = clock.Mono() + time.Hour // not reached in the test
	return c
}

// Property: while an entry is in raft's hands, only what is big goes beside it; an
// empty line never goes.
func TestSmallBatchesGatherWhileAnEntryFlies(t *testing.T) {
	var c pace
	for _, tc := range []struct {
		q      *line
		flying int
		want   bool
	}{
		{lineOf(), 0, false},
		{lineOf(), 1, false},
		{lineOf(100), 0, true},
		{lineOf(100, 100, 100), 1, false},
		{lineOf(fullBytes - 1), 1, false},
		{lineOf(fullBytes-1, 1), 1, true},
	} {
		if got := c.ready(tc.q, tc.flying); got != tc.want {
			t.Errorf("%d bytes in %d parts beside %d: ready is %v", tc.q.bytes, len(tc.q.parts), tc.flying, got)
		}
	}
}

// Property: after an entry has landed, the next one waits until as many batches are
// there as there were then, but not for what is big, and not longer than told.
func TestNextEntryWaitsForThoseJustAnswered(t *testing.T) {
	c := landing(&pace{})
	if c.ready(lineOf(1, 1), 0) {
		t.Error("sent with one batch missing")
	}
	if !c.ready(lineOf(fullBytes), 0) {
		t.Error("a big one waits")
	}
	if !c.ready(lineOf(1, 1, 1), 0) {
		t.Error("not sent with all batches there")
	}
	c.sent()
	landing(c).until = clock.Mono() - 1
	if !c.ready(lineOf(1), 0) {
		t.Error("waits longer than told")
	}
	c.sent()
	if !c.ready(lineOf(1), 0) {
		t.Error("waits although nothing has landed since the last entry")
	}
}

// Property: the wait is bounded by twice the time of the last entry, and wakes
// whoever waits when it is over.
func TestWaitIsBounded(t *testing.T) {
	var c pace
	woken := make(chan struct{}, 1)
	for range 2 { // the timer is made once and used again
		c.landed(1000, 100*time.Microsecond, func() { woken <- struct{}{} })
		<-woken
		if !c.ready(lineOf(1), 0) {
			t.Fatal("woken too early")
		}
		c.skips = 0
	}
	began := clock.Mono()
	c.landed(1000, time.Hour, func() {})
	if most := clock.Mono() + longestWait; c.until < began+longestWait || c.until > most {
		t.Errorf("waits until %v, at %v", c.until, began)
	}
}

// Property: waits in vain get rarer and rarer, down to one entry in 65; one that
// was worth it makes them as frequent as at first. How often somebody asks before an entry is sent
// makes no difference: whoever submits does.
func TestWaitsInVainGetRare(t *testing.T) {
	var c pace
	send := func(q *line) {
		t.Helper()
		for range 3 {
			if !c.ready(q, 0) {
				t.Fatal("not sent")
			}
		}
		c.sent()
	}
	between := func() (n int) { // entries between one wait and the next
		for {
			c.landed(3, time.Millisecond, func() {})
			if c.expected > 0 {
				return n
			}
			send(lineOf(1))
			n++
		}
	}
	var got []int
	for range 9 {
		got = append(got, between())
		c.until = clock.Mono() - 1
		send(lineOf(1))
	}
	if want := []int{0, 1, 3, 7, 15, 31, 63, 64, 64}; !slices.Equal(got, want) {
		t.Errorf("%v entries between waits, want %v", got, want)
	}
	between()
	send(lineOf(1, 1, 1))
	if n := between(); n != 0 {
		t.Errorf("%d entries without a wait after one that was worth it", n)
	}
}

// Property: the line knows the size of what is in it, whatever is pushed and dropped.
func TestLineKnowsItsSize(t *testing.T) {
	q := lineOf(1, 20, 300, 4000)
	q.drop(0)
	if q.bytes != 4321 {
		t.Fatal(q.bytes)
	}
	q.drop(2)
	q.push(part{from: 7}, 50000)
	if q.bytes != 54300 || len(q.parts) != 3 || q.parts[2].from != 7 {
		t.Fatalf("%+v", q)
	}
	q.drop(3)
	if q.bytes != 0 || len(q.parts) != 0 {
		t.Fatalf("%+v", q)
	}
}
