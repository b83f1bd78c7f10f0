package integration_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// What a node of an idle cluster of three may cost. Shares are of one core.
const (
	idleCPU    = 0.02
	busyCPU    = 0.035    // of the master while others use the machine
	idleMemory = 60 << 20 // resident
)

// An idle node costs at most 2 % of a core and 60 MiB. Other work on the machine makes
// every wake-up dearer, so one quiet span among several is enough; and only the long
// form, for which the machine should be quiet, asks it of the master, which wakes most.
func TestIdleClusterCostsLittle(t *testing.T) {
	const spans, span = 8, 4 * time.Second
	c := start(t, testkit.ClusterOptions{})
	best := make([]float64, len(c.Nodes))
	limits := slices.Repeat([]float64{idleCPU}, len(c.Nodes))
	limits[c.WaitMaster(formLimit)] = pick(busyCPU, idleCPU)
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
			cheap = cheap && best[i] <= limits[i]
		}
		t.Logf("span %d: shares of a core at best %s", turn, percents(best))
		if cheap {
			break
		}
	}
	for i, n := range c.Nodes {
		if best[i] > limits[i] {
			t.Errorf("%s takes %.2f %% of a core, want at most %.1f %%", n.ID, 100*best[i], 100*limits[i])
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
func processorTimes(t testing.TB, c *testkit.Cluster) []float64 {
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
