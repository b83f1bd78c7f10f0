package tracking

import "slices"

// prefixes finds who is told of a key by how it begins. Its cost for a key grows with
// the number of different lengths of prefixes, not with their number.
type prefixes struct {
	members map[string]map[int64]*tracked
	lengths []int       // of all prefixes, ascending
	uses    map[int]int // how many prefixes have a length
}

func (p *prefixes) init() {
	p.members, p.uses = map[string]map[int64]*tracked{}, map[int]int{}
}

func (p *prefixes) join(prefix string, c *tracked) {
	m := p.members[prefix]
	if m == nil {
		m = map[int64]*tracked{}
		p.members[prefix] = m
		n := len(prefix)
		p.uses[n]++
		if at, found := slices.BinarySearch(p.lengths, n); !found {
			p.lengths = slices.Insert(p.lengths, at, n)
		}
	}
	m[c.id] = c
}

func (p *prefixes) leave(prefix string, c *tracked) {
	m := p.members[prefix]
	delete(m, c.id)
	if len(m) > 0 {
		return
	}
	delete(p.members, prefix)
	n := len(prefix)
	if p.uses[n]--; p.uses[n] > 0 {
		return
	}
	delete(p.uses, n)
	if at, found := slices.BinarySearch(p.lengths, n); found {
		p.lengths = slices.Delete(p.lengths, at, at+1)
	}
}

// of calls fn for each prefix that key begins with.
func (p *prefixes) of(key string, fn func(prefix string, members map[int64]*tracked)) {
	for _, n := range p.lengths {
		if n > len(key) {
			return
		}
		if m := p.members[key[:n]]; m != nil {
			fn(key[:n], m)
		}
	}
}
