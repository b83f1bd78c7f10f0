package store

import (
	"fmt"
	"testing"
)

// Property: warming changes nothing, whatever keys are named, and however many.
func TestWarmChangesNothing(t *testing.T) {
	s := New(2)
	var keys [][]byte
	for i := range 500 {
		keys = append(keys, fmt.Append(nil, i))
	}
	warm := func() {
		if met := s.View(50, 0, func(r *Reader) {
			r.Warm(nil)
			r.Warm(keys[:1])
			r.Warm(append([][]byte{nil, {}}, keys...))
			r.Use(1)
			r.Warm(keys)
		}); len(met) > 0 {
			t.Fatalf("met %d due keys", len(met))
		}
	}
	warm() // an empty keyspace
	s.Update(1, 1, func(tx *Tx) {
		tx.Set([]byte(""), StringValue([]byte("empty key")), 0)
		for i, key := range keys {
			tx.Set(key, StringValue(make([]byte, i%3*100)), int64(i%2)*40) // half of them are due
		}
	})
	before := s.Digest()
	warm()
	if s.Digest() != before {
		t.Fatal("the state has changed")
	}
}

// BenchmarkWarm shows what looking up 50 keys costs that are in no cache, with and
// without warming.
func BenchmarkWarm(b *testing.B) {
	const all = 1_000_000
	s := New(1)
	value := make([]byte, 512)
	for i := 0; i < all; i += 1000 {
		s.Update(1, 1, func(tx *Tx) {
			for k := range 1000 {
				tx.Set(fmt.Append(nil, "key:", i+k), StringValue(value), 0)
			}
		})
	}
	for _, warm := range []bool{false, true} {
		b.Run(fmt.Sprint(warm), func(b *testing.B) {
			next := uint64(0)
			keys := make([][]byte, 50)
			for b.Loop() {
				for i := range keys {
					next += 0x9e3779b97f4a7c15
					keys[i] = fmt.Appendf(keys[i][:0], "key:%d", next%all)
				}
				s.View(1, 0, func(r *Reader) {
					if warm {
						r.Warm(keys)
					}
					for _, key := range keys {
						if r.Peek(key) == nil {
							b.Fatal("missing")
						}
					}
				})
			}
		})
	}
}
