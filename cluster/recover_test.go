package cluster_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/testkit"
)

// A node whose cluster has lost its majority becomes a cluster of its own with what it
// has, only with consent; nodes of the old cluster cannot reach it, and empty ones enter.
func TestRecoverBeginsANewIncarnation(t *testing.T) {
	for _, store := range []string{cluster.LogStoreWAL, cluster.LogStoreBolt} {
		t.Run(store, func(t *testing.T) {
			c := started(t, func(cfg *cluster.Config) { cfg.Log.Store = store })
			c.put("k", "v")
			for _, id := range c.ids {
				c.sees(c.members[id], "k", "v")
			}
			old := c.leader().node.View().Cluster
			for _, id := range c.ids {
				c.kill(id)
			}
			m := c.members["n1"]
			found, err := cluster.Recover(m.cfg, "no")
			if !errors.Is(err, cluster.ErrNoConsent) || found.Cluster != old || found.Index == 0 || len(found.Members) != 3 {
				t.Fatalf("without consent: %+v, %v", found, err)
			}
			next, err := cluster.Recover(m.cfg, old)
			if err != nil || next.Cluster == old || cluster.BaseID(next.Cluster) != old || next.Term <= found.Term {
				t.Fatalf("with consent: %+v, %v", next, err)
			}
			c.start("n1")
			c.start("n2") // of the old cluster
			c.put("alone", "v")
			c.sees(m, "k", "v")
			pause(6 * testElection)
			if v := c.members["n2"].node.View(); v.Leader != "" || v.RaftLeader || c.members["n2"].fsm.get("alone") != "" {
				t.Errorf("n2: %+v", v)
			}
			c.kill("n2")
			if err := os.RemoveAll(c.members["n2"].cfg.Dir); err != nil {
				t.Fatal(err)
			}
			n4 := c.join("n4", "n1")
			n4.cfg.Log.Store = store
			c.start("n4")
			c.votes("n1", "n4")
			c.sees(n4, "k", "v")
			c.kill("n1")
			if _, err := cluster.Recover(m.cfg, old); !errors.Is(err, cluster.ErrNoConsent) {
				t.Errorf("consent to the former incarnation is taken: %v", err)
			}
		})
	}
}

// A directory that is in use, or that holds no member, is not touched.
func TestRecoverRefuses(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	m := c.members["n1"]
	if _, err := cluster.Recover(m.cfg, m.node.View().Cluster); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("while it runs: %v", err)
	}
	empty := m.cfg
	empty.Dir = testkit.MemoryDir(t)
	if _, err := cluster.Recover(empty, ""); err == nil || !strings.Contains(err.Error(), "no node of a cluster") {
		t.Errorf("an empty directory: %v", err)
	}
}
