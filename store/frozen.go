package store

import (
	"errors"
	"slices"
)

// Record is one key of a frozen view, safe to keep.
type Record struct {
	DB       int
	Key      string
	Value    Value
	Deadline int64
	Version  uint64
}

// Side is state of a database beside its keys that a snapshot must carry: its
// epoch and the last removal in each hash bucket.
type Side struct {
	Epoch    uint64
	Removals []uint64 // by bucket; trailing zeros left out
}

// Frozen is a view of the whole store at the instant of Freeze. Reading it
// takes the store's lock only to copy one shard at a time. It is for one
// goroutine; release it.
type Frozen struct {
	store  *Store
	system System
	seeds  seeds
	digest uint64
	now    int64
	parts  []*frozenPart // by database
}

// frozenPart is the view of one database. The fields from next on are guarded by
// the store's lock: changed by the view's own goroutine under the shared lock,
// by changes of the keyspace under the exclusive one.
type frozenPart struct {
	number   uint64 // of the freeze
	keys     *keyspace
	len      int
	epoch    uint64
	removals []uint64 // nobody's to change
	asked    bool     // Each was called

	next   int              // the first shard that Each has not taken
	copies map[int][]record // by shard: as it was, for those changed since and not taken
}

// record is what is copied of an entry.
type record struct {
	key      string
	value    Value
	deadline int64
	version  uint64
}

// Freeze returns a view of the present state. O(1) in the number of keys. It
// takes the exclusive lock. Several views may be there at the same time.
func (s *Store) Freeze() *Frozen {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freezes++
	f := &Frozen{store: s, system: s.sys, seeds: s.seeds, digest: s.digestLocked(), now: s.sys.Stamp, parts: make([]*frozenPart, len(s.dbs))}
	for i := range s.dbs {
		keys := s.dbs[i].keys
		f.parts[i] = &frozenPart{
			number: s.freezes, keys: keys, len: keys.len, epoch: s.dbs[i].epoch, removals: keys.removals,
		}
		keys.removalsShared = keys.removals != nil
		if keys.len != 0 {
			keys.parts = append(keys.parts, f.parts[i])
			keys.frozenAt = s.freezes
		}
	}
	return f
}

// System is the system state at the freeze.
func (f *Frozen) System() System { return f.system }

// Now is the instant at which whoever lists the keys hides those that are due, ms
// of cluster time: the largest applied stamp, unless At has said a later one.
func (f *Frozen) Now() int64 { return f.now }

// At puts Now to a later instant and returns f.
func (f *Frozen) At(now int64) *Frozen {
	f.now = max(f.now, now)
	return f
}

// Digest is the digest of the store at the freeze.
func (f *Frozen) Digest() uint64 { return f.digest }

// Len is the number of keys of database db at the freeze.
func (f *Frozen) Len(db int) int { return f.parts[db].len }

// Side is the side state of database db at the freeze.
func (f *Frozen) Side(db int) Side {
	part := f.parts[db]
	n := len(part.removals)
	for n > 0 && part.removals[n-1] == 0 {
		n--
	}
	return Side{Epoch: part.epoch, Removals: slices.Clone(part.removals[:n])}
}

// errAsked tells of a second reading of what was let go.
var errAsked = errors.New("store: a frozen view gives the keys of a database once")

// Each calls fn with every key of database db, in the order of the keyed hash,
// outside the lock, until fn returns an error, which it returns. What was
// handed out is let go of, so it works once for a database.
func (f *Frozen) Each(db int, fn func(rec Record) error) error {
	part := f.parts[db]
	if part.asked {
		return errAsked
	}
	part.asked = true
	if part.len == 0 {
		return nil
	}
	var batch []record
	for done := false; !done; {
		batch, done = f.take(part, batch[:0])
		for i := range batch {
			r := &batch[i]
			err := fn(Record{DB: db, Key: r.key, Value: r.value, Deadline: r.deadline, Version: r.version})
			if err != nil {
				return err
			}
		}
		clear(batch) // hold no value longer than needed
	}
	return nil
}

// take appends the records of the next shard that had keys to batch and tells
// whether it was the last.
func (f *Frozen) take(part *frozenPart, batch []record) (records []record, done bool) {
	f.store.mu.RLock()
	defer f.store.mu.RUnlock()
	for part.next < shardCount && len(batch) == 0 {
		i := part.next
		part.next++
		sh := &part.keys.table.shards[i]
		if sh.copiedAt < part.number { // unchanged since
			batch = sh.appendRecords(batch)
		} else if copied, ok := part.copies[i]; ok {
			batch = append(batch, copied...)
			delete(part.copies, i)
		}
	}
	return batch, part.next == shardCount
}

// Release ends the view; it may be called twice. It takes the exclusive lock for
// a moment.
func (f *Frozen) Release() {
	f.store.mu.Lock()
	defer f.store.mu.Unlock()
	for _, part := range f.parts {
		keys := part.keys
		keys.parts = slices.DeleteFunc(keys.parts, func(p *frozenPart) bool { return p == part })
		part.copies, part.asked = nil, true
	}
}

// beforeChange copies shard i, which is about to change, for the freezes that
// want it and do not have it.
func (ks *keyspace) beforeChange(sh *shard, i int) {
	if len(ks.parts) == 0 || sh.copiedAt >= ks.frozenAt {
		return
	}
	var copied []record
	for _, part := range ks.parts {
		if part.number <= sh.copiedAt || i < part.next || sh.len == 0 {
			continue
		}
		if copied == nil {
			copied = sh.appendRecords(make([]record, 0, sh.len))
		}
		if part.copies == nil {
			part.copies = make(map[int][]record)
		}
		part.copies[i] = copied
	}
	sh.copiedAt = ks.frozenAt
}

// appendRecords copies the entries of the shard in order.
func (sh *shard) appendRecords(dst []record) []record {
	var room [16]*Entry
	for b := range sh.buckets {
		for _, e := range sh.inOrder(room[:0], b, b+1) {
			dst = append(dst, record{key: e.key, value: e.value.clipped(), deadline: e.deadline, version: e.version})
		}
	}
	return dst
}
