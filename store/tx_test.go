package store_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/store"
)

// text is a fresh string value.
func text(s string) store.Value { return store.StringValue([]byte(s)) }

// get is the value of a key, or "<none>".
func get(r *store.Reader, key string) string {
	e := r.Peek([]byte(key))
	if e == nil {
		return "<none>"
	}
	return string(e.Value().Bytes())
}

// command runs fn as one command at stamp 1000, database 0 selected.
func command(s *store.Store, fn func(tx *store.Tx)) []store.Event {
	return s.Update(1000, 1, func(tx *store.Tx) {
		tx.Begin(0)
		fn(tx)
	})
}

// Two keys that were given the same value grow apart: neither sees what is
// appended to the other.
func TestAppendDoesNotReachCopies(t *testing.T) {
	s := store.New(1)
	command(s, func(tx *store.Tx) {
		src := tx.Set([]byte("src"), text("a"), 0)
		tx.Append(src, []byte(strings.Repeat("b", 100))) // has spare capacity from here on
		dst := tx.Set([]byte("dst"), src.Value(), 0)
		tx.Append(src, []byte("S"))
		tx.Append(dst, []byte("D"))
		tx.Append(src, []byte("s"))
		tx.Append(dst, []byte("d"))
		want := "a" + strings.Repeat("b", 100)
		if got := get(&tx.Reader, "src"); got != want+"Ss" {
			t.Errorf("src ends %q", got[len(want):])
		}
		if got := get(&tx.Reader, "dst"); got != want+"Dd" {
			t.Errorf("dst ends %q", got[len(want):])
		}
	})
}

// Bytes that a reader or a frozen view kept never change, whatever is appended,
// undone and appended again.
func TestKeptBytesNeverChange(t *testing.T) {
	s := store.New(1)
	rnd := rand.New(rand.NewPCG(1, 1))
	command(s, func(tx *store.Tx) { tx.Set([]byte("k"), text(""), 0) })
	type kept struct{ bytes, copy []byte }
	var all []kept
	keep := func(b []byte) { all = append(all, kept{b, bytes.Clone(b)}) }
	for i := range 400 {
		command(s, func(tx *store.Tx) {
			e := tx.Find([]byte("k"))
			tx.Append(e, fmt.Appendf(nil, "<%d>", i))
			keep(e.Value().Bytes())
			if rnd.IntN(3) == 0 {
				tx.Undo()
				tx.Append(e, fmt.Appendf(nil, "[%d]", i))
			}
			keep(e.Value().Bytes())
		})
		if i%50 == 0 {
			view := s.Freeze()
			err := view.Each(0, func(rec store.Record) error {
				keep(rec.Value.Bytes())
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			view.Release()
		}
	}
	for i, k := range all {
		if !bytes.Equal(k.bytes, k.copy) {
			t.Fatalf("kept value %d was %q, is %q", i, k.copy, k.bytes)
		}
		if cap(k.bytes) != len(k.bytes) {
			t.Fatalf("kept value %d has room to grow into", i)
		}
	}
}

// A store may not be changed through the spare capacity of what it was given.
func TestSetDoesNotGrowIntoTheGivenSlice(t *testing.T) {
	s := store.New(1)
	buf := []byte("valueREST")
	command(s, func(tx *store.Tx) {
		e := tx.Set([]byte("k"), store.StringValue(buf[:5]), 0)
		tx.Append(e, []byte("xxxx"))
	})
	if string(buf) != "valueREST" {
		t.Errorf("the buffer became %q", buf)
	}
}

// Set with a deadline that is over removes the key without event and leaves nothing.
func TestSetWithPastDeadlineRemoves(t *testing.T) {
	s := store.New(1)
	for _, deadline := range []int64{1000, 999, 1, -5} {
		command(s, func(tx *store.Tx) { tx.Set([]byte("k"), text("v"), 0) })
		events := command(s, func(tx *store.Tx) {
			if e := tx.Set([]byte("k"), text("w"), deadline); e != nil {
				t.Errorf("deadline %d: Set gave an entry", deadline)
			}
			if got := get(&tx.Reader, "k"); got != "<none>" {
				t.Errorf("deadline %d: key is %q", deadline, got)
			}
		})
		if len(events) != 0 {
			t.Errorf("deadline %d: events %v", deadline, events)
		}
	}
}

// KeepDeadline keeps what there is, and means none for a new key.
func TestSetKeepsDeadline(t *testing.T) {
	s := store.New(1)
	command(s, func(tx *store.Tx) {
		tx.Set([]byte("old"), text("v"), 5000)
		if got := tx.Set([]byte("old"), text("w"), store.KeepDeadline).Deadline(); got != 5000 {
			t.Errorf("old key: deadline %d, want 5000", got)
		}
		if got := tx.Set([]byte("new"), text("w"), store.KeepDeadline).Deadline(); got != 0 {
			t.Errorf("new key: deadline %d, want 0", got)
		}
	})
}

// A key due at the stamp of the entry is removed by whatever touches it, with
// its event, and that counts as a removal even before a command has begun.
func TestDueKeyIsRemovedOnTouch(t *testing.T) {
	touches := map[string]func(tx *store.Tx){
		"Find":    func(tx *store.Tx) { tx.Find([]byte("k")) },
		"Peek":    func(tx *store.Tx) { tx.Peek([]byte("k")) },
		"Version": func(tx *store.Tx) { tx.Version([]byte("k")) },
		"Delete":  func(tx *store.Tx) { tx.Delete([]byte("k")) },
		"Set":     func(tx *store.Tx) { tx.Set([]byte("k"), text("w"), store.KeepDeadline) },
		"Scan":    func(tx *store.Tx) { tx.Scan(0, 10, func(*store.Entry) {}) },
		"Random":  func(tx *store.Tx) { tx.Random(9) },
		"Expire":  func(tx *store.Tx) { tx.Expire(store.Victim{Key: "k", Deadline: 2000}) },
	}
	for name, touch := range touches {
		s := store.New(1)
		command(s, func(tx *store.Tx) { tx.Set([]byte("k"), text("v"), 2000) })
		var watched uint64
		s.View(1999, 0, func(r *store.Reader) { watched = r.Version([]byte("k")) })
		events := s.Update(2000, 0, touch)
		if len(events) != 1 || events[0] != (store.Event{Class: store.ClassExpired, Name: "expired", Key: "k"}) {
			t.Errorf("%s: events %v", name, events)
		}
		s.View(1, 0, func(r *store.Reader) {
			if got := r.Version([]byte("k")); got == watched {
				t.Errorf("%s: the version is still %d", name, got)
			}
			if e := r.Peek([]byte("k")); e != nil && e.Deadline() != 0 {
				t.Errorf("%s: the due key is still there", name)
			}
		})
	}
}

// A victim is removed only if its deadline is unchanged and due; which database
// is selected does not matter.
func TestExpireMindsTheDeadline(t *testing.T) {
	s := store.New(2)
	s.Update(1, 0, func(tx *store.Tx) {
		tx.Begin(1)
		tx.Set([]byte("k"), text("v"), 100)
	})
	tests := []struct {
		name   string
		stamp  int64
		victim store.Victim
		want   bool
	}{
		{"another database", 100, store.Victim{DB: 0, Key: "k", Deadline: 100}, false},
		{"another deadline", 100, store.Victim{DB: 1, Key: "k", Deadline: 99}, false},
		{"another key", 100, store.Victim{DB: 1, Key: "l", Deadline: 100}, false},
		{"due", 100, store.Victim{DB: 1, Key: "k", Deadline: 100}, true},
		{"gone", 100, store.Victim{DB: 1, Key: "k", Deadline: 100}, false},
	}
	for _, tt := range tests {
		var got bool
		events := s.Update(tt.stamp, 0, func(tx *store.Tx) {
			tx.Begin(0)
			got = tx.Expire(tt.victim)
		})
		if got != tt.want || len(events) != map[bool]int{true: 1, false: 0}[tt.want] {
			t.Errorf("%s: Expire = %v, events %v", tt.name, got, events)
		}
	}
	s.Update(200, 0, func(tx *store.Tx) {
		tx.Begin(0)
		tx.Set([]byte("later"), text("v"), 300)
		if tx.Expire(store.Victim{DB: 0, Key: "later", Deadline: 300}) {
			t.Error("Expire removed a key before its deadline")
		}
	})
}

// The stamp of the state never goes back.
func TestStampNeverGoesBack(t *testing.T) {
	s := store.New(1)
	s.Update(2000, 0, func(*store.Tx) {})
	s.Update(1500, 0, func(tx *store.Tx) {
		if tx.Now() != 2000 || tx.System().Stamp != 2000 {
			t.Errorf("Now() = %d, Stamp = %d, want 2000", tx.Now(), tx.System().Stamp)
		}
	})
}

// A panic in a command undoes that command only, lets go of the lock and goes on.
func TestPanicUndoesTheCommand(t *testing.T) {
	s := store.New(1)
	var digest uint64
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		s.Update(1000, 0, func(tx *store.Tx) {
			tx.Begin(0)
			tx.Set([]byte("first"), text("v"), 0)
			tx.Begin(0)
			tx.Set([]byte("second"), text("v"), 0)
			panic("broken command")
		})
	}()
	command(s, func(tx *store.Tx) {
		if got := get(&tx.Reader, "first") + get(&tx.Reader, "second"); got != "v<none>" {
			t.Errorf("the keys are %q", got)
		}
	})
	digest = s.Digest()
	twin := store.New(1)
	command(twin, func(tx *store.Tx) { tx.Set([]byte("first"), text("v"), 0) })
	command(twin, func(*store.Tx) {})
	if digest != twin.Digest() {
		t.Error("the digest remembers the undone command")
	}
}

// Undo takes back everything: the store cannot be told from one where the
// command never ran, and goes on like it.
func TestUndoLeavesNoTrace(t *testing.T) {
	run := func(undone bool) (digest uint64, used int64, events []store.Event, random uint64) {
		s := filled(t, 200)
		events = s.Update(1000, 7, func(tx *store.Tx) {
			tx.Begin(0)
			tx.Set([]byte("key:1"), text("changed"), 5000)
			tx.Notify(store.ClassString, "set", []byte("key:1"))
			if undone {
				tx.Begin(1)
				everything(tx)
				tx.Undo()
			}
			tx.Begin(0)
			tx.Delete([]byte("key:2"))
			random = tx.Random64()
		})
		if victims, done := s.Due(nil, 5000, 10); len(victims) != 1 || !done {
			t.Errorf("undone %v: due %v, %v", undone, victims, done)
		}
		return s.Digest(), s.Stats(0).UsedBytes, events, random
	}
	d1, u1, e1, r1 := run(false)
	d2, u2, e2, r2 := run(true)
	if d1 != d2 || u1 != u2 || len(e1) != len(e2) || r1 != r2 {
		t.Errorf("digests %x %x, bytes %d %d, events %v %v, random %d %d", d1, d2, u1, u2, e1, e2, r1, r2)
	}
}

// everything does one of each change.
func everything(tx *store.Tx) {
	tx.Random64()
	tx.Set([]byte("new"), text("v"), 2000)
	tx.Use(0)
	tx.Append(tx.Find([]byte("key:3")), []byte("more"))
	tx.SetDeadline(tx.Find([]byte("key:1")), 1001)
	tx.SetDeadline(tx.Find([]byte("key:4")), 1001)
	tx.Delete([]byte("key:1"))
	tx.Set([]byte("key:1"), text("again"), 0)
	tx.Notify(store.ClassGeneric, "del", []byte("key:1"))
	tx.Swap(0, 1)
	tx.Delete([]byte("new"))
	tx.Flush(1)
	tx.ChangeSystem(func(s *store.System) {
		s.ClusterID = "other"
		s.Members["n1"] = store.Member{ID: "n1"}
		s.Ops += 100
	})
	tx.FlushAll()
	tx.ChangeSystem(func(s *store.System) { s.HashSeed = [2]uint64{9, 9} })
	tx.Set([]byte("under another seed"), text("v"), 0)
}

// A copy of the system state stays as it is when the state changes.
func TestSystemCopiesStay(t *testing.T) {
	s := store.New(1)
	add := func(id string) {
		command(s, func(tx *store.Tx) {
			tx.ChangeSystem(func(sys *store.System) { sys.Members[id] = store.Member{ID: id} })
		})
	}
	add("n1")
	var before store.System
	s.View(1, 0, func(r *store.Reader) { before = r.System() })
	view := s.Freeze()
	defer view.Release()
	add("n2")
	if len(before.Members) != 1 || len(view.System().Members) != 1 {
		t.Errorf("copies have %v and %v", before.Members, view.System().Members)
	}
	s.View(1, 0, func(r *store.Reader) {
		if got := r.System().Members; !maps.Equal(got, map[string]store.Member{"n1": {ID: "n1"}, "n2": {ID: "n2"}}) {
			t.Errorf("members %v", got)
		}
	})
}

// Neither the stamp nor the operation counter can be set back.
func TestChangeSystemNeverGoesBack(t *testing.T) {
	s := store.New(1)
	command(s, func(tx *store.Tx) {
		tx.Begin(0)
		tx.ChangeSystem(func(sys *store.System) { sys.Stamp, sys.Ops = 0, 0 })
		if sys := tx.System(); sys.Stamp != 1000 || sys.Ops != 2 {
			t.Errorf("stamp %d, operations %d, want 1000 and 2", sys.Stamp, sys.Ops)
		}
	})
}

// The hash seed can be given while there are no keys, and not later; versions
// stay meaningful when it changes.
func TestHashSeedIsSetWhileEmpty(t *testing.T) {
	s := store.New(1)
	seed := func(n uint64) (got [2]uint64) {
		command(s, func(tx *store.Tx) {
			tx.ChangeSystem(func(sys *store.System) { sys.HashSeed = [2]uint64{n, n} })
			got = tx.System().HashSeed
		})
		return got
	}
	command(s, func(tx *store.Tx) { tx.Set([]byte("k"), text("v"), 0) })
	if got := seed(1); got != [2]uint64{} {
		t.Errorf("with a key the seed became %v", got)
	}
	command(s, func(tx *store.Tx) { tx.Delete([]byte("k")) })
	version := func() (v uint64) {
		s.View(1, 0, func(r *store.Reader) { v = r.Version([]byte("k")) })
		return v
	}
	removed := version()
	if got := seed(2); got != [2]uint64{2, 2} {
		t.Errorf("without keys the seed became %v", got)
	}
	if got := version(); got < removed {
		t.Errorf("the version of a removed key went from %d back to %d", removed, got)
	}
}

// Random64 is a function of the entry's seed.
func TestRandom64FollowsTheSeed(t *testing.T) {
	draw := func(seed uint64) (a, b uint64) {
		store.New(1).Update(1, seed, func(tx *store.Tx) { a, b = tx.Random64(), tx.Random64() })
		return a, b
	}
	a1, b1 := draw(5)
	a2, b2 := draw(5)
	a3, _ := draw(6)
	if a1 != a2 || b1 != b2 || a1 == b1 || a1 == a3 {
		t.Errorf("drew %d %d, %d %d, and %d with another seed", a1, b1, a2, b2, a3)
	}
}

// Find counts as an access, Peek does not, and an older instant changes nothing.
func TestAccessIsNoted(t *testing.T) {
	s := store.New(1)
	command(s, func(tx *store.Tx) { tx.Set([]byte("k"), text("v"), 0) })
	digest := s.Digest()
	look := func(now int64, find bool) (accessed int64) {
		s.View(now, 0, func(r *store.Reader) {
			if e := r.Peek([]byte("k")); find {
				e = r.Find([]byte("k"))
				accessed = e.Accessed()
			} else {
				accessed = e.Accessed()
			}
		})
		return accessed
	}
	for _, tt := range []struct {
		now  int64
		find bool
		want int64
	}{{1500, false, 1000}, {1500, true, 1500}, {1200, true, 1500}} {
		if got := look(tt.now, tt.find); got != tt.want {
			t.Errorf("at %d, Find %v: accessed %d, want %d", tt.now, tt.find, got, tt.want)
		}
	}
	if s.Digest() != digest {
		t.Error("an access changed the digest")
	}
}

// Due takes turns: a database with a backlog does not keep the others waiting.
func TestDueIsFairAmongDatabases(t *testing.T) {
	s := store.New(4)
	s.Update(1, 0, func(tx *store.Tx) {
		for db := range 4 {
			tx.Begin(db)
			for i := range 1000 {
				tx.Set(fmt.Appendf(nil, "k%d", i), text("v"), 50)
			}
		}
	})
	told := map[int]int{}
	var victims []store.Victim
	for range 16 {
		victims, _ = s.Due(victims[:0], 50, 100)
		if len(victims) > 100 {
			t.Fatalf("told %d, limit 100", len(victims))
		}
		for _, v := range victims {
			told[v.DB]++
		}
		s.Update(50, 0, func(tx *store.Tx) {
			tx.Begin(0)
			for _, v := range victims {
				tx.Expire(v)
			}
		})
	}
	for db := range 4 {
		if told[db] != 400 {
			t.Errorf("database %d: told %d of 1600, want 400", db, told[db])
		}
	}
}

// Advance gets there in bounded steps, and then Due need not sort any more.
func TestAdvanceGetsThere(t *testing.T) {
	s := store.New(2)
	s.Update(1, 0, func(tx *store.Tx) {
		tx.Begin(1)
		for i := range 20_000 {
			tx.Set(fmt.Appendf(nil, "k%d", i), text("v"), int64(100_000+i))
		}
	})
	calls := 1
	for ; !s.Advance(110_000); calls++ {
		if calls > 100 {
			t.Fatal("Advance does not get there")
		}
	}
	if calls < 3 {
		t.Errorf("20,000 deadlines sorted in %d calls: the lock is held too long", calls)
	}
	if victims, done := s.Due(nil, 110_000, 500); len(victims) != 500 || done {
		t.Errorf("after it one call told %d, done %v; want 500, false", len(victims), done)
	}
}

// A restored store has its deadlines where they belong at the stamp of its state:
// going on from there needs no sorting.
func TestRestoredDeadlinesNeedNoSorting(t *testing.T) {
	const stamp = 1_700_000_000_000
	s := store.New(1)
	s.LoadSystem(store.System{Stamp: stamp})
	for i := range 20_000 {
		s.LoadRecord(store.Record{Key: fmt.Sprint("k", i), Value: text("v"), Deadline: stamp + 600_000 + int64(i)})
	}
	if !s.Advance(stamp + 1) {
		t.Error("one call of Advance did not get there")
	}
}

// A reader reports at most as many victims as it is worth to remember.
func TestVictimsAreBounded(t *testing.T) {
	s := store.New(1)
	command(s, func(tx *store.Tx) {
		for i := range 5000 {
			tx.Set(fmt.Appendf(nil, "k%d", i), text("v"), 2000)
		}
	})
	victims := s.View(2000, 0, func(r *store.Reader) {
		r.Scan(0, 10_000, func(*store.Entry) { t.Error("met a due key") })
	})
	if len(victims) != 1024 {
		t.Errorf("%d victims, want 1024", len(victims))
	}
}
