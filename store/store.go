// Package store is the keyspace and the replicated system state of one node:
// typed values, versions, deadlines, events, memory accounting, freeze and
// digest. It is deterministic: its state is a function of the changes made to
// it, and it knows no clock, no socket and no goroutine.
package store

import (
	"github.com/holdfast/holdfast/resp"
)

// Type is the type of a value, named as TYPE names it.
type Type uint8

// The types.
const (
	TypeNone Type = iota
	TypeString
)

// String is the name of the type as TYPE answers it.
func (t Type) String() string { panic("stub") }

// Value is the value of a key. The bytes of a string are immutable: changing a
// string means setting another one.
type Value struct {
	typ Type
	str []byte
}

// StringValue is a string value that owns b.
func StringValue(b []byte) Value { return Value{typ: TypeString, str: b} }

// Type is the type of the value.
func (v Value) Type() Type { return v.typ }

// Bytes are the bytes of a string value; they alias it and never change.
func (v Value) Bytes() []byte { return v.str }

// Entry is a key with its value, deadline and version. It is guarded by the
// store's lock: use it only inside the View or Update that gave it. What Value
// returns may outlive the lock.
type Entry struct{}

// Key is the key. Value is the value. Deadline is the instant the key ends, in ms of cluster
// time, 0 for never. Version is the operation that last changed the key.
func (e *Entry) Key() string     { panic("stub") }
func (e *Entry) Value() Value    { panic("stub") }
func (e *Entry) Deadline() int64 { panic("stub") }
func (e *Entry) Version() uint64 { panic("stub") }

// Bytes is the memory the key and its value take, as MEMORY USAGE tells it.
func (e *Entry) Size() int64 { panic("stub") }

// Accessed is when the key was last looked up on this node, in ms of cluster
// time; it is node-local and no part of the replicated state.
func (e *Entry) Accessed() int64 { panic("stub") }

// Victim is a key whose deadline a reader or the wheel found due.
type Victim struct {
	DB       int
	Key      string
	Deadline int64
}

// Class is the class of a keyspace event, as notify-keyspace-events names them.
type Class uint16

// Event is one keyspace event.
type Event struct {
	Class Class
	Name  string
	DB    int
	Key   string
}

// The classes of this release.
const (
	ClassGeneric Class = 1 << iota // g
	ClassString                    // $
	ClassExpired                   // x
)

// KeepDeadline given to Tx.Set leaves the deadline of an existing key as it is.
const KeepDeadline = -1

// Store holds the databases and the system state. Its lock is taken by View,
// Update, Freeze and the methods that say so; a Store is safe for concurrent use.
type Store struct{}

// New returns an empty store with the given number of databases.
func New(databases int) *Store { panic("stub") }

// View runs fn with a handle for reading at the instant now (ms), database db
// selected, under the shared lock. fn must not block. It returns the due keys
// the reads met: to these reads they were absent, but their removal is not yet
// committed.
func (s *Store) View(now int64, db int, fn func(r *Reader)) []Victim { panic("stub") }

// Update runs fn with a handle for changing at the stamp (ms, never below an
// earlier one) and seed of a log entry, under the exclusive lock. It returns the
// keyspace events of the changes, in order; the slice is the caller's.
func (s *Store) Update(stamp int64, seed uint64, fn func(tx *Tx)) []Event { panic("stub") }

// Due appends to dst at most limit keys that are due at now (ms), from all
// databases, taking turns among them; done tells that there are no more. It
// takes the exclusive lock for a bounded time.
func (s *Store) Due(dst []Victim, now int64, limit int) (victims []Victim, done bool) { panic("stub") }

// Replace puts the state of built, a store filled aside, in the place of this
// one's. built must not be used afterwards. Frozen views of the old state stay valid.
func (s *Store) Replace(built *Store) { panic("stub") }

// Digest is a keyed multiset hash over the logical state: databases and system
// state, access times left out. Replicas with equal state have equal digests.
func (s *Store) Digest() uint64 { panic("stub") }

// Stats are figures for INFO and metrics.
type Stats struct {
	Databases []DBStats // by index
	UsedBytes int64     // of keys and values, by our accounting
}

// DBStats are the figures of one database.
type DBStats struct {
	Keys, Expiring int
	// AverageLife is the mean time to the deadline of a sample of the expiring keys, ms.
	AverageLife int64
}

// Stats returns the figures at the instant now (ms).
func (s *Store) Stats(now int64) Stats { panic("stub") }

// Reader is a handle for reading, valid inside View or Update only. A key that
// is due at Now is absent to it; inside Update it is removed on touch, with its
// event.
type Reader struct{}

// Now is the instant of the reads, ms of cluster time.
func (r *Reader) Now() int64 { panic("stub") }

// DB is the selected database. Use selects another; db must be valid. Databases is how many there are.
func (r *Reader) DB() int        { panic("stub") }
func (r *Reader) Use(db int)     { panic("stub") }
func (r *Reader) Databases() int { panic("stub") }

// Find is the live entry of key in the selected database, or nil; it counts as
// an access. Peek does not.
func (r *Reader) Find(key []byte) *Entry { panic("stub") }
func (r *Reader) Peek(key []byte) *Entry { panic("stub") }

// Len is the number of keys of the selected database, due ones included.
func (r *Reader) Len() int { panic("stub") }

// Version is what WATCH remembers of a key: it differs whenever the key, or its
// database by FLUSHDB or SWAPDB, was changed in between; for an absent key it is
// that of the last removal in its hash bucket.
func (r *Reader) Version(key []byte) uint64 { panic("stub") }

// Scan calls fn with the live entries of the selected database from cursor on, in the order
// of the keyed hash, at least count of them unless it reaches the end, and
// returns the cursor to go on with, 0 at the end. Cursors are below 2^53, hold
// no state, and mean the same on every node with the same hash seed, whatever
// has been inserted or removed. The cost is O(count).
func (r *Reader) Scan(cursor uint64, count int, fn func(e *Entry)) uint64 { panic("stub") }

// Random is a live entry chosen by rnd, nil if there is none. O(1) expected.
func (r *Reader) Random(rnd uint64) *Entry { panic("stub") }

// System is the replicated system state; a copy.
func (r *Reader) System() System { panic("stub") }

// Tx is a handle for changing, valid inside Update only.
type Tx struct {
	Reader
}

// Begin starts one command: it gives the changes that follow a version of their
// own and makes them the ones that Undo takes back. db is selected.
func (tx *Tx) Begin(db int) { panic("stub") }

// Undo takes back every change and event since Begin, as after a panic in the command.
func (tx *Tx) Undo() { panic("stub") }

// Set gives key the value v and a deadline (ms of cluster time; 0 for none, or
// KeepDeadline) and returns its entry. It copies key and owns v from here on. A
// deadline at or before Now stores nothing and removes the key, without event.
func (tx *Tx) Set(key []byte, v Value, deadline int64) *Entry { panic("stub") }

// Append extends the string of e by suffix, which it copies, in amortized
// O(len(suffix)); e must hold a string.
func (tx *Tx) Append(e *Entry, suffix []byte) { panic("stub") }

// SetDeadline changes only the deadline of e, 0 for none: O(1), no allocation
// when the key had one.
func (tx *Tx) SetDeadline(e *Entry, deadline int64) { panic("stub") }

// Delete removes key from the selected database and tells whether it was there.
func (tx *Tx) Delete(key []byte) bool { panic("stub") }

// Expire removes the victim, with its event, if its deadline is still the same
// and due at Now, and tells whether it did.
func (tx *Tx) Expire(v Victim) bool { panic("stub") }

// Flush empties database db, FlushAll every one, Swap exchanges two. All O(1)
// in the number of keys; they change the Version of every key concerned.
func (tx *Tx) Flush(db int)  { panic("stub") }
func (tx *Tx) FlushAll()     { panic("stub") }
func (tx *Tx) Swap(a, b int) { panic("stub") }

// Notify records a keyspace event of a key of the selected database.
func (tx *Tx) Notify(class Class, name string, key []byte) { panic("stub") }

// Random64 is the next number of a generator seeded by the log entry: the same on every node.
func (tx *Tx) Random64() uint64 { panic("stub") }

// ChangeSystem changes the replicated system state through fn. Undo takes it back.
func (tx *Tx) ChangeSystem(fn func(s *System)) { panic("stub") }

// System is the replicated state that is not keys. Its maps are replaced, never
// changed in place: a copy of the struct stays as it is.
type System struct {
	ClusterID string            // chosen at formation
	HashSeed  [2]uint64         // of the keyed hash; set once, while there are no keys
	Stamp     int64             // largest applied stamp, ms
	Ops       uint64            // operation counter: the last version given out
	Settings  Settings          // replicated settings
	Members   map[string]Member // by node id
}

// Settings are the settings that change what apply does; equal on all nodes.
type Settings struct {
	Databases     int
	MaxEntryBytes int64 // a value may not grow above it
	MaxBulkBytes  int64 // proto-max-bulk-len, at most MaxEntryBytes
}

// Member is what the cluster knows of a node for its clients.
type Member struct {
	ID           string
	RunID        string // 40 hex digits, made at the first start
	DataHost     string
	DataPort     int
	SentinelHost string
	SentinelPort int
	Version      string
	Level        int // the highest apply level it speaks
}

// Record is one key of a frozen view, safe to keep.
type Record struct {
	DB       int
	Key      string
	Value    Value
	Deadline int64
	Version  uint64
}

// Frozen is a view of the whole store at the instant of Freeze. Reading it
// takes the store's lock only to copy one shard at a time. It is for one
// goroutine; release it.
type Frozen struct{}

// Freeze returns a view of the present state. O(1).
func (s *Store) Freeze() *Frozen { panic("stub") }

// System is the system state at the freeze.
func (f *Frozen) System() System { panic("stub") }

// Digest is the digest of the store at the freeze.
func (f *Frozen) Digest() uint64 { panic("stub") }

// Len is the number of keys at the freeze.
func (f *Frozen) Len(db int) int { panic("stub") }

// Each calls fn with every key of database db, in the order of the keyed hash,
// outside the lock, until fn returns an error, which it returns.
func (f *Frozen) Each(db int, fn func(rec Record) error) error { panic("stub") }

// Side is state of a database beside its keys that a snapshot must carry: its
// epoch and the last removal in each hash bucket.
type Side struct {
	Epoch    uint64
	Removals []uint64 // by bucket; trailing zeros left out
}

// Side is the side state of database db at the freeze.
func (f *Frozen) Side(db int) Side { panic("stub") }

// Release ends the view; it may be called twice.
func (f *Frozen) Release() { panic("stub") }

// Load fills a fresh store: set the system state first, then sides and records
// in any order. For restore only; the store must not be shared yet.
func (s *Store) LoadSystem(sys System)      { panic("stub") }
func (s *Store) LoadSide(db int, side Side) { panic("stub") }
func (s *Store) LoadRecord(rec Record)      { panic("stub") }

var _ = resp.OK
