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
	idleMemory = 60 << 20 // resident
)

// allowed is the share of a core that a node may take in a span. Other work on the machine
// makes every wake-up dearer: only the long form, for which the machine should be quiet,
// has the true limit, and the short one allows most to the master, which wakes most.
func allowed(isMaster bool) float64 {
	if isMaster {
		return pick(0.05, idleCPU)
	}
	return pick(0.03, idleCPU)
}

// An idle node costs at most 2 % of a core and 60 MiB. One quiet span among several is
// enough, of each node for itself.
func TestIdleClusterCostsLittle(t *testing.T) {
	const span = 4 * time.Second
	c := start(t, testkit.ClusterOptions{})
	cheap := make([]bool, len(c.Nodes))
	for turn := range pick(15, 8) {
		master := c.WaitMaster(formLimit)
		before := processorTimes(t, c)
		began := testkit.Now()
		testkit.Pause(t.Context(), span)
		after, took := processorTimes(t, c), (testkit.Now() - began).Seconds()
		if next := c.WaitMaster(formLimit); next != master {
			t.Logf("span %d: the master has moved", turn)
			continue
		}
		shares := make([]float64, len(c.Nodes))
		for i := range shares {
			shares[i] = (after[i] - before[i]) / took
			cheap[i] = cheap[i] || shares[i] <= allowed(i == master)
		}
		t.Logf("span %d, master %s: shares of a core %s", turn, c.Nodes[master].ID, percents(shares))
		if !slices.Contains(cheap, false) {
			break
		}
	}
	for i, n := range c.Nodes {
		if !cheap[i] {
			t.Errorf("%s never takes as little as %.1f %% of a core, or %.1f %% as the master", n.ID, 100*allowed(false), 100*allowed(true))
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
