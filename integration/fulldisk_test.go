package integration_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// Sizes of real disks: diskSize has room for twice the mark of 256 MiB, the reserve and
// a few segments; lowSpace is below the mark, and above a quarter of it, where the
// reserve is given up.
const (
	diskSize  = 1200 << 20
	lowSpace  = 120 << 20
	highSpace = 600 << 20
)

// onDisks starts a cluster of which every node has a file system of its own.
func onDisks(t testing.TB) (*testkit.Cluster, []*testkit.Disk) {
	t.Helper()
	c := testkit.NewCluster(t, testkit.ClusterOptions{})
	var disks []*testkit.Disk
	for _, n := range c.Nodes {
		disks = append(disks, testkit.Mount(t, n.DataDir, diskSize))
		n.Start()
	}
	c.WaitWhole(formLimit)
	for _, n := range c.Nodes {
		testkit.Eventually(t, formLimit, "the reserve of "+n.ID, func() error {
			return testkit.Check(reserved(n), "it has none")
		})
	}
	return c, disks
}

// reserved tells whether a node has its reserve of disk space.
func reserved(n *testkit.Node) bool {
	_, err := os.Stat(filepath.Join(n.DataDir, "reserve"))
	return err == nil
}

// anotherMaster waits until a node other than this one says it is master.
func anotherMaster(t testing.TB, c *testkit.Cluster, old int) {
	t.Helper()
	testkit.Eventually(t, formLimit, "another master", func() error {
		for i, n := range c.Nodes {
			if i == old {
				continue // which may be silent
			}
			if role, err := testkit.Role(n.Addr()); err == nil && role == "master" {
				return nil
			}
		}
		return fmt.Errorf("there is none but %s", c.Nodes[old].ID)
	})
}

// P1, P5: a file system that is really filled below the mark, that of the master or
// those of all nodes, keeps writes out and nothing else: reads are served, and another
// master is elected. The reserve stays. When there is space again writes are taken.
func TestFilledDisksRefuseWrites(t *testing.T) {
	if !sandboxed(t) {
		return
	}
	c, disks := onDisks(t)
	lead := c.WaitMaster(formLimit)
	insist(t, c).MustDo(t, "SET", "kept", "value")

	disks[lead].Leave(lowSpace) // one node's
	refused(t, c)
	c.Nodes[lead].Kill9()
	taken(t, c, formLimit) // from one that has space
	c.Nodes[lead].Start()
	c.WaitWhole(formLimit)
	taken(t, c, formLimit)

	for _, d := range disks { // all nodes'
		d.Leave(lowSpace)
	}
	refused(t, c)
	lead = c.WaitMaster(formLimit)
	c.Nodes[lead].Kill9()
	anotherMaster(t, c, lead)
	refused(t, c)
	c.Nodes[lead].Start()
	c.WaitWhole(formLimit)
	refused(t, c)
	for _, n := range c.Nodes {
		if !reserved(n) {
			t.Errorf("%s has given up its reserve", n.ID)
		}
	}
	for _, d := range disks {
		d.Leave(highSpace)
	}
	taken(t, c, 15*time.Second)
}

// P1: a file system filled past the reserve ends its node once its log needs more, with
// a message that says so; the others serve on, without a gap in what was acknowledged.
// Started with space it takes part again, with all it has missed.
func TestFilledDiskStopsTheNode(t *testing.T) {
	if !sandboxed(t) {
		return
	}
	testkit.Tries(t, mostTold(), filledDisk) // of a node that stays a replica
}

func filledDisk(t testing.TB) {
	t.Helper()
	c, disks := onDisks(t)
	m := insist(t, c)
	at := (c.WaitWhole(formLimit) + 1) % 3 // a replica's: without space on the master's nobody can write
	full, disk := c.Nodes[at], disks[at]
	disk.Fill()
	testkit.Eventually(t, formLimit, "it gives up its reserve", func() error {
		return testkit.Check(!reserved(full) && full.LogContains("the reserve is given up"), "not yet")
	})
	value := strings.Repeat("x", 1<<20)
	wrote := 0
	for ; full.Running() && wrote < 600; wrote++ {
		disk.Fill() // whatever it lets go of
		m.MustDo(t, "SET", fmt.Sprintf("big:%d", wrote%8), value)
	}
	if code := full.WaitExit(formLimit); code <= 0 || !full.LogContains("level=ERROR", "no space left on device") {
		t.Errorf("after %d MiB it ended with code %d and\n%s", wrote, code, full.Tail(3000))
	}
	t.Logf("it ended after %d MiB:\n%s", wrote, full.Tail(600))
	m.MustDo(t, "SET", "kept", "value")
	disk.Fill()
	full.Start() // it has no room for what it missed
	if code := full.WaitExit(formLimit); code <= 0 {
		t.Errorf("started without space it ended with code %d and\n%s", code, full.Tail(3000))
	}
	disk.Leave(highSpace)
	full.Start()
	c.WaitWhole(formLimit)
	testkit.Eventually(t, formLimit, "what it has missed", func() error {
		got, err := answerOf(full, "GET", "kept")
		return errors.Join(err, testkit.Check(string(got.Text) == "value", "it has %v", got))
	})
	if !reserved(full) {
		testkit.Eventually(t, formLimit, "its reserve", func() error { return testkit.Check(reserved(full), "it has none") })
	}
}
