package raftfsm

import (
	"time"

	"github.com/holdfast/holdfast/internal/clock"
)

// An entry costs every node a sync, several messages and wake-ups, whatever it
// holds. So the fewer entries carry the same requests the better, and nothing is
// gained by sending half of what could be sent a moment later: while an entry is in
// raft's hands, small batches gather, and when it has landed, the connections it
// answered get the time to ask again. See docs/adr/0010-group-commit.md.

const (
	// fullBytes of waiting requests make an entry worth sending beside another one:
	// then its bytes cost more than the entry itself.
	fullBytes = 128 << 10
	// longestWait bounds the wait for connections that were just answered.
	longestWait = 2 * time.Millisecond
	// mostSkips is how many entries go without a wait after many waits in vain.
	mostSkips = 64
)

// pace decides when what is waiting becomes an entry. It is guarded by the
// Proposer's lock.
type pace struct {
	expected int           // batches waited for, 0 for none
	until    time.Duration // clock.Mono at which the wait ends
	timer    *time.Timer   // wakes Run then
	skips    int           // entries that go without a wait
	vain     int           // skips after the last wait in vain
}

// ready tells whether requests may go now; flying entries are in raft's hands.
func (c *pace) ready(q *line, flying int) bool {
	switch {
	case len(q.parts) == 0:
		return false
	case q.bytes >= fullBytes:
		return true
	case flying > 0:
		return false
	case c.expected == 0:
		return true
	case len(q.parts) >= c.expected:
		c.expected, c.vain = 0, 0
		return true
	case clock.Mono() < c.until:
		return false
	}
	// Connections whose next request is not a consequence of the last reply do not
	// come back in time. They should not pay for the idea that they might.
	c.vain = min(2*c.vain+1, mostSkips)
	c.expected, c.skips = 0, c.vain
	return true
}

// sent ends a wait.
func (c *pace) sent() { c.expected = 0 }

// landed begins a wait: no entry is in raft's hands any more. Of so many batches
// together, those answered and those that waited meanwhile, the next entry would
// ideally consist. took is how long the last one was on its way.
func (c *pace) landed(batches int, took time.Duration, wake func()) {
	if c.skips > 0 {
		c.skips--
		return
	}
	wait := min(2*took, longestWait)
	c.expected, c.until = batches, clock.Mono()+wait
	if c.timer == nil {
		c.timer = time.AfterFunc(wait, wake)
		return
	}
	c.timer.Reset(wait)
}

// line is the queue of client requests, in order of arrival.
type line struct {
	parts []queued
	bytes int // encoded size of them all
}

// queued is a part waiting for an entry, with the encoded size of its requests.
type queued struct {
	part
	size int
}

func (q *line) push(t part, size int) {
	q.parts = append(q.parts, queued{t, size})
	q.bytes += size
}

// drop removes the first n parts.
func (q *line) drop(n int) {
	for i := range n {
		q.bytes -= q.parts[i].size
	}
	left := copy(q.parts, q.parts[n:])
	clear(q.parts[left:])
	q.parts = q.parts[:left]
}
