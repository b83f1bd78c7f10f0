package cluster

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// A leader need not have an entry on its own disk before it sends it to others: the
// two can go on at the same time, if the entry counts as committed only when a
// majority has it durably (Ongaro, Consensus: Bridging Theory and Practice, 10.2.1).
// raft does one after the other, and counts the leader itself as soon as StoreLogs
// has returned. So StoreLogs returns at once where every majority needs another
// node's answer, and the transport passes no such answer on before the leader's own
// log has reached the entry too. See docs/adr/0019-write-behind.md.

// behindBytes bounds the commands that may wait for the disk without raft waiting.
const behindBytes = 4 << 20

// behind is what raft takes for written and the disk has not got yet.
type behind struct {
	first atomic.Uint64 // the lowest such index; 0 if there is none

	mu      sync.Mutex
	settled sync.Cond   // first has moved, or the log has failed; usable once something was left
	waiting []*raft.Log // what goes to the disk next, in order
	bytes   int64       // of the commands that are waiting or being written
	last    uint64      // the highest index that was ever left behind
	writing bool        // write runs
	broken  bool        // a write has failed: first stays where it is
}

// leave takes entries over to be written soon, or reports false because too many are
// waiting or a write has failed. write is started in a goroutine that ends when nothing is left.
func (b *behind) leave(entries []*raft.Log, size int64, write func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken || b.bytes+size > behindBytes {
		return false
	}
	b.waiting = append(b.waiting, entries...)
	b.bytes += size
	b.last = entries[len(entries)-1].Index
	if b.first.Load() == 0 {
		b.first.Store(entries[0].Index)
	}
	if !b.writing {
		b.settled.L = &b.mu
		b.writing = true
		go write()
	}
	return true
}

// next is what is to be written now, after the previous batch of size bytes has become
// durable; nil ends the writing.
func (b *behind) next(size int64) []*raft.Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch := b.waiting
	b.waiting, b.bytes = nil, b.bytes-size
	if len(batch) > 0 {
		b.first.Store(batch[0].Index)
	} else {
		b.first.Store(0)
		b.writing = false
	}
	b.settled.Broadcast()
	return batch
}

// abandon ends the writing after a failure: what is left never becomes durable.
func (b *behind) abandon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.waiting, b.writing, b.broken = nil, false, true
	b.settled.Broadcast()
}

// wait returns when no entry up to index that was left behind before the call is
// still to be written, and tells whether all of them are durable.
func (b *behind) wait(index uint64) bool {
	if first := b.first.Load(); first == 0 || first > index {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	index = min(index, b.last) // entries that come meanwhile are not waited for
	for b.writing {
		if first := b.first.Load(); first == 0 || first > index {
			return true
		}
		b.settled.Wait()
	}
	first := b.first.Load()
	return first == 0 || first > index
}

// settle waits until the log up to index is durable; errBroken if it never will be.
func (s *logStore) settle(index uint64) error {
	if !s.behind.wait(index) {
		return errBroken
	}
	return nil
}

// writeBehind writes what was left until nothing is.
func (s *logStore) writeBehind() {
	var written int64
	for {
		batch := s.behind.next(written)
		if len(batch) == 0 {
			return
		}
		written = bytesOf(batch)
		if s.write(batch, written) != nil {
			s.behind.abandon()
			return
		}
	}
}

// mayLeave tells whether raft may go on before entries are durable: they are
// commands, and this node leads voters of whom it alone is no majority. Whatever else
// a leader appends, and all that others send, is durable when StoreLogs returns.
func (s *logStore) mayLeave(entries []*raft.Log) bool {
	for _, e := range entries {
		if e.Type != raft.LogCommand {
			return false
		}
	}
	return s.leads != nil && s.leads() && s.needsOthers()
}

func bytesOf(entries []*raft.Log) (n int64) {
	for _, e := range entries {
		n += int64(len(e.Data))
	}
	return n
}

// leads tells whether raft takes this node for the leader. On raft's main loop that
// is exact: nothing but that loop changes it.
func (n *Node) leads() bool {
	r := n.raftNode()
	return r != nil && r.State() == raft.Leader
}

// needsOthers tells whether every majority that raft may count has another node in it:
// raft counts by the latest configuration.
func (n *Node) needsOthers() bool { return n.quorum.Load().latest().voters >= 2 }
