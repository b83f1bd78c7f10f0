//go:build faults

package clock

import (
	"sync/atomic"
	"time"
)

var wallShift, bootShift atomic.Int64 // ms, ns

// SetWallOffset shifts every reading of the wall clock by ms. Only in builds
// with the tag "faults".
func SetWallOffset(ms int64) { wallShift.Store(ms) }

// SetBootOffset shifts every reading of CLOCK_BOOTTIME by d. Only in builds with
// the tag "faults".
func SetBootOffset(d time.Duration) { bootShift.Store(int64(d)) }

func wallOffset() int64         { return wallShift.Load() }
func bootOffset() time.Duration { return time.Duration(bootShift.Load()) }
