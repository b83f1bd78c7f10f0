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
	index  uint64   // of its log entry
	ids    []string // of the voters, in order
	mask   uint64   // of the voters whose place in masks is known
	voters int
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

// latest is the newest configuration's voters.
func (q *quorum) latest() []string {
	if q == nil || len(q.sets) == 0 {
		return nil
	}
	return q.sets[len(q.sets)-1].ids
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

// voterSet translates a configuration. Node 0 in masks is this node.
func (n *Node) voterSet(index uint64, c *raft.Configuration) voterSet {
	s := voterSet{index: index}
	for _, srv := range c.Servers {
		if srv.Suffrage != raft.Voter {
			continue
		}
		s.voters++
		s.ids = append(s.ids, string(srv.ID))
		if string(srv.ID) == n.cfg.NodeID {
			s.mask |= selfBit
		} else if p := n.peers[string(srv.ID)]; p != nil {
			s.mask |= p.bit
		}
	}
	slices.Sort(s.ids)
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
	set := n.voterSet(index, &c)
	for {
		old := n.quorum.Load()
		if n.quorum.CompareAndSwap(old, old.with(set, commit)) {
			return
		}
	}
}

// refreshQuorum looks at raft's latest configuration: it may have come with a
// snapshot, or an earlier one may have been committed or cut off since.
func (n *Node) refreshQuorum(r *raft.Raft) {
	f := r.GetConfiguration() // does not wait
	if f.Error() != nil {
		return
	}
	c := f.Configuration()
	set := n.voterSet(f.Index(), &c)
	commit := r.CommitIndex()
	old := n.quorum.Load()
	next := old.with(set, commit)
	if old == nil || len(next.sets) != len(old.sets) || old.sets[len(old.sets)-1].index != f.Index() {
		n.quorum.CompareAndSwap(old, next) // otherwise a newer one came in between, and the next look sees it
	}
}
