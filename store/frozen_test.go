package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holdfast/holdfast/store"
)

// readAll is all of a view's database, in its order.
func readAll(tb testing.TB, view *store.Frozen, db int) (records []store.Record) {
	tb.Helper()
	err := view.Each(db, func(rec store.Record) error {
		records = append(records, rec)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return records
}

// Each goes in the order of Scan.
func TestEachGoesInTheOrderOfScan(t *testing.T) {
	s := filled(t, 5000)
	var want []string
	s.View(1, 0, func(r *store.Reader) {
		r.Scan(0, 10_000, func(e *store.Entry) { want = append(want, e.Key()) })
	})
	view := s.Freeze()
	defer view.Release()
	setKeys(s, 4000, 9000) // half the shards are read from copies
	var got []string
	for _, rec := range readAll(t, view, 0) {
		got = append(got, rec.Key)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d keys in another order than Scan's %d", len(got), len(want))
	}
}

// Views made one after the other each show their own instant, whichever is read
// or released first, and through flushes and swaps.
func TestViewsOfSeveralInstants(t *testing.T) {
	s := filled(t, 100)
	type instant struct {
		view   *store.Frozen
		lens   [2]int
		digest uint64
	}
	var instants []instant
	freeze := func() {
		stats := s.Stats(0)
		instants = append(instants, instant{s.Freeze(), [2]int{stats.Databases[0].Keys, stats.Databases[1].Keys}, s.Digest()})
	}
	freeze()
	setKeys(s, 100, 300)
	freeze()
	command(s, func(tx *store.Tx) { tx.Swap(0, 1) })
	freeze()
	setKeys(s, 0, 50)
	freeze()
	command(s, func(tx *store.Tx) { tx.FlushAll() })
	freeze()
	setKeys(s, 0, 7)
	s.Replace(filled(t, 3))
	freeze()
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(instants), func(i, j int) { instants[i], instants[j] = instants[j], instants[i] })
	for _, in := range instants {
		built := rebuild(t, in.view, 2, rand.New(rand.NewPCG(1, 2)))
		if got := built.Stats(0); got.Databases[0].Keys != in.lens[0] || got.Databases[1].Keys != in.lens[1] {
			t.Errorf("view has %d and %d keys, want %v", got.Databases[0].Keys, got.Databases[1].Keys, in.lens)
		}
		if in.view.Digest() != in.digest || built.Digest() != in.digest {
			t.Errorf("digests %x, rebuilt %x, want %x", in.view.Digest(), built.Digest(), in.digest)
		}
		in.view.Release()
		in.view.Release()
	}
}

// A store that takes the place of another may have been frozen more often: later
// views of it are whole all the same.
func TestViewsAfterReplace(t *testing.T) {
	s, built := filled(t, 10), filled(t, 100)
	for range 5 {
		view := built.Freeze()
		setKeys(built, 0, 100)
		view.Release()
	}
	s.Replace(built)
	view := s.Freeze()
	defer view.Release()
	deleteKeys(s, 0, 50)
	if got := len(readAll(t, view, 0)); got != 100 {
		t.Errorf("the view has %d keys, want 100", got)
	}
}

// A command that is undone after it caused copies leaves the view and the store right.
func TestUndoUnderAView(t *testing.T) {
	s := filled(t, 200)
	view := s.Freeze()
	defer view.Release()
	s.Update(1, 0, func(tx *store.Tx) {
		tx.Begin(1)
		everything(tx)
		tx.Undo()
	})
	if got, want := s.Digest(), view.Digest(); got != want {
		t.Errorf("digest %x after the undone command, %x before", got, want)
	}
	if got, want := rebuild(t, view, 2, rand.New(rand.NewPCG(1, 2))).Digest(), view.Digest(); got != want {
		t.Errorf("the view's keys have digest %x, want %x", got, want)
	}
}

// Side carries what WATCH needs of removed keys: a rebuilt store gives the same versions.
func TestSideKeepsVersionsOfRemovedKeys(t *testing.T) {
	s := filled(t, 3000)
	deleteKeys(s, 0, 1000)
	command(s, func(tx *store.Tx) { tx.Flush(1) })
	versions := func(s *store.Store, db int) (v []uint64) {
		s.View(1, db, func(r *store.Reader) {
			for i := range 1000 {
				v = append(v, r.Version(fmt.Appendf(nil, "key:%d", i)))
			}
		})
		return v
	}
	view := s.Freeze()
	defer view.Release()
	want := [2][]uint64{versions(s, 0), versions(s, 1)}
	if slices.Contains(want[0], 0) || slices.Contains(want[1], 0) {
		t.Error("a removed key has version 0")
	}
	deleteKeys(s, 1000, 2000) // in the same buckets
	built := rebuild(t, view, 2, rand.New(rand.NewPCG(1, 2)))
	for db := range 2 {
		if !slices.Equal(versions(built, db), want[db]) {
			t.Errorf("database %d: the rebuilt store gives other versions", db)
		}
	}
	for db := range 2 {
		side := view.Side(db)
		if n := len(side.Removals); n > 0 && side.Removals[n-1] == 0 {
			t.Error("trailing zeros were not left out")
		}
	}
}

// Readers, a writer, freezes and their readers work side by side without races,
// and every view is whole. Run it with -race.
func TestConcurrentUse(t *testing.T) {
	const keys = 2000
	s := filled(t, keys)
	var stop atomic.Bool
	var users sync.WaitGroup
	for n := range 2 {
		users.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(n), 1))
			for now := int64(1); !stop.Load(); now++ {
				s.View(now, 0, func(r *store.Reader) {
					key := fmt.Appendf(nil, "key:%d", rnd.IntN(keys))
					if e := r.Find(key); e != nil {
						_, _ = e.Accessed(), len(e.Value().Bytes())
					}
					r.Scan(rnd.Uint64N(1<<52), 10, func(*store.Entry) {})
					r.Random(rnd.Uint64())
				})
				s.Stats(now)
				s.Digest()
			}
		})
	}
	users.Go(func() {
		for !stop.Load() {
			view := s.Freeze()
			if got := len(readAll(t, view, 0)); got != view.Len(0) {
				t.Errorf("view gives %d keys, has %d", got, view.Len(0))
			}
			view.Side(0)
			view.Release()
		}
	})
	rnd := rand.New(rand.NewPCG(9, 9))
	for i := range 3000 {
		s.Update(int64(i), 0, func(tx *store.Tx) {
			tx.Begin(0)
			key := fmt.Appendf(nil, "key:%d", rnd.IntN(keys))
			switch e := tx.Find(key); {
			case e == nil:
				tx.Set(key, text("new"), int64(i+rnd.IntN(2000)))
			case i%3 == 0:
				tx.Append(e, []byte("more"))
			case i%3 == 1:
				tx.SetDeadline(e, int64(i+1+rnd.IntN(2000)))
			default:
				tx.Delete(key)
			}
		})
		s.Due(nil, int64(i), 10)
	}
	stop.Store(true)
	users.Wait()
}
