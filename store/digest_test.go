package store_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/store"
)

// base is the system state that the stores of these tests share.
func base() store.System {
	return store.System{
		ClusterID: "c", HashSeed: [2]uint64{3, 4}, Stamp: 1000, Ops: 500,
		Settings: store.Settings{Databases: 2, MaxEntryBytes: 32, MaxBulkBytes: 16},
		Members:  map[string]store.Member{"n1": {ID: "n1", DataPort: 1}, "n2": {ID: "n2"}},
	}
}

// loaded is a store with that system state, some records and sides, changed by edit.
func loaded(edit func(sys *store.System, records []store.Record, sides []store.Side)) *store.Store {
	sys := base()
	records := []store.Record{
		{DB: 0, Key: "a", Value: text("1"), Deadline: 5000, Version: 7},
		{DB: 1, Key: "a", Value: text("2"), Version: 8},
		{DB: 0, Key: "b", Value: text(""), Version: 9},
	}
	sides := []store.Side{{Epoch: 3, Removals: []uint64{0, 5}}, {Epoch: 0}}
	if edit != nil {
		edit(&sys, records, sides)
	}
	s := store.New(2)
	s.LoadSystem(sys)
	for i, rec := range records {
		if rec.DB >= 0 {
			s.LoadRecord(rec)
		}
		if i < len(sides) {
			s.LoadSide(i, sides[i])
		}
	}
	return s
}

// Every part of the logical state is in the digest: any difference shows.
func TestDigestCoversAllState(t *testing.T) {
	type edit = func(sys *store.System, rs []store.Record, sides []store.Side)
	edits := map[string]edit{
		"value":    func(_ *store.System, rs []store.Record, _ []store.Side) { rs[0].Value = text("x") },
		"key":      func(_ *store.System, rs []store.Record, _ []store.Side) { rs[0].Key = "c" },
		"deadline": func(_ *store.System, rs []store.Record, _ []store.Side) { rs[0].Deadline++ },
		"no end":   func(_ *store.System, rs []store.Record, _ []store.Side) { rs[0].Deadline = 0 },
		"version":  func(_ *store.System, rs []store.Record, _ []store.Side) { rs[0].Version++ },
		"missing":  func(_ *store.System, rs []store.Record, _ []store.Side) { rs[2].DB = -1 },
		"database": func(_ *store.System, rs []store.Record, _ []store.Side) { rs[2].DB = 1 },
		"swapped":  func(_ *store.System, rs []store.Record, _ []store.Side) { rs[0].DB, rs[1].DB, rs[2].DB = 1, 0, 1 },
		"exchanged": func(_ *store.System, rs []store.Record, _ []store.Side) {
			rs[0].Value, rs[2].Value = rs[2].Value, rs[0].Value
		},
		"epoch":       func(_ *store.System, _ []store.Record, sd []store.Side) { sd[0].Epoch++ },
		"removal":     func(_ *store.System, _ []store.Record, sd []store.Side) { sd[0].Removals[1]++ },
		"bucket":      func(_ *store.System, _ []store.Record, sd []store.Side) { sd[0].Removals = []uint64{5} },
		"cluster":     func(s *store.System, _ []store.Record, _ []store.Side) { s.ClusterID = "d" },
		"seed":        func(s *store.System, _ []store.Record, _ []store.Side) { s.HashSeed[1]++ },
		"stamp":       func(s *store.System, _ []store.Record, _ []store.Side) { s.Stamp++ },
		"operations":  func(s *store.System, _ []store.Record, _ []store.Side) { s.Ops++ },
		"databases":   func(s *store.System, _ []store.Record, _ []store.Side) { s.Settings.Databases++ },
		"entry size":  func(s *store.System, _ []store.Record, _ []store.Side) { s.Settings.MaxEntryBytes++ },
		"bulk size":   func(s *store.System, _ []store.Record, _ []store.Side) { s.Settings.MaxBulkBytes++ },
		"apply level": func(s *store.System, _ []store.Record, _ []store.Side) { s.Level = 2 },
		"health":      func(s *store.System, _ []store.Record, _ []store.Side) { s.Health = map[string]store.Health{"n1": {}} },
		"whose":       func(s *store.System, _ []store.Record, _ []store.Side) { s.Health = map[string]store.Health{"n2": {}} },
		"down": func(s *store.System, _ []store.Record, _ []store.Side) {
			s.Health = map[string]store.Health{"n1": {Down: true}}
		},
		"deposed": func(s *store.System, _ []store.Record, _ []store.Side) {
			s.Health = map[string]store.Health{"n1": {Deposed: true}}
		},
		"process": func(s *store.System, _ []store.Record, _ []store.Side) {
			s.Health = map[string]store.Health{"n1": {Process: 1}}
		},
		"member": func(s *store.System, _ []store.Record, _ []store.Side) { delete(s.Members, "n1") },
		"run id": func(s *store.System, _ []store.Record, _ []store.Side) {
			s.Members["n2"] = store.Member{ID: "n2", RunID: "r"}
		},
		"host": func(s *store.System, _ []store.Record, _ []store.Side) {
			s.Members["n2"] = store.Member{ID: "n2", DataHost: "r"}
		},
		"port": func(s *store.System, _ []store.Record, _ []store.Side) {
			s.Members["n2"] = store.Member{ID: "n2", SentinelPort: 1}
		},
		"sentinel": func(s *store.System, _ []store.Record, _ []store.Side) {
			s.Members["n2"] = store.Member{ID: "n2", SentinelHost: "r"}
		},
		"release": func(s *store.System, _ []store.Record, _ []store.Side) {
			s.Members["n2"] = store.Member{ID: "n2", Version: "r"}
		},
		"level": func(s *store.System, _ []store.Record, _ []store.Side) {
			s.Members["n2"] = store.Member{ID: "n2", Level: 1}
		},
	}
	seen := map[uint64]string{loaded(nil).Digest(): "nothing"}
	for name, edit := range edits {
		digest := loaded(edit).Digest()
		if other, taken := seen[digest]; taken {
			t.Errorf("the digest does not tell %q from %q", name, other)
		}
		seen[digest] = name
	}
	if again := loaded(nil).Digest(); seen[again] != "nothing" {
		t.Error("equal stores have different digests")
	}
}

// The sum of a value does not depend on how it was put together, at all the
// sizes around the blocks it is summed in.
func TestDigestOfAppendedValuesEqualsThatOfWholeOnes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, 4095, 4096, 4097, 8192, 20_000} {
		whole := make([]byte, size)
		for i := range whole {
			whole[i] = byte(rnd.Uint32())
		}
		straight, pieces := loaded(nil), loaded(nil)
		command(straight, func(tx *store.Tx) { tx.Set([]byte("k"), store.StringValue(whole), 0) })
		command(pieces, func(tx *store.Tx) {
			e := tx.Set([]byte("k"), text(""), 0)
			for at := 0; at < size; {
				n := min(size-at, 1+rnd.IntN(5000))
				tx.Append(e, whole[at:at+n])
				at += n
			}
			tx.Append(e, nil)
		})
		if straight.Digest() != pieces.Digest() {
			t.Errorf("size %d: the digests differ", size)
		}
	}
}

// The order of the blocks of a value counts.
func TestDigestMindsTheOrderOfBlocks(t *testing.T) {
	a, b := strings.Repeat("a", 4096), strings.Repeat("b", 4096)
	ab, ba := loaded(nil), loaded(nil)
	command(ab, func(tx *store.Tx) { tx.Set([]byte("k"), text(a+b), 0) })
	command(ba, func(tx *store.Tx) { tx.Set([]byte("k"), text(b+a), 0) })
	if ab.Digest() == ba.Digest() {
		t.Error("exchanged blocks do not show")
	}
}

// Two stores under the same changes stay equal, whatever only reads in between,
// and however their keys came to be where they are.
func TestTwinsStayEqual(t *testing.T) {
	for seed := range uint64(3) {
		a, b := newPair(t, seed, 50), newPair(t, seed, 50)
		for i := range 300 {
			a.run()
			b.run()
			if i%7 == 0 {
				b.checkDue() // moves the index of deadlines, draws nothing
				b.store.View(b.now, 0, func(r *store.Reader) { r.Scan(0, 100, func(e *store.Entry) { r.Find([]byte(e.Key())) }) })
			}
			if i%50 == 0 {
				view := b.store.Freeze()
				b.store.Replace(rebuild(t, view, modelDBs, rand.New(rand.NewPCG(seed, 5))))
				view.Release()
			}
			if x, y := a.store.Digest(), b.store.Digest(); x != y {
				t.Fatalf("seed %d, step %d: digests %x and %x", seed, i, x, y)
			}
		}
	}
}

// LoadRecord takes the last of two records with one name.
func TestLoadRecordReplaces(t *testing.T) {
	s := store.New(1)
	s.LoadRecord(store.Record{Key: "k", Value: text("old"), Deadline: 5, Version: 1})
	s.LoadRecord(store.Record{Key: "k", Value: text("new"), Version: 2})
	twin := store.New(1)
	twin.LoadRecord(store.Record{Key: "k", Value: text("new"), Version: 2})
	if s.Digest() != twin.Digest() || fmt.Sprint(s.Stats(0)) != fmt.Sprint(twin.Stats(0)) {
		t.Errorf("stats %+v, want %+v", s.Stats(0), twin.Stats(0))
	}
}

// goOn lets Recompute run to its end.
func goOn() error { return nil }

// What is computed anew from the contents is what the changes have kept up to date,
// whatever those were, and although the store changes meanwhile.
func TestRecomputedDigestIsTheKeptOne(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	s := store.New(3)
	sys := base()
	sys.Settings.Databases = 3
	s.LoadSystem(sys)
	for round := range 40 {
		for range rnd.IntN(200) {
			key := []byte(fmt.Sprint("k", rnd.IntN(300)))
			command(s, func(tx *store.Tx) {
				switch rnd.IntN(6) {
				case 0:
					tx.Delete(key)
				case 1:
					if e := tx.Peek(key); e != nil {
						tx.Append(e, []byte(strings.Repeat("x", rnd.IntN(9000))))
					}
				default:
					tx.Set(key, text(fmt.Sprint(rnd.Uint64())), int64(rnd.IntN(2))*100_000)
				}
			})
		}
		switch rnd.IntN(8) {
		case 0:
			command(s, func(tx *store.Tx) { tx.Swap(0, 2) })
		case 1:
			command(s, func(tx *store.Tx) { tx.FlushAll() })
		}
		view, want := s.Freeze(), s.Digest()
		setKeys(s, 0, 50)
		got, err := view.Recompute(goOn)
		view.Release()
		if err != nil || got != want || view.Digest() != want {
			t.Fatalf("round %d: recomputed %x, %v; kept %x, of the view %x", round, got, err, want, view.Digest())
		}
	}
}

// Recompute ends when it is told to, and a view gives its keys once.
func TestRecomputeEnds(t *testing.T) {
	view := filled(t, 20_000).Freeze()
	defer view.Release()
	asked := 0
	stop := errors.New("enough")
	if _, err := view.Recompute(func() error { asked++; return stop }); !errors.Is(err, stop) || asked != 1 {
		t.Errorf("asked %d times, ended with %v", asked, err)
	}
	if _, err := view.Recompute(goOn); err == nil {
		t.Error("a view was read twice")
	}
}
