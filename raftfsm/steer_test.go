package raftfsm

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
)

// beat is how often the tests steer: in whole ms, as fake clocks go.
const beat = 60 * time.Millisecond

// master is a stamper that is established and agrees with its fake wall clock.
func master(t *testing.T) (*clock.Fake, *stamper) {
	t.Helper()
	c, s := newTestStamper()
	s.applied(s.first(walls(c, 3, 0, 0, 0)))
	s.established()
	s.leading.Store(true)
	s.steer(walls(c, 3, 0, 0, 0))
	return c, s
}

// steered lets the time pass while clocks at the given distances from the fake wall
// clock are heard, and returns how far cluster time is ahead of that clock.
func steered(c *clock.Fake, s *stamper, d time.Duration, voters int, ahead ...time.Duration) time.Duration {
	for range d / beat {
		c.Advance(beat)
		s.steer(walls(c, voters, ahead...))
	}
	return skewOf(c, s)
}

func skewOf(c *clock.Fake, s *stamper) time.Duration {
	return time.Duration(s.instant()-c.WallMilli()) * time.Millisecond
}

func within(t *testing.T, what string, got, want, most time.Duration) {
	t.Helper()
	if (got - want).Abs() > most {
		t.Errorf("%s: cluster time is %v ahead, want %v within %v", what, got, want, most)
	}
}

// Property: the reading is what holds of the median whatever the clocks say that were
// not heard. It is checked against all that they could say.
func TestReadingHoldsWhateverIsNotHeard(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 7))
	far := []time.Duration{-1000 * time.Hour, 1000 * time.Hour}
	for range 20_000 {
		voters := 1 + r.IntN(7)
		heard := r.IntN(voters + 1)
		c := Clocks{Voters: voters}
		for range heard {
			c.Walls = append(c.Walls, time.Duration(r.Int64N(9)-4)*time.Second)
		}
		got := c.read(0)
		if got.known != (heard > voters/2) || got.whole != (heard == voters) {
			t.Fatalf("%d of %d heard: %+v", heard, voters, got)
		}
		if !got.known {
			if got != (reading{}) {
				t.Fatalf("%+v from %+v", got, c)
			}
			continue
		}
		full := Clocks{Voters: voters, Walls: append([]time.Duration(nil), c.Walls...)}
		low, high := complete(full, far[0]), complete(full, far[1])
		lowest, highest := low.sorted()[(voters-1)/2], high.sorted()[voters/2]
		want := max(lowest, min(highest, 0))
		if got.ahead != want {
			t.Fatalf("%+v: ahead %v, want %v", c, got.ahead, want)
		}
	}
}

// complete fills in the clocks that were not heard.
func complete(c Clocks, with time.Duration) Clocks {
	walls := append([]time.Duration(nil), c.Walls...)
	for len(walls) < c.Voters {
		walls = append(walls, with)
	}
	return Clocks{Voters: c.Voters, Walls: walls}
}

func (c Clocks) sorted() []time.Duration {
	list := append([]time.Duration(nil), c.Walls...)
	for i := range list {
		for k := i; k > 0 && list[k] < list[k-1]; k-- {
			list[k], list[k-1] = list[k-1], list[k]
		}
	}
	return list
}

// Property: P4. One clock alone moves nothing, wherever it is, whichever it is, and
// whichever other one is silent.
func TestOneClockAloneMovesNothing(t *testing.T) {
	for _, off := range []time.Duration{
		-time.Hour, -2 * time.Second, -900 * time.Millisecond, 900 * time.Millisecond, 2 * time.Second, time.Hour,
	} {
		for name, heard := range map[string][]time.Duration{
			"the master's":          {off, 0, 0},
			"another's":             {0, 0, off},
			"one silent":            {0, off},
			"alone with its master": {off},
		} {
			c, s := master(t)
			within(t, name, steered(c, s, 5*time.Minute, 3, heard...), 0, time.Millisecond)
			if _, steps := s.figures(); steps != 0 {
				t.Errorf("%s %v: %d steps", name, off, steps)
			}
		}
	}
}

// Property: clocks of which no majority agrees move nothing.
func TestClocksThatDisagreeMoveNothing(t *testing.T) {
	c, s := master(t)
	within(t, "scattered", steered(c, s, 5*time.Minute, 3, 3*time.Second, 10*time.Second, 20*time.Second), 0, time.Millisecond)
	within(t, "near and scattered", steered(c, s, time.Minute, 3, -time.Hour, 900*time.Millisecond, time.Hour), 0, time.Millisecond)
}

// Property: small differences are slewed away, whichever way, and cluster time stays
// where the clocks are.
func TestSmallDifferencesAreSlewedAway(t *testing.T) {
	for _, off := range []time.Duration{-900 * time.Millisecond, -20 * time.Millisecond, 20 * time.Millisecond, 900 * time.Millisecond} {
		c, s := master(t)
		got := steered(c, s, 5*time.Second, 3, off, off, off)
		if off > 0 && got > off*3/4 || off < 0 && got < off*3/4 {
			t.Errorf("%v: moved by %v in five seconds: too fast", off, got)
		}
		within(t, "after a minute", steered(c, s, time.Minute, 3, off, off, off), off, 2*time.Millisecond)
	}
}

// Property: between two looks the estimate moves by a tenth of the time at most,
// whatever the clocks say, unless a step was agreed on; and instants never go back.
func TestSlewIsBoundedAndTimeNeverGoesBack(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 9))
	for range 200 {
		c, s := master(t)
		last := s.instant()
		var off [3]time.Duration
		for range 500 {
			if r.IntN(20) == 0 {
				off[r.IntN(3)] = time.Duration(r.Int64N(int64(4*time.Second))) - 2*time.Second
			}
			passed := time.Duration(r.Int64N(int64(2 * beat)))
			if r.IntN(100) == 0 {
				passed = 10 * time.Second // a pause of the process
			}
			c.Advance(passed)
			before := s.offset.Load()
			_, made := s.steer(walls(c, 3, off[:1+r.IntN(3)]...))
			moved := time.Duration(s.offset.Load() - before)
			if made.move != moved {
				t.Fatalf("moved by %v, told %v", moved, made.move)
			}
			if moved.Abs() > min(passed, slewLongest)/slewPart && !made.step {
				t.Fatalf("moved by %v in %v", moved, passed)
			}
			now := s.instant()
			if now < last {
				t.Fatalf("from %d back to %d", last, now)
			}
			last = now
		}
	}
}

// Property: a majority that agrees on more than a second is waited on for a minute;
// then cluster time steps to where it is, once.
func TestAgreedDifferenceForwardIsAStepAfterAMinute(t *testing.T) {
	for name, heard := range map[string][]time.Duration{
		"all":               {time.Hour, time.Hour, time.Hour},
		"two of three":      {time.Hour, time.Hour, 0},
		"two, one is quiet": {time.Hour + 300*time.Millisecond, time.Hour},
	} {
		c, s := master(t)
		within(t, name, steered(c, s, patience-2*time.Second, 3, heard...), 0, 0)
		within(t, name, steered(c, s, 4*time.Second, 3, heard...), time.Hour, 300*time.Millisecond)
		steered(c, s, time.Minute, 3, heard...)
		if _, steps := s.figures(); steps != 1 {
			t.Errorf("%s: %d steps", name, steps)
		}
	}
}

// Property: the minute begins anew when the agreement ends or is about another time,
// so that clocks that are set and put right again end no session.
func TestAgreementMustLast(t *testing.T) {
	c, s := master(t)
	for range 10 {
		steered(c, s, 50*time.Second, 3, time.Hour, time.Hour, 0)
		steered(c, s, time.Second, 3, time.Hour, 0, 0)
		steered(c, s, 50*time.Second, 3, 0, 2*time.Hour, 2*time.Hour)
		steered(c, s, 50*time.Second, 3, 3*time.Hour, 0, 3*time.Hour)
	}
	within(t, "after ten rounds", skewOf(c, s), 0, 0)
}

// Property: cluster time never goes back: an agreed difference backward is made up
// for by going slower by a tenth, counted as one step, until it is level.
func TestAgreedDifferenceBackwardIsASlew(t *testing.T) {
	c, s := master(t)
	last := s.instant()
	off := -10 * time.Second
	within(t, "waiting", steered(c, s, patience-time.Second, 3, off, off, off), 0, 0)
	within(t, "half way", steered(c, s, 51*time.Second, 3, off, off, off), off/2, 100*time.Millisecond)
	if now := s.instant(); now < last+100_000 {
		t.Errorf("in 111 s cluster time went on by %d ms", now-last)
	}
	within(t, "level", steered(c, s, 2*time.Minute, 3, off, off, off), off, 5*time.Millisecond)
	if _, steps := s.figures(); steps != 1 {
		t.Errorf("%d steps", steps)
	}
}

// Property: a master that had to begin without clocks it could believe follows the
// first majority at once, and waits for later ones as any other.
func TestMasterWithoutTheTimeFollowsTheFirstMajority(t *testing.T) {
	c, s := newTestStamper()
	s.restored(morning)
	s.applied(s.first(walls(c, 3, 0, -200*time.Hour)))
	s.established()
	s.leading.Store(true)
	if got := skewOf(c, s); got > -99*time.Hour {
		t.Fatalf("cluster time is %v ahead: it had nothing to go by", got)
	}
	within(t, "the third is heard", steered(c, s, 2*beat, 3, 0, -200*time.Hour, 0), 0, time.Millisecond)
	within(t, "another", steered(c, s, 30*time.Second, 3, time.Hour, time.Hour, time.Hour), 0, time.Millisecond)
}

// Property: only the master steers.
func TestReplicaDoesNotSteer(t *testing.T) {
	c, s := master(t)
	s.leading.Store(false)
	within(t, "replica", steered(c, s, 5*time.Minute, 3, 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond), 0, 0)
}

// Property: while the master slows down, entries in its hands do not take that back,
// and a replica that hears of it four times per election timeout stays with it.
func TestReplicaFollowsASlowingMaster(t *testing.T) {
	for name, busy := range map[string]bool{"idle": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			c, m := master(t)
			replica := newStamper(c)
			replica.observe(m.instant())
			for range 2000 { // two minutes, the last one of them slower
				for range 6 {
					stamp := m.instant()
					c.Advance(beat / 6)
					if busy {
						m.applied(stamp)
						replica.applied(stamp)
					}
				}
				m.steer(walls(c, 3, -20*time.Second, -20*time.Second, 0))
				replica.observe(m.instant())
			}
			within(t, "master", skewOf(c, m), -6*time.Second, 200*time.Millisecond)
			if ahead := replica.instant() - m.instant(); ahead < -15 || ahead > 15 {
				t.Errorf("the replica is %d ms ahead of the master", ahead)
			}
		})
	}
}

// Property: a node asks for more until it knows all that a stamp can be made from: it
// followed cluster time, or a majority agrees, or there is no other clock to hear.
func TestDatedKnowsWhenToWait(t *testing.T) {
	c, s := newTestStamper()
	check := func(what string, clocks Clocks, all, enough bool) {
		t.Helper()
		if gotAll, gotEnough := s.dated(clocks); gotAll != all || gotEnough != enough {
			t.Errorf("%s: %v %v, want %v %v", what, gotAll, gotEnough, all, enough)
		}
	}
	check("nothing", Clocks{}, false, false)
	check("own", walls(c, 3, 0), false, false)
	check("two agree", walls(c, 3, 0, 0), true, true)
	check("two differ", walls(c, 3, 0, time.Hour), false, true)
	check("three differ", walls(c, 3, 0, time.Hour, -time.Hour), true, true)
	check("the only one", walls(c, 1, 0), true, true)
	s.applied(morning)
	check("own, with a state", walls(c, 3, 0), false, true)
	s.vouched(morning)
	check("known", Clocks{}, true, true)
}
