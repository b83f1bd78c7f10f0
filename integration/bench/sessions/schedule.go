package sessions

import (
	"math/rand/v2"
	"time"
)

// schedule says when the commands of one connection are due. It depends on
// nothing that happens: a server that stalls delays no later command's due time,
// so the wait of all that pile up is measured (no coordinated omission).
//
// The time is cut into slots of one command each; a command is due at a random
// place of its slot. So the rate is exact, and the connections together send as
// unevenly as independent users do.
type schedule struct {
	slot   time.Duration
	left   int           // commands not drawn yet
	begin  time.Duration // of the next slot, since the beginning of the load
	random *rand.Rand
}

// newSchedule is the schedule of connection i. All connections together have
// exactly rate x duration commands.
func newSchedule(o Options, i int, random *rand.Rand) *schedule {
	total := totalCommands(o)
	n := total / o.Connections
	if i < total%o.Connections {
		n++
	}
	return &schedule{
		slot: time.Duration(float64(time.Second) * float64(o.Connections) / float64(o.Rate)),
		left: n, random: random,
	}
}

// totalCommands is how many commands the load has.
func totalCommands(o Options) int { return int(float64(o.Rate) * o.Duration.Seconds()) }

// next is when the next command is due since the beginning of the load, or false
// after the last one.
func (s *schedule) next() (time.Duration, bool) {
	if s.left == 0 {
		return 0, false
	}
	s.left--
	due := s.begin + time.Duration(s.random.Int64N(int64(s.slot)))
	s.begin += s.slot
	return due, true
}
