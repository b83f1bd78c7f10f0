package integration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// What a node of an idle cluster of three may cost.
const (
	idleCPU    = 0.02     // of one core
	idleMemory = 60 << 20 // resident
)

// An idle node costs at most 2 % of a core and 60 MiB, the master included. Other work
// on the machine makes every wake-up dearer, so one quiet span among several is enough.
func TestIdleClusterCostsLittle(t *testing.T) {
	const spans, span = 8, 4 * time.Second
	c := start(t, testkit.ClusterOptions{})
	best := make([]float64, len(c.Nodes))
	for turn := range spans {
		before := processorTimes(t, c)
		began := testkit.Now()
		testkit.Pause(t.Context(), span)
		after, took := processorTimes(t, c), (testkit.Now() - began).Seconds()
		cheap := true
		for i := range best {
			share := (after[i] - before[i]) / took
			if best[i] == 0 || share < best[i] {
				best[i] = share
			}
			cheap = cheap && best[i] <= idleCPU
		}
		t.Logf("span %d: shares of a core at best %s", turn, percents(best))
		if cheap {
			break
		}
	}
	for i, n := range c.Nodes {
		if best[i] > idleCPU {
			t.Errorf("%s takes %.2f %% of a core, want at most %.0f %%", n.ID, 100*best[i], 100*idleCPU)
		}
		memory, err := testkit.ResidentBytes(n.Pid())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s holds %d MiB", n.ID, memory>>20)
		if memory > idleMemory {
			t.Errorf("%s holds %d bytes, want at most %d", n.ID, memory, idleMemory)
		}
	}
	c.WaitWhole(formLimit) // they were idle, not dead
}

// processorTimes are the seconds each node has used so far.
func processorTimes(t *testing.T, c *testkit.Cluster) []float64 {
	t.Helper()
	list := make([]float64, len(c.Nodes))
	for i, n := range c.Nodes {
		var err error
		if list[i], err = testkit.CPUSeconds(n.Pid()); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

func percents(shares []float64) string {
	text := ""
	for _, s := range shares {
		text += fmt.Sprintf("%.2f %% ", 100*s)
	}
	return text
}
