// Package integration_test shows with real processes and real client libraries
// that the promises hold which docs/consistency.md makes. Every test names the
// promise it serves. HOLDFAST_FULL=1 runs the long forms; -short runs ten seconds
// of the load of sessions and nothing else that starts processes.
package integration_test

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

func TestMain(m *testing.M) { os.Exit(testkit.Main(m)) }

// formLimit bounds how long a cluster may take until it is whole again after
// nodes were started, with both processors busy.
const formLimit = 30 * time.Second

// long tells whether the long forms were asked for.
func long() bool { return os.Getenv("HOLDFAST_FULL") != "" }

// pick is short, or full in the long form.
func pick[T any](short, full T) T {
	if long() {
		return full
	}
	return short
}

// start starts a cluster, or skips the test when only short ones are wanted.
func start(t testing.TB, opts testkit.ClusterOptions) *testkit.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	return testkit.StartCluster(t, opts)
}

// quantile is the q-th quantile of the values, the largest for q = 1.
func quantile[T cmp.Ordered](values []T, q float64) T {
	sorted := slices.Sorted(slices.Values(values))
	if len(sorted) == 0 {
		var none T
		return none
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

// millis shows durations in whole milliseconds.
func millis(list []time.Duration) string {
	out := make([]int64, len(list))
	for i, d := range list {
		out[i] = d.Milliseconds()
	}
	return fmt.Sprint(out, " ms")
}

// master connects to the cluster's master.
func master(t testing.TB, c *testkit.Cluster) *testkit.Client {
	t.Helper()
	return testkit.MustDial(t, c.Nodes[c.WaitMaster(formLimit)].Addr())
}
