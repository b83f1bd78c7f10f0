package cluster

import (
	"math"
	"slices"
	"time"
)

// Clocks are the wall clocks of the voters.
type Clocks struct {
	Voters int // of the latest configuration
	// Heard are the clocks of the voters that have told them within the last two
	// election timeouts, and of this node if it is a voter.
	Heard []WallClock
}

// WallClock is the wall clock of one voter.
type WallClock struct {
	ID string
	// Wall is what it shows, since the Unix epoch, minus CLOCK_BOOTTIME of this node.
	// For another node it is right to within half of how long the answer took, which
	// is less than half an election timeout.
	Wall time.Duration
}

// latestWall is the latest wall clock that is taken for one, ms since the epoch, in the
// year 2116: differences of nanoseconds within it have room in 63 bits.
const latestWall = math.MaxInt64 / int64(time.Millisecond) / 2

// sighting is a wall clock as another node has told it in answer to a ping.
type sighting struct {
	wall  time.Duration // minus our CLOCK_BOOTTIME
	asked time.Duration // our CLOCK_BOOTTIME then; 0 before the first
	took  time.Duration // until the answer
}

// better tells whether s, which is newer, is to be kept in place of old. The quicker
// answer is the more exact one, as long as it is not out of date.
func (s sighting) better(old sighting, fresh time.Duration) bool {
	return old.asked == 0 || s.took <= old.took || s.asked-old.asked > fresh
}

// wallOf is a peer's wall clock if it was told within the last while.
func (p *peer) wallOf(now, while time.Duration) (time.Duration, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.wall.wall, p.mu.wall.asked != 0 && now-p.mu.wall.asked < while
}

// showed takes note of a peer's wall clock.
func (p *peer) showed(s sighting, fresh time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.better(p.mu.wall, fresh) {
		p.mu.wall = s
	}
}

// heardTime takes what a report, asked for at asked, says about the time.
func (n *Node) heardTime(p *peer, r *report, asked, now time.Duration) {
	took, fresh := now-asked, n.cfg.ElectionTimeout
	if r.more.wall != 0 && took < fresh {
		wall := time.Duration(r.more.wall) * time.Millisecond // when half of it had passed, give or take half of it
		p.showed(sighting{wall: wall - asked - took/2, asked: asked, took: took}, fresh)
	}
	to := &n.cfg.Observe
	switch {
	case r.master:
		if to.MasterTime != nil && r.age < n.window() && r.term >= n.highest.Load() {
			to.MasterTime(r.instant)
		}
	case r.more.timed && to.VouchedTime != nil:
		to.VouchedTime(r.instant)
	}
}

// Clocks returns the voters' wall clocks as heard lately. Before there is a
// configuration it has no voters. Safe for concurrent use.
func (n *Node) Clocks() Clocks {
	voters := n.quorum.Load().latest().ids
	now := n.cfg.Clock.Boot()
	c := Clocks{Voters: len(voters)}
	if slices.Contains(voters, n.cfg.NodeID) {
		own := max(0, min(n.cfg.Clock.WallMilli(), latestWall))
		c.Heard = append(c.Heard, WallClock{n.cfg.NodeID, time.Duration(own)*time.Millisecond - now})
	}
	for _, p := range n.others() {
		if wall, ok := p.wallOf(now, n.window()); ok && slices.Contains(voters, p.id) {
			c.Heard = append(c.Heard, WallClock{p.id, wall})
		}
	}
	return c
}
