package raftfsm

import "time"

// clocks are the voters' wall clocks.
func (f *FSM) clocks() Clocks {
	if f.cfg.Clocks != nil {
		return f.cfg.Clocks()
	}
	own := time.Duration(f.cfg.Clock.WallMilli()) * time.Millisecond
	return Clocks{Voters: 1, Walls: []time.Duration{own - f.cfg.Clock.Boot()}}
}

// Observe tells the FSM a cluster time (ms) just heard from the confirmed
// master. It makes this node's estimate trusted: should the node become master,
// wall clocks will not count.
func (f *FSM) Observe(clusterTime int64) { f.time.observe(clusterTime) }

// Vouched tells the FSM a cluster time (ms) just heard from a node that is not
// master and whose own TimeKnown is true. It counts as long as this node's is not.
func (f *FSM) Vouched(clusterTime int64) { f.time.vouched(clusterTime) }

// TimeKnown tells whether Instant can be trusted: this node has followed cluster
// time since it last heard it. After a start it has yet to hear it.
func (f *FSM) TimeKnown() bool { return f.time.known() }

// Dated tells whether this node knows all that an establishing entry's stamp can be
// made from, and whether it knows enough for one. A stamp lost for want of a clock
// that is heard a moment later has to be made up for by a step.
func (f *FSM) Dated() (all, enough bool) { return f.time.dated(f.clocks()) }

// Steering is how cluster time stands to the voters' wall clocks.
type Steering struct {
	// Ahead is how far the median of the wall clocks is ahead of cluster time,
	// negative if it is behind; 0 as long as too few clocks were heard to tell.
	Ahead time.Duration
	// Agreed says that a majority of the voters' wall clocks is within a second of
	// that. Cluster time follows no other.
	Agreed bool
}

// Steer compares cluster time with the voters' wall clocks. While this node is
// established as master it has cluster time follow them, by a tenth of the time
// since the last call at most; a difference of more than a second once a majority
// has agreed on it for a minute, then forward at once. It is to be called a few
// times a second.
func (f *FSM) Steer() {
	r, c := f.time.steer(f.clocks())
	switch {
	case c.waiting:
		f.cfg.Log.Warn("a majority of the wall clocks agrees that cluster time is off; it will follow them unless they change",
			"off_by", r.ahead, "in", patience)
	case c.step && r.ahead > 0:
		f.cfg.Log.Warn("cluster time steps to where a majority of the wall clocks is", "by", r.ahead)
	case c.step:
		f.cfg.Log.Warn("cluster time is ahead of a majority of the wall clocks and slows down by a tenth until they are level",
			"by", -r.ahead, "for", -r.ahead*slewPart)
	}
}

// Steering is what the last call of Steer has found.
func (f *FSM) Steering() Steering {
	r, _ := f.time.figures()
	return Steering{Ahead: r.ahead, Agreed: r.agreed}
}
