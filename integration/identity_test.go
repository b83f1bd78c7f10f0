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
	for _, role := range []string{"replica", "master"} {
		t.Run(role, func(t *testing.T) {
			odd := c.WaitWhole(formLimit)
			if role == "replica" {
				odd = (odd + 1) % len(c.Nodes)
			}
			n := c.Nodes[odd]
			m := master(t, c)
			m.MustDo(t, "SET", "precious", "value")
			testkit.Eventually(t, 5*time.Second, "the value is everywhere", func() error {
				got := string(testkit.MustDial(t, n.Addr()).MustDo(t, "GET", "precious").Text)
				return testkit.Check(got == "value", "%s has %q", n.ID, got)
			})
			inject(t, n, map[string]any{"flip": map[string]any{"db": 0, "key": "precious"}})
			testkit.Eventually(t, 5*time.Second, "the bit is flipped", func() error {
				return testkit.Check(n.LogContains("faults", "flipped=true"), "not yet")
			})
			for i := range 2 * every { // one checkpoint is passed for certain
				if _, err := m.Do("SET", fmt.Sprint("k", i), "v"); err != nil && role == "replica" {
					t.Fatal(err)
				} else if err != nil {
					break // the master is the one that stops
				}
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
			now := master(t, c)
			for i := range 2 * every {
				now.MustDo(t, "SET", fmt.Sprint("k", i), "w")
			}
			n.Start()
			c.WaitWhole(formLimit)
			if got := string(testkit.MustDial(t, n.Addr()).MustDo(t, "GET", "precious").Text); got != "value" {
				t.Errorf("after its start it has %q", got)
			}
			agree(t, c, every)
		})
	}
}

// agree waits until all nodes say that they agree at a checkpoint to come.
func agree(t testing.TB, c *testkit.Cluster, every int) {
	t.Helper()
	m := master(t, c)
	for i := range 2 * every {
		m.MustDo(t, "SET", fmt.Sprint("k", i), "z")
	}
	testkit.Eventually(t, 20*time.Second, "all nodes agree", func() error {
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
