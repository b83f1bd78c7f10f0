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
// entries could do harm with. What the confirmed master tells is of the present:
// it is followed by up to an eighth, more than the master may slew. While this
// node is established it makes the stamps, and nothing it hears moves the offset:
// steer alone does, by the voters' wall clocks.
//
// After a start a node replays old entries, whose stamps say nothing of the
// present. The estimate is trusted once a stamp came from the confirmed master
// (observe), another node with a trusted one has told it (vouched), or stamps have
// kept step with BOOTTIME for a while.
type stamper struct {
	clock  clock.Clock
	offset atomic.Int64 // ns; cluster time = BOOTTIME + offset
	floor  atomic.Int64 // ms; the largest instant or stamp given out or applied
	// leading says that this node makes the stamps: its gate is open.
	leading atomic.Bool

	mu struct {
		sync.Mutex
		heard      bool
		heardAt    time.Duration // BOOTTIME of the last stamp heard
		observed   bool
		observedAt time.Duration // BOOTTIME of the last one heard from the confirmed master
		// Since steadyAt, when one was heard, stamps have moved the offset, then
		// steady, forward by less than a leap, and none was a leap behind it.
		steadyAt time.Duration
		steady   int64
		trusted  bool
		based    bool // there is a state: a stamp was applied or restored

		steering steering
		reading  reading // the last one
		// loose says that this node became master when neither it nor the clocks it
		// had heard could tell the time: the first majority that agrees is followed
		// without waiting.
		loose bool
		steps uint64 // agreed differences beyond tolerance that were followed
	}
}

const (
	// leap is how far stamps may be from the estimate, one by one and all
	// together, and still confirm it.
	leap = 250 * time.Millisecond
	// settle is how long stamps must keep step with BOOTTIME to be believed.
	settle = 5 * time.Second
	// lateShift and masterShift are how fast the estimate goes back after stamps and
	// after what the master tells, as powers of two of elapsed time.
	lateShift   = 12
	masterShift = 3
	// backMost bounds what one stamp can take back.
	backMost = 50 * time.Millisecond
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
	s.mu.based = true
	boot := s.clock.Boot()
	var elapsed time.Duration
	if s.mu.heard {
		elapsed = boot - s.mu.heardAt
	}
	s.hearLocked(stamp, boot, elapsed>>lateShift)
}

// restored takes in the stamp of a restored state: the present is not before it,
// and how far behind it is nobody knows.
func (s *stamper) restored(stamp int64) {
	s.raise(stamp)
	s.mu.Lock()
	defer s.mu.Unlock()
	offset := stamp*int64(time.Millisecond) - int64(s.clock.Boot())
	s.offset.Store(max(s.offset.Load(), offset))
	s.mu.heard, s.mu.based = false, true
}

// observe takes in a cluster time heard from the confirmed master.
func (s *stamper) observe(stamp int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	boot := s.clock.Boot()
	var elapsed time.Duration
	if s.mu.observed {
		elapsed = boot - s.mu.observedAt
	}
	s.mu.observed, s.mu.observedAt = true, boot
	s.mu.trusted, s.mu.loose = true, false
	s.hearLocked(stamp, boot, elapsed>>masterShift)
}

// vouched takes in a cluster time heard from another node whose estimate is
// trusted. It counts if our own is not: nobody else knows how long this node was
// down.
func (s *stamper) vouched(stamp int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.trusted {
		return
	}
	s.hearLocked(stamp, s.clock.Boot(), 0)
	s.mu.trusted = true
}

// hearLocked takes in a cluster time that was true at boot or before. Behind the
// estimate it moves that back by at most back.
func (s *stamper) hearLocked(stamp int64, boot, back time.Duration) {
	offset := s.offset.Load()
	ahead := stamp*int64(time.Millisecond) - int64(boot) - offset // of our estimate, ns
	first := !s.mu.heard
	s.mu.heard, s.mu.heardAt = true, boot
	if s.leading.Load() {
		return // it is ours, and what has been steered since counts
	}
	moved := offset + max(ahead, 0)
	switch {
	case first, ahead < -int64(leap), moved-s.mu.steady > int64(leap):
		s.mu.steadyAt, s.mu.steady = boot, moved
	case boot-s.mu.steadyAt >= settle:
		s.mu.trusted = true
	}
	if ahead > 0 {
		s.offset.Store(offset + ahead)
	} else if s.mu.trusted {
		s.offset.Store(offset - min(-ahead, int64(min(back, backMost))))
	}
}

// first is the stamp of an establishing entry: the present cluster time. If this
// node cannot trust its estimate, the median of the voters' wall clocks counts if
// it is later; one clock alone never does.
func (s *stamper) first(c Clocks) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	stamp := s.instant()
	if s.mu.trusted {
		return stamp
	}
	offset := s.offset.Load()
	r := c.read(time.Duration(offset))
	s.mu.loose = !r.agreed
	return max(stamp, (int64(s.clock.Boot())+offset+int64(r.ahead))/int64(time.Millisecond))
}

// dated tells whether first knows all it can, and whether it knows enough: not so
// before the first entry of all, with no majority of clocks heard.
func (s *stamper) dated(c Clocks) (all, enough bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := c.read(time.Duration(s.offset.Load()))
	all = s.mu.trusted || r.agreed || r.whole
	return all, all || r.known || s.mu.based
}

// steer compares the estimate with the voters' wall clocks and, while this node
// makes the stamps, has it follow them.
func (s *stamper) steer(c Clocks) (reading, correction) {
	s.mu.Lock()
	defer s.mu.Unlock()
	boot, offset := s.clock.Boot(), s.offset.Load()
	r := c.read(time.Duration(offset))
	s.mu.reading = r
	if !s.leading.Load() {
		s.mu.steering = steering{at: boot}
		return r, correction{}
	}
	wait := patience
	if s.mu.loose {
		wait = 0
	}
	move := s.mu.steering.next(boot, time.Duration(offset), r, wait)
	if move.step {
		s.mu.steps++
	}
	if r.agreed {
		s.mu.loose = false
	}
	s.offset.Store(offset + int64(move.move))
	return r, move
}

// established says that an establishing entry of this node was applied: its
// estimate is the cluster's.
func (s *stamper) established() {
	s.mu.Lock()
	s.mu.trusted = true
	s.mu.Unlock()
}

// figures are the last reading, and how many steps were made.
func (s *stamper) figures() (reading, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.reading, s.mu.steps
}

// known tells whether the estimate is trusted.
func (s *stamper) known() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.trusted
}
