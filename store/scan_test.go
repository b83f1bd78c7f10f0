package store_test

import (
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast/holdfast/store"
)

// scanAll goes through a whole iteration; between gets the chance to change
// things after each step. It returns how often each key was met.
func scanAll(tb testing.TB, next func() *store.Store, count int) map[string]int {
	tb.Helper()
	met := map[string]int{}
	for cursor := uint64(0); ; {
		next().View(1, 0, func(r *store.Reader) {
			cursor = r.Scan(cursor, count, func(e *store.Entry) { met[e.Key()]++ })
		})
		if cursor == 0 {
			return met
		}
		if cursor >= 1<<53 {
			tb.Fatalf("cursor %d does not fit a double", cursor)
		}
	}
}

func setKeys(s *store.Store, from, to int) {
	s.Update(1, 0, func(tx *store.Tx) {
		tx.Begin(0)
		for i := from; i < to; i++ {
			tx.Set(fmt.Appendf(nil, "key:%d", i), store.StringValue([]byte("v")), 0)
		}
	})
}

func deleteKeys(s *store.Store, from, to int) {
	s.Update(1, 0, func(tx *store.Tx) {
		tx.Begin(0)
		for i := from; i < to; i++ {
			tx.Delete(fmt.Appendf(nil, "key:%d", i))
		}
	})
}

// A key that is there from the first call to the last is met exactly once, while
// the keyspace grows to many times its size and shrinks again.
func TestScanMeetsLastingKeysOnceWhileTablesResize(t *testing.T) {
	const lasting, growth = 500, 40_000
	for _, count := range []int{1, 7, 100} {
		s := filled(t, lasting)
		rnd := rand.New(rand.NewPCG(1, uint64(count)))
		grown := lasting
		met := scanAll(t, func() *store.Store {
			switch rnd.IntN(4) {
			case 0:
				to := min(growth, grown*2)
				setKeys(s, grown, to)
				grown = to
			case 1:
				to := max(lasting, grown/3)
				deleteKeys(s, to, grown)
				grown = to
			}
			if err := s.CheckInvariants(); err != nil {
				t.Fatal(err)
			}
			return s
		}, count)
		for i := range lasting {
			if key := fmt.Sprintf("key:%d", i); met[key] != 1 {
				t.Fatalf("count %d: %s met %d times", count, key, met[key])
			}
		}
	}
}

// A cursor given by one node goes on at another whose tables have other sizes,
// as after a change of leader.
func TestScanGoesOnAtAnotherStore(t *testing.T) {
	const shared = 300
	small, big := filled(t, shared), filled(t, 30_000)
	deleteKeys(big, 20_000, 30_000)
	turn := 0
	met := scanAll(t, func() *store.Store {
		turn++
		return []*store.Store{small, big}[turn%2]
	}, 10)
	for i := range shared {
		if key := fmt.Sprintf("key:%d", i); met[key] != 1 {
			t.Errorf("%s met %d times", key, met[key])
		}
	}
}

// What Scan and Random give is a function of the keys alone: stores that came to
// the same keys by different ways answer alike, step by step.
func TestIterationDoesNotDependOnHistory(t *testing.T) {
	straight, detour := filled(t, 1000), filled(t, 0)
	setKeys(detour, 0, 20_000)
	deleteKeys(detour, 5000, 20_000)
	for i := 4999; i >= 1000; i-- {
		deleteKeys(detour, i, i+1)
	}
	walk := func(s *store.Store) (trace []string) {
		s.Update(1, 0, func(tx *store.Tx) {
			for cursor, done := uint64(0), false; !done; done = cursor == 0 {
				cursor = tx.Scan(cursor, 3, func(e *store.Entry) { trace = append(trace, e.Key()) })
				trace = append(trace, fmt.Sprint(cursor))
			}
			for range 500 {
				trace = append(trace, tx.Random(tx.Random64()).Key())
			}
		})
		return trace
	}
	if a, b := walk(straight), walk(detour); !slices.Equal(a, b) {
		t.Error("stores with the same keys iterate differently")
	}
}

// Scan looks at count entries, no more: neither big tables nor empty ones make a
// step longer.
func TestScanKeepsToCount(t *testing.T) {
	for _, keys := range []int{1, 10, 300, 20_000} {
		s := filled(t, keys)
		s.View(1, 0, func(r *store.Reader) {
			for _, count := range []int{1, 10, 100} {
				met := 0
				cursor := r.Scan(0, count, func(*store.Entry) { met++ })
				if want := min(count, keys); met != want || (cursor == 0) != (keys <= count) {
					t.Errorf("%d keys, count %d: met %d, cursor %d", keys, count, met, cursor)
				}
			}
			if met := 0; r.Scan(1<<52, 10, func(*store.Entry) { met++ }) != 0 || met != 0 {
				t.Error("a cursor past the end met something")
			}
			if r.Scan(^uint64(0), 10, func(*store.Entry) {}) != 0 {
				t.Error("a wild cursor did not end the iteration")
			}
		})
	}
}

// fn may remove the key it got and the one that comes next, and scan inside a
// scan: it gets no key that it has removed, and misses none of the others.
func TestScanBearsChangesByItsOwnCallback(t *testing.T) {
	s := filled(t, 5000)
	s.Update(1, 0, func(tx *store.Tx) {
		tx.Begin(0)
		var order, want, met []string
		tx.Scan(0, 5000, func(e *store.Entry) { order = append(order, e.Key()) })
		next := map[string]string{}
		for i := 0; i < len(order); i += 2 {
			want = append(want, order[i])
			next[order[i]] = order[i+1]
		}
		tx.Scan(0, 5000, func(e *store.Entry) {
			met = append(met, e.Key())
			inner := 0
			tx.Scan(0, 10, func(*store.Entry) { inner++ })
			if least := min(10, tx.Len()); inner != least {
				t.Fatalf("inner scan met %d, want %d", inner, least)
			}
			tx.Delete([]byte(e.Key()))
			tx.Delete([]byte(next[e.Key()]))
		})
		if !slices.Equal(met, want) || tx.Len() != 0 {
			t.Errorf("met %d keys, want %d; %d left", len(met), len(want), tx.Len())
		}
	})
}

// Every key is chosen by Random about equally often.
func TestRandomIsFair(t *testing.T) {
	for _, keys := range []int{1, 2, 5, 64, 6000} {
		s := filled(t, keys)
		rnd := rand.New(rand.NewPCG(3, 4))
		chosen := map[string]int{}
		s.View(1, 0, func(r *store.Reader) {
			for range 50 * keys {
				chosen[r.Random(rnd.Uint64()).Key()]++
			}
		})
		least := 50 * keys
		for i := range keys {
			least = min(least, chosen[fmt.Sprintf("key:%d", i)])
		}
		if limit := 50 - 6*bits.Len(uint(keys)); least < max(limit, 10) {
			t.Errorf("%d keys, 50 draws each: one was chosen only %d times", keys, least)
		}
	}
}

// Random finds the one live key among due ones, and gives nil where none is live.
func TestRandomPassesOverDueKeys(t *testing.T) {
	s := store.New(1)
	s.Update(1, 0, func(tx *store.Tx) {
		tx.Begin(0)
		for i := range 300 {
			tx.Set(fmt.Appendf(nil, "due:%d", i), store.StringValue(nil), 10)
		}
		tx.Set([]byte("live"), store.StringValue(nil), 0)
	})
	rnd := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		victims := s.View(10, 0, func(r *store.Reader) {
			if e := r.Random(rnd.Uint64()); e == nil || e.Key() != "live" {
				t.Fatal("Random did not find the live key")
			}
		})
		if len(victims) > 1024 {
			t.Fatalf("%d victims reported", len(victims))
		}
	}
	s.Update(10, 0, func(tx *store.Tx) {
		tx.Begin(0)
		tx.Delete([]byte("live"))
		if e := tx.Random(1); e != nil {
			t.Errorf("Random gave the due key %q", e.Key())
		}
	})
}

// The mean life is one of the sample's, also of keys that end as late as can be.
func TestAverageLifeOfVeryLongLives(t *testing.T) {
	s := store.New(1)
	const never = math.MaxInt64
	command(s, func(tx *store.Tx) {
		for i := range 200 {
			tx.Set(fmt.Append(nil, i), text("v"), never)
		}
	})
	const now = 5000
	if got := s.Stats(now).Databases[0].AverageLife; got < never-now-64 || got > never-now {
		t.Errorf("the mean of equal lives of %d is %d", int64(never-now), got)
	}
}
