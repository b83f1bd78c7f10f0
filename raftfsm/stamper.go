package raftfsm

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
)

// stamper is cluster time as this node knows it: the stamps it hears, carried
// on by CLOCK_BOOTTIME. What it gives out, instants of reads and stamps of
// entries alike, never goes back. It is safe for concurrent use.
//
// The estimate is BOOTTIME plus an offset. A stamp ahead of the estimate moves
// the offset forward at once. One behind it is late, or our oscillator is fast:
// the offset follows by at most one part in 4096 of the time since the last
// stamp, far more than oscillators differ and far less than a backlog of old
// entries could do harm with. While this node is established it makes the
// stamps, and nothing it hears moves the offset back.
//
// After a start a node replays old entries, whose stamps say nothing of the
// present. The estimate is trusted once a stamp came from the confirmed master
// (observe), or stamps have kept step with BOOTTIME for a while.
type stamper struct {
	clock  clock.Clock
	offset atomic.Int64 // ns; cluster time = BOOTTIME + offset
	floor  atomic.Int64 // ms; the largest instant or stamp given out or applied
	// leading says that this node makes the stamps: its gate is open.
	leading atomic.Bool

	mu struct {
		sync.Mutex
		heard   bool
		heardAt time.Duration // BOOTTIME of the last stamp heard
		// Since steadyAt, when one was heard, stamps have moved the offset, then
		// steady, forward by less than a leap, and none was a leap behind it.
		steadyAt time.Duration
		steady   int64
		trusted  bool
	}
}

const (
	// leap is how far stamps may be from the estimate, one by one and all
	// together, and still confirm it.
	leap = 250 * time.Millisecond
	// settle is how long stamps must keep step with BOOTTIME to be believed.
	settle = 5 * time.Second
	// steerShift is the steering back, as a power of two of elapsed time.
	steerShift = 12
	// steerMost bounds the steering back that one stamp can cause.
	steerMost = 50 * time.Millisecond
)

func newStamper(c clock.Clock) *stamper {
	s := &stamper{clock: c}
	s.offset.Store(-int64(c.Boot())) // cluster time 0 until a stamp is heard
	s.mu.steadyAt, s.mu.steady = c.Boot(), s.offset.Load()
	return s
}

// instant is the present cluster time in ms, never below an earlier answer.
func (s *stamper) instant() int64 {
	return s.raise((int64(s.clock.Boot()) + s.offset.Load()) / int64(time.Millisecond))
}

// raise lifts the floor to at least n and returns it.
func (s *stamper) raise(n int64) int64 {
	for {
		floor := s.floor.Load()
		if n <= floor {
			return floor
		}
		if s.floor.CompareAndSwap(floor, n) {
			return n
		}
	}
}

// applied takes in the stamp of an entry that this node has applied.
func (s *stamper) applied(stamp int64) {
	s.raise(stamp)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hearLocked(stamp)
}

// restored takes in the stamp of a restored state: the present is not before it,
// and how far behind it is nobody knows.
func (s *stamper) restored(stamp int64) {
	s.raise(stamp)
	s.mu.Lock()
	defer s.mu.Unlock()
	offset := stamp*int64(time.Millisecond) - int64(s.clock.Boot())
	s.offset.Store(max(s.offset.Load(), offset))
	s.mu.heard = false
}

// observe takes in a cluster time heard from the confirmed master.
func (s *stamper) observe(stamp int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hearLocked(stamp)
	s.mu.trusted = true
}

func (s *stamper) hearLocked(stamp int64) {
	boot := s.clock.Boot()
	offset := s.offset.Load()
	ahead := stamp*int64(time.Millisecond) - int64(boot) - offset // of our estimate, ns
	first, elapsed := !s.mu.heard, boot-s.mu.heardAt
	if first {
		elapsed = 0
	}
	s.mu.heard, s.mu.heardAt = true, boot
	moved := offset + max(ahead, 0)
	switch {
	case first, ahead < -int64(leap), moved-s.mu.steady > int64(leap):
		s.mu.steadyAt, s.mu.steady = boot, moved
	case boot-s.mu.steadyAt >= settle:
		s.mu.trusted = true
	}
	if ahead > 0 {
		s.offset.Store(offset + ahead)
	} else if s.mu.trusted && !s.leading.Load() {
		s.offset.Store(offset - min(-ahead, int64(elapsed)>>steerShift, int64(steerMost)))
	}
}

// first is the stamp of an establishing entry: the present cluster time. If
// this node cannot trust its estimate, its wall clock counts if it is later.
func (s *stamper) first() int64 {
	s.mu.Lock()
	trusted := s.mu.trusted
	s.mu.Unlock()
	stamp := s.instant()
	if !trusted {
		stamp = max(stamp, s.clock.WallMilli())
	}
	return stamp
}

// established says that an establishing entry of this node was applied: its
// estimate is the cluster's.
func (s *stamper) established() {
	s.mu.Lock()
	s.mu.trusted = true
	s.mu.Unlock()
}
