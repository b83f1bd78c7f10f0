package bell_test

import (
	"testing"

	"github.com/holdfast/holdfast/internal/bell"
)

// A bell wakes all who have waited before it is rung, and nobody who comes after.
func TestBellWakesWhoWaits(t *testing.T) {
	var b bell.Bell
	b.Ring()
	one, two := b.Next(), b.Next()
	b.Ring()
	<-one
	<-two
	select {
	case <-b.Next():
		t.Error("it was not rung")
	default:
	}
}
