package integration_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/raftfsm"
)

// levelOne is a commit of this repository whose release speaks apply level 1 only.
const levelOne = "f0d99908b68480a75620fd300fdc2088f0c3aa06"

// level is the cluster's apply level as a node has it.
func level(t testing.TB, n *testkit.Node) string {
	t.Helper()
	return testkit.ParseInfo(string(asked(t, n, "INFO", "raft").Text))["raft_apply_level"]
}

// equalStates waits until all nodes have the same digest at the same index.
func equalStates(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	testkit.Eventually(t, formLimit, "digests at an equal index are equal", func() error {
		seen := map[string]string{}
		for _, n := range c.Nodes {
			client, err := testkit.Dial(n.Addr(), time.Second)
			if err != nil {
				return err
			}
			r, err := client.Do("INFO", "raft")
			client.Close()
			if err != nil {
				return err
			}
			info := testkit.ParseInfo(string(r.Text))
			seen[info["raft_applied_index"]+" "+info["raft_digest"]] += n.ID + " "
		}
		return testkit.Check(len(seen) == 1, "%v", seen)
	})
}

// P1, P6: nodes of an earlier release are replaced one after the other under load.
// Nothing acknowledged is lost; as long as one of them is left all entries are such as it
// reads; then the apply level is raised, and a node that is taken back to the earlier
// release stops before it applies anything, while the others serve on.
func TestRollingUpgrade(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	earlier, now := testkit.BinaryAt(t, levelOne), testkit.Binary(t)
	c := start(t, testkit.ClusterOptions{Path: earlier})
	ws := startWriters(t, c, 4, "upgrade")
	lead := c.WaitWhole(formLimit)
	order := []int{(lead + 1) % 3, (lead + 2) % 3, lead}
	for k, i := range order {
		n := c.Nodes[i]
		if code := n.Term(10 * time.Second); code != 0 {
			t.Fatalf("%s ended with code %d", n.ID, code)
		}
		n.Use(now)
		n.Start()
		c.WaitWhole(formLimit)
		testkit.Pause(t.Context(), 2*time.Second) // a raised level would show
		if k < len(order)-1 {
			if got := level(t, n); got != "1" {
				t.Fatalf("after %d of 3 nodes the level is %s", k+1, got)
			}
		}
	}
	testkit.Eventually(t, formLimit, "the level is raised everywhere", func() error {
		for _, n := range c.Nodes {
			if got := level(t, n); got != fmt.Sprint(raftfsm.Level) {
				return fmt.Errorf("%s has %s", n.ID, got)
			}
		}
		return nil
	})
	ws.end()
	ws.verify(t, insist(t, c))
	equalStates(t, c)

	back := c.Nodes[(c.WaitWhole(formLimit)+1)%3]
	if code := back.Term(10 * time.Second); code != 0 {
		t.Fatalf("%s ended with code %d", back.ID, code)
	}
	back.Use(earlier)
	back.Start()
	if code := back.WaitExit(20 * time.Second); code == 0 || !back.LogContains("level=ERROR", "needs a newer release") {
		t.Errorf("the earlier release ended with code %d and\n%s", code, back.Tail(2000))
	}
	insist(t, c).MustDo(t, "SET", "after", "v")
	back.Use(now)
	back.Start()
	c.WaitWhole(formLimit)
	equalStates(t, c)
}
