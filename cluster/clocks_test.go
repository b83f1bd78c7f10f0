package cluster_test

import (
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/clock"
)

// skewed is the machine's clock with the wall clock shifted.
type skewed struct {
	clock.System
	ahead time.Duration
}

func (s skewed) WallMilli() int64 { return s.System.WallMilli() + s.ahead.Milliseconds() }

// aheadOf is how far a node hears each voter's wall clock to be ahead of the machine's;
// not exactly, if the test stands still meanwhile.
func aheadOf(m *member) (voters int, ahead map[string]time.Duration) {
	c := m.node.Clocks()
	now := time.Duration(clock.System{}.WallMilli())*time.Millisecond - clock.System{}.Boot()
	ahead = map[string]time.Duration{}
	for _, w := range c.Heard {
		ahead[w.ID] = w.Wall - now
	}
	return c.Voters, ahead
}

// P4: every node hears the wall clocks of all voters, its own included, with the way
// of the answer taken out; a node that is cut off hears nobody else's.
func TestNodesHearTheWallClocksOfVoters(t *testing.T) {
	shift := map[string]time.Duration{"n1": time.Hour, "n2": 0, "n3": -time.Hour}
	c := started(t, func(cfg *cluster.Config) { cfg.Clock = skewed{ahead: shift[cfg.NodeID]} })
	c.leader()
	for _, id := range c.ids {
		m := c.members[id]
		c.eventually(id+" hears all as they are", func() bool {
			voters, ahead := aheadOf(m)
			if voters != 3 || len(ahead) != 3 {
				return false
			}
			for id, want := range shift {
				if (ahead[id] - want).Abs() > testElection/2+10*time.Millisecond {
					return false
				}
			}
			return true
		})
	}
	c.wires.isolate("n1", "n2", "n3")
	c.eventually("n1 hears nobody", func() bool {
		voters, ahead := aheadOf(c.members["n1"])
		_, own := ahead["n1"]
		return voters == 3 && own && len(ahead) == 1
	})
}
