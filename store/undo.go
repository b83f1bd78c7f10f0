package store

// undo is what a command has overwritten.
type undo struct {
	changes []change // of entries, in order
	// databases and system are as they were before the first change of the
	// respective kind; nil if there was none.
	databases []database
	system    *System
	ops, rng  uint64 // at the start
	events    int    // how many there were at the start
}

// change is one change of an entry.
type change struct {
	kind    changeKind
	entry   *Entry
	keys    *keyspace
	state   state  // the one before; of assigned
	removal uint64 // of the shard before; of removed
}

type changeKind uint8

const (
	inserted changeKind = iota
	assigned
	removed
)

// maxKeptChanges is the room for changes that is kept for the next command: 100 KB.
const maxKeptChanges = 1024

func (u *undo) add(c change) { u.changes = append(u.changes, c) }

// keepDatabases keeps what flush and swap are about to change.
func (u *undo) keepDatabases(dbs []database) {
	if u.databases == nil {
		u.databases = append(u.databases, dbs...)
	}
}

// keepSystem keeps what ChangeSystem is about to change.
func (u *undo) keepSystem(sys System) {
	if u.system == nil {
		u.system = &sys
	}
}

// reset forgets the changes.
func (u *undo) reset() {
	clear(u.changes) // let go of values and keyspaces
	u.changes = u.changes[:0]
	if cap(u.changes) > maxKeptChanges {
		u.changes = nil
	}
	u.databases, u.system = nil, nil
}

// Undo takes back every change and event since Begin, as after a panic in the
// command. Without a Begin it takes back those of the Update. What follows it
// without another Begin gets a new version.
func (tx *Tx) Undo() {
	s, u := tx.store, &tx.undo
	for i := len(u.changes) - 1; i >= 0; i-- {
		tx.takeBack(&u.changes[i])
	}
	if u.databases != nil {
		copy(s.dbs, u.databases)
	}
	if u.system != nil {
		s.sys = *u.system
		s.seeds = newSeeds(s.sys.HashSeed)
	}
	s.sys.Ops, tx.rng = u.ops, u.rng
	clear(tx.events[u.events:])
	tx.events = tx.events[:u.events]
	tx.last = nil
	tx.start(tx.db)
}

// takeBack undoes one change, all later ones being undone.
func (tx *Tx) takeBack(c *change) {
	switch c.kind {
	case inserted:
		c.keys.unlink(c.entry)
		return
	case assigned:
		// Somebody may have kept the longer value: nobody may grow into its tail again.
		c.state.value = c.state.value.clipped()
		c.keys.assign(c.entry, c.state)
	case removed:
		c.keys.setRemoval(shardOf(c.entry.hash), c.removal)
		c.keys.link(c.entry)
	}
	c.keys.arm(c.entry, tx.store.sys.Stamp)
}
