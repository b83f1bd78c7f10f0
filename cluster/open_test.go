package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/testkit"
)

// Open refuses what cannot work, and says what it is.
func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	m := single(t, func(cfg *cluster.Config) { cfg.Dir = dir })
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	good := m.cfg
	peers := []cluster.Peer{{ID: "solo", Addr: "127.0.0.1:1"}, {ID: "n2", Addr: "127.0.0.1:2"}}
	refuse := func(name, want string, change func(*cluster.Config)) {
		t.Helper()
		cfg := good
		change(&cfg)
		n, err := cluster.Open(cfg)
		if err == nil {
			_ = n.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", name, err, want)
		}
	}
	refuse("in use", "in use by another process", func(*cluster.Config) {})
	m.stop()
	<-m.ended
	if err := m.node.Close(); err != nil {
		t.Fatal(err)
	}
	refuse("no id", "node id", func(c *cluster.Config) { c.NodeID = "" })
	refuse("bad id", "node id", func(c *cluster.Config) { c.NodeID = "a b" })
	refuse("no secret", "secret", func(c *cluster.Config) { c.Peers = peers })
	refuse("self not listed", "not among the peers", func(c *cluster.Config) { c.Peers, c.Secret = peers[1:], "s" })
	refuse("listed twice", "twice", func(c *cluster.Config) { c.Peers, c.Secret = append(peers, peers[1]), "s" })
	refuse("bad address", "host:port", func(c *cluster.Config) { c.Peers = []cluster.Peer{{ID: "solo", Addr: "x"}} })
	refuse("more peers", "a cluster of one node", func(c *cluster.Config) { c.Peers, c.Secret = peers, "s" })
	refuse("too many long addresses", "too long", func(c *cluster.Config) {
		c.Peers, c.Secret = slices.Clone(peers), "s"
		for i := range 20 {
			c.Peers = append(c.Peers, cluster.Peer{ID: "m" + string(rune('a'+i)), Addr: strings.Repeat("x", 250) + ":1"})
		}
	})
	refuse("another node", "belongs to node solo", func(c *cluster.Config) { c.NodeID = "other" })
	refuse("another store", "kept in wal", func(c *cluster.Config) { c.Log.Store = cluster.LogStoreBolt })
	refuse("unknown store", "log store", func(c *cluster.Config) { c.Log.Store = "paper" })
	refuse("too big", "largest entry", func(c *cluster.Config) { c.Log.MaxEntryBytes = 1 << 30 })
	edit(t, dir, func(id map[string]any) { id["format"] = 99 })
	refuse("newer format", "newer release", func(*cluster.Config) {})
	edit(t, dir, func(id map[string]any) { id["format"] = 1; id["stage"] = "half" })
	refuse("damaged", "damaged", func(*cluster.Config) {})
	edit(t, dir, func(id map[string]any) { id["stage"] = "formed" })
	move := func(from, to string) {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	move("node.json", "node.json.away")
	refuse("identity gone", "node.json is gone", func(*cluster.Config) {})
	move("node.json.away", "node.json")
	move("raft", "raft.away")
	refuse("raft gone", "term and vote in ", func(*cluster.Config) {})
	if err := os.RemoveAll(filepath.Join(dir, "raft")); err != nil {
		t.Fatal(err)
	}
	move("raft.away", "raft")
	n, err := cluster.Open(good)
	if err != nil {
		t.Fatalf("after all that: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
}

// Close while Run begins either stops it or keeps it from beginning: nothing runs on
// files that are closed.
func TestCloseWhileRunBegins(t *testing.T) {
	m := single(t, nil)
	m.stop()
	<-m.ended
	if err := m.node.Close(); err != nil {
		t.Fatal(err)
	}
	for range 30 {
		n, err := cluster.Open(m.cfg)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := n.Run(context.Background()); err != nil && err.Error() != "the node has stopped" {
				t.Errorf("Run: %v", err)
			}
		})
		if err := n.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		wg.Wait()
		if err := n.Close(); err != nil {
			t.Errorf("Close again: %v", err)
		}
	}
}

// stuck is a machine that restores no snapshot before it is let go.
type stuck struct {
	*machine
	begun, letGo chan struct{}
}

func (s stuck) Restore(r io.ReadCloser) error {
	close(s.begun)
	<-s.letGo
	return s.machine.Restore(r)
}

// A node that is told to stop while it still restores its snapshot does not wait for
// ever, keeps the files it still reads open, and never runs.
func TestStopWhileASnapshotIsRestored(t *testing.T) {
	if testing.Short() {
		t.Skip("waits until the node waits no longer")
	}
	t.Parallel()
	m := single(t, nil)
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	if err := m.node.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	m.stop()
	<-m.ended
	if err := m.node.Close(); err != nil {
		t.Fatal(err)
	}
	fsm := stuck{m.fsm, make(chan struct{}), make(chan struct{})}
	cfg := m.cfg
	cfg.FSM = fsm
	n, err := cluster.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	<-fsm.begun
	stop()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "did not end") {
		t.Errorf("Run: %v", err)
	}
	if err := n.Close(); err == nil || !strings.Contains(err.Error(), "stay open") {
		t.Errorf("Close: %v", err)
	}
	close(fsm.letGo)
	eventually(t, "the files are closed", func() bool { return n.Close() == nil })
	if n.Formed() {
		t.Error("it runs all the same")
	}
}

// P1: a node that has lost its vote, or its log, takes no part: it would grant votes
// that it has given away already, or to candidates who lack what it acknowledged.
func TestOpenRefusesHalfALostDisk(t *testing.T) {
	for name, tc := range map[string]struct {
		snapshot bool
		path     string
		change   func(path, fresh string) error // fresh is the same of a node that was never formed
		want     string
	}{
		"no vote":                     {false, "raft/stable.db", remove, "its term and vote in"},
		"another vote":                {false, "raft/stable.db", replace, "its term and vote in"},
		"no log":                      {false, "raft/wal", remove, "its log in"},
		"another log":                 {false, "raft/wal", replace, "its log in"},
		"no vote, with a snapshot":    {true, "raft/stable.db", remove, "its term and vote in"},
		"no log, with a snapshot":     {true, "raft/wal", remove, "its log in"},
		"nothing mounted for the log": {true, "raft/wal", vacate, "its log in"},
	} {
		t.Run(name, func(t *testing.T) {
			m := single(t, nil)
			eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
			if tc.snapshot {
				if err := m.node.Snapshot(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			m.stop()
			<-m.ended
			fresh := m.cfg
			fresh.Dir = testkit.MemoryDir(t)
			n, err := cluster.Open(fresh)
			if err = errors.Join(err, m.node.Close()); err != nil {
				t.Fatal(err)
			}
			err = errors.Join(n.Close(), tc.change(filepath.Join(m.cfg.Dir, tc.path), filepath.Join(fresh.Dir, tc.path)))
			if err != nil {
				t.Fatal(err)
			}
			n, err = cluster.Open(m.cfg)
			if err == nil {
				_ = n.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func remove(path, _ string) error { return os.RemoveAll(path) }

func vacate(path, _ string) error { return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)) }

func replace(path, fresh string) error {
	return errors.Join(os.RemoveAll(path), os.Rename(fresh, path))
}

// edit changes the identity of a closed node.
func edit(t *testing.T, dir string, change func(map[string]any)) {
	t.Helper()
	path := filepath.Join(dir, "node.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	id := map[string]any{}
	if err := json.Unmarshal(text, &id); err != nil {
		t.Fatal(err)
	}
	change(id)
	text, err = json.Marshal(id)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
