package node

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// writer counts up a key of its own through whatever node the Sentinel ports name,
// until stopped.
type writer struct {
	key   string
	acked atomic.Int64 // the last value that was acknowledged
	count atomic.Int64 // acknowledged writes
}

// write sets ever larger values until stop is closed. It asks the Sentinel ports
// again whenever a connection ends.
func (w *writer) write(all []*member, stop <-chan struct{}) {
	var sentinels []string
	for _, m := range all {
		sentinels = append(sentinels, m.sentinel())
	}
	f := testkit.NewFollower(sentinels, time.Second)
	defer f.Close()
	for n := int64(1); ; n++ {
		select {
		case <-stop:
			return
		default:
		}
		if _, _, err := f.Do("SET", w.key, itoa(int(n))); err == nil {
			w.acked.Store(n)
			w.count.Add(1)
		}
	}
}

// startWriters runs n writers until the returned function is called.
func startWriters(all []*member, n int) (writers []*writer, halt func()) {
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		w := &writer{key: "w" + itoa(i)}
		writers = append(writers, w)
		wg.Go(func() { w.write(all, stop) })
	}
	return writers, sync.OnceFunc(func() { close(stop); wg.Wait() })
}

func total(writers []*writer) (n int64) {
	for _, w := range writers {
		n += w.count.Load()
	}
	return n
}

// equalDigests waits until all nodes have the same applied index, with the same
// digest.
func equalDigests(t testing.TB, all []*member) {
	t.Helper()
	testkit.Eventually(t, soon, "digests at an equal index are equal", func() error {
		seen := map[string]string{}
		for _, m := range all {
			i := m.info()
			seen[i["raft_applied_index"]+" "+i["raft_digest"]] = m.cfg.NodeID
		}
		return testkit.Check(len(seen) == 1, "%v", seen)
	})
}

// P1, P2, P3, P8: when the master goes away while clients write, another node
// takes over, its first subscribers are told after it serves, nothing that was
// acknowledged is missing, and the old master comes back as a replica with the
// same state.
func TestFailover(t *testing.T) {
	always := t
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		master := waitMaster(t, all...)
		rest := others(all, master)
		events := testkit.MustDial(t, rest[0].sentinel())
		events.MustDo(t, "SUBSCRIBE", "+switch-master")
		writers, stop := startWriters(all, 4)
		defer stop()
		testkit.Eventually(t, soon, "writes go on", func() error {
			return testkit.Check(total(writers) > 100, "%d", total(writers))
		})
		idle := master.dial()
		idle.MustDo(t, "PING")

		halted := testkit.Now()
		master.halt()
		if err := idle.Closed(soon); err != nil {
			t.Errorf("a client of the old master: %v", err)
		}
		event, err := events.ReadWithin(soon)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("+switch-master came %v after the master was told to stop", testkit.Now()-halted)
		next := announced(t, rest, event)
		if got := fmt.Sprintf("mymaster 127.0.0.1 %d 127.0.0.1 %d", master.cfg.Port, next.cfg.Port); string(event.Elems[2].Text) != got {
			t.Errorf("+switch-master says %s, want %s", event.Elems[2].Text, got)
		}
		before := total(writers)
		testkit.Eventually(t, soon, "writes go on at the new master", func() error {
			return testkit.Check(total(writers) > before+100, "%d of %d", total(writers), before)
		})
		master.start()
		waitWhole(t, all)
		stop()
		equalDigests(always, all)
		for _, w := range writers {
			for _, m := range all { // replicas answer too, from the same state
				r, err := m.do("GET", w.key)
				if err != nil {
					t.Errorf("%s: GET answers %v", m.cfg.NodeID, err)
				} else if r.Int() < w.acked.Load() {
					always.Errorf("%s has %s = %v; %d was acknowledged", m.cfg.NodeID, w.key, r, w.acked.Load())
				}
			}
		}
	})
}

// announced is the node that an event names as master. It must serve as such at
// the moment the event is there, and the Sentinel port that told it must agree.
func announced(t testing.TB, nodes []*member, event testkit.Reply) *member {
	t.Helper()
	words := strings.Fields(string(event.Elems[2].Text))
	for _, m := range nodes {
		if len(words) != 5 || words[4] != itoa(m.cfg.Port) {
			continue
		}
		if r, err := m.do("ROLE"); err != nil || string(r.Elems[0].Text) != "master" {
			t.Errorf("the new master answers ROLE with %v, %v", r, err)
		}
		if _, err := m.do("SET", "announced", "1"); err != nil {
			t.Errorf("the new master answers SET with %v", err)
		}
		if addr, err := masterOf(nodes[0].sentinel()); err != nil || addr != m.data() {
			t.Errorf("the Sentinel port that announced %s names %q, %v", m.data(), addr, err)
		}
		return m
	}
	t.Fatalf("the event names no running node: %v", event)
	return nil
}

// P3, P5: with two of three nodes gone the last one refuses to write, sends its
// Sentinel clients away, and calls nobody master, until a majority is back.
func TestLostMajority(t *testing.T) {
	for _, role := range []string{"master", "slave"} {
		t.Run(role, func(t *testing.T) {
			steadily(t, func(story testing.TB, times []string) { lostMajority(t, story, role, times) })
		})
	}
}

// lostMajority is the story of a node that had the role. What is told to always is no
// matter of time.
func lostMajority(always, t testing.TB, role string, times []string) {
	t.Helper()
	all := trio(t, nil, times...)
	last := waitMaster(t, all...)
	last.dial().MustDo(t, "SET", "kept", "value")
	if role == "slave" {
		last = others(all, last)[0]
	}
	rest := others(all, last)
	sentinel := testkit.MustDial(t, last.sentinel())
	sentinel.MustDo(t, "PING")
	data := last.dial()
	data.MustDo(t, "PING")
	for _, m := range rest {
		m.halt()
	}
	if err := sentinel.Closed(soon); err != nil {
		t.Errorf("a Sentinel client without a majority: %v", err)
	}
	if role == "master" {
		if err := data.Closed(soon); err != nil { // it may not be the master any more
			t.Errorf("a client of the master without a majority: %v", err)
		}
	}
	alone(always, t, last)
	rest[0].start()
	next := waitMaster(t, last, rest[0])
	if r, err := next.do("GET", "kept"); err != nil {
		t.Errorf("GET answers %v after the majority is back", err)
	} else if string(r.Text) != "value" {
		always.Errorf("GET answers %v after the majority is back", r)
	}
}

// alone wants of a node that it says nothing which takes a majority.
func alone(always, t testing.TB, m *member) {
	t.Helper()
	if r, err := ask(m.sentinel(), "PING"); err == nil {
		t.Errorf("the Sentinel port answers %v without a majority", r)
	}
	if role, err := testkit.Role(m.data()); err != nil || role != "slave" {
		t.Errorf("without a majority ROLE says %s, %v", role, err)
	}
	if r, err := m.do("SET", "kept", "lost"); err == nil {
		always.Errorf("without a majority SET answers %v", r)
	} else if !strings.HasPrefix(err.Error(), "READONLY ") {
		t.Errorf("without a majority SET answers %v", err)
	}
	if err := m.node.Leader(t.Context()); err == nil {
		always.Error("/leader says yes without a majority")
	}
	if err := m.node.Ready(t.Context()); err == nil {
		t.Error("/readyz says yes without a master")
	}
	if v := m.node.View(); v.MasterKnown {
		t.Errorf("%s is named master without a majority", v.Master)
	}
}

// Settings of the whole cluster are changed at the master, arrive everywhere, and
// are no surprise to anybody.
func TestReplicatedSettings(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		master := waitMaster(t, all...)
		if _, err := others(all, master)[0].do("CONFIG", "SET", "proto-max-bulk-len", "2mb"); err == nil {
			t.Error("a replica changes a setting of the cluster")
		}
		if _, err := master.do("CONFIG", "SET", "proto-max-bulk-len", "2mb"); err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			testkit.Eventually(t, soon, "the setting arrives at "+m.cfg.NodeID, func() error {
				r, err := m.do("CONFIG", "GET", "proto-max-bulk-len")
				return errors.Join(err, testkit.Check(string(r.Map()["proto-max-bulk-len"].Text) == "2097152", "it has %v", r))
			})
			c := m.dial()
			if err := c.SendBytes([]byte("*2\r\n$4\r\nECHO\r\n$3000000\r\n")); err != nil {
				t.Fatal(err)
			}
			if r, err := c.Read(); err != nil || !strings.Contains(r.String(), "invalid bulk length") {
				t.Errorf("%s answers %v, %v to a bulk above its limit", m.cfg.NodeID, r, err)
			}
			if got := strings.Contains(m.log.String(), "settings are used instead"); got {
				t.Errorf("%s is surprised by a setting that was changed on purpose", m.cfg.NodeID)
			}
		}
		equalDigests(t, all)
	})
}

// decided asks the master until it has accepted a command or found it too big: on a
// disk that stalls leadership may be lost meanwhile.
func decided(t *testing.T, all []*member, args ...string) (id string, err error) {
	t.Helper()
	testkit.Eventually(t, soon, args[0]+" is decided", func() error {
		master := waitMaster(t, all...)
		id = master.cfg.NodeID
		if _, err = master.do(args...); err != nil && !strings.Contains(err.Error(), "max-entry-bytes") {
			return err
		}
		return nil
	})
	return id, err
}

// A node that was started with other replicated settings uses the cluster's. It
// neither accepts nor sends what the others could not take.
func TestClusterSettingsWin(t *testing.T) {
	all := trio(t, map[string][]string{"n2": {"max-entry-bytes", "2mb"}, "n3": {"max-entry-bytes", "3mb"}}, "max-entry-bytes", "2mb")
	var seed string
	testkit.Eventually(t, soon, "settings are equal", func() error {
		seen := map[string]bool{}
		for _, m := range all {
			r, err := m.do("CONFIG", "GET", "max-entry-bytes")
			if err != nil {
				return err
			}
			seed = string(r.Map()["max-entry-bytes"].Text)
			seen[seed] = true
		}
		return testkit.Check(len(seen) == 1, "%v", seen)
	})
	differs := 0
	for _, m := range all {
		if m.info()["settings_differ_from_cluster"] == "1" {
			differs++
		}
	}
	if want := 1; seed == itoa(2<<20) && differs != want || seed == itoa(3<<20) && differs != 2 {
		t.Errorf("%d nodes say that their settings differ from the cluster's %s", differs, seed)
	}
	limit := map[string]int{itoa(2 << 20): 2 << 20, itoa(3 << 20): 3 << 20}[seed]
	for range all { // whoever is master
		if id, err := decided(t, all, "SET", "k", strings.Repeat("x", limit-1000)); err != nil {
			t.Errorf("%s refuses less than the limit: %v", id, err)
		}
		if id, err := decided(t, all, "MSET", "a", strings.Repeat("x", limit/2), "b", strings.Repeat("x", limit/2)); err == nil {
			t.Errorf("%s accepts more than the limit", id)
		}
		master := waitMaster(t, all...)
		master.halt()
		waitMaster(t, others(all, master)...)
		master.start()
		waitWhole(t, all)
	}
}

// Every node records how it is reached, and a node that comes back elsewhere is
// recorded anew.
func TestMemberRecords(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		master := waitMaster(t, all...)
		moved := others(all, master)[0]
		moved.halt()
		spare := testkit.Ports(t)
		moved.cfg.Port, moved.cfg.SentinelPort = spare, spare+1
		moved.start()
		for _, m := range all {
			testkit.Eventually(t, soon, m.cfg.NodeID+" has the new address", func() error {
				got := m.node.members()[moved.cfg.NodeID]
				return testkit.Check(got.DataPort == spare && got.SentinelPort == spare+1, "it has %+v", got)
			})
		}
		waitWhole(t, all)
		equalDigests(t, all)
		replicas, err := ask(master.sentinel(), "SENTINEL", "REPLICAS", "mymaster")
		if err != nil || !strings.Contains(replicas.String(), moved.data()) {
			t.Errorf("the Sentinel port shows %v, %v", replicas, err)
		}
	})
}
