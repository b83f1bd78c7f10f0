package cluster_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/testkit"
)

// Nodes that start seconds apart, crash and come back while they form, in every
// order, become one cluster.
func TestFormationSurvivesCrashesInAnyOrder(t *testing.T) {
	for _, order := range [][]string{{"n1", "n2", "n3"}, {"n3", "n2", "n1"}, {"n2", "n3", "n1"}} {
		t.Run(strings.Join(order, ""), func(t *testing.T) {
			c := newTrio(t, nil)
			for i, id := range order {
				c.start(id)
				pause(testElection)
				for _, m := range c.live() {
					if i < 2 && m.node.Formed() {
						t.Fatalf("%s opened raft with %d of 3 nodes", m.id, i+1)
					}
				}
				c.kill(order[0])
				c.start(order[0])
			}
			for _, id := range order { // whatever stage each has reached
				c.kill(id)
				c.start(id)
			}
			c.put("k", "v")
		})
	}
}

// A node says whom it waits for.
func TestFormationSaysWhomItWaitsFor(t *testing.T) {
	c := newTrio(t, nil)
	m := c.start("n1")
	c.eventually("n2 and n3 are waited for", func() bool {
		v := m.node.View()
		return v.Waiting == "waiting for n2, n3" && !v.Ready && v.Leader == "" && v.State == "forming"
	})
	if err := m.node.Apply([]byte("a=b"), time.Second).Error(); !errors.Is(err, raft.ErrNotLeader) {
		t.Errorf("a write before raft runs: %v", err)
	}
	if err := confirm(m, time.Second); !errors.Is(err, cluster.ErrNotMaster) {
		t.Errorf("a confirmation before raft runs: %v", err)
	}
}

// A node that has lost its disk does not form, vote or count: with it and one other
// node there is no majority, and it says why. Once a majority of whole disks is back,
// it is taken in again by itself, with a vote.
func TestWipedNodeTakesNoPartUntilAMajorityTakesItIn(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	l := c.leader()
	rest := c.others(l)
	wiped, gone := rest[0], rest[1]
	c.kill(wiped.id)
	c.put("precious", "v")
	c.kill(gone.id)
	c.kill(l.id)
	if err := os.RemoveAll(wiped.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	c.start(wiped.id)
	c.start(gone.id) // it lacks nothing, but is alone with the wiped one
	c.eventually("the wiped node says why it waits", func() bool {
		w := wiped.node.View().Waiting
		return strings.Contains(w, "data directory is empty") && strings.Contains(w, "no master is confirmed") &&
			strings.Contains(w, l.cfg.Bind)
	})
	pause(6 * testElection)
	for _, m := range []*member{wiped, gone} {
		if v := m.node.View(); v.RaftLeader || v.Leader != "" || m == wiped && m.node.Formed() {
			t.Errorf("%s: %+v", m.id, v)
		}
	}
	c.start(l.id) // with two whole disks there is a majority
	if got := c.leaderAmong(l.id, gone.id).fsm.get("precious"); got != "v" {
		t.Errorf("precious is %q", got)
	}
	c.votes("n1", "n2", "n3")
	c.sees(wiped, "precious", "v")
	c.put("after", "v")
	c.sees(wiped, "after", "v")
	c.kill(gone.id) // its vote counts
	c.put("counts", "v")
}

// A node with the wrong secret gets nowhere, and the others do not notice.
func TestWrongSecretStaysOutside(t *testing.T) {
	c := newTrio(t, nil)
	c.start("n1")
	c.start("n2")
	c.members["n3"].cfg.Secret = "wrong"
	c.start("n3")
	pause(4 * testElection)
	for _, m := range c.live() {
		if m.node.Formed() {
			t.Errorf("%s formed a cluster", m.id)
		}
	}
	c.kill("n3")
	c.members["n3"].cfg.Secret = c.members["n1"].cfg.Secret
	c.start("n3")
	c.leader()
}

// Bytes of no node at the raft port do not disturb those who use it.
func TestGarbageAtTheRaftPortIsHarmless(t *testing.T) {
	told(t, nil, func(t testing.TB, c *trio) {
		l := c.leader()
		for i := range 200 {
			conn, err := net.Dial("tcp", l.node.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if i%2 == 0 {
				if _, err := conn.Write([]byte(strings.Repeat("GET / HTTP/1.1\r\n", i))); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
					t.Fatal(err)
				}
			}
		}
		c.put("k", "v")
		if got := c.leader(); got != l {
			t.Errorf("the leader changed from %s to %s", l.id, got.id)
		}
	})
}

// P7: whoever has no secret cannot keep the nodes from each other by holding every
// place for a handshake.
func TestStrangersDoNotKeepNodesOut(t *testing.T) {
	c := newTrio(t, nil)
	for _, id := range c.ids {
		if err := c.start(id).node.Handle("echo", func(net.Conn, string) {}); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{"n1", "n2"} { // two others may have formed the cluster
		c.eventually(id+" is one of them", func() bool { v := c.members[id].node.View(); return v.Ready && v.Leader != "" })
	}
	target := c.members["n2"].node
	for range 200 {
		conn, err := net.Dial("tcp", target.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	reached := 0
	var last error
	for range 30 { // a handshake has an end, which a standstill can go beyond
		conn, err := c.members["n1"].node.Dial(t.Context(), "n2", "echo")
		if err != nil {
			last = err
			continue
		}
		_ = conn.Close()
		if reached++; reached == 10 {
			return
		}
	}
	t.Errorf("n2 was reached %d times of 30: %v", reached, last)
}

// A node whose directory belongs to another cluster stops with an error, and the
// cluster it was let loose on goes on.
func TestNodeOfAnotherClusterStops(t *testing.T) {
	a, b := started(t, nil), started(t, nil)
	a.leader()
	b.leader()
	b.kill("n3")
	a.kill("n3")
	stray := a.members["n3"]
	stray.cfg.Dir = b.members["n3"].cfg.Dir
	a.start("n3")
	stray.stopsWith(t, cluster.ErrForeignCluster, 10*time.Second)
	a.put("k", "v")
}

// A second process with the same id is kept out and stops; the first one stays.
func TestSecondProcessWithSameIDStops(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	first := c.others(l)[0]
	c.put("k", "v")
	c.kill(first.id)
	second := &member{id: first.id, cfg: first.cfg}
	second.cfg.Dir = filepath.Join(testkit.MemoryDir(t), "copy")
	if err := os.CopyFS(second.cfg.Dir, os.DirFS(first.cfg.Dir)); err != nil {
		t.Fatal(err)
	}
	c.start(first.id)
	c.eventually("the first is back", func() bool { return first.node.View().Ready })
	second.cfg.Bind, second.cfg.Announce = "127.0.0.1:0", freeAddr(t)
	if err := second.start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		second.stop()
		<-second.ended
		_ = second.node.Close()
	}()
	second.stopsWith(t, cluster.ErrDuplicate, 12*time.Second)
	c.put("k2", "v")
	c.sees(first, "k2", "v")
}

// Connections of other kinds reach their handlers, with the proved id of the peer.
func TestHandledKindsReachTheirHandler(t *testing.T) {
	c := newTrio(t, nil)
	got := make(chan string, 1)
	for _, id := range c.ids {
		m := c.start(id)
		err := m.node.Handle("echo", func(conn net.Conn, peer string) {
			b := make([]byte, 2)
			if _, err := conn.Read(b); err == nil {
				got <- peer + string(b)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if m.node.Handle("raft", func(net.Conn, string) {}) == nil {
			t.Error("raft's own connections can be taken over")
		}
	}
	c.leader()
	var conn net.Conn
	c.eventually("a connection", func() (ok bool) {
		var err error
		conn, err = c.members["n1"].node.Dial(t.Context(), "n2", "echo")
		return err == nil
	})
	defer conn.Close()
	if _, err := conn.Write([]byte("hi")); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "n1hi" {
		t.Errorf("got %q", s)
	}
	if _, err := c.members["n1"].node.Dial(t.Context(), "n2", "nothing"); err == nil {
		t.Error("a kind nobody serves was accepted")
	}
}
