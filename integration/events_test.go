package integration_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/raftfsm"
)

// recorder keeps what a Sentinel port publishes, on all channels.
type recorder struct {
	node *testkit.Node
	mu   sync.Mutex
	seen []event
	err  error
}

// event is one message and when it was read.
type event struct {
	text string // channel and payload
	at   time.Duration
}

// record subscribes to everything on a node's Sentinel port until the test ends or the
// connection does.
func record(t testing.TB, n *testkit.Node) *recorder {
	t.Helper()
	client := testkit.MustDial(t, n.SentinelAddr())
	client.MustDo(t, "PSUBSCRIBE", "*")
	r := &recorder{node: n}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			m, err := client.ReadWithin(time.Hour)
			now := testkit.Now()
			r.mu.Lock()
			if err != nil || len(m.Elems) != 4 {
				r.err = fmt.Errorf("%v: %w", m, err)
				r.mu.Unlock()
				return
			}
			r.seen = append(r.seen, event{string(m.Elems[2].Text) + " " + string(m.Elems[3].Text), now})
			r.mu.Unlock()
		}
	})
	t.Cleanup(func() { _ = client.Close(); wg.Wait() })
	return r
}

// from are the events after the first so many.
func (r *recorder) from(skip int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, e := range r.seen[skip:] {
		list = append(list, e.text)
	}
	return list
}

// ended tells why nothing more is recorded, if so.
func (r *recorder) ended() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// wants waits until each recorder has exactly these events after those it had, in this
// order, and returns nothing else for a while.
func wants(t testing.TB, what string, after map[*recorder]int, want []string) {
	t.Helper()
	for r, skip := range after {
		testkit.Eventually(t, formLimit, what+" is told by "+r.node.ID, func() error {
			got := r.from(skip)
			if err := r.ended(); err != nil {
				t.Fatalf("%s: %s has said %q and nothing more: %v", what, r.node.ID, got, err)
			}
			return testkit.Check(len(got) >= len(want), "%q", got)
		})
	}
	quiet(t, after)
	for r, skip := range after {
		got := r.from(skip)
		for i, text := range got {
			if i < len(want) && want[i] == "+new-epoch ?" && strings.HasPrefix(text, "+new-epoch ") {
				got[i] = want[i]
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %s published\n%s\nwant\n%s", what, r.node.ID, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// quiet waits until the recorders have equally many new events, and for a while no more
// come. If some never get what others have, the caller sees it.
func quiet(t testing.TB, after map[*recorder]int) {
	t.Helper()
	const while, limit = 300 * time.Millisecond, 10 * time.Second
	last := -1
	for began := testkit.Now(); testkit.Now()-began < limit; testkit.Pause(t.Context(), while) {
		var counts []int
		for r, skip := range after {
			counts = append(counts, len(r.from(skip)))
		}
		least, most := slices.Min(counts), slices.Max(counts)
		if least == most && most == last {
			return
		}
		last = most
	}
}

// marks are how much each recorder has.
func marks(list ...*recorder) map[*recorder]int {
	all := map[*recorder]int{}
	for _, r := range list {
		all[r] = len(r.from(0))
	}
	return all
}

// The names of instances as events have them.
func slave(n, master *testkit.Node) string {
	return fmt.Sprintf("slave %s 127.0.0.1 %d @ mymaster 127.0.0.1 %d", n.Addr(), n.Port, master.Port)
}

func masterName(n *testkit.Node) string { return fmt.Sprintf("master mymaster 127.0.0.1 %d", n.Port) }

func sentinelName(t testing.TB, n, master *testkit.Node) string {
	t.Helper()
	id := string(testkit.MustDial(t, n.SentinelAddr()).MustDo(t, "SENTINEL", "MYID").Text)
	return fmt.Sprintf("sentinel %s 127.0.0.1 %d @ mymaster 127.0.0.1 %d", id, n.SentinelPort, master.Port)
}

// P3, P8: what becomes of nodes is told with the names and payloads of Sentinel, by
// every node that is there, in the same order: a replica that goes and comes back, a
// master that crashes and comes back, a handover, a node that joins and leaves. A node
// that stands still for half a second, or an election that nobody planned, is told of as
// well; then the whole story is told again.
func TestEventsTellWhatHappens(t *testing.T) {
	testkit.Tries(t, pick(5, 2), eventsTellWhatHappens)
}

func eventsTellWhatHappens(t testing.TB) {
	c := start(t, testkit.ClusterOptions{})
	at := c.WaitMaster(formLimit)
	m, r, x := c.Nodes[at], c.Nodes[(at+1)%3], c.Nodes[(at+2)%3]
	levelReached(t, c.Nodes)
	onM, onX := record(t, m), record(t, x)

	was := marks(onM, onX)
	rs := sentinelName(t, r, m)
	r.Kill9()
	wants(t, "a lost replica", was, []string{"+sdown " + slave(r, m), "+sdown " + rs})
	flagged(t, x, "REPLICAS", r.Port, "s_down")

	was = marks(onM, onX)
	r.Start()
	wants(t, "its return", was, []string{"+reboot " + slave(r, m), "-sdown " + slave(r, m), "-sdown " + rs})
	c.WaitWhole(formLimit)
	onR := record(t, r)

	was = marks(onX, onR)
	ms := sentinelName(t, m, m)
	m.Kill9()
	n := c.Nodes[c.WaitMaster(formLimit)] // r or x
	other := r
	if n == r {
		other = x
	}
	crash := failoverStory(c, m, n, other, true)
	ms = strings.Replace(ms, fmt.Sprint(" ", m.Port), fmt.Sprint(" ", n.Port), 1)
	wants(t, "a crash", was, append(crash, "+sdown "+slave(m, n), "+sdown "+ms))

	was = marks(onX, onR)
	m.Start()
	wants(t, "the old master's return", was, []string{
		"+reboot " + slave(m, n), "-sdown " + slave(m, n), "-sdown " + ms,
		"+convert-to-slave " + slave(m, n), "+role-change " + slave(m, n) + " new reported role is slave",
	})
	c.WaitWhole(formLimit)
	onM = record(t, m)
	comesAndGoes(t, c, handsOver(t, c, n, onM, onR, onX), onM, onR, onX)
}

// handsOver has the master hand over to another node, which it returns.
func handsOver(t testing.TB, c *testkit.Cluster, from *testkit.Node, on ...*recorder) *testkit.Node {
	t.Helper()
	was := marks(on...)
	testkit.MustDial(t, from.SentinelAddr()).MustDo(t, "SENTINEL", "FAILOVER", testkit.MasterName)
	var to *testkit.Node
	testkit.Eventually(t, formLimit, "another master", func() error {
		at, err := c.FindMaster()
		if err != nil {
			return err
		}
		to = c.Nodes[at]
		return testkit.Check(to != from, "%s is master still", from.ID)
	})
	var other *testkit.Node
	for _, n := range c.Nodes {
		if n != from && n != to {
			other = n
		}
	}
	wants(t, "a handover", was, append(failoverStory(c, from, to, other, false),
		"+convert-to-slave "+slave(from, to), "+role-change "+slave(from, to)+" new reported role is slave"))
	return to
}

// levelReached waits until masters record health, and have.
func levelReached(t testing.TB, nodes []*testkit.Node) {
	t.Helper()
	testkit.Eventually(t, formLimit, "health is recorded", func() error {
		for _, n := range nodes {
			if got, err := strconv.Atoi(level(t, n)); err != nil || got < raftfsm.LevelHealth {
				return fmt.Errorf("%s has level %d: %w", n.ID, got, err)
			}
		}
		return nil
	})
	testkit.Pause(t.Context(), 500*time.Millisecond)
}

// failoverStory is what is told of a failover from one node to another.
func failoverStory(c *testkit.Cluster, from, to, other *testkit.Node, crash bool) []string {
	moved := fmt.Sprintf("mymaster 127.0.0.1 %d 127.0.0.1 %d", from.Port, to.Port)
	var story []string
	if crash {
		story = append(story, "+sdown "+masterName(from), "+odown "+masterName(from)+" #quorum 2/2")
	}
	story = append(story,
		"+new-epoch ?", "+try-failover "+masterName(from), "+elected-leader "+masterName(from), "+selected-slave "+slave(to, from),
		"-role-change "+slave(to, from)+" new reported role is master", "+promoted-slave "+slave(to, from), "+slave-reconf-done "+slave(other, from))
	if crash {
		story = append(story, "-odown "+masterName(from))
	}
	story = append(story, "+failover-end "+masterName(from), "+switch-master "+moved)
	for _, n := range c.Nodes {
		if n != to {
			story = append(story, "+slave "+slave(n, to))
		}
	}
	return append(story, "switch-master "+moved, "failover-end "+masterName(from), "selected-slave "+slave(to, from))
}

// flagged wants a flag on the node with a port in the list that a Sentinel subcommand has.
func flagged(t testing.TB, n *testkit.Node, list string, port int, flag string) {
	t.Helper()
	for _, e := range testkit.MustDial(t, n.SentinelAddr()).MustDo(t, "SENTINEL", list, testkit.MasterName).Elems {
		if f := e.Map(); f["port"].Int() == int64(port) && !strings.Contains(string(f["flags"].Text), flag) {
			t.Errorf("%s shows the node at %d with flags %q, want %s", n.ID, port, f["flags"].Text, flag)
		}
	}
}

// comesAndGoes has a node join and leave the cluster.
func comesAndGoes(t testing.TB, c *testkit.Cluster, master *testkit.Node, on ...*recorder) {
	t.Helper()
	was := marks(on...)
	j := c.NewJoiner("j1", c.Nodes...)
	j.Start()
	waitVoters(t, append([]*testkit.Node{j}, c.Nodes...)...)
	js := sentinelName(t, j, master)
	wants(t, "a node that joins", was, []string{"+slave " + slave(j, master), "+sentinel " + js})

	was = marks(on...)
	testkit.MustDial(t, master.Addr()).MustDo(t, "RAFT", "REMOVE", j.ID)
	gone := []string{"+sdown " + slave(j, master), "+sdown " + js, "+reset-master " + masterName(master)}
	for _, n := range c.Nodes {
		if n != master {
			gone = append(gone, "+slave "+slave(n, master))
		}
	}
	for _, n := range c.Nodes {
		gone = append(gone, "+sentinel "+sentinelName(t, n, master))
	}
	wants(t, "a node that leaves", was, gone)
}
