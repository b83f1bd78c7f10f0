package raftfsm

import (
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
)

const morning = 1_700_000_000_000 // ms

func newTestStamper() (*clock.Fake, *stamper) {
	c := &clock.Fake{}
	c.SetWall(morning)
	c.Advance(100 * time.Hour) // BOOTTIME is not 0
	return c, newStamper(c)
}

// walls are wall clocks at the given distances from a fake clock's.
func walls(c *clock.Fake, voters int, ahead ...time.Duration) Clocks {
	list := Clocks{Voters: voters}
	for _, d := range ahead {
		list.Walls = append(list.Walls, time.Duration(c.WallMilli())*time.Millisecond-c.Boot()+d)
	}
	return list
}

func wantInstant(t *testing.T, s *stamper, want int64) {
	t.Helper()
	if got := s.instant(); got != want {
		t.Fatalf("instant %d, want %d (%+d)", got, want, got-want)
	}
}

// Property: cluster time is the largest stamp heard and BOOTTIME since.
func TestClusterTimeGoesOnWithBoottime(t *testing.T) {
	c, s := newTestStamper()
	wantInstant(t, s, 0)
	s.applied(morning)
	wantInstant(t, s, morning)
	c.Advance(90 * time.Millisecond)
	wantInstant(t, s, morning+90)
	c.SetWall(1)
	wantInstant(t, s, morning+90)
}

// Property: it never goes back, whatever is heard, and goes forward at once.
func TestClusterTimeNeverGoesBack(t *testing.T) {
	c, s := newTestStamper()
	s.applied(morning)
	s.observe(morning)
	last := s.instant()
	for i, heard := range []int64{5, morning - 1000, morning + 7000, morning, morning + 6000, 0} {
		s.applied(heard)
		s.observe(heard)
		c.Advance(time.Millisecond)
		if now := s.instant(); now < last {
			t.Fatalf("step %d: from %d back to %d", i, last, now)
		} else {
			last = now
		}
	}
	if last < morning+7000 {
		t.Fatalf("%d: a later stamp was not followed", last)
	}
}

// Property: on the master the time an entry takes to be applied is not lost:
// a thousand slow entries leave the clock where BOOTTIME says.
func TestMasterDoesNotLoseTimeToLatency(t *testing.T) {
	c, s := newTestStamper()
	s.applied(s.first(walls(c, 1, 0)))
	s.established()
	s.leading.Store(true)
	start := s.instant()
	for range 1000 {
		stamp := s.instant()
		c.Advance(10 * time.Millisecond)
		s.applied(stamp)
	}
	wantInstant(t, s, start+10_000)
}

// Property: on a replica whose oscillator is fast, stamps pull the clock back,
// so that it does not run away.
func TestReplicaFollowsTheMasterInTheLongRun(t *testing.T) {
	c, s := newTestStamper()
	s.observe(morning)
	master := int64(morning)
	for range 3600 { // an hour; ours runs 100 ppm fast, entries take 5 ms
		master += 1000
		c.Advance(time.Second + 100*time.Microsecond)
		s.applied(master - 5)
	}
	if ahead := s.instant() - master; ahead > 5 || ahead < -20 {
		t.Fatalf("%d ms ahead after an hour", ahead)
	}
}

// Property: a backlog of old entries does not pull a trusted clock back by more
// than a few milliseconds.
func TestBacklogOfOldEntriesDoesNotPullTheClockBack(t *testing.T) {
	c, s := newTestStamper()
	s.observe(morning)
	c.Advance(time.Hour) // cut off
	for i := range int64(10000) {
		s.applied(morning + i)
		c.Advance(time.Millisecond)
	}
	want := int64(morning + 3_600_000 + 10_000)
	if behind := want - s.instant(); behind > 60 || behind < 0 {
		t.Fatalf("%d ms behind", behind)
	}
}

// Property: a node that only replayed old entries takes the median of the wall
// clocks when it becomes master, unless that is behind the state.
func TestUntrustedClockTakesTheMedian(t *testing.T) {
	c, s := newTestStamper()
	for i := range int64(1000) { // a day's entries in a second
		s.applied(morning - 86_400_000 + i*86_400)
		c.Advance(time.Millisecond)
	}
	for name, ahead := range map[string][]time.Duration{
		"equal":                     {0, 0, 0},
		"two heard":                 {0, time.Minute},
		"own clock ahead":           {time.Hour, 0, 0},
		"own clock behind":          {-time.Hour, 0, 0},
		"ahead, the third is gone":  {time.Hour, 0},
		"one ahead, another behind": {time.Hour, 0, -time.Hour},
	} {
		if got := s.first(walls(c, 3, ahead...)); got != c.WallMilli() {
			t.Errorf("%s: %d ms from the right time", name, got-c.WallMilli())
		}
	}
	state := s.instant()
	for name, clocks := range map[string]Clocks{
		"the clocks are behind":    walls(c, 3, -1000*time.Hour, -1000*time.Hour, -1000*time.Hour),
		"one may be right":         walls(c, 3, 0, -1000*time.Hour),
		"only our own was heard":   walls(c, 3, time.Hour),
		"there is no clock at all": {},
	} {
		if got := s.first(clocks); got != state {
			t.Errorf("%s: stamp %d, the state says %d", name, got, state)
		}
	}
}

// Property: a replay that takes long, of a log that was busy throughout, is not
// taken for live entries.
func TestLongReplayIsNotTrusted(t *testing.T) {
	c, s := newTestStamper()
	for i := range int64(100_000) { // ten times as fast as it was written
		s.applied(morning - 86_400_000 + i*2)
		c.Advance(200 * time.Microsecond)
	}
	if got := s.first(walls(c, 3, 0, 0)); got != c.WallMilli() {
		t.Fatalf("stamp %d, wall clock %d", got, c.WallMilli())
	}
}

// Property: P4. A replay is not taken for live entries either where one of its
// stamps happens to be that at which our estimate stands: after a restart of
// all nodes the time they were down counts.
func TestReplayThatPassesTheEstimateIsNotTrusted(t *testing.T) {
	for name, restored := range map[string]func(s *stamper){
		"from a snapshot": func(s *stamper) { s.restored(morning) },
		"from the log":    func(s *stamper) { s.applied(morning) },
	} {
		c, s := newTestStamper()
		restored(s)
		c.Advance(20 * time.Second) // until there is a leader
		for i := range int64(600) { // a minute of entries, written right after
			s.applied(morning + i*100)
			c.Advance(time.Millisecond)
		}
		if got := s.first(walls(c, 3, 0, 0)); got != c.WallMilli() {
			t.Errorf("%s: stamp %d, wall clock %d", name, got, c.WallMilli())
		}
	}
	c, s := newTestStamper()
	s.restored(morning)
	c.Advance(20 * time.Second)
	s.applied(morning + 20_000) // the first entry after the snapshot, by chance
	if got := s.first(walls(c, 3, 0, 0)); got != c.WallMilli() {
		t.Errorf("one stamp is believed: %d, wall clock %d", got, c.WallMilli())
	}
}

// Property: P4. A node that follows a live master takes over its clock, however
// wrong its own wall clock is.
func TestTrustedClockIgnoresTheWallClock(t *testing.T) {
	for name, hear := range map[string]func(c *clock.Fake, s *stamper){
		"observed":    func(_ *clock.Fake, s *stamper) { s.observe(morning) },
		"vouched for": func(_ *clock.Fake, s *stamper) { s.vouched(morning) },
		"live entries": func(c *clock.Fake, s *stamper) {
			for i := range int64(70) {
				s.applied(morning - 7000 + i*100)
				c.Advance(100 * time.Millisecond)
			}
		},
	} {
		c, s := newTestStamper()
		hear(c, s)
		c.Advance(time.Minute)
		c.SetWall(morning + 86_400_000)
		if off := s.first(walls(c, 3, 0, 0, 0)) - morning - 60_000; off < 0 || off > 10 {
			t.Errorf("%s: the stamp is %d ms off", name, off)
		}
	}
}

// Property: instants given out to many goroutines at once never go back for any.
func TestInstantsAreMonotoneForEveryGoroutine(t *testing.T) {
	c, s := newTestStamper()
	s.observe(morning)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			last := int64(0)
			for range 5000 {
				now := s.instant()
				if now < last {
					t.Errorf("from %d back to %d", last, now)
					return
				}
				last = now
				s.applied(now - 3)
				c.Advance(200 * time.Microsecond)
			}
		})
	}
	wg.Wait()
}
