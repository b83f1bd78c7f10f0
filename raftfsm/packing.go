package raftfsm

import "github.com/holdfast/holdfast/store"

// What goes into one entry: operations of the server itself, and the requests of
// whole batches as long as they fit. Whatever is too big to share an entry
// travels alone, so that no entry is larger than max-entry-bytes, which every
// single request and every key obeys.

// fillLocked puts what is waiting into f. Operations come first and are few, so
// that neither they nor requests wait for the other; where both have no room
// they take turns.
func (p *Proposer) fillLocked(f *proposal) {
	first := p.mu.requestsFirst
	p.mu.requestsFirst = false
	var size int
	if first {
		f.parts, size = p.takePartsLocked(maxBytes, true)
		f.ops, _ = p.takeOpsLocked(maxBytes-size, false)
		return
	}
	f.ops, size = p.takeOpsLocked(maxOpBytes, true)
	f.parts, _ = p.takePartsLocked(maxBytes-size, len(f.ops) == 0)
	p.mu.requestsFirst = len(f.parts) == 0 && len(p.mu.queue.parts) > 0
}

// takeOpsLocked takes operations of the server itself that need at most room
// bytes: members and settings, and ticks up to the victims of one. The first
// may need more if it must be taken.
func (p *Proposer) takeOpsLocked(room int, must bool) (ops []*op, size int) {
	take := func(from *[]*op) {
		x := (*from)[0]
		(*from)[0] = nil
		*from = (*from)[1:]
		ops, size = append(ops, x), size+x.size
	}
	fits := func(x *op) bool { return size+x.size <= room || must && len(ops) == 0 }
	for len(p.mu.ops) > 0 && len(ops) < maxOps && fits(p.mu.ops[0]) {
		take(&p.mu.ops)
	}
	victims := 0
	for len(p.mu.ticks) > 0 && fits(p.mu.ticks[0]) {
		if victims += len(p.mu.ticks[0].victims); victims > maxVictims {
			break
		}
		take(&p.mu.ticks)
	}
	return ops, size
}

// takePartsLocked takes client requests that need at most room bytes: whole
// batches as long as they fit; of a batch that does not fit whole, as much as
// does, alone, and the first request in any case if one must be taken.
func (p *Proposer) takePartsLocked(room int, must bool) (parts []part, size int) {
	q := p.mu.queue.parts
	taken, count := 0, 0
	for ; taken < len(q); taken++ {
		count += q[taken].to - q[taken].from
		if count > maxRequests || size+q[taken].size > room {
			break
		}
		size += q[taken].size
	}
	switch {
	case taken > 0:
		parts = make([]part, taken)
		for i := range parts {
			parts[i] = q[i].part
		}
	case len(q) > 0:
		var head part
		if head, size = cut(q[0].part, room, must); head.from == head.to {
			return nil, 0
		}
		parts, taken = []part{head}, 1
	}
	p.mu.queue.drop(taken)
	return parts, size
}

// cut is the beginning of t that needs at most room bytes; it may be empty,
// unless one request must be in it.
func cut(t part, room int, must bool) (head part, size int) {
	for i := t.from; i < t.to; i++ {
		n := unitSize(&t.batch.Requests[i])
		bound := must && i == t.from
		if !bound && (size+n > room || i-t.from >= maxRequests) {
			t.to = i
			break
		}
		size += n
	}
	return t, size
}

// measure is the encoded size of the requests of t, and of the largest.
func measure(t part) (sum, most int) {
	for i := t.from; i < t.to; i++ {
		n := unitSize(&t.batch.Requests[i])
		sum, most = sum+n, max(most, n)
	}
	return sum, most
}

// ticksOf makes ticks of victims, each small enough to share an entry, but for
// one whose single victim is not.
func ticksOf(victims []store.Victim) []*op {
	var ticks []*op
	for len(victims) > 0 {
		n, size := 0, tickOverhead
		for ; n < min(len(victims), maxVictims); n++ {
			more := victimSize(&victims[n])
			if n > 0 && size+more > maxOpBytes {
				break
			}
			size += more
		}
		x := newOp(unitTick)
		x.victims = append([]store.Victim(nil), victims[:n]...)
		x.size = size
		ticks = append(ticks, x)
		victims = victims[n:]
	}
	return ticks
}
