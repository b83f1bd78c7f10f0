package integration_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// P8: with one follower stopped, every write waits for the other's disk. That this
// takes 200 ms once a second for its flush costs the master no leadership, and its
// clients no connection and no error. Other work on the machine may cost the
// leadership, so the short form tells it again, for a shorter while each time: a flush
// that costs the leadership does so within seconds.
func TestSlowFollowerCostsNoLeadership(t *testing.T) {
	test, tries := t, 0
	testkit.Tries(t, pick(6, 1), func(t testing.TB) {
		tries++
		c := start(t, testkit.ClusterOptions{Tags: []string{"faults"}})
		lead := c.WaitWhole(formLimit)
		term := termOf(t, c.Nodes[lead])
		stopped, slow := c.Nodes[(lead+1)%3], c.Nodes[(lead+2)%3]
		inject(t, slow, map[string]any{"store_delay_ms": 200, "store_every_ms": 1000})
		testkit.Eventually(t, 15*time.Second, "the fault", func() error {
			return testkit.Check(slow.LogContains("msg=faults"), "not yet")
		})
		stopped.Stop()

		writeSlowly(t, test, c.Nodes[lead], pick(20*time.Second/time.Duration(tries), 10*time.Minute))
		if got := termOf(t, c.Nodes[lead]); got != term {
			t.Errorf("term %d after the slow disk, %d before", got, term)
		}
		stopped.Cont()
		inject(t, slow, nil)
		c.WaitWhole(formLimit)
		if got := termOf(t, c.Nodes[lead]); got != term {
			t.Errorf("term %d after the stopped node's return, %d before", got, term)
		}
	})
}

// writeSlowly counts at a master whose follower has a slow disk, for so long. A wrong count
// is told to the test.
func writeSlowly(t, test testing.TB, master *testkit.Node, length time.Duration) {
	t.Helper()
	began := testkit.Now()
	var done, delayed atomic.Int64
	var wait sync.WaitGroup
	for i := range 8 {
		client := testkit.MustDial(t, master.Addr())
		wait.Go(func() {
			for n := int64(1); testkit.Now()-began < length; n++ {
				sent := testkit.Now()
				r, err := client.Do("INCR", fmt.Sprintf("slow:%d", i))
				if err != nil {
					t.Errorf("after %v: %v, %v", testkit.Now()-began, r, err)
					return
				}
				if r.Int() != n {
					test.Errorf("after %v: %v, want %d", testkit.Now()-began, r, n)
					return
				}
				if testkit.Now()-sent > 150*time.Millisecond {
					delayed.Add(1)
				}
				done.Add(1)
				testkit.Pause(t.Context(), 5*time.Millisecond)
			}
		})
	}
	wait.Wait()
	t.Logf("%d writes, %d of them held up by the slow disk", done.Load(), delayed.Load())
	if least := int64(length / time.Second); delayed.Load() < least {
		t.Errorf("only %d writes were held up by the slow disk, want %d", delayed.Load(), least)
	}
}

// termOf is the term that a master serves in.
func termOf(t testing.TB, n *testkit.Node) int {
	t.Helper()
	status := testkit.MustDial(t, n.Addr()).MustDo(t, "RAFT", "STATUS").Map()
	term, err := strconv.Atoi(string(status["term"].Text))
	if err != nil || string(status["state"].Text) != "Leader" {
		t.Errorf("%s: RAFT STATUS says %v", n.ID, status)
	}
	return term
}
