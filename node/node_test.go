package node

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
)

// A node alone is master as soon as it serves, says so wherever it is asked, and
// has all its data after a restart.
func TestSingleNodeServesAndRestarts(t *testing.T) {
	m := single(t)
	c := m.dial()
	c.MustDo(t, "SET", "session", "value", "EX", "1000")
	if got := c.MustDo(t, "GET", "session"); string(got.Text) != "value" {
		t.Errorf("GET answers %v", got)
	}
	if got := c.MustDo(t, "ROLE"); string(got.Elems[0].Text) != "master" {
		t.Errorf("ROLE answers %v", got)
	}
	for field, want := range map[string]string{
		"role": "master", "loading": "0", "raft_established": "1", "raft_ready": "1", "raft_quorum": "1", "raft_state": "Leader", "db0": "",
	} {
		if got, ok := m.info()[field]; !ok || want != "" && got != want {
			t.Errorf("INFO says %s:%s, want %s", field, got, want)
		}
	}
	if got := c.MustDo(t, "CONFIG", "GET", "databases").Map()["databases"]; string(got.Text) != "16" {
		t.Errorf("CONFIG GET databases answers %v", got)
	}
	if addr, err := masterOf(m.sentinel()); err != nil || addr != m.data() {
		t.Errorf("the Sentinel port names %q, %v", addr, err)
	}
	digest := m.info()["raft_digest"]
	m.halt()
	m.start()
	m.waitRole("master")
	c = m.dial()
	if got := c.MustDo(t, "GET", "session"); string(got.Text) != "value" {
		t.Errorf("GET answers %v after a restart", got)
	}
	if ttl := c.MustDo(t, "TTL", "session").Int(); ttl < 900 || ttl > 1000 {
		t.Errorf("TTL is %d after a restart", ttl)
	}
	if digest == "" {
		t.Error("INFO tells no digest")
	}
}

// SHUTDOWN ends the node as a signal does: without an error and without a reply.
func TestShutdownEndsTheNode(t *testing.T) {
	for _, args := range []string{"SHUTDOWN", "SHUTDOWN NOSAVE", "SHUTDOWN SAVE"} {
		m := single(t)
		c := m.dial()
		c.MustDo(t, "SET", "k", "v")
		if r, err := c.Do(strings.Fields(args)...); err == nil || r.Type != 0 {
			t.Errorf("%s answers %v", args, r)
		}
		if err := m.wait(soon); err != nil {
			t.Errorf("%s: the node ended with %v", args, err)
		}
	}
}

// What keeps a node from starting is said, and nothing stays open behind it.
func TestStartFailsWithAReason(t *testing.T) {
	m := single(t)
	for want, directives := range map[string][]string{
		"data port: ":     {"port", itoa(m.cfg.Port)},
		"sentinel port: ": {"sentinel-port", itoa(m.cfg.SentinelPort)},
		"metrics port: ":  {"metrics-port", itoa(m.cfg.MetricsPort)},
		"in use":          {"dir", m.cfg.Dir},
	} {
		err := Run(t.Context(), conf(t, "n1", testkit.Ports(t), directives...), m.logger(), "test")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", directives, err, want)
		}
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, runIDFile), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Run(t.Context(), conf(t, "n1", testkit.Ports(t), "dir", dir), m.logger(), "test")
	if err == nil || !strings.Contains(err.Error(), "40 hex digits") {
		t.Errorf("got %v for a damaged run id", err)
	}
}

// A node that is told to stop before it has come to serve stops, and well.
func TestStopRightAfterTheStart(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	stop()
	m := &member{tb: t, cfg: *conf(t, "n1", testkit.Ports(t))}
	if err := Run(ctx, conf(t, "n1", testkit.Ports(t)), m.logger(), "test"); err != nil {
		t.Errorf("got %v", err)
	}
	for _, state := range []string{"Follower", "Leader"} {
		m.start()
		testkit.Eventually(t, soon, "raft runs", func() error {
			got := m.node.raft.View().State
			return testkit.Check(got == state || got == "Leader", "it is %s", got)
		})
		m.halt()
	}
}
