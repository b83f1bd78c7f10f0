package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// Free space as the fault hook has the nodes believe: below the mark but above what
// makes them give up the reserve, and plenty.
const (
	littleSpace = 100 << 20
	muchSpace   = 10 << 30
)

// misconf is how the refusal begins.
const misconf = "MISCONF Too little disk space"

// crowd has the disks of some nodes look so full.
func crowd(t testing.TB, free int64, nodes ...*testkit.Node) {
	t.Helper()
	for _, n := range nodes {
		inject(t, n, map[string]any{"free_bytes": free})
	}
}

// refused waits until writes are refused for want of space, and reads are served.
func refused(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	testkit.Eventually(t, formLimit, "writes are refused and reads served", func() error {
		i, err := c.FindMaster()
		if err != nil {
			return err
		}
		client, err := testkit.Dial(c.Nodes[i].Addr(), 5*time.Second)
		if err != nil {
			return err
		}
		defer client.Close()
		r, err := client.Do("SET", "k", "refused")
		if err == nil || !strings.HasPrefix(string(r.Text), misconf) {
			return fmt.Errorf("a write is answered %q, %w", r.Text, err)
		}
		r, err = client.Do("GET", "kept")
		if err != nil {
			return err
		}
		return testkit.Check(string(r.Text) == "value", "a read is answered %s", r.Text)
	})
}

// taken waits until writes are taken.
func taken(t testing.TB, c *testkit.Cluster, limit time.Duration) {
	t.Helper()
	testkit.Eventually(t, limit, "writes are taken", func() error {
		i, err := c.FindMaster()
		if err != nil {
			return err
		}
		client, err := testkit.Dial(c.Nodes[i].Addr(), time.Second)
		if err != nil {
			return err
		}
		defer client.Close()
		r, err := client.Do("SET", "k", "v")
		if err != nil {
			return err
		}
		return testkit.Check(string(r.Text) == "OK", "a write is answered %s", r.Text)
	})
}

// P1, P5: a disk below the mark, of the master or of all nodes, keeps writes out, and
// nothing else: reads are served, keys expire, another master is elected. When there
// is space again writes are taken again. One replica's disk alone changes nothing.
func TestLowDisks(t *testing.T) {
	testkit.Tries(t, mostTold(), lowDisks) // of a master that stays
}

func lowDisks(t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{Tags: []string{"faults"}})
	lead := c.WaitWhole(formLimit)
	m := testkit.MustDial(t, c.Nodes[lead].Addr())
	m.MustDo(t, "SET", "kept", "value")
	var replicas []*testkit.Node
	for i, n := range c.Nodes {
		if i != lead {
			replicas = append(replicas, n)
		}
	}

	crowd(t, littleSpace, replicas[0])
	testkit.Eventually(t, 15*time.Second, "the replica sees it", func() error {
		return testkit.Check(replicas[0].LogContains("the disk is low"), "not yet")
	})
	for range 20 {
		m.MustDo(t, "SET", "k", "v")
		testkit.Pause(t.Context(), 20*time.Millisecond)
	}

	crowd(t, littleSpace, replicas[1])
	refused(t, c) // two of three: no majority without one of them
	crowd(t, muchSpace, replicas...)
	taken(t, c, 15*time.Second)

	m.MustDo(t, "SET", "short", "v", "PX", "1500")
	crowd(t, littleSpace, c.Nodes[lead])
	refused(t, c)
	testkit.Eventually(t, 15*time.Second, "a key expires all the same", func() error {
		r, err := m.Do("GET", "short")
		if err != nil {
			return err
		}
		return testkit.Check(r.Null, "it is %s", r.Text)
	})

	crowd(t, littleSpace, c.Nodes...)
	refused(t, c)
	c.Nodes[lead].Kill9() // an election with all disks low
	refused(t, c)
	c.Nodes[lead].Start()
	c.WaitWhole(formLimit)
	refused(t, c)
	crowd(t, muchSpace, c.Nodes...)
	taken(t, c, 15*time.Second)
	for _, n := range c.Nodes {
		if _, err := os.Stat(filepath.Join(n.DataDir, "reserve")); err != nil {
			t.Errorf("the reserve of %s: %v", n.ID, err)
		}
		if n != c.Nodes[lead] {
			testkit.Eventually(t, 15*time.Second, n.ID+" says that it has space again", func() error {
				return testkit.Check(n.LogContains("the disk has space again"), "not yet")
			})
		}
	}
}

// P1: a disk that is filled past the reserve stops its node, which says why; the
// others serve on. Started with space it takes part again.
func TestFullDiskStopsTheNode(t *testing.T) {
	testkit.Tries(t, mostTold(), func(try testing.TB) { fullDisk(t, try) }) // of a master that stays
}

// fullDisk reports a write that is lost to always, and everything else to t.
func fullDisk(always, t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{Tags: []string{"faults"}})
	lead := c.WaitWhole(formLimit)
	full := c.Nodes[lead]
	testkit.MustDial(t, full.Addr()).MustDo(t, "SET", "kept", "value")
	inject(t, full, map[string]any{"free_bytes": 1 << 20})
	testkit.Eventually(t, 15*time.Second, "it gives up its reserve", func() error {
		_, err := os.Stat(filepath.Join(full.DataDir, "reserve"))
		return testkit.Check(os.IsNotExist(err) && full.LogContains("the reserve is given up"), "it is there: %v", err)
	})
	refused(t, c) // it serves on
	inject(t, full, map[string]any{"free_bytes": 0, "store": "enospc"})
	// No client can write any more; what the cluster writes by itself is what fails.
	sizes := []string{"2mb", "3mb"}
	testkit.Eventually(t, formLimit, "the node ends", func() error {
		if client, err := testkit.Dial(full.Addr(), time.Second); err == nil {
			_, _ = client.Do("CONFIG", "SET", "proto-max-bulk-len", sizes[0])
			client.Close()
		}
		sizes[0], sizes[1] = sizes[1], sizes[0]
		return testkit.Check(!full.Running(), "it runs")
	})
	if code := full.WaitExit(20 * time.Second); code == 0 || !full.LogContains("level=ERROR", "append to the log: no space left on device") {
		t.Errorf("it ended with code %d and\n%s", code, full.Tail(2000))
	}
	taken(t, c, 15*time.Second)
	if err := os.Remove(filepath.Join(full.DataDir, "faults.json")); err != nil {
		t.Fatal(err)
	}
	full.Start()
	c.WaitWhole(formLimit)
	taken(t, c, 15*time.Second)
	if got := string(asked(t, full, "GET", "kept").Text); got != "value" {
		always.Errorf("it has %q", got)
	}
}

// P8: a disk that hangs under the master costs it the leadership and its clients
// within 5 s, and writes succeed elsewhere within the same time. When it hangs no
// longer the node takes part again.
func TestHungDiskIsReplacedWithinFiveSeconds(t *testing.T) {
	testkit.Tries(t, mostTold(), hungDisk)
}

func hungDisk(t testing.TB) {
	t.Helper()
	const bound = 5 * time.Second
	c := start(t, testkit.ClusterOptions{Tags: []string{"faults"}})
	hung := c.Nodes[c.WaitWhole(formLimit)]
	idle, writer := testkit.MustDial(t, hung.Addr()), testkit.MustDial(t, hung.Addr())
	idle.MustDo(t, "PING")
	inject(t, hung, map[string]any{"store": "hang"})
	testkit.Eventually(t, 15*time.Second, "the disk hangs", func() error {
		return testkit.Check(hung.LogContains("msg=faults", "hang"), "not yet")
	})
	began := testkit.Now()
	ended := make(chan time.Duration, 2)
	for _, client := range []*testkit.Client{idle, writer} {
		go func() {
			if client == writer {
				_ = client.Send("SET", "k", "hung")
			}
			if err := client.Closed(2 * bound); err != nil {
				t.Error(err)
			}
			ended <- testkit.Now() - began
		}()
	}
	taken(t, c, bound)
	took := testkit.Now() - began
	if took > bound {
		t.Errorf("a write succeeded elsewhere after %v", took)
	}
	for range 2 {
		if closed := <-ended; closed > bound {
			t.Errorf("a client of the hung node was closed after %v", closed)
		}
	}
	t.Logf("a write succeeded elsewhere after %v", took)
	inject(t, hung, nil)
	c.WaitWhole(formLimit)
}
