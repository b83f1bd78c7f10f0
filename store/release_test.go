//go:build !faults

package store_test

import (
	"testing"

	"github.com/holdfast/holdfast/store"
)

// Release builds have no way to corrupt a value.
func TestReleaseBuildsCannotFlip(t *testing.T) {
	if _, ok := any(store.New(1)).(interface{ Flip(int, []byte) bool }); ok {
		t.Error("Store has Flip without the tag \"faults\"")
	}
}
