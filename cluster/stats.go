package cluster

import "time"

// Stats are counters and gauges of a node, read at one instant.
type Stats struct {
	Term, LastIndex, CommitIndex, AppliedIndex, SnapshotIndex uint64

	Elections uint64 // won by this node
	Log       LogStats
	Rounds    RoundStats
	Snapshots SnapshotStats
	Disk      DiskStats
	Lease     LeaseStats
}

// LogStats are about appends to the log. Outstanding is for how long one is under
// way; Slow counts those that took longer than a quarter of the election timeout.
type LogStats struct {
	Appends, Entries, Bytes, Slow uint64
	Time, Outstanding             time.Duration
	SinceSnapshot                 int64         // bytes of commands
	Slowest                       time.Duration // all but one in a thousand of the last 2,000 took at most as long
}

// DiskStats are about the space on the disk of the data directory.
type DiskStats struct {
	Free    int64 // bytes, beside the reserve; 0 if they are not watched
	Low     bool
	Reserve bool // it is there
}

// RoundStats are about rounds of term probes.
type RoundStats struct {
	Begun, Confirmed, Failed, Widened uint64
	Time                              time.Duration // of the confirmed ones
}

// SnapshotStats are about snapshots this node has made.
type SnapshotStats struct {
	Made, Failed uint64
	Running      bool
	LastErr      error // of the last one
}

// Stats reads the counters.
func (n *Node) Stats() Stats {
	var s Stats
	if r := n.raftNode(); r != nil {
		s.Term, s.LastIndex, s.CommitIndex, s.AppliedIndex = r.CurrentTerm(), r.LastIndex(), r.CommitIndex(), r.AppliedIndex()
	}
	s.Elections = n.elections.Load()
	l := n.logs.figures()
	s.Log = LogStats{l.Appends, l.Entries, l.Bytes, l.Slow, l.Time, n.logs.outstanding(), l.sinceAll, n.logs.slowest()}
	s.Disk = DiskStats{max(0, n.space.beside.Load()), n.space.low(), n.space.have.Load()}
	c := n.confirm.figures()
	s.Rounds = RoundStats{c.Rounds, c.Confirmed, c.Failed, c.Widened, c.Time}
	s.Lease = n.leaseStats()
	if list, err := n.snaps.List(); err == nil && len(list) > 0 {
		s.SnapshotIndex = list[0].Index
	}
	n.compact.mu.Lock()
	defer n.compact.mu.Unlock()
	s.Snapshots = SnapshotStats{n.compact.made, n.compact.failed, n.compact.busy, n.compact.lastErr}
	return s
}
