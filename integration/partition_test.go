package integration_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// networked starts a cluster on a network that can be cut. Its test is in a sandbox.
func networked(t *testing.T, opts testkit.ClusterOptions) (*testkit.Cluster, *testkit.Network) {
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
func (p partition) strike(t *testing.T, c *testkit.Cluster, n *testkit.Network, random *rand.Rand) {
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
	for testkit.Now()-began < pick(900*time.Millisecond, 1500*time.Millisecond) {
		testkit.Pause(t.Context(), time.Duration(20+random.IntN(280))*time.Millisecond)
		if p.flap {
			n.MustSet()
			testkit.Pause(t.Context(), time.Duration(20+random.IntN(280))*time.Millisecond)
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
	testkit.Pause(t.Context(), pick(300*time.Millisecond, time.Second))
}

// P2, P3: histories of GET, SET and INCR on few keys are linearizable while the network
// between the nodes fails in every way, with the clients still reaching all of them.
func TestLinearizableUnderPartitions(t *testing.T) {
	if !sandboxed(t) {
		return
	}
	c, n := networked(t, testkit.ClusterOptions{})
	random := rand.New(rand.NewPCG(rand.Uint64(), 0))
	next := 0
	linearizable(t, c, func() {
		for range len(partitions) / 3 {
			partitions[next%len(partitions)].strike(t, c, n, random)
			next++
		}
	})
}

// P1, P8: a master that is cut off from the others, or from its clients too, loses no
// acknowledged write, and a client that retries at once writes again after a median of
// at most 700 ms, p95 1.2 s, worst 2 s.
func TestPartitionedMasterIsReplaced(t *testing.T) {
	if !sandboxed(t) {
		return
	}
	c, n := networked(t, testkit.ClusterOptions{})
	var gaps, heals []time.Duration
	acknowledged := 0
	for round := range pick(4, 24) {
		old := c.WaitWhole(formLimit)
		cut, patience := n.Alone(old), time.Second
		if round%2 == 1 { // its clients learn nothing but that no answer comes
			cut, patience = append(cut, testkit.BothWays(testkit.Outside, old)...), 250*time.Millisecond
		}
		ws := startPatientWriters(t, c, 16, fmt.Sprintf("cut%d", round), patience)
		testkit.Pause(t.Context(), 400*time.Millisecond)
		at := testkit.Now()
		n.MustSet(cut...)
		testkit.Eventually(t, formLimit, "another master", func() error {
			for i, o := range c.Nodes {
				if role, err := testkit.Role(o.Addr()); i != old && err == nil && role == "master" {
					return nil
				}
			}
			return errors.New("none")
		})
		testkit.Pause(t.Context(), 700*time.Millisecond)
		ws.end()
		all, worst := ws.gaps(at)
		gaps = append(gaps, worst)
		acknowledged += ws.acknowledged()
		n.MustSet()
		healed := testkit.Now()
		c.WaitWhole(formLimit)
		heals = append(heals, testkit.Now()-healed)
		ws.verify(t, master(t, c))
		master(t, c).MustDo(t, "FLUSHALL")
		t.Logf("round %d: any client %v, worst of 16 %v", round, all, worst)
		if t.Failed() || worst > 2*time.Second {
			t.Logf("errors met: %v", ws.failures())
		}
	}
	t.Logf("%d partitions, %d writes acknowledged, none lost; without a successful write (worst of 16 clients): %s; whole again after %s",
		len(gaps), acknowledged, millis(gaps), millis(heals))
	wantGaps(t, gaps, pick(300*time.Millisecond, 0)) // few rounds, beside other tests
}
