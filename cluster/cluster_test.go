package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/cluster"
)

// Three empty nodes form a cluster, elect a leader that can be confirmed, name it on
// every node, and what is written is on all of them; with both log stores.
func TestThreeNodesFormElectAndReplicate(t *testing.T) {
	for _, store := range []string{cluster.LogStoreWAL, cluster.LogStoreBolt} {
		t.Run(store, func(t *testing.T) {
			c := started(t, func(cfg *cluster.Config) { cfg.Log.Store = store })
			l := c.leader()
			c.put("k", "v")
			for _, m := range c.live() {
				c.sees(m, "k", "v")
				c.eventually("all name "+l.id+", as "+m.id+" does", func() bool {
					v := m.node.View()
					return v.Leader == l.id && v.Ready && v.Quorum && len(v.Voters) == 3 && v.IsLeader == (m == l)
				})
				c.eventually("records and indexes of the others", func() bool {
					for _, p := range m.node.View().Peers {
						if string(p.Info) != "info of "+p.ID || !p.Contact || p.Applied == 0 || m == l && p.Acked == 0 {
							return false
						}
					}
					return true
				})
			}
		})
	}
}

// raft asks before it votes: a node that was away does not depose a leader.
func TestTransportKeepsPreVote(t *testing.T) {
	if !cluster.PreVote() {
		t.Error("the transport hides pre-votes from raft")
	}
}

// When the leader is gone another one is elected, knows every acknowledged write,
// and the old one comes back as its follower.
func TestFailoverKeepsAcknowledgedWrites(t *testing.T) {
	c := started(t, nil)
	for round := range 3 {
		c.put(fmt.Sprint("k", round), "v")
		old := c.leader()
		c.kill(old.id)
		l := c.leader()
		for i := range round + 1 {
			if got := l.fsm.get(fmt.Sprint("k", i)); got != "v" {
				t.Fatalf("k%d is %q on the new leader", i, got)
			}
		}
		c.put(fmt.Sprint("after", round), "v")
		back := c.start(old.id)
		c.sees(back, fmt.Sprint("after", round), "v")
		c.eventually("the old leader is ready", func() bool { return back.node.View().Ready })
	}
}

// All nodes stopped and started again in another order: everything is there.
func TestRestartOfAllKeepsEverything(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	id := c.leader().node.View().Cluster
	for _, n := range c.ids {
		c.kill(n)
	}
	for _, n := range []string{"n3", "n1", "n2"} {
		c.start(n)
	}
	l := c.leader()
	c.sees(l, "k", "v")
	if got := l.node.View().Cluster; got != id || id == "" {
		t.Errorf("cluster %q became %q", id, got)
	}
}

// A node that was restarted answers LOADING until it has what the master had when
// it came back, and then never again.
func TestNodeIsReadyOnceItHasCaughtUp(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	m := c.others(l)[0]
	c.kill(m.id)
	for i := range 50 {
		c.put(fmt.Sprint("k", i), "v")
	}
	m = c.start(m.id)
	c.eventually("ready", func() bool {
		if !m.node.View().Ready {
			return false
		}
		if got := m.fsm.get("k49"); got != "v" {
			t.Errorf("ready without the last write: %q", got)
		}
		return true
	})
	c.kill(l.id)
	c.leader()
	if !m.node.View().Ready {
		t.Error("not ready any more")
	}
}

// A leader that is cut off stops to claim and to be named, and so does every node
// without a majority; nobody without a majority names a master for longer than two
// election timeouts.
func TestMinorityNamesNoMaster(t *testing.T) {
	c := started(t, nil)
	old := c.leader()
	rest := c.others(old)
	c.wires.isolate(old.id, rest[0].id, rest[1].id)
	c.eventually("the old leader gives up", func() bool {
		v := old.node.View()
		return !v.IsLeader && v.Leader == "" && !v.Quorum
	})
	l := c.leaderAmong(rest[0].id, rest[1].id)
	for _, m := range rest {
		c.eventually(m.id+" names the new one", func() bool { return m.node.View().Leader == l.id })
	}
	if v := old.node.View(); v.Leader != "" || v.IsLeader {
		t.Errorf("the cut off node says %+v", v)
	}
	c.put("k", "v")
	c.wires.heal()
	c.sees(old, "k", "v")
	c.eventually("the old one follows", func() bool { return old.node.View().Leader == l.id })
}

// A leader that hears nobody, while all others hear it, does not stay: it cannot
// commit and is not confirmed.
func TestLeaderThatHearsNobodyStopsClaiming(t *testing.T) {
	c := started(t, nil)
	old := c.leader()
	rest := c.others(old)
	for _, m := range rest {
		c.wires.hold(m.id, old.id)
	}
	c.eventually("the deaf leader gives up", func() bool { return !old.node.View().IsLeader })
	if err := confirm(old, 100*time.Millisecond); err == nil {
		t.Error("a leader that hears nobody was confirmed")
	}
	l := c.leaderAmong(rest[0].id, rest[1].id)
	c.wires.heal()
	c.eventually("all name one master", func() bool {
		for _, m := range c.live() {
			if v := m.node.View(); v.Leader == "" || v.Leader != l.node.View().Leader {
				return false
			}
		}
		return true
	})
}

// Appends resume soon after a follower was away for so long that raft alone would
// wait for seconds.
func TestAppendsResumeAfterOutage(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	m := c.others(l)[0]
	c.kill(m.id)
	for i := range 12 { // each failed append doubles raft's wait
		c.put(fmt.Sprint("k", i), "v")
		pause(testElection)
	}
	m = c.start(m.id)
	began := time.NewTimer(2 * time.Second)
	defer began.Stop()
	for m.fsm.get("k11") != "v" {
		select {
		case <-began.C:
			t.Fatal("no entries two seconds after the restart")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

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
// node there is no majority, and it says why.
func TestWipedNodeTakesNoPart(t *testing.T) {
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
		return strings.Contains(wiped.node.View().Waiting, "data directory is empty")
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
	if wiped.node.Formed() {
		t.Error("the wiped node opened raft")
	}
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
	c := started(t, nil)
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
	select {
	case <-stray.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("it did not stop")
	}
	if !errors.Is(stray.result, cluster.ErrForeignCluster) {
		t.Errorf("it stopped with %v", stray.result)
	}
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
	second.cfg.Dir = filepath.Join(t.TempDir(), "copy")
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
	select {
	case <-second.ended:
	case <-time.After(12 * time.Second):
		t.Fatal("it did not stop")
	}
	if !errors.Is(second.result, cluster.ErrDuplicate) {
		t.Errorf("it stopped with %v", second.result)
	}
	c.put("k2", "v")
	c.sees(first, "k2", "v")
}

// A node that comes back with another address is reached there, and the leader
// writes the address into the configuration.
func TestNodeIsReachedAtItsNewAddress(t *testing.T) {
	c := started(t, func(cfg *cluster.Config) { cfg.Dial = nil })
	c.put("k", "v")
	m := c.others(c.leader())[0]
	c.kill(m.id)
	m.cfg.Bind = freeAddr(t)
	m.cfg.Announce = m.cfg.Bind
	c.start(m.id)
	c.put("k2", "v")
	c.sees(m, "k2", "v")
	c.eventually("the configuration has the new address", func() bool {
		return c.leader().node.RaftAddress(m.id) == m.cfg.Announce
	})
	// It can lead from there.
	for _, o := range c.others(m) {
		c.kill(o.id)
		c.start(o.id)
		c.put("k3-"+o.id, "v")
		c.sees(m, "k3-"+o.id, "v")
	}
}

// An error of the log stops the node with a message, and the others go on.
func TestLogErrorStopsTheNode(t *testing.T) {
	for _, who := range []string{"leader", "follower"} {
		t.Run(who, func(t *testing.T) {
			c := started(t, nil)
			var broken atomic.Bool
			l := c.leader()
			victim := l
			if who == "follower" {
				victim = c.others(l)[0]
			}
			c.kill(victim.id)
			victim = c.startBroken(victim.id, func() error {
				if broken.Load() {
					return syscall.EIO
				}
				return nil
			})
			if who == "leader" {
				c.lead(victim)
			} else {
				c.eventually("it follows", func() bool { return victim.node.View().Ready })
			}
			broken.Store(true)
			go victim.node.Apply([]byte("a=b"), time.Second)
			for _, m := range c.others(victim) {
				m.node.Apply([]byte("a=b"), time.Second)
			}
			select {
			case <-victim.ended:
			case <-time.After(10 * time.Second):
				t.Fatal("it did not stop")
			}
			if !errors.Is(victim.result, syscall.EIO) {
				t.Errorf("it stopped with %v", victim.result)
			}
			c.kill(victim.id)
			c.put("k", "v")
		})
	}
}

// A leader whose append hangs stops claiming and sending heartbeats, and another one
// takes over, although its raft never notices.
func TestLeaderWithHangingDiskIsReplaced(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	c.kill(l.id)
	hang := make(chan struct{})
	var hanging atomic.Bool
	m := c.startBroken(l.id, func() error {
		if hanging.Load() {
			<-hang
		}
		return nil
	})
	defer close(hang)
	c.lead(m)
	hanging.Store(true)
	m.node.Apply([]byte("a=b"), time.Second)
	rest := c.others(m)
	c.eventually("it stops claiming", func() bool { return !m.node.View().IsLeader })
	c.leaderAmong(rest[0].id, rest[1].id)
	if err := confirm(m, testElection); err == nil {
		t.Error("confirmed with a hanging disk")
	}
	hanging.Store(false)
}

// Snapshots are made when the log has grown by enough bytes, the log is cut, and a
// node that was away gets the snapshot.
func TestSnapshotsAreMadeByBytes(t *testing.T) {
	var made atomic.Int64
	c := started(t, func(cfg *cluster.Config) {
		cfg.Log.SnapshotBytes, cfg.Log.TrailingBytes = 64<<10, 1
		cfg.Observe.Snapshot = func(_ time.Duration, err error) {
			if err == nil {
				made.Add(1)
			}
		}
	})
	away := c.others(c.leader())[0]
	c.kill(away.id)
	value := strings.Repeat("x", 1<<10)
	l := c.leader()
	for i := range 400 {
		if err := l.node.Apply([]byte(fmt.Sprint("k", i, "=", value)), time.Second).Error(); err != nil {
			c.put(fmt.Sprint("k", i), value)
		}
	}
	c.eventually("a snapshot", func() bool { return made.Load() > 1 })
	c.eventually("the counter starts again", func() bool { return l.node.Stats().Log.SinceSnapshot < 400<<10 })
	m := c.start(away.id)
	for i := range 400 {
		c.sees(m, fmt.Sprint("k", i), value)
	}
	if s := l.node.Stats(); s.SnapshotIndex == 0 || s.Snapshots.Made == 0 {
		t.Errorf("stats %+v", s)
	}
}

// Snapshot makes one on demand, and again when there is nothing new.
func TestSnapshotOnDemand(t *testing.T) {
	m := single(t, nil)
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	if err := m.node.Apply([]byte("k=v"), time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.node.Snapshot(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	m.stop()
	<-m.ended
	if err := m.node.Close(); err != nil {
		t.Fatal(err)
	}
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the value", func() bool { return m.fsm.get("k") == "v" })
}

// An entry over the limit is refused before raft sees it.
func TestOversizedCommandIsRefused(t *testing.T) {
	m := single(t, func(cfg *cluster.Config) { cfg.Log.MaxEntryBytes = 1 << 10 })
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	if err := m.node.Apply(make([]byte, 1<<10+1), time.Second).Error(); !errors.Is(err, cluster.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if err := m.node.Apply(make([]byte, 1<<10), time.Second).Error(); err != nil {
		t.Errorf("an entry of the limit: %v", err)
	}
}

// A follower that is far behind gets big entries in requests of bounded size.
func TestBigEntriesReachAFollowerThatWasAway(t *testing.T) {
	c := started(t, nil)
	m := c.others(c.leader())[0]
	c.kill(m.id)
	value := strings.Repeat("x", 5<<20)
	for i := range 8 {
		c.put(fmt.Sprint("k", i), value)
	}
	m = c.start(m.id)
	for i := range 8 {
		c.sees(m, fmt.Sprint("k", i), value)
	}
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
	refuse("raft gone", "are gone", func(*cluster.Config) {})
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
