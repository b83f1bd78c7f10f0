package clock

import "time"

var origin = time.Now()

// Mono is the time since the process started by its monotonic clock. It costs a
// tenth of reading CLOCK_BOOTTIME and is not shifted by faults: it is for measuring how long
// something took, and never for deciding whether something is still true, as it
// may stand still while the machine is suspended.
func Mono() time.Duration { return time.Since(origin) }

// Since is the time since t, which time.Now has given in this process, by the monotonic
// clock. It is for instants that other packages have noted; like Mono it may stand still
// while the machine is suspended.
func Since(t time.Time) time.Duration { return time.Since(t) }
