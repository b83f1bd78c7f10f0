package node

import (
	"context"
	"errors"
	"time"

	"github.com/holdfast/holdfast/raftfsm"
)

const (
	// skewLimit is how far a wall clock may be from cluster time before that is
	// warned of: instants that applications give by theirs are off by as much.
	skewLimit = time.Second
	// skewAgain is when a warning is repeated.
	skewAgain = time.Minute
)

// clocks are the voters' wall clocks for the state machine.
func (n *Node) clocks() raftfsm.Clocks {
	heard := n.raft.Clocks()
	c := raftfsm.Clocks{Voters: heard.Voters, Walls: make([]time.Duration, len(heard.Heard))}
	for i := range heard.Heard {
		c.Walls[i] = heard.Heard[i].Wall
	}
	return c
}

// skew is how far a voter's wall clock is ahead of cluster time.
type skew struct {
	id string
	by time.Duration
}

// skews are those of the voters heard lately; none before cluster time is known.
func (n *Node) skews() []skew {
	if !n.fsm.TimeKnown() {
		return nil
	}
	heard := n.raft.Clocks().Heard
	now := time.Duration(n.fsm.Instant())*time.Millisecond - n.clock.Boot()
	list := make([]skew, len(heard))
	for i, w := range heard {
		list[i] = skew{w.ID, w.Wall - now}
	}
	return list
}

// keepTime has cluster time follow the voters' wall clocks, and warns of those
// that are wrong, with every beat of the cluster until ctx ends.
func (n *Node) keepTime(ctx context.Context) error {
	warned := skewWarnings{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.steering:
		}
		n.fsm.Steer()
		n.warnSkews(warned, n.skews(), n.roles.Role().Master)
	}
}

// skewWarnings are when a node's clock was last warned of, by clock.Boot. A node
// whose clock is right is not in it.
type skewWarnings map[string]time.Duration

// warnSkews warns of wall clocks that are far from cluster time: a node of its own,
// the master of all.
func (n *Node) warnSkews(warned skewWarnings, list []skew, master bool) {
	now := n.clock.Boot()
	for _, s := range list {
		if s.id != n.self.ID && !master {
			continue
		}
		last, wrong := warned[s.id]
		switch {
		case s.by.Abs() <= skewLimit:
			if wrong {
				n.log.Info("a wall clock agrees with cluster time again", "node", s.id)
				delete(warned, s.id)
			}
		case !wrong || now-last >= skewAgain:
			n.log.Warn("a wall clock is far from cluster time; set it right", "node", s.id, "ahead", s.by.Round(time.Millisecond))
			warned[s.id] = now
		}
	}
}

// awaitTime waits until an establishing entry can be stamped with cluster time, and
// returns false if ctx ends first. A node that followed a master knows it. After a
// start of all nodes their wall clocks have to be heard: all, or a majority that
// agrees, or whichever answer within four election timeouts.
func (n *Node) awaitTime(ctx context.Context) bool {
	if all, _ := n.fsm.Dated(); all {
		return true
	}
	election := n.settings.Config().ElectionTimeout
	every := time.NewTicker(max(election/20, time.Millisecond))
	defer every.Stop()
	until := n.clock.Boot() + 4*election
	for {
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				n.log.Warn("leadership is not established: no majority of the nodes has told its wall clock")
			}
			return false
		case <-every.C:
		}
		if all, enough := n.fsm.Dated(); all || enough && n.clock.Boot() >= until {
			return true
		}
	}
}
