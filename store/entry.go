package store

import (
	"sync/atomic"

	"github.com/holdfast/holdfast/ttl"
)

// What a key costs beside its own bytes and those of its value, measured with
// runtime.MemStats: keys of 33 bytes with values of 10 to 512 come out between
// 97 and 100.5 % of what the heap grows by (TestSizeIsCloseToReality).
const (
	entryOverhead    = 144 // Entry fills its size class of 112; a bucket at load 1/2 to 1; rounding up key and value
	deadlineOverhead = 48  // an entryTimer in its size class
)

// Entry is a key with its value, deadline and version. It is guarded by the
// store's lock: use it only inside the View or Update that gave it. What Value
// returns may outlive the lock.
type Entry struct {
	hash     uint64
	next     *Entry    // in the same bucket
	home     *keyspace // where it is linked; nil once removed
	key      string
	state                // all that a command can change
	timer    *entryTimer // allocated when first armed, then kept; armed exactly while deadline > 0
	accessed atomic.Int64
}

type entryTimer = ttl.Timer[*Entry]

// state is what the commands change of an entry; all of it is replicated.
type state struct {
	value    Value
	sum      uint64 // value.sum
	deadline int64  // ms, 0 for none
	version  uint64
}

// Key is the key.
func (e *Entry) Key() string { return e.key }

// Value is the value; it stays valid and unchanged outside the lock.
func (e *Entry) Value() Value { return e.value.clipped() }

// Deadline is the instant the key ends, in ms of cluster time, 0 for never.
func (e *Entry) Deadline() int64 { return e.deadline }

// Version is the operation that last changed the key.
func (e *Entry) Version() uint64 { return e.version }

// Size is the memory the key and its value take, in bytes, as MEMORY USAGE
// tells it: a function of key, value and deadline alone.
func (e *Entry) Size() int64 {
	size := entryOverhead + int64(len(e.key)) + e.value.size()
	if e.deadline != 0 {
		size += deadlineOverhead
	}
	return size
}

// Accessed is when the key was last looked up on this node, in ms of cluster
// time; it is node-local and no part of the replicated state.
func (e *Entry) Accessed() int64 { return e.accessed.Load() }

// touch notes an access. Readers do so side by side; an old instant may win.
func (e *Entry) touch(now int64) {
	if e.accessed.Load() < now {
		e.accessed.Store(now)
	}
}

// due tells whether the key has ended at now.
func (e *Entry) due(now int64) bool { return e.deadline != 0 && e.deadline <= now }
