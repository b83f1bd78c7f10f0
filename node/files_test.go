package node

import (
	"math"
	"testing"
)

// The ports share what there is: never more than all of it, everything wanted if that
// fits, and neither port goes without.
func TestPortsShareTheFiles(t *testing.T) {
	for _, tc := range []struct{ wanted, files, data, sentinel int }{
		{10_000, math.MaxInt32, 10_000, 10_000},
		{10_000, 20_000, 10_000, 10_000},
		{10_000, 19_488, 10_000, 9_488},
		{10_000, 512, 384, 128},
		{100, 150, 100, 50},
		{10_000, 1, 1, 1},
		{1, 0, 1, 1},
		{math.MaxUint32, 1_000, 750, 250},
	} {
		if data, sentinel := share(tc.wanted, tc.files); data != tc.data || sentinel != tc.sentinel {
			t.Errorf("%d of %d files: got %d and %d, want %d and %d", tc.wanted, tc.files, data, sentinel, tc.data, tc.sentinel)
		}
	}
	if n := clientFiles(); n < 1 {
		t.Errorf("%d files are left to clients", n)
	}
}
