package store

// KeepDeadline given to Tx.Set leaves the deadline of an existing key as it is.
const KeepDeadline = -1

// Tx is a handle for changing, valid inside Update only.
type Tx struct {
	Reader
	op     uint64 // the version of the changes; 0 until Begin or the first change
	rng    uint64 // the state of Random64
	events []Event
	last   *Entry // the entry changed last: events are likely about it
	undo   undo
}

// open makes the handle ready for one Update.
func (tx *Tx) open(now int64, seed uint64) {
	tx.now, tx.rng = now, seed
	tx.start(0)
}

// close lets go of everything that was in use during the Update.
func (tx *Tx) close() {
	tx.undo.reset()
	tx.events, tx.last = nil, nil
}

// start makes what follows that which Undo takes back.
func (tx *Tx) start(db int) {
	tx.undo.reset()
	tx.undo.ops, tx.undo.rng, tx.undo.events = tx.store.sys.Ops, tx.rng, len(tx.events)
	tx.op, tx.db = 0, db
}

// Begin starts one command: it gives the changes that follow a version of their
// own and makes them the ones that Undo takes back. db is selected.
func (tx *Tx) Begin(db int) {
	tx.start(db)
	tx.version()
}

// version is the version of the changes, a new one where none was begun.
func (tx *Tx) version() uint64 {
	if tx.op == 0 {
		tx.store.sys.Ops++
		tx.op = tx.store.sys.Ops
	}
	return tx.op
}

// Set gives key the value v and a deadline (ms of cluster time; 0 for none, or
// KeepDeadline) and returns its entry. It copies key and owns v from here on. A
// deadline at or before Now stores nothing and removes the key, without event;
// then there is no entry and nil is returned.
func (tx *Tx) Set(key []byte, v Value, deadline int64) *Entry {
	hash := tx.store.seeds.hash(key)
	e := tx.lookup(hash, key)
	switch {
	case deadline == KeepDeadline && e != nil:
		deadline = e.deadline
	case deadline == KeepDeadline:
		deadline = 0
	case deadline != 0 && deadline <= tx.now:
		if e != nil {
			tx.remove(e)
		}
		return nil
	}
	st := state{value: v, sum: v.sum(tx.store.seeds.value), deadline: deadline, version: tx.version()}
	if e == nil {
		e = &Entry{hash: hash, key: string(key), state: st}
		tx.insert(tx.keys(), e)
	} else {
		tx.assign(e, st)
	}
	e.touch(tx.now)
	return e
}

// Append extends the string of e by suffix, which it copies, in amortized
// O(len(suffix)); e must hold a string.
func (tx *Tx) Append(e *Entry, suffix []byte) {
	st := e.state
	st.value.str = append(st.value.str, suffix...)
	st.sum = st.value.extendedSum(e.sum, len(e.value.str), tx.store.seeds.value)
	st.version = tx.version()
	tx.assign(e, st)
}

// SetDeadline changes only the deadline of e, 0 for none: O(1), no allocation
// when the key had one. A key whose deadline is at or before Now is there until
// it is next looked up or told by Due.
func (tx *Tx) SetDeadline(e *Entry, deadline int64) {
	st := e.state
	st.deadline = deadline
	st.version = tx.version()
	tx.assign(e, st)
}

// Delete removes key from the selected database and tells whether it was there.
func (tx *Tx) Delete(key []byte) bool {
	e := tx.Peek(key)
	if e == nil {
		return false
	}
	tx.remove(e)
	return true
}

// Expire removes the victim, with its event, if its deadline is still the same
// and due at Now, and tells whether it did. It minds the victim's database, not
// the selected one.
func (tx *Tx) Expire(v Victim) bool {
	key := []byte(v.Key)
	e := tx.store.dbs[v.DB].keys.find(tx.store.seeds.hash(key), key)
	if e == nil || e.deadline != v.Deadline || !e.due(tx.now) {
		return false
	}
	tx.expire(v.DB, e)
	return true
}

// Flush empties database db. O(1) in the number of keys; it changes the Version
// of every key of the database, and records an event of ClassFlushed.
func (tx *Tx) Flush(db int) {
	tx.undo.keepDatabases(tx.store.dbs)
	tx.store.dbs[db] = database{keys: newKeyspace(), epoch: tx.version()}
	tx.last = nil
	tx.flushed("flush", db)
}

// FlushAll is Flush of every database.
func (tx *Tx) FlushAll() {
	for db := range tx.store.dbs {
		tx.Flush(db)
	}
}

// Swap exchanges databases a and b. O(1) in the number of keys; it changes the
// Version of every key of both, and records an event of ClassFlushed for each.
func (tx *Tx) Swap(a, b int) {
	if a == b {
		return
	}
	dbs := tx.store.dbs
	tx.undo.keepDatabases(dbs)
	dbs[a].keys, dbs[b].keys = dbs[b].keys, dbs[a].keys
	dbs[a].epoch, dbs[b].epoch = tx.version(), tx.version()
	tx.flushed("swap", a)
	tx.flushed("swap", b)
}

// flushed records that database db is another than before.
func (tx *Tx) flushed(name string, db int) {
	tx.events = append(tx.events, Event{Class: ClassFlushed, Name: name, DB: db})
}

// Notify records a keyspace event of a key of the selected database.
func (tx *Tx) Notify(class Class, name string, key []byte) {
	var text string
	if tx.last != nil && tx.last.key == string(key) {
		text = tx.last.key
	} else {
		text = string(key)
	}
	tx.events = append(tx.events, Event{Class: class, Name: name, DB: tx.db, Key: text})
}

// ChangeSystem changes the replicated system state through fn, which may write
// to the maps it is given and must not keep them. Undo takes it back. The stamp
// and the operation counter never go back; a hash seed given while there are
// keys is ignored.
func (tx *Tx) ChangeSystem(fn func(s *System)) {
	s := tx.store
	old := s.sys
	tx.undo.keepSystem(old)
	next := old.forChange()
	fn(&next)
	next.Stamp = max(next.Stamp, old.Stamp)
	if next.HashSeed != old.HashSeed && !tx.reseed(next.HashSeed) {
		next.HashSeed = old.HashSeed
	}
	next.Ops = max(next.Ops, s.sys.Ops)
	s.sys = next
}

// reseed gives the keyed hash another seed and tells whether it could: there
// must be no keys. The buckets of old removals mean nothing under the new seed,
// so the databases that had some get a new epoch instead.
func (tx *Tx) reseed(seed [2]uint64) bool {
	s := tx.store
	for i := range s.dbs {
		if s.dbs[i].keys.len != 0 {
			return false
		}
	}
	for i := range s.dbs {
		if s.dbs[i].keys.removals != nil {
			tx.Flush(i)
		}
	}
	s.seeds = newSeeds(seed)
	return true
}

// expire removes a due entry of database db, with its event.
func (tx *Tx) expire(db int, e *Entry) {
	tx.remove(e)
	tx.events = append(tx.events, Event{Class: ClassExpired, Name: "expired", DB: db, Key: e.key})
}

// insert links a new entry.
func (tx *Tx) insert(keys *keyspace, e *Entry) {
	tx.undo.add(change{kind: inserted, entry: e, keys: keys})
	keys.link(e)
	keys.arm(e, tx.store.sys.Stamp)
	tx.last = e
}

// assign gives an entry another state.
func (tx *Tx) assign(e *Entry, st state) {
	tx.undo.add(change{kind: assigned, entry: e, keys: e.home, state: e.state})
	e.home.assign(e, st)
	e.home.arm(e, tx.store.sys.Stamp)
	tx.last = e
}

// remove takes an entry out and notes the removal in its shard.
func (tx *Tx) remove(e *Entry) {
	keys, shard := e.home, shardOf(e.hash)
	tx.undo.add(change{kind: removed, entry: e, keys: keys, removal: keys.removal(shard)})
	keys.unlink(e)
	keys.setRemoval(shard, tx.version())
	tx.last = e
}
