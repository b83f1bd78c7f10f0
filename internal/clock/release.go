//go:build !faults

package clock

import "time"

func wallOffset() int64         { return 0 }
func bootOffset() time.Duration { return 0 }
