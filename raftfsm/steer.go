package raftfsm

import (
	"slices"
	"time"
)

// Clocks are the wall clocks of the voters, as far as they were heard lately.
type Clocks struct {
	Voters int // of the configuration
	// Walls are those that were heard, this node's included if it is a voter: each
	// one, since the Unix epoch, minus CLOCK_BOOTTIME of this node. In no order.
	Walls []time.Duration
}

const (
	// tolerance is within which clocks agree, and up to which cluster time is
	// slewed without more ado. What is further off is a clock that was set wrong or
	// has stepped.
	tolerance = time.Second
	// slewPart is the part of elapsed time that a slew may take or give at most:
	// deadlines come a tenth early or late meanwhile, and no more.
	slewPart = 10
	// slewOver is in what time a small difference is made up for: noise of single
	// readings hardly moves cluster time.
	slewOver = 5 * time.Second
	// slewLongest is the longest time between two looks that counts: after a pause
	// of the process nothing is made up for at once.
	slewLongest = time.Second
	// patience is for how long a majority must agree on the same difference beyond
	// tolerance before cluster time follows. Clocks being set one after the other,
	// or set and put right again, are not to end sessions.
	patience = time.Minute
)

// reading is what the voters' wall clocks say of an estimate of cluster time.
type reading struct {
	known bool // a majority of the clocks was heard
	whole bool // all were heard
	// ahead is how far the median of all clocks is ahead of the estimate, negative
	// if it is behind. Where clocks were not heard it is the least that may be,
	// whatever they say; so is it for an even number, which has two medians.
	ahead time.Duration
	// agreed says that a majority of all clocks is within tolerance of the median.
	agreed bool
}

// read compares the clocks with an estimate, which is BOOTTIME plus offset.
//
// The clocks that were not heard may be anywhere. If all of them were far behind,
// the median would be the lowest it can be; if all were far ahead, the highest.
// Only what lies outside these bounds is wrong for certain: so no clock alone
// moves anything, and none can by silencing others.
func (c Clocks) read(offset time.Duration) reading {
	heard := make([]time.Duration, 0, 8)
	for _, w := range c.Walls {
		heard = append(heard, w-offset)
	}
	slices.Sort(heard)
	silent := c.Voters - len(heard)
	if c.Voters == 0 || silent < 0 || len(heard) <= c.Voters/2 {
		return reading{}
	}
	r := reading{known: true, whole: silent == 0}
	lowest, highest := heard[(c.Voters-1)/2-silent], heard[c.Voters/2]
	r.ahead = max(lowest, min(highest, 0))
	near := 0
	for _, ahead := range heard {
		if (ahead - r.ahead).Abs() <= tolerance {
			near++
		}
	}
	r.agreed = near > c.Voters/2
	return r
}

// steering decides how cluster time follows the wall clocks. It knows no clock:
// the time is what it is told.
type steering struct {
	at time.Duration // BOOTTIME of the last look
	// While far, a majority has agreed since that the median, last seen at median
	// as an offset of BOOTTIME, is off by more than tolerance. begun says that
	// cluster time is following it.
	far, begun    bool
	since, median time.Duration
}

// correction is what is to be done about a reading.
type correction struct {
	move    time.Duration // of the estimate, now
	waiting bool          // an agreed difference begins to be waited on
	step    bool          // following one begins: at once forward, by a slew back
}

// next decides about a reading of the estimate, which is BOOTTIME plus offset.
// Differences beyond tolerance are waited on for as long as wait says.
func (s *steering) next(boot, offset time.Duration, r reading, wait time.Duration) correction {
	elapsed := max(0, min(boot-s.at, slewLongest))
	s.at = boot
	switch {
	case !r.agreed:
		s.far = false
		return correction{}
	case r.ahead.Abs() <= tolerance:
		s.far = false
		return correction{move: slew(r.ahead, elapsed)}
	}
	median, again := offset+r.ahead, s.far
	if !s.far || (median-s.median).Abs() > tolerance {
		s.far, s.begun, s.since, again = true, false, boot, false
	}
	s.median = median
	if boot-s.since < wait {
		return correction{waiting: !again}
	}
	c := correction{step: !s.begun, move: slew(r.ahead, elapsed)}
	s.begun = true
	if r.ahead > 0 {
		c.move = r.ahead
	}
	return c
}

// slew is how far to move an estimate towards what is ahead of it after a time.
func slew(ahead, elapsed time.Duration) time.Duration {
	most := elapsed / slewPart
	part := int64(max(-slewOver, min(ahead, slewOver))) * int64(elapsed) / int64(slewOver) // no overflow: both are bounded
	return max(-most, min(time.Duration(part), most))
}
