package cluster

import (
	"math/bits"
	"slices"

	"github.com/hashicorp/raft"
)

// quorum says which answers make a majority. It never changes; a change of the
// configuration makes a new one.
type quorum struct {
	sets []voterSet // the latest configuration last; earlier ones that may still count before it
}

type voterSet struct {
	index   uint64   // of its log entry
	ids     []string // of the voters, in order
	mask    uint64   // of the voters whose place in masks is known
	members []Member // voters and others, in order
	voters  int
}

// met tells whether the nodes in acks are a majority of every set.
func (q *quorum) met(acks uint64) bool {
	if q == nil || len(q.sets) == 0 {
		return false
	}
	for i := range q.sets {
		if s := &q.sets[i]; bits.OnesCount64(acks&s.mask) <= s.voters/2 {
			return false
		}
	}
	return true
}

// latest is the newest configuration, empty as long as there is none.
func (q *quorum) latest() voterSet {
	if q == nil || len(q.sets) == 0 {
		return voterSet{}
	}
	return q.sets[len(q.sets)-1]
}

// with adds the configuration at index, dropping those it replaces for good: what
// was added at a higher index has been cut off the log, and what lies before the
// newest committed one has no say any more.
func (q *quorum) with(s voterSet, commit uint64) *quorum {
	next := &quorum{}
	if q != nil {
		next.sets = slices.DeleteFunc(slices.Clone(q.sets), func(old voterSet) bool { return old.index >= s.index })
	}
	next.sets = append(next.sets, s)
	for len(next.sets) > 1 && next.sets[1].index <= commit {
		next.sets = next.sets[1:]
	}
	return next
}

// newVoterSet translates a configuration; its mask is filled in when it is adopted.
func newVoterSet(index uint64, c *raft.Configuration) voterSet {
	s := voterSet{index: index, members: membersOf(c)}
	for _, m := range s.members {
		if m.Voter {
			s.voters++
			s.ids = append(s.ids, m.ID)
		}
	}
	return s
}

// selfBit is this node's place in masks.
const selfBit = 1

// reconfigure takes a configuration into account before raft uses it.
func (n *Node) reconfigure(index uint64, c raft.Configuration) {
	var commit uint64
	if r := n.raftNode(); r != nil {
		commit = r.CommitIndex()
	}
	n.config.Lock()
	defer n.config.Unlock()
	n.adopt(newVoterSet(index, &c), commit)
}

// cutOff forgets configurations that are cut off the log.
func (n *Node) cutOff(first uint64) {
	n.config.Lock()
	defer n.config.Unlock()
	old := n.quorum.Load()
	if old == nil || old.latest().index < first {
		return
	}
	n.quorum.Store(&quorum{slices.DeleteFunc(slices.Clone(old.sets), func(s voterSet) bool { return s.index >= first })})
}

// refreshQuorum forgets configurations that have no say any more, and takes over one
// that came with a snapshot. raft does not tell the index of its configuration: those
// in the log are seen when they are appended, cut off, or read at the start.
func (n *Node) refreshQuorum(r *raft.Raft) {
	latest := n.quorum.Load().latest()
	if !n.usedByRaft(r, &latest) {
		n.adoptSnapshot()
		return
	}
	n.config.Lock()
	defer n.config.Unlock()
	old, commit := n.quorum.Load(), r.CommitIndex()
	if newest := old.latest(); len(old.with(newest, commit).sets) != len(old.sets) {
		n.adopt(newest, commit)
	}
}

// usedByRaft tells whether raft's latest configuration has the members of s. Otherwise
// it is about to use s, or has another one from a snapshot.
func (n *Node) usedByRaft(r *raft.Raft, s *voterSet) bool {
	f := r.GetConfiguration() // does not wait
	if f.Error() != nil {
		return false
	}
	c := f.Configuration()
	return s.index > 0 && slices.Equal(membersOf(&c), s.members)
}

// adoptSnapshot takes over the configuration of the latest snapshot, if it is newer
// than what is known.
func (n *Node) adoptSnapshot() {
	list, err := n.snaps.List()
	if err != nil || len(list) == 0 {
		return // an error shows when raft needs the snapshot
	}
	n.config.Lock()
	defer n.config.Unlock()
	if m := list[0]; m.ConfigurationIndex > n.quorum.Load().latest().index {
		n.adopt(newVoterSet(m.ConfigurationIndex, &m.Configuration), m.Index)
	}
}
