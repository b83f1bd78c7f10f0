package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// inject has a node of a build with the tag "faults" follow a plan; nil ends all faults.
func inject(t testing.TB, n *testkit.Node, plan map[string]any) {
	t.Helper()
	path := filepath.Join(n.DataDir, "faults.json")
	if plan == nil {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return
	}
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// P6: one bit that changes by itself in the memory of a node, master or replica, is
// found at the next checkpoint: that node stops, says why, and ends with a code above
// 0; the others serve on. Started again it has the state of the log.
func TestFlippedBitStopsTheNode(t *testing.T) {
	const every = 200
	c := start(t, testkit.ClusterOptions{Tags: []string{"faults"}, Args: []string{"--digest-every", fmt.Sprint(every)}})
	m := insist(t, c)
	for _, role := range []string{"replica", "master"} {
		t.Run(role, func(t *testing.T) {
			odd := c.WaitWhole(formLimit)
			if role == "replica" {
				odd = (odd + 1) % len(c.Nodes)
			}
			n := c.Nodes[odd]
			m.MustDo(t, "SET", "precious", "value")
			testkit.Eventually(t, formLimit, "the value is everywhere", func() error {
				got, err := answerOf(n, "GET", "precious")
				return errors.Join(err, testkit.Check(string(got.Text) == "value", "%s has %v", n.ID, got))
			})
			flipped := n.LogLines("faults", "flipped=true")
			inject(t, n, map[string]any{"flip": map[string]any{"db": 0, "key": "precious"}})
			testkit.Eventually(t, 15*time.Second, "the bit is flipped", func() error {
				return testkit.Check(n.LogLines("faults", "flipped=true") > flipped, "not yet")
			})
			for i := range 2 * every { // one checkpoint is passed for certain
				m.MustDo(t, "SET", fmt.Sprint("k", i), "v")
			}
			if code := n.WaitExit(30 * time.Second); code == 0 {
				t.Error("the damaged node ended as if nothing were wrong")
			}
			if !n.LogContains("level=ERROR", "the state of this node is damaged", "at log index") {
				t.Errorf("it does not say why it stopped:\n%s", n.Tail(2000))
			}
			if err := os.Remove(filepath.Join(n.DataDir, "faults.json")); err != nil {
				t.Fatal(err)
			}
			for i := range 2 * every {
				m.MustDo(t, "SET", fmt.Sprint("k", i), "w")
			}
			n.Start()
			c.WaitWhole(formLimit)
			if got := string(asked(t, n, "GET", "precious").Text); got != "value" {
				t.Errorf("after its start it has %q", got)
			}
			agree(t, c, every)
		})
	}
}

// agree waits until all nodes say that they agree at a checkpoint to come.
func agree(t testing.TB, c *testkit.Cluster, every int) {
	t.Helper()
	m := insist(t, c)
	for i := range 2 * every {
		m.MustDo(t, "SET", fmt.Sprint("k", i), "z")
	}
	testkit.Eventually(t, formLimit, "all nodes agree", func() error {
		var errs []error
		for _, n := range c.Nodes {
			client, err := testkit.Dial(n.Addr(), time.Second)
			if err != nil {
				return err
			}
			r, err := client.Do("RAFT", "DIGEST")
			client.Close()
			if err == nil && len(r.Elems) == 8 {
				verdict, nodes := string(r.Elems[3].Text), len(r.Elems[7].Elems)
				err = testkit.Check(verdict == "agree" && nodes == len(c.Nodes), "%s: %s of %d nodes", n.ID, verdict, nodes)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}
