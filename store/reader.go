package store

// maxVictims bounds what one View reports: a few ticks' worth.
const maxVictims = 1024

// Reader is a handle for reading, valid inside View or Update only. A key that
// is due at Now is absent to it; inside Update it is removed on touch, with its
// event.
type Reader struct {
	store   *Store
	tx      *Tx // the handle for changing that this one is part of; nil inside View
	now     int64
	db      int
	victims []Victim // due keys met inside View
	scratch []*Entry // of Scan
}

// Now is the instant of the reads, ms of cluster time.
func (r *Reader) Now() int64 { return r.now }

// DB is the selected database.
func (r *Reader) DB() int { return r.db }

// Use selects another database; db must be valid.
func (r *Reader) Use(db int) { r.db = db }

// Databases is how many databases there are.
func (r *Reader) Databases() int { return len(r.store.dbs) }

// Find is the live entry of key in the selected database, or nil; it counts as
// an access.
func (r *Reader) Find(key []byte) *Entry {
	e := r.Peek(key)
	if e != nil {
		e.touch(r.now)
	}
	return e
}

// Peek is the live entry of key in the selected database, or nil; it does not
// count as an access.
func (r *Reader) Peek(key []byte) *Entry { return r.lookup(r.store.seeds.hash(key), key) }

// lookup is Peek with the key's hash.
func (r *Reader) lookup(hash uint64, key []byte) *Entry {
	e := r.keys().find(hash, key)
	if e != nil && e.due(r.now) {
		r.meetDue(e)
		return nil
	}
	return e
}

// Len is the number of keys of the selected database, due ones included.
func (r *Reader) Len() int { return r.keys().len }

// Version is what WATCH remembers of a key: it differs whenever the key, or its
// database by FLUSHDB or SWAPDB, was changed in between; for an absent key it is
// that of the last removal in its hash bucket.
func (r *Reader) Version(key []byte) uint64 {
	hash := r.store.seeds.hash(key)
	epoch := r.store.dbs[r.db].epoch
	if e := r.lookup(hash, key); e != nil {
		return max(epoch, e.version)
	}
	return max(epoch, r.keys().removal(shardOf(hash)))
}

// Random64 is a number to choose by. Inside Update it is the next one of a
// generator seeded by the log entry, the same on every node; inside View it is
// this node's own, another one at each call.
func (r *Reader) Random64() uint64 {
	if r.tx == nil {
		return mix(uint64(r.now) + golden*r.store.draws.Add(1))
	}
	n := mix(r.tx.rng) // splitmix64
	r.tx.rng += golden
	return n
}

// System is the replicated system state; a copy.
func (r *Reader) System() System { return r.store.sys }

// keys is the keyspace of the selected database.
func (r *Reader) keys() *keyspace { return r.store.dbs[r.db].keys }

// meetDue deals with a key of the selected database that a read found due.
func (r *Reader) meetDue(e *Entry) {
	switch {
	case r.tx != nil:
		r.tx.expire(r.db, e)
	case len(r.victims) < maxVictims:
		r.victims = append(r.victims, Victim{DB: r.db, Key: e.key, Deadline: e.deadline})
	}
}
