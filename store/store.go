// Package store is the keyspace and the replicated system state of one node:
// typed values, versions, deadlines, events, memory accounting, freeze and
// digest. It is deterministic: its state is a function of the changes made to
// it, and it knows no clock, no socket and no goroutine.
//
// A keyspace is a hash table cut into shards. Keys stand in the order of a keyed
// hash, so that a position in it (a SCAN cursor) means the same on every node
// whatever was inserted or removed there before. A Tx keeps what it overwrites
// until the next command begins, so that a command can be taken back. A Frozen
// keeps the old keyspaces; the first change to a shard after a freeze copies the
// shard for it.
package store

import (
	"sync"
	"sync/atomic"
)

// Store holds the databases and the system state. Its lock is taken by View,
// Update, Freeze and the methods that say so; a Store is safe for concurrent use.
type Store struct {
	mu      sync.RWMutex
	content               // guarded by mu
	freezes uint64        // the number of the last freeze; guarded by mu
	turn    int           // the database Due asks first; guarded by mu
	timers  []*entryTimer // scratch of Due; guarded by mu
	tx      Tx            // the one handle for changing, reused; guarded by mu
	readers sync.Pool
	draws   atomic.Uint64 // numbers that Random64 gave inside View
}

// content is what Replace exchanges.
type content struct {
	dbs   []database
	sys   System
	seeds seeds // of sys.HashSeed
}

// database is a place for a keyspace.
type database struct {
	keys  *keyspace
	epoch uint64 // the operation that last flushed or swapped it
}

// New returns an empty store with the given number of databases, at least 1.
func New(databases int) *Store {
	s := &Store{}
	s.dbs = make([]database, databases)
	for i := range s.dbs {
		s.dbs[i].keys = newKeyspace()
	}
	s.seeds = newSeeds(s.sys.HashSeed)
	s.tx.store = s
	s.tx.tx = &s.tx
	s.readers.New = func() any { return &Reader{store: s} }
	return s
}

// View runs fn with a handle for reading at the instant now (ms), database db
// selected, under the shared lock. fn must not block. It returns the due keys
// the reads met: to these reads they were absent, but their removal is not yet
// committed. At most 1024 are returned; a key may be among them twice.
func (s *Store) View(now int64, db int, fn func(r *Reader)) []Victim {
	r := s.readers.Get().(*Reader)
	r.now, r.db = now, db
	s.mu.RLock()
	defer func() {
		s.mu.RUnlock()
		r.victims = nil
		s.readers.Put(r)
	}()
	fn(r)
	return r.victims
}

// Update runs fn with a handle for changing at the stamp (ms, never below an
// earlier one) and seed of a log entry, under the exclusive lock. It returns the
// keyspace events of the changes, in order; the slice is the caller's. If fn
// panics, the command it was at is undone and the panic goes on.
func (s *Store) Update(stamp int64, seed uint64, fn func(tx *Tx)) []Event {
	s.mu.Lock()
	tx := &s.tx
	s.sys.Stamp = max(s.sys.Stamp, stamp)
	tx.open(s.sys.Stamp, seed)
	finished := false
	defer func() {
		if !finished {
			tx.Undo()
		}
		tx.close()
		s.mu.Unlock()
	}()
	fn(tx)
	finished = true
	return tx.events
}

// stepsPerCall bounds the work of one Due or Advance: at some 100 ns a step, the
// lock is held for well below a millisecond.
const stepsPerCall = 4096

// Due appends to dst at most limit keys that are due at now (ms), from all
// databases, taking turns among them; done tells that there are no more. It
// takes the exclusive lock for a bounded time: a call may return few or no keys
// and done false when the index of deadlines has much to sort. Keys that are not
// removed meanwhile are told again by the next call.
func (s *Store) Due(dst []Victim, now int64, limit int) (victims []Victim, done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn++
	done = true
	budget := s.stepsPerIndex()
	for i := range s.dbs {
		db := (s.turn + i) % len(s.dbs)
		index := s.dbs[db].keys.deadline
		if index == nil {
			continue
		}
		timers, all := index.Due(s.timers[:0], now, limit, budget)
		done = done && all
		limit -= len(timers)
		for _, t := range timers {
			if t.Deadline() <= now { // the index may have been further already
				dst = append(dst, Victim{DB: db, Key: t.Item.key, Deadline: t.Item.deadline})
			}
		}
		s.timers = timers
		clear(s.timers) // hold no entry
	}
	return dst, done
}

// stepsPerIndex shares the work of a call among the databases with deadlines.
func (s *Store) stepsPerIndex() int {
	sharing := 0
	for i := range s.dbs {
		if s.dbs[i].keys.expiring() > 0 {
			sharing++
		}
	}
	return stepsPerCall / max(sharing, 1)
}

// Advance does for a follower what Due does on the way for a master: it moves
// the indexes of deadlines towards now (ms), so that they are near it when the
// node becomes master. It takes the exclusive lock for a bounded time and tells
// whether it got there; if not, call it again soon.
func (s *Store) Advance(now int64) (done bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done = true
	budget := s.stepsPerIndex()
	for i := range s.dbs {
		if index := s.dbs[i].keys.deadline; index != nil {
			done = index.Advance(now, budget) > 0 && done
		}
	}
	return done
}

// Replace puts the state of built, a store filled aside, in the place of this
// one's. built must not be used afterwards. Frozen views of the old state stay valid.
func (s *Store) Replace(built *Store) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.content = built.content
	s.freezes = max(s.freezes, built.freezes) // the numbers of freezes only grow
	built.content = content{}
}
