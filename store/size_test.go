package store_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/holdfast/holdfast/store"
)

// liveBytes is what the heap holds after a collection; pools take two to empty.
func liveBytes() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The sizes we account add up to what the heap really grows by, within a tenth,
// for keys and values as sessions have them, with deadlines and without.
func TestSizeIsCloseToReality(t *testing.T) {
	for _, tt := range []struct{ keys, value int }{{100_000, 10}, {100_000, 100}, {150_000, 100}, {60_000, 512}} {
		for _, deadline := range []int64{0, 1_000_000} {
			before := liveBytes()
			s := store.New(1)
			for i := range tt.keys {
				s.Update(1, 0, func(tx *store.Tx) {
					tx.Begin(0)
					tx.Set(fmt.Appendf(nil, "session:%08x:%016x", i, i*i), store.StringValue(make([]byte, tt.value)), deadline)
				})
			}
			grown, said := liveBytes()-before, s.Stats(1).UsedBytes
			t.Logf("%d keys, value %d, deadline %d: %.3f of reality, %.1f bytes a key missing",
				tt.keys, tt.value, deadline, float64(said)/float64(grown), float64(grown-said)/float64(tt.keys))
			if said < grown*9/10 || said > grown*11/10 {
				t.Errorf("accounted %d bytes, the heap grew by %d", said, grown)
			}
			runtime.KeepAlive(s)
		}
	}
}
