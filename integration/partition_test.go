package integration_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// networked starts a cluster on a network that can be cut. Its test is in a sandbox.
func networked(t testing.TB, opts testkit.ClusterOptions) (*testkit.Cluster, *testkit.Network) {
	t.Helper()
	opts.Network = testkit.NewNetwork(t, 3)
	return start(t, opts), opts.Network
}

// sandboxed tells whether the test goes on here: it is to start processes, and in a
// sandbox.
func sandboxed(t *testing.T) bool {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	return testkit.Sandbox(t)
}

// partition is a way in which a network fails, given the master and the two others.
type partition struct {
	name  string
	paths func(n *testkit.Network, master, one, two int) []testkit.Path
	kill  bool // the master is killed meanwhile as well
	flap  bool // it comes and goes
}

// partitions are the ways in which networks of three nodes fail.
var partitions = []partition{
	{name: "master alone", paths: func(n *testkit.Network, m, _, _ int) []testkit.Path { return n.Alone(m) }},
	{name: "replica alone", paths: func(n *testkit.Network, _, a, _ int) []testkit.Path { return n.Alone(a) }},
	{name: "master mute", paths: func(n *testkit.Network, m, _, _ int) []testkit.Path { return n.Mute(m) }},
	{name: "master deaf", paths: func(n *testkit.Network, m, _, _ int) []testkit.Path { return n.Deaf(m) }},
	{name: "master alone, flapping", flap: true, paths: func(n *testkit.Network, m, _, _ int) []testkit.Path { return n.Alone(m) }},
	{name: "a replica between master and replica", paths: func(_ *testkit.Network, m, _, b int) []testkit.Path { return testkit.BothWays(m, b) }},
	{name: "the master between the replicas", paths: func(_ *testkit.Network, _, a, b int) []testkit.Path { return testkit.BothWays(a, b) }},
	{name: "replica mute", paths: func(n *testkit.Network, _, a, _ int) []testkit.Path { return n.Mute(a) }},
	{name: "replica deaf", paths: func(n *testkit.Network, _, a, _ int) []testkit.Path { return n.Deaf(a) }},
	{name: "replica alone, master killed", kill: true, paths: func(n *testkit.Network, _, a, _ int) []testkit.Path { return n.Alone(a) }},
	{name: "a circle", paths: func(_ *testkit.Network, m, a, b int) []testkit.Path {
		return []testkit.Path{{From: m, To: a}, {From: a, To: b}, {From: b, To: m}}
	}},
	{name: "loss", paths: func(n *testkit.Network, _, _, _ int) []testkit.Path { return n.Lossy(30) }},
}

// strike has the network fail for a while, and be whole for a while.
func (p partition) strike(t testing.TB, c *testkit.Cluster, n *testkit.Network, random *rand.Rand) {
	t.Helper()
	m := c.WaitMaster(formLimit)
	a, b := (m+1)%3, (m+2)%3
	if random.IntN(2) == 1 {
		a, b = b, a
	}
	cut, began := p.paths(n, m, a, b), testkit.Now()
	n.MustSet(cut...)
	if p.kill {
		c.Nodes[m].Kill9()
	}
	for testkit.Now()-began < pick(600*time.Millisecond, 1500*time.Millisecond) {
		testkit.Pause(t.Context(), time.Duration(20+random.IntN(200))*time.Millisecond)
		if p.flap {
			n.MustSet()
			testkit.Pause(t.Context(), time.Duration(20+random.IntN(200))*time.Millisecond)
			n.MustSet(cut...)
		}
	}
	n.MustSet()
	if p.kill {
		c.Nodes[m].Start()
	}
	healed := testkit.Now()
	now := c.WaitMaster(formLimit)
	t.Logf("%s (master %s): %s is master %v after the end", p.name, c.Nodes[m].ID, c.Nodes[now].ID, (testkit.Now() - healed).Round(time.Millisecond))
	testkit.Pause(t.Context(), pick(200*time.Millisecond, time.Second))
}

// struck is a nemesis that has the network fail in one way after the other, a third of
// them each time.
func struck(t testing.TB, c *testkit.Cluster, n *testkit.Network) func() {
	t.Helper()
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	next := 0
	return func() {
		for range len(partitions) / 3 {
			partitions[next%len(partitions)].strike(t, c, n, random)
			next++
		}
	}
}

// P2, P3: histories of GET, SET and INCR on few keys are linearizable while the network
// between the nodes fails in every way, with the clients still reaching all of them.
func TestLinearizableUnderPartitions(t *testing.T) {
	if !sandboxed(t) {
		return
	}
	c, n := networked(t, testkit.ClusterOptions{})
	linearizable(t, c, struck(t, c, n))
}

// P2, P5: so are those of plain clients of all three nodes, which pass everything on to
// the master. A counter that each client has to itself, beside them, is incremented once
// for each reply, at most once for each unknown outcome, and not for a refusal.
func TestForwardedHistoriesAreLinearizableUnderPartitions(t *testing.T) {
	if !sandboxed(t) {
		return
	}
	c, n := networked(t, testkit.ClusterOptions{Args: []string{"--replica-mode", "forward"}})
	stop := make(chan struct{})
	var wait sync.WaitGroup
	var counters []*counter
	for i, node := range c.Nodes {
		k := &counter{key: fmt.Sprintf("counter:%d", i)}
		counters = append(counters, k)
		wait.Go(func() { k.run(t, &plainClient{addr: node.Addr()}, stop) })
	}
	strikes := struck(t, c, n)
	linearizableFor(t, c, strikes, func(i int) commander { return &plainClient{addr: c.Nodes[i%len(c.Nodes)].Addr()} })
	close(stop)
	wait.Wait()
	m := master(t, c)
	for i, k := range counters {
		value := m.MustDo(t, "GET", k.key).Int()
		t.Logf("through %s: %d increments acknowledged, %d unknown, %d refused; the counter is %d", c.Nodes[i].ID, k.done, k.unknown, k.refused, value)
		if value < k.done || value > k.done+k.unknown || k.done == 0 {
			t.Errorf("the counter is %d after %d acknowledged increments and %d unknown", value, k.done, k.unknown)
		}
	}
}

// counter is a key that one client alone increments.
type counter struct {
	key                    string
	done, unknown, refused int64
}

// run increments until stop is closed. Each reply must be the number of increments so
// far, give or take those of unknown outcome.
func (k *counter) run(t testing.TB, p *plainClient, stop chan struct{}) {
	t.Helper()
	defer p.Close()
	last := int64(0)
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		r, outcome, err := p.Do("INCR", k.key)
		switch {
		case err == nil:
			k.done++
			if r.Int() <= last || r.Int() > k.done+k.unknown {
				t.Errorf("%s is %d after %d, with %d increments and %d unknown", k.key, r.Int(), last, k.done, k.unknown)
			}
			last = r.Int()
		case outcome == testkit.Unknown:
			k.unknown++
		default:
			k.refused++
		}
	}
}

// P1, P8: a master that is cut off from the others, or from its clients too, loses no
// acknowledged write, and a client that retries at once writes again after a median of
// at most 700 ms, p95 1.2 s, worst 2 s. So does a plain client of another node.
func TestPartitionedMasterIsReplaced(t *testing.T) {
	if !sandboxed(t) {
		return
	}
	c, n := networked(t, testkit.ClusterOptions{})
	slack := pick(300*time.Millisecond, 0) // few rounds, beside other tests
	gapsOf(t, pick(4, 28), slack, func(round int) time.Duration {
		old := c.WaitWhole(formLimit)
		forward := round%4 == 3
		for _, node := range c.Nodes {
			testkit.MustDial(t, node.Addr()).MustDo(t, "CONFIG", "SET", "replica-mode", map[bool]string{false: "redis", true: "forward"}[forward])
		}
		cut := n.Alone(old)
		clients := func(int) commander { return testkit.NewFollower(c.Sentinels(), time.Second) }
		switch {
		case forward:
			clients = func(i int) commander { return &plainClient{addr: c.Nodes[(old+1+i%2)%3].Addr()} }
		case round%2 == 1: // clients of the master learn nothing but that no answer comes
			cut = append(cut, testkit.BothWays(testkit.Outside, old)...)
			clients = func(int) commander { return testkit.NewFollower(c.Sentinels(), 250*time.Millisecond) }
		}
		ws := startWritersBy(t, 16, fmt.Sprintf("cut%d", round), clients)
		testkit.Pause(t.Context(), 400*time.Millisecond)
		at := testkit.Now()
		n.MustSet(cut...)
		anotherMaster(t, c, old)
		testkit.Pause(t.Context(), 700*time.Millisecond)
		ws.end()
		_, worst := ws.gaps(at)
		n.MustSet()
		healed := testkit.Now()
		c.WaitWhole(formLimit)
		t.Logf("round %d (forward: %t): worst of 16 clients %v; whole %v after the end; %d writes acknowledged", round, forward,
			worst.Round(time.Millisecond), (testkit.Now() - healed).Round(time.Millisecond), ws.acknowledged())
		ws.verify(t, whoeverLeads{c})
		atMaster(t, c, "FLUSHALL")
		if t.Failed() || worst > 2*time.Second {
			t.Logf("errors met: %v", ws.failures())
		}
		return worst
	})
}
