package store_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast/holdfast/store"
)

const modelDBs = 3

// modelKey is a key in the model.
type modelKey struct {
	value    string
	deadline int64
}

// model is what a Store promises, in plain maps.
type model struct {
	dbs [modelDBs]map[string]modelKey
	// changes counts the changes of each key that was ever there, and of each
	// database as a whole: what a Version must tell apart.
	changes [modelDBs]map[string]int
	epochs  [modelDBs]int
	members map[string]store.Member
	ops     uint64
	events  []store.Event
}

func newModel() *model {
	m := &model{members: map[string]store.Member{}}
	for db := range m.dbs {
		m.dbs[db], m.changes[db] = map[string]modelKey{}, map[string]int{}
	}
	return m
}

func (m *model) clone() *model {
	c := *m
	for db := range m.dbs {
		c.dbs[db], c.changes[db] = maps.Clone(m.dbs[db]), maps.Clone(m.changes[db])
	}
	c.members, c.events = maps.Clone(m.members), slices.Clone(m.events)
	return &c
}

func (m *model) put(db int, key string, k modelKey) {
	m.dbs[db][key] = k
	m.changes[db][key]++
}

func (m *model) remove(db int, key string) bool {
	_, ok := m.dbs[db][key]
	if ok {
		delete(m.dbs[db], key)
		m.changes[db][key]++
	}
	return ok
}

// touch is a look at a key inside Update: a due one goes, with its event.
func (m *model) touch(db int, key string, now int64) (modelKey, bool) {
	k, ok := m.dbs[db][key]
	if ok && k.deadline != 0 && k.deadline <= now {
		m.remove(db, key)
		m.events = append(m.events, store.Event{Class: store.ClassExpired, Name: "expired", DB: db, Key: key})
		return modelKey{}, false
	}
	return k, ok
}

// changeMark is a number that moves whenever the key or its database changes.
func (m *model) changeMark(db int, key string) string {
	return fmt.Sprint(m.changes[db][key], m.epochs[db])
}

// pair is a Store and its model under the same random commands.
type pair struct {
	t      *testing.T
	rnd    *rand.Rand
	store  *store.Store
	model  *model
	now    int64
	keys   int // how many different keys there may be
	frozen []frozenPair
	watch  []watched
}

// frozenPair is a view with the model as it was.
type frozenPair struct {
	view  *store.Frozen
	model *model
}

// watched is a version as WATCH keeps it, with the model's mark of the key then.
type watched struct {
	db      int
	key     string
	version uint64
	mark    string
}

func newPair(t *testing.T, seed uint64, keys int) *pair {
	t.Helper()
	p := &pair{
		t: t, rnd: rand.New(rand.NewPCG(seed, uint64(keys))), store: store.New(modelDBs),
		model: newModel(), now: 1_700_000_000_000, keys: keys,
	}
	p.store.Update(p.now, 0, func(tx *store.Tx) {
		tx.ChangeSystem(func(s *store.System) { s.HashSeed = [2]uint64{seed, 77} })
	})
	return p
}

func (p *pair) randomKey() string { return fmt.Sprintf("key:%d", p.rnd.IntN(p.keys)) }

func (p *pair) randomDeadline() int64 {
	switch p.rnd.IntN(6) {
	case 0, 1:
		return 0
	case 2:
		return store.KeepDeadline
	case 3:
		return p.now - p.rnd.Int64N(3)
	case 4:
		return p.now + 1 + p.rnd.Int64N(50)
	default:
		return p.now + 1 + p.rnd.Int64N(1_000_000)
	}
}

// run makes one Update of a few commands on both sides, some of them undone.
func (p *pair) run() {
	p.t.Helper()
	p.now += p.rnd.Int64N(20)
	p.model.events = nil
	events := p.store.Update(p.now, p.rnd.Uint64(), func(tx *store.Tx) {
		for range 1 + p.rnd.IntN(5) {
			before := p.model.clone()
			db := p.rnd.IntN(modelDBs)
			tx.Begin(db)
			p.model.ops++
			for range 1 + p.rnd.IntN(4) {
				p.step(tx, db)
			}
			if got := tx.System().Ops; got != p.model.ops {
				p.t.Fatalf("operation counter %d, want %d", got, p.model.ops)
			}
			if p.rnd.IntN(3) == 0 {
				tx.Undo()
				p.model = before
			}
		}
	})
	order := func(a, b store.Event) int {
		return cmp.Or(cmp.Compare(a.DB, b.DB), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Key, b.Key))
	}
	slices.SortFunc(events, order)
	slices.SortFunc(p.model.events, order)
	if !slices.Equal(events, p.model.events) {
		p.t.Fatalf("events %v, want %v", events, p.model.events)
	}
}

// step is one random change or look.
func (p *pair) step(tx *store.Tx, db int) {
	key := p.randomKey()
	switch p.rnd.IntN(40) {
	case 0:
		tx.Flush(db)
		p.flush(db)
	case 1:
		if p.rnd.IntN(4) == 0 {
			tx.FlushAll()
			for db := range modelDBs {
				p.flush(db)
			}
		}
	case 2:
		a, b := p.rnd.IntN(modelDBs), p.rnd.IntN(modelDBs)
		tx.Swap(a, b)
		p.swap(a, b)
	case 3:
		tx.Notify(store.ClassGeneric, "noted", []byte(key))
		p.model.events = append(p.model.events, store.Event{Class: store.ClassGeneric, Name: "noted", DB: db, Key: key})
	case 4:
		id := fmt.Sprint(p.rnd.IntN(3))
		member := store.Member{ID: id, DataPort: p.rnd.IntN(1000)}
		tx.ChangeSystem(func(s *store.System) { s.Members[id] = member })
		p.model.members[id] = member
	case 5:
		p.scan(tx, db)
	case 6:
		if e := tx.Random(p.rnd.Uint64()); e != nil {
			if _, ok := p.model.dbs[db][e.Key()]; !ok {
				p.t.Fatalf("Random gave %q, which is not there", e.Key())
			}
		}
		for name := range maps.Clone(p.model.dbs[db]) { // whichever due keys it met, now all are gone
			tx.Peek([]byte(name))
			p.model.touch(db, name, p.now)
		}
	case 7, 8, 9:
		p.expire(tx, p.rnd.IntN(modelDBs), key)
	case 10, 11, 12, 13, 14, 15:
		_, want := p.model.touch(db, key, p.now)
		p.model.remove(db, key)
		if got := tx.Delete([]byte(key)); got != want {
			p.t.Fatalf("Delete(%s) = %v, want %v", key, got, want)
		}
	case 16, 17, 18, 19, 20, 21, 22:
		p.change(tx, db, key)
	default:
		p.set(tx, db, key)
	}
}

func (p *pair) flush(db int) {
	p.model.dbs[db] = map[string]modelKey{}
	p.model.epochs[db]++
	p.flushed("flush", db)
}

// flushed expects the event that database db is another than before.
func (p *pair) flushed(name string, db int) {
	p.model.events = append(p.model.events, store.Event{Class: store.ClassFlushed, Name: name, DB: db})
}

func (p *pair) swap(a, b int) {
	if a != b {
		m := p.model
		m.dbs[a], m.dbs[b] = m.dbs[b], m.dbs[a]
		m.epochs[a]++
		m.epochs[b]++
		p.flushed("swap", a)
		p.flushed("swap", b)
	}
}

// scan meets every live key once and removes the due ones.
func (p *pair) scan(tx *store.Tx, db int) {
	met := map[string]bool{}
	for cursor := uint64(0); ; {
		cursor = tx.Scan(cursor, 1+p.rnd.IntN(5), func(e *store.Entry) {
			if met[e.Key()] {
				p.t.Fatalf("Scan met %q twice", e.Key())
			}
			met[e.Key()] = true
		})
		if cursor == 0 {
			break
		}
	}
	for key := range maps.Clone(p.model.dbs[db]) {
		if _, live := p.model.touch(db, key, p.now); live != met[key] {
			p.t.Fatalf("Scan met %q: %v, want %v", key, met[key], live)
		}
	}
}

func (p *pair) expire(tx *store.Tx, db int, key string) {
	k, ok := p.model.dbs[db][key]
	v := store.Victim{DB: db, Key: key, Deadline: k.deadline}
	if p.rnd.IntN(4) == 0 {
		v.Deadline--
	}
	want := ok && k.deadline != 0 && k.deadline == v.Deadline && k.deadline <= p.now
	if got := tx.Expire(v); got != want {
		p.t.Fatalf("Expire(%v) = %v, want %v", v, got, want)
	}
	if want {
		p.model.touch(db, key, p.now)
	}
}

// change appends to a key, or moves its deadline.
func (p *pair) change(tx *store.Tx, db int, key string) {
	e := tx.Find([]byte(key))
	k, live := p.model.touch(db, key, p.now)
	if (e != nil) != live {
		p.t.Fatalf("Find(%s) found %v, want %v", key, e != nil, live)
	}
	if e == nil {
		return
	}
	if p.rnd.IntN(2) == 0 {
		suffix := fmt.Sprint(p.rnd.IntN(1000))
		tx.Append(e, []byte(suffix))
		k.value += suffix
	} else {
		k.deadline = max(p.randomDeadline(), 0)
		tx.SetDeadline(e, k.deadline)
	}
	p.model.put(db, key, k)
}

func (p *pair) set(tx *store.Tx, db int, key string) {
	value, deadline := fmt.Sprint("value", p.rnd.Uint32()), p.randomDeadline()
	old, live := p.model.touch(db, key, p.now)
	e := tx.Set([]byte(key), store.StringValue([]byte(value)), deadline)
	switch {
	case deadline == store.KeepDeadline && live:
		deadline = old.deadline
	case deadline == store.KeepDeadline:
		deadline = 0
	case deadline != 0 && deadline <= p.now:
		if e != nil {
			p.t.Fatal("Set with a past deadline gave an entry")
		}
		p.model.remove(db, key)
		return
	}
	p.model.put(db, key, modelKey{value: value, deadline: deadline})
	if e.Key() != key || string(e.Value().Bytes()) != value || e.Deadline() != deadline || e.Version() != p.model.ops {
		p.t.Fatalf("Set gave %q %q %d %d", e.Key(), e.Value().Bytes(), e.Deadline(), e.Version())
	}
}

// check compares everything that can be read.
func (p *pair) check() {
	p.t.Helper()
	if err := p.store.CheckInvariants(); err != nil {
		p.t.Fatal(err)
	}
	stats := p.store.Stats(p.now)
	var bytesUsed int64
	for db := range modelDBs {
		want := p.model.dbs[db]
		expiring := 0
		for _, k := range want {
			if k.deadline != 0 {
				expiring++
			}
		}
		if got := stats.Databases[db]; got.Keys != len(want) || got.Expiring != expiring {
			p.t.Fatalf("database %d has %+v, want %d keys, %d expiring", db, got, len(want), expiring)
		}
		p.store.View(0, db, func(r *store.Reader) { // at 0 nothing is due
			for key, k := range want {
				e := r.Peek([]byte(key))
				if e == nil || string(e.Value().Bytes()) != k.value || e.Deadline() != k.deadline {
					p.t.Fatalf("key %q is not as it should be, want %+v", key, k)
				}
				bytesUsed += e.Size()
			}
		})
		p.checkHidden(db)
	}
	if stats.UsedBytes != bytesUsed {
		p.t.Fatalf("UsedBytes = %d, the sizes add up to %d", stats.UsedBytes, bytesUsed)
	}
	p.checkDue()
	p.checkWatched()
}

// checkHidden sees that readers do not meet due keys, and report them.
func (p *pair) checkHidden(db int) {
	key := p.randomKey()
	k, ok := p.model.dbs[db][key]
	due := ok && k.deadline != 0 && k.deadline <= p.now
	victims := p.store.View(p.now, db, func(r *store.Reader) {
		if found := r.Find([]byte(key)) != nil; found != (ok && !due) {
			p.t.Fatalf("Find(%s) found %v, is there %v, due %v", key, found, ok, due)
		}
	})
	if due != slices.Equal(victims, []store.Victim{{DB: db, Key: key, Deadline: k.deadline}}) {
		p.t.Fatalf("victims %v, key due %v", victims, due)
	}
}

func (p *pair) checkDue() {
	victims, done := p.store.Due(nil, p.now, 1<<20)
	if !done {
		p.t.Fatal("Due did not get through")
	}
	due := 0
	for _, keys := range p.model.dbs {
		for _, k := range keys {
			if k.deadline != 0 && k.deadline <= p.now {
				due++
			}
		}
	}
	if len(victims) != due {
		p.t.Fatalf("Due told %d, want %d", len(victims), due)
	}
	for _, v := range victims {
		if k, ok := p.model.dbs[v.DB][v.Key]; !ok || k.deadline != v.Deadline || k.deadline > p.now {
			p.t.Fatalf("Due told %v, the model has %v", v, k)
		}
	}
}

// checkWatched sees that no change goes unnoticed by a version, and watches another key.
func (p *pair) checkWatched() {
	version := func(db int, key string) (v uint64) {
		p.store.View(0, db, func(r *store.Reader) { v = r.Version([]byte(key)) })
		return v
	}
	for _, w := range p.watch {
		changed := p.model.changeMark(w.db, w.key) != w.mark
		if got := version(w.db, w.key); changed && got == w.version {
			p.t.Fatalf("key %q changed, its version is still %d", w.key, got)
		}
	}
	if len(p.watch) > 20 {
		p.watch = p.watch[10:]
	}
	db, key := p.rnd.IntN(modelDBs), p.randomKey()
	p.watch = append(p.watch, watched{db, key, version(db, key), p.model.changeMark(db, key)})
}

// thaw reads a frozen view, going on to change the store meanwhile.
func (p *pair) thaw(f frozenPair) {
	p.t.Helper()
	defer f.view.Release()
	for db := range modelDBs {
		left := maps.Clone(f.model.dbs[db])
		if got := f.view.Len(db); got != len(left) {
			p.t.Fatalf("frozen Len(%d) = %d, want %d", db, got, len(left))
		}
		err := f.view.Each(db, func(rec store.Record) error {
			k, ok := left[rec.Key]
			if !ok || rec.DB != db || string(rec.Value.Bytes()) != k.value || rec.Deadline != k.deadline {
				p.t.Fatalf("frozen record %+v, want %+v, %v", rec, k, ok)
			}
			delete(left, rec.Key)
			if p.rnd.IntN(10) == 0 {
				p.run()
			}
			return nil
		})
		if err != nil || len(left) != 0 {
			p.t.Fatalf("Each ended with %v and without %v", err, left)
		}
	}
	if got := f.view.System(); got.Ops != f.model.ops || !maps.Equal(got.Members, f.model.members) {
		p.t.Fatalf("frozen system %+v, want operation %d, members %v", got, f.model.ops, f.model.members)
	}
}

// rebuild is a store loaded from a frozen view, in an order that has nothing to do with it.
func rebuild(tb testing.TB, view *store.Frozen, databases int, rnd *rand.Rand) *store.Store {
	tb.Helper()
	built := store.New(databases)
	built.LoadSystem(view.System())
	var records []store.Record
	for db := range databases {
		err := view.Each(db, func(rec store.Record) error {
			records = append(records, rec)
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	rnd.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	for _, rec := range records {
		rec.Value = store.StringValue(bytes.Clone(rec.Value.Bytes()))
		built.LoadRecord(rec)
	}
	for db := range databases {
		built.LoadSide(db, view.Side(db))
	}
	return built
}

// A Store agrees with plain maps under any mixture of commands: sets, appends,
// deadlines, removals, expiry, flushes, swaps and undone ones, with frozen views
// read late and while it changes, and with restores in between.
func TestStoreAgreesWithPlainMaps(t *testing.T) {
	for _, keys := range []int{1, 3, 40, 1000} {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("keys=%d,seed=%d", keys, seed), func(t *testing.T) {
				p := newPair(t, seed, keys)
				for i := range 1000 {
					p.run()
					if i%5 == 0 {
						p.check()
					}
					switch p.rnd.IntN(60) {
					case 0:
						p.frozen = append(p.frozen, frozenPair{p.store.Freeze(), p.model.clone()})
					case 1:
						if n := len(p.frozen); n > 0 {
							i := p.rnd.IntN(n)
							f := p.frozen[i]
							p.frozen = slices.Delete(p.frozen, i, i+1)
							p.thaw(f)
						}
					case 2:
						p.restore()
					}
				}
				for _, f := range p.frozen {
					p.thaw(f)
				}
				p.check()
			})
		}
	}
}

// restore goes on with a store rebuilt from a view, which must have the same digest.
func (p *pair) restore() {
	p.t.Helper()
	view := p.store.Freeze()
	built := rebuild(p.t, view, modelDBs, p.rnd)
	if live, frozen, loaded := p.store.Digest(), view.Digest(), built.Digest(); live != frozen || live != loaded {
		p.t.Fatalf("digests: live %x, frozen %x, loaded %x", live, frozen, loaded)
	}
	p.store.Replace(built)
	view.Release()
}

// A view gives an error of its reader back at once, and its keys only once.
func TestEachStopsAtTheReadersError(t *testing.T) {
	s := filled(t, 100)
	view := s.Freeze()
	defer view.Release()
	errEnough := errors.New("enough")
	seen := 0
	err := view.Each(0, func(store.Record) error {
		seen++
		return errEnough
	})
	if !errors.Is(err, errEnough) || seen != 1 {
		t.Errorf("Each = %v after %d records", err, seen)
	}
	if err := view.Each(0, func(store.Record) error { return nil }); err == nil {
		t.Error("a second Each found something to give")
	}
}

// filled is a store with n keys key:0, key:1 … in database 0.
func filled(tb testing.TB, n int) *store.Store {
	tb.Helper()
	s := store.New(2)
	s.Update(1, 0, func(tx *store.Tx) {
		tx.ChangeSystem(func(sys *store.System) { sys.HashSeed = [2]uint64{1, 2} })
		for i := range n {
			tx.Begin(0)
			tx.Set(fmt.Appendf(nil, "key:%d", i), store.StringValue(fmt.Appendf(nil, "value:%d", i)), 0)
		}
	})
	return s
}
