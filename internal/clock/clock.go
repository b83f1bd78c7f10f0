// Package clock is the only door to time: the wall clock, and CLOCK_BOOTTIME,
// which never steps and goes on while the machine sleeps. It knows nothing of
// what the time is for.
package clock

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Clock tells the time. Implementations are safe for concurrent use.
type Clock interface {
	// WallMilli is the wall clock in ms since the Unix epoch. It may step either way.
	WallMilli() int64
	// Boot is the time since some fixed instant by CLOCK_BOOTTIME. It never goes
	// back, and counts the time the machine or the process was suspended.
	Boot() time.Duration
}

// System is the machine's clock. In builds with the tag "faults" both readings
// can be shifted; see fault.go.
type System struct{}

var _ Clock = System{}

// WallMilli is the machine's wall clock.
func (System) WallMilli() int64 { return time.Now().UnixMilli() + wallOffset() }

// Boot reads CLOCK_BOOTTIME.
func (System) Boot() time.Duration {
	var ts unix.Timespec
	// Raw: it never waits, so the scheduler need not be told of the call.
	_, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0) //nolint:gosec // as unix.ClockGettime does
	if errno != 0 {
		panic("clock: CLOCK_BOOTTIME cannot be read: " + errno.Error()) // no kernel that Go runs on lacks it
	}
	return time.Duration(ts.Nano()) + bootOffset()
}

// Fake is a clock for tests, moved by hand. The zero Fake stands at 0.
type Fake struct {
	wall atomic.Int64 // ms
	boot atomic.Int64 // ns
}

var _ Clock = (*Fake)(nil)

// WallMilli is where the wall clock was put.
func (f *Fake) WallMilli() int64 { return f.wall.Load() }

// Boot is how far the clock was advanced.
func (f *Fake) Boot() time.Duration { return time.Duration(f.boot.Load()) }

// SetWall puts the wall clock to ms since the epoch and leaves Boot alone.
func (f *Fake) SetWall(ms int64) { f.wall.Store(ms) }

// Advance moves both clocks forward by d.
func (f *Fake) Advance(d time.Duration) {
	f.wall.Add(d.Milliseconds())
	f.boot.Add(int64(d))
}
