package store_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/holdfast/holdfast/store"
)

const (
	benchValue = 512
	benchLife  = 30 * 60_000
)

// benchKeys is the size of the keyspace in benchmarks: 100,000, or what
// STORE_BENCH_KEYS says (10000000 takes some 8 GB).
func benchKeys(b *testing.B) int {
	b.Helper()
	n, err := strconv.Atoi(os.Getenv("STORE_BENCH_KEYS"))
	if err != nil {
		return 100_000
	}
	return n
}

func benchKey(dst []byte, i int) []byte { return fmt.Appendf(dst[:0], "session:%016x", i) }

// sessions is a store of n keys with values of 512 bytes and deadlines.
func sessions(tb testing.TB, n int) *store.Store {
	tb.Helper()
	s := store.New(16)
	s.LoadSystem(store.System{HashSeed: [2]uint64{1, 2}, Stamp: 1, Ops: 1})
	for i := range n {
		s.LoadRecord(store.Record{
			Key: string(benchKey(nil, i)), Value: store.StringValue(make([]byte, benchValue)),
			Deadline: benchLife + int64(i), Version: 1,
		})
	}
	return s
}

// onKeys runs op on random keys of a filled store.
func onKeys(b *testing.B, op func(s *store.Store, key []byte)) {
	b.Helper()
	n := benchKeys(b)
	s := sessions(b, n)
	rnd := rand.New(rand.NewPCG(1, 2))
	key := make([]byte, 0, 64)
	b.ReportAllocs()
	for b.Loop() {
		key = benchKey(key, rnd.IntN(n))
		op(s, key)
	}
}

// each runs op on random keys of a filled store, one Update per call.
func each(b *testing.B, op func(tx *store.Tx, key []byte)) {
	b.Helper()
	onKeys(b, func(s *store.Store, key []byte) {
		s.Update(1, 0, func(tx *store.Tx) {
			tx.Begin(0)
			op(tx, key)
		})
	})
}

// BenchmarkSet overwrites a value, as each request of a session does: the one
// allocation is the new value.
func BenchmarkSet(b *testing.B) {
	each(b, func(tx *store.Tx, key []byte) {
		tx.Set(key, store.StringValue(make([]byte, benchValue)), benchLife*2)
	})
}

// BenchmarkSetDeadline is EXPIRE of a sliding session.
func BenchmarkSetDeadline(b *testing.B) {
	each(b, func(tx *store.Tx, key []byte) { tx.SetDeadline(tx.Find(key), benchLife*2) })
}

// BenchmarkAppend grows values a little at a time.
func BenchmarkAppend(b *testing.B) {
	each(b, func(tx *store.Tx, key []byte) { tx.Append(tx.Find(key), []byte("more")) })
}

// BenchmarkGet reads through a View of its own.
func BenchmarkGet(b *testing.B) {
	onKeys(b, func(s *store.Store, key []byte) {
		s.View(1, 0, func(r *store.Reader) {
			if r.Find(key) == nil {
				b.Fatal("a key is missing")
			}
		})
	})
}

// BenchmarkScan is a SCAN step with COUNT 10; the cost may not depend on the
// number of keys.
func BenchmarkScan(b *testing.B) {
	for _, n := range []int{100, 10_000, benchKeys(b)} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := sessions(b, n)
			cursor := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				s.View(1, 0, func(r *store.Reader) { cursor = r.Scan(cursor, 10, func(*store.Entry) {}) })
			}
		})
	}
}

// BenchmarkRandom is RANDOMKEY; the cost may not depend on the number of keys.
func BenchmarkRandom(b *testing.B) {
	for _, n := range []int{100, 10_000, benchKeys(b)} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := sessions(b, n)
			rnd := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			for b.Loop() {
				s.View(1, 0, func(r *store.Reader) { r.Random(rnd.Uint64()) })
			}
		})
	}
}

// BenchmarkLoad is restoring one record.
func BenchmarkLoad(b *testing.B) {
	s := sessions(b, 0)
	key := make([]byte, 0, 64)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		key = benchKey(key, i)
		s.LoadRecord(store.Record{Key: string(key), Value: store.StringValue(make([]byte, benchValue)), Deadline: benchLife, Version: 1})
	}
}

// Overwriting a key allocates nothing beside the value, and moving a deadline
// nothing at all: neither entry, timer, key nor room for undoing.
func TestOverwritingAllocatesNothing(t *testing.T) {
	s := sessions(t, 1000)
	key, value := benchKey(nil, 7), store.StringValue(make([]byte, benchValue))
	changes := map[string]func(tx *store.Tx){
		"Set":         func(tx *store.Tx) { tx.Set(key, value, benchLife*2) },
		"SetDeadline": func(tx *store.Tx) { tx.SetDeadline(tx.Find(key), benchLife*3) },
		"Undo":        func(tx *store.Tx) { tx.Set(key, value, 0); tx.Undo() },
	}
	for name, change := range changes {
		run := func(tx *store.Tx) {
			tx.Begin(0)
			change(tx)
		}
		if n := testing.AllocsPerRun(100, func() { s.Update(1, 0, run) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
	find := func(r *store.Reader) { r.Find(key) }
	if n := testing.AllocsPerRun(100, func() { s.View(1, 0, find) }); n > 0.5 { // the pool may be emptied
		t.Errorf("View: %v allocations, want 0", n)
	}
}

// Databases without keys cost little.
func TestEmptyDatabasesAreCheap(t *testing.T) {
	before := liveBytes()
	s := store.New(16)
	if grown := liveBytes() - before; grown > 16_384 {
		t.Errorf("16 empty databases take %d bytes", grown)
	}
	s.Stats(1)
}
