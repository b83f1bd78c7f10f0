package raftfsm

import (
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// applier carries out units on the store, one lock unit each. It belongs to the
// FSM's goroutine. Its callbacks are bound once, so that a command costs no
// closure.
type applier struct {
	store *store.Store
	// onPanic hears of a panic in a command; where names the place in the code,
	// without any contents.
	onPanic func(cmd, where string)

	update func(tx *store.Tx)    // runs unit
	view   func(r *store.Reader) // runs request
	unit   *unit                 // of update
	read   *command.Request      // of view
	reply  resp.Value            // of either
	level  int                   // of the entry being applied
	warmer func(r *store.Reader) // reads ahead for keys
	keys   [][]byte              // of warmer; reused
	counts struct{ commands, reads uint64 }
}

func newApplier(st *store.Store, onPanic func(cmd, where string)) *applier {
	a := &applier{store: st, onPanic: onPanic}
	a.update = func(tx *store.Tx) { a.reply = a.runUnit(tx, a.unit) }
	a.view = func(r *store.Reader) { a.reply = a.runRead(r, a.read) }
	a.warmer = func(r *store.Reader) { r.Warm(a.keys) }
	return a
}

// Units are warmed up in groups, if a group has enough to gain by it.
const (
	warmUnits = 64
	warmFrom  = 4
)

// warm reads ahead what the commands among the units will look up, as long as they
// are for one database. It changes nothing.
func (a *applier) warm(units []unit, stamp int64) {
	a.keys = a.keys[:0]
	for i := range units {
		u := &units[i]
		if u.kind != unitCommand || u.cmd.db != units[0].cmd.db {
			continue
		}
		if key := u.cmd.spec.FirstKey(u.cmd.args); key != nil {
			a.keys = append(a.keys, key)
		}
	}
	if len(a.keys) >= warmFrom {
		a.store.View(stamp, units[0].cmd.db, a.warmer)
	}
	clear(a.keys)
}

// tickVictims is how many victims of a tick share one hold of the store's lock.
// Each may be the first touch of its shard after a freeze, which copies the
// shard. The operation counter depends on it: changing it is a new apply level.
const tickVictims = 16

// applyUnit carries out one unit at a stamp (ms) and answers with its reply. A
// tick is several lock units: its removals do not depend on each other.
func (a *applier) applyUnit(u *unit, stamp int64, seed uint64) (resp.Value, []store.Event) {
	if u.kind != unitTick || len(u.victims) <= tickVictims {
		return a.applyLocked(u, stamp, seed)
	}
	var events []store.Event
	piece := unit{kind: unitTick, rare: &rare{}}
	for victims := range slices.Chunk(u.victims, tickVictims) {
		piece.victims = victims
		_, more := a.applyLocked(&piece, stamp, seed)
		events = append(events, more...)
	}
	return resp.None, events
}

// applyLocked carries out a unit under one hold of the store's lock.
func (a *applier) applyLocked(u *unit, stamp int64, seed uint64) (resp.Value, []store.Event) {
	a.unit = u
	events := a.store.Update(stamp, seed, a.update)
	a.unit = nil
	reply := a.reply
	a.reply = resp.None
	return reply, events
}

// ride answers a read that travels beside an entry, at its place among the
// entry's units. It runs on this node only and so changes nothing. A key that
// is due at the stamp is absent to it although its removal is still to come:
// the stamp is committed, and nobody's instant is ever below a committed stamp,
// so no reply anywhere can show the key again.
func (a *applier) ride(r *command.Request, stamp int64) resp.Value {
	a.read = r
	a.store.View(stamp, r.DB, a.view)
	a.read = nil
	reply := a.reply
	a.reply = resp.None
	return reply
}

func (a *applier) runRead(r *store.Reader, q *command.Request) (reply resp.Value) {
	defer func() {
		if p := recover(); p != nil {
			reply = a.panicked(q.Spec.FullName())
		}
	}()
	a.counts.reads++
	return q.Spec.Do.Read(r, q.Args)
}

func (a *applier) runUnit(tx *store.Tx, u *unit) resp.Value {
	switch u.kind {
	case unitCommand:
		a.counts.commands++
		return a.invoke(tx, &u.cmd)
	case unitExec:
		return a.exec(tx, u.rare)
	case unitTick:
		a.tick(tx, u.victims)
	case unitEstablish:
		a.establish(tx, u.establish)
	case unitMember:
		a.member(tx, u.member)
	case unitSettings:
		tx.Begin(0)
		tx.ChangeSystem(func(s *store.System) {
			databases := s.Settings.Databases
			s.Settings = u.settings
			s.Settings.Databases = databases // fixed at formation
		})
	case unitLevel:
		tx.Begin(0)
		tx.ChangeSystem(func(s *store.System) { s.Level = max(s.Level, a.level) })
	case unitHealth:
		tx.Begin(0)
		tx.ChangeSystem(func(s *store.System) { s.Health = u.health })
	}
	return resp.None
}

// invoke runs one command. If it panics, it is undone and answered with an
// internal error, on every node alike.
func (a *applier) invoke(tx *store.Tx, inv *invocation) (reply resp.Value) {
	if inv.db >= tx.Databases() {
		return resp.Err(resp.ErrDBIndex)
	}
	tx.Begin(inv.db)
	defer func() {
		if p := recover(); p != nil {
			tx.Undo()
			reply = a.panicked(inv.spec.FullName())
		}
	}()
	if inv.spec.Do.Apply != nil {
		return inv.spec.Do.Apply(tx, inv.args)
	}
	return inv.spec.Do.Read(&tx.Reader, inv.args)
}

// panicked accounts for a panic being recovered. The value of the panic may
// hold contents of keys, so only the place is told.
func (a *applier) panicked(cmd string) resp.Value {
	a.onPanic(cmd, panicPlace())
	return resp.Err(resp.ErrInternal)
}

// panicPlace names the function, file and line that panicked.
func panicPlace() string {
	var pcs [32]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for below := false; ; {
		f, more := frames.Next()
		if below && f.Function != "runtime.panicmem" && f.Function != "runtime.sigpanic" &&
			f.Function != "runtime.goPanicIndex" && f.Function != "runtime.panicdivide" {
			return fmt.Sprintf("%s %s:%d", f.Function, f.File, f.Line)
		}
		below = below || f.Function == "runtime.gopanic"
		if !more {
			return "unknown"
		}
	}
}

// exec runs a transaction: all of its commands under one lock, unless a watched
// key has changed or become due. Each command stands or falls by itself.
func (a *applier) exec(tx *store.Tx, x *rare) resp.Value {
	for i := range x.watch {
		w := &x.watch[i]
		if w.DB >= tx.Databases() {
			return resp.NullArray
		}
		tx.Begin(w.DB)
		tx.Peek(w.Key) // removes it if it is due, which changes its version
		if tx.Version(w.Key) != w.Version {
			return resp.NullArray
		}
	}
	replies := make([]resp.Value, len(x.queue))
	for i := range x.queue {
		replies[i] = a.invoke(tx, &x.queue[i])
	}
	a.counts.commands += uint64(len(x.queue))
	return resp.Array(replies...)
}

func (a *applier) tick(tx *store.Tx, victims []store.Victim) {
	tx.Begin(0)
	for i := range victims {
		if victims[i].DB < tx.Databases() {
			tx.Expire(victims[i])
		}
	}
}

// establish seeds the system state if nobody has yet.
func (a *applier) establish(tx *store.Tx, e establishment) {
	tx.Begin(0)
	if tx.System().ClusterID != "" {
		return
	}
	tx.ChangeSystem(func(s *store.System) {
		s.ClusterID = e.clusterID
		s.HashSeed = e.hashSeed
		s.Settings = e.settings
	})
}

func (a *applier) member(tx *store.Tx, m store.Member) {
	tx.Begin(0)
	tx.ChangeSystem(func(s *store.System) {
		members := maps.Clone(s.Members)
		if members == nil {
			members = map[string]store.Member{}
		}
		members[m.ID] = m
		s.Members = members
	})
}
