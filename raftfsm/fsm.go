// Package raftfsm is what a log entry means: the encoding of entries, the state
// machine that applies them to the store, the Proposer that makes them of client
// requests, the ticks that end keys, and the stream that carries a snapshot. It
// knows raft by one method (Applier) and nothing of sockets, clusters and files.
package raftfsm

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Update tells what one log entry, or a restored snapshot, has changed.
type Update struct {
	Index, Term uint64
	// Events are the keyspace events of the entry in order, valid during the
	// call of Applied only. None are told of a restored snapshot.
	Events []store.Event
	// SystemChanged says that settings, members or their health may differ from before.
	SystemChanged bool
	// Establishing says that this is the first entry of its term's master, and Master
	// which node that is.
	Establishing bool
	Master       string
	// Restored says that a snapshot took the place of the whole state.
	Restored bool
}

// Sink hears of every applied entry in index order, on the FSM's goroutine and
// with no lock held; it must be quick.
type Sink interface {
	Applied(u Update)
}

// Watcher hears of what each unit has changed.
type Watcher interface {
	// Watching is asked after each unit that changed something, under no lock. It is
	// one atomic load.
	Watching() bool
	// Changed is told the events of one unit while somebody is watching: on the FSM's
	// goroutine, in order, after the store's lock was released and before the unit's
	// request is answered. origin is that of its batch, 0 if it came from elsewhere.
	// events are valid during the call only.
	Changed(origin int64, events []store.Event)
}

// Config is what an FSM is built of. Store, Lookup, Clock and Log must be set.
type Config struct {
	Store  *store.Store
	Lookup func(name string) *command.Spec // by canonical name; nil if there is none
	Clock  clock.Clock
	Log    *slog.Logger
	Sink   Sink
	Watch  Watcher // may be nil
	// Fatal is told once, on the FSM's goroutine, why this node can apply no
	// further entry. The node must stop.
	Fatal func(err error)
	// Restoring is called before a restored snapshot takes the place of the
	// state, once it is known to be good.
	Restoring func()
	// ClusterID, if set and not empty, must be that of a snapshot to restore.
	ClusterID func() string
	// Clocks tells the voters' wall clocks as heard lately; nil for this node's
	// own, as that of the only voter. Safe for concurrent use.
	Clocks func() Clocks
	// Checkpoints are where the state is compared with that of other nodes.
	Checkpoints Checkpoints
}

// FSM is the state machine. Apply, Snapshot and Restore are raft's to call, on
// one goroutine; all other methods are safe for concurrent use.
type FSM struct {
	cfg     Config
	flights *flights
	time    *stamper
	mark    mark
	begun   atomic.Uint64 // the index of the entry that is being applied, or of the last one
	est     atomic.Uint64 // term in which the Proposer's gate is open, 0 while it is shut; the Proposer's to set
	level   atomic.Uint64 // of the cluster
	stats   fsmStats

	// The rest belongs to raft's FSM goroutine.
	decoder *entryDecoder
	applier *applier
	events  []store.Event // of the entry being applied; reused
	stamp   int64         // largest applied, equal to the store's
	index   uint64        // of the entry being applied
	term    uint64        // of the last applied entry
	origin  int64         // of the request being carried out
	suspect bool          // a command of the entry being applied has panicked
	halted  error         // why no entry is applied any more
}

var _ raft.FSM = (*FSM)(nil)

// New returns an FSM over the store, which may hold a state already.
func New(cfg Config) *FSM {
	f := &FSM{
		cfg:     cfg,
		flights: newFlights(),
		time:    newStamper(cfg.Clock),
		decoder: newEntryDecoder(cfg.Lookup),
	}
	f.applier = newApplier(cfg.Store, f.panicked)
	sys := f.system()
	f.level.Store(levelOf(&sys))
	if sys.Stamp > 0 {
		f.stamp = sys.Stamp
		f.time.restored(sys.Stamp)
	}
	return f
}

// levelOf is the apply level of a cluster.
func levelOf(sys *store.System) uint64 { return uint64(max(sys.Level, firstLevel)) }

// Level is the apply level of the cluster, as far as this node has applied the log.
func (f *FSM) Level() int { return int(f.level.Load()) }

// Apply carries out one log entry and answers the requests waiting for it on
// this node. Its result is nil, or the error that stopped the node.
func (f *FSM) Apply(l *raft.Log) any {
	if f.halted != nil {
		return f.halted
	}
	head, units, err := f.decoder.decode(l.Data)
	if err != nil {
		return f.halt(fmt.Errorf("log entry %d: %w", l.Index, err))
	}
	p := f.flights.claim(head.proposal)
	if p != nil {
		f.flights.claimed(p)
	}
	f.index, f.stamp = l.Index, max(f.stamp, head.stamp)
	f.begun.Store(l.Index)
	u := Update{Index: l.Index, Term: l.Term}
	f.applier.level = int(head.level) // at most Level
	f.run(&head, units, p, &u)
	f.decoder.release()
	f.checkpoint(f.mark.index.Load())
	f.time.applied(f.stamp)
	f.publish(p, &u)
	f.forgetEvents()
	return nil
}

// maxKeptEvents is the room for events that is kept for the next entry: 200 KB.
const maxKeptEvents = 4096

// forgetEvents lets go of the keys in the events, and of the memory that only a
// huge entry needs.
func (f *FSM) forgetEvents() {
	clear(f.events)
	if cap(f.events) > maxKeptEvents {
		f.events = nil
	}
}

// halt stops the FSM for good.
func (f *FSM) halt(err error) error {
	f.halted = err
	f.cfg.Log.Error("state machine stopped", "err", err)
	if f.cfg.Fatal != nil {
		f.cfg.Fatal(err)
	}
	return err
}

// run carries out the units of one entry. If the entry is this process's own,
// the requests that wait for it are ended one by one, and the reads that ride
// beside it run at their places.
func (f *FSM) run(h *entryHead, units []unit, p *proposal, u *Update) {
	f.events = f.events[:0]
	if len(units) == 0 { // the stamp counts nevertheless
		f.cfg.Store.Update(f.stamp, h.seed, func(*store.Tx) {})
	}
	next := 0
	step := func() resp.Value {
		if next%warmUnits == 0 {
			f.applier.warm(units[next:min(next+warmUnits, len(units))], f.stamp)
		}
		reply := f.step(&units[next], h.seed+uint64(next), u)
		next++
		return reply
	}
	if p != nil {
		for next < min(p.opUnits, len(units)) {
			step()
		}
		for i := range p.parts {
			f.deliver(&p.parts[i], step)
		}
	}
	for next < len(units) {
		step()
	}
	u.Events = f.events
}

// deliver carries out the requests of one part and ends each.
func (f *FSM) deliver(t *part, step func() resp.Value) {
	f.origin = t.batch.Origin
	for i := t.from; i < t.to; i++ {
		r := &t.batch.Requests[i]
		switch {
		case r.Exec != nil:
			t.batch.End(i, command.Replied, step())
		case r.Spec.Do.Route == command.RouteRead:
			t.batch.End(i, command.Replied, f.applier.ride(r, f.stamp))
		default:
			t.batch.End(i, command.Replied, step())
		}
	}
	f.origin = 0
}

// step carries out one unit.
func (f *FSM) step(x *unit, seed uint64, u *Update) resp.Value {
	switch x.kind {
	case unitEstablish:
		u.Establishing, u.SystemChanged = true, true
		u.Master = x.establish.node
	case unitMember, unitSettings, unitLevel, unitHealth:
		u.SystemChanged = true
	case unitCommand, unitExec, unitTick:
	}
	reply, events := f.applier.applyUnit(x, f.stamp, seed)
	f.events = append(f.events, events...)
	if w := f.cfg.Watch; w != nil && len(events) > 0 && w.Watching() {
		w.Changed(f.origin, events)
	}
	switch x.kind {
	case unitEstablish:
		f.resize()
	case unitLevel:
		f.level.Store(uint64(f.applier.level))
		f.cfg.Log.Info("the cluster has another apply level", "level", f.applier.level)
	case unitCommand, unitExec, unitTick, unitMember, unitSettings, unitHealth:
	}
	return reply
}

// resize gives the store as many databases as the cluster has, if this node was
// started with another number. There are no keys yet when it is needed.
func (f *FSM) resize() {
	sys := f.system()
	if n := sys.Settings.Databases; n > 0 && n != f.databases() {
		built := store.New(n)
		built.LoadSystem(sys)
		f.cfg.Store.Replace(built)
	}
}

// publish makes the applied entry known: to the gate, to those that wait for
// the index, to the Proposer, to the Sink, in this order.
func (f *FSM) publish(p *proposal, u *Update) {
	f.account(u)
	if u.Establishing && p != nil {
		f.time.established()
		f.flights.opened(p, u.Term)
	}
	f.term = u.Term
	f.mark.reach(u.Index)
	if p != nil {
		f.flights.applied(p)
	}
	if f.cfg.Sink != nil {
		f.cfg.Sink.Applied(*u)
	}
}

// account brings the counts up to date.
func (f *FSM) account(u *Update) {
	f.stats.entries.Add(1)
	f.stats.commands.Store(f.applier.counts.commands)
	f.stats.reads.Store(f.applier.counts.reads)
	for i := range u.Events {
		if u.Events[i].Class == store.ClassExpired {
			f.stats.expired.Add(1)
		}
	}
}

// panicked counts and logs a panic in a command, without its arguments.
func (f *FSM) panicked(cmd, where string) {
	f.stats.panics.Add(1)
	f.suspect = true
	f.cfg.Log.Error("command panicked and was undone", "cmd", cmd, "where", where, "index", f.index)
}

// Applied is the index of the last applied log entry. Entries that never reach
// a state machine are not counted.
func (f *FSM) Applied() uint64 { return f.mark.index.Load() }

// Answered is an index that covers everything this node has answered: requests end
// while their entry is applied. It is that entry's index, or else Applied.
func (f *FSM) Answered() uint64 { return max(f.begun.Load(), f.mark.index.Load()) }

// WaitApplied returns nil once the entry of the index has been applied, or
// ctx's error.
func (f *FSM) WaitApplied(ctx context.Context, index uint64) error { return f.mark.wait(ctx, index) }

// EstablishedTerm is the term in which this node takes requests: it has applied
// its own establishing entry of that term and has not stepped down since. 0 at
// any other time: the leader of a term it is not established in has to establish
// itself, be it for the second time in the term.
func (f *FSM) EstablishedTerm() uint64 { return f.est.Load() }

// Instant is the present cluster time in ms: the instant of reads. It never
// goes back.
func (f *FSM) Instant() int64 { return f.time.instant() }

// View runs fn with a handle for reading database db at the present instant,
// and returns the due keys it met: see store.Store.View.
func (f *FSM) View(db int, fn func(r *store.Reader)) []store.Victim {
	return f.cfg.Store.View(f.time.instant(), db, fn)
}

// Freeze returns a view of the present state; release it. Its instant is that of
// View, so that keys which a read has hidden are not listed. On the master it is
// the last stamp: what is due then is due for every later master, while what
// became due since counts only once its removal is committed.
func (f *FSM) Freeze() *store.Frozen {
	view := f.cfg.Store.Freeze()
	if f.time.leading.Load() {
		return view
	}
	return view.At(f.time.instant())
}

// Digest is the digest of the logical state; nodes that applied the same
// entries have equal ones.
func (f *FSM) Digest() uint64 { return f.cfg.Store.Digest() }

func (f *FSM) system() (sys store.System) {
	f.cfg.Store.View(0, 0, func(r *store.Reader) { sys = r.System() })
	return sys
}

func (f *FSM) databases() (n int) {
	f.cfg.Store.View(0, 0, func(r *store.Reader) { n = r.Databases() })
	return n
}

// Stats are counts since the start, for INFO and metrics.
type Stats struct {
	Entries  uint64 // applied
	Commands uint64 // applied, transactions' commands included
	Reads    uint64 // that rode beside an entry
	Expired  uint64 // keys removed because their deadline had come
	Panics   uint64 // in commands, contained
	Steps    uint64 // of cluster time, to where a majority of wall clocks was
}

// Stats returns the counts.
func (f *FSM) Stats() Stats {
	_, steps := f.time.figures()
	return Stats{
		Steps:    steps,
		Entries:  f.stats.entries.Load(),
		Commands: f.stats.commands.Load(),
		Reads:    f.stats.reads.Load(),
		Expired:  f.stats.expired.Load(),
		Panics:   f.stats.panics.Load(),
	}
}

// fsmStats are the counts as readers see them, brought up to date once per entry.
type fsmStats struct{ entries, commands, reads, expired, panics atomic.Uint64 }

// mark is the applied index, and those that wait for it. Safe for concurrent use.
type mark struct {
	index atomic.Uint64
	mu    sync.Mutex
	waits map[*wait]struct{} // guarded by mu
}

type wait struct {
	index uint64
	done  chan struct{}
}

// reach moves the mark and wakes those that waited for it.
func (m *mark) reach(index uint64) {
	m.mu.Lock()
	m.index.Store(index)
	for w := range m.waits {
		if w.index <= index {
			close(w.done)
			delete(m.waits, w)
		}
	}
	m.mu.Unlock()
}

func (m *mark) wait(ctx context.Context, index uint64) error {
	if m.index.Load() >= index {
		return nil
	}
	w := &wait{index: index, done: make(chan struct{})}
	m.mu.Lock()
	if m.index.Load() >= index {
		m.mu.Unlock()
		return nil
	}
	if m.waits == nil {
		m.waits = map[*wait]struct{}{}
	}
	m.waits[w] = struct{}{}
	m.mu.Unlock()
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		m.mu.Lock()
		delete(m.waits, w)
		m.mu.Unlock()
		return ctx.Err()
	}
}
