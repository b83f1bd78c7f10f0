package testkit

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
)

// pollEvery is the distance between two looks at a condition: short beside
// everything that is waited for here, long enough to cost nothing.
const pollEvery = 10 * time.Millisecond

// Poll asks cond every 10 ms until it returns nil, and returns nil then. When ctx
// ends first it asks once more, for a machine that stood still meanwhile, and returns
// what cond says then. Each call of cond should be bounded by itself.
func Poll(ctx context.Context, cond func() error) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if cond() == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return cond()
		case <-ticker.C:
		}
	}
}

// Eventually polls cond until it holds and fails the test when it does not
// within limit; what names the condition in the message.
func Eventually(tb testing.TB, limit time.Duration, what string, cond func() error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := Poll(ctx, cond); err != nil {
		tb.Fatalf("%s: not within %v: %v", what, limit, err)
	}
}

// Pause waits for d or for the end of ctx. It is for tests whose subject is the
// passing of time itself; to wait for a condition use Eventually.
func Pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// Now is a monotonic instant, for measuring how long something took.
func Now() time.Duration { return clock.System{}.Boot() }

// Within runs f and fails the test if it takes longer than limit.
func Within(tb testing.TB, limit time.Duration, what string, f func()) {
	tb.Helper()
	start := Now()
	f()
	if took := Now() - start; took > limit {
		tb.Errorf("%s took %v, want at most %v", what, took.Round(time.Millisecond), limit)
	}
}

// Check returns an error made of the format unless ok holds: the usual last line
// of a condition for Eventually.
func Check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}
