package node

import "slices"

// digests are what a node has found its state to be after one entry of the log.
type digests struct {
	index uint64
	kept  uint64 // kept up to date with every change
	found uint64 // computed from the contents: differs from kept if memory is damaged
}

// verdict is what the digests of several nodes at one index say.
type verdict struct {
	agree  []string // other nodes with this node's digest, in order
	differ []string // other nodes with another one, in order
	// majority: most voters, this node included if it is one, have this node's digest.
	majority bool
	// outvoted: most voters have one digest and it is not this node's. At most a
	// minority of the voters can be.
	outvoted bool
}

// judge compares this node's digest with those of others. What counts is what was
// computed from the contents. voters may hold this node, self, or not.
func judge(self string, own digests, told map[string]digests, voters []string) verdict {
	var v verdict
	votes := map[uint64]int{}
	if slices.Contains(voters, self) {
		votes[own.found]++
	}
	for id, d := range told {
		if id == self || d.index != own.index {
			continue
		}
		if slices.Contains(voters, id) {
			votes[d.found]++
		}
		if d.found == own.found {
			v.agree = append(v.agree, id)
		} else {
			v.differ = append(v.differ, id)
		}
	}
	slices.Sort(v.agree)
	slices.Sort(v.differ)
	for found, n := range votes {
		if n > len(voters)/2 {
			v.majority, v.outvoted = found == own.found, found != own.found
		}
	}
	return v
}

// recent are the digests of one node at its last checkpoints, the newest last.
type recent []digests

// keptRecent is how many checkpoints are remembered of each node: as many as one
// node may be ahead of another while it is still compared with it.
const keptRecent = 8

// add takes one more; a second one for the same index replaces the first.
func (r recent) add(d digests) recent {
	r = slices.DeleteFunc(r, func(x digests) bool { return x.index == d.index })
	r = append(r, d)
	slices.SortFunc(r, func(a, b digests) int {
		if a.index < b.index {
			return -1
		}
		return 1
	})
	return r[max(0, len(r)-keptRecent):]
}

// at is the one for an index.
func (r recent) at(index uint64) (digests, bool) {
	i := slices.IndexFunc(r, func(d digests) bool { return d.index == index })
	if i < 0 {
		return digests{}, false
	}
	return r[i], true
}

// latest is the newest one.
func (r recent) latest() (digests, bool) {
	if len(r) == 0 {
		return digests{}, false
	}
	return r[len(r)-1], true
}
