//go:build faults

package store_test

import (
	"math/rand/v2"
	"testing"

	"github.com/holdfast/holdfast/store"
)

// A flipped value is read as such, the digest of the live store does not notice,
// and that which is computed from its contents does, as does what is rebuilt from
// it; what was handed out before stays.
func TestFlipIsSeenByRebuildingOnly(t *testing.T) {
	s := filled(t, 10)
	var before []byte
	s.View(1, 0, func(r *store.Reader) { before = r.Find([]byte("key:3")).Value().Bytes() })
	digest := s.Digest()
	if !s.Flip(0, []byte("key:3")) || s.Flip(0, []byte("absent")) {
		t.Fatal("Flip tells wrongly whether it found something")
	}
	s.View(1, 0, func(r *store.Reader) {
		if got := get(r, "key:3"); got == "value:3" || len(got) != len("value:3") {
			t.Errorf("the flipped value is %q", got)
		}
	})
	if string(before) != "value:3" {
		t.Errorf("a value handed out before became %q", before)
	}
	audited := s.Freeze()
	if found, err := audited.Recompute(goOn); err != nil || found == digest || audited.Digest() != digest {
		t.Errorf("recomputed %x, %v; kept %x", found, err, audited.Digest())
	}
	audited.Release()
	view := s.Freeze()
	defer view.Release()
	if s.Digest() != digest || rebuild(t, view, 2, rand.New(rand.NewPCG(1, 2))).Digest() == digest {
		t.Error("the flip shows in the wrong digest")
	}
}
