package integration_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// leasing are the flags of nodes whose reads go by leases.
func leasing() []string { return []string{"--read-mode", "lease"} }

// leaseOf is the line about the lease in a node's RAFT STATUS.
func leaseOf(n *testkit.Node) (string, error) {
	status, err := answerOf(n, "RAFT", "STATUS")
	if err != nil {
		return "", err
	}
	line, ok := status.Map()["lease"]
	return string(line.Text), testkit.Check(ok, "RAFT STATUS says nothing of leases")
}

// waitLease waits until the line about the lease of the present master is as wanted, and
// returns the master.
func waitLease(t testing.TB, c *testkit.Cluster, want string) *testkit.Node {
	t.Helper()
	var n *testkit.Node
	testkit.Eventually(t, formLimit, "the master's lease is "+want, func() error {
		n = c.Nodes[c.WaitMaster(formLimit)]
		got, err := leaseOf(n)
		return errors.Join(err, testkit.Check(got == want, "%s says %q", n.ID, got))
	})
	return n
}

// P2: with read-mode lease reads need no round, ROLE neither; while a voter has another
// election timeout, and on nodes with another read-mode, they do, and RAFT STATUS and the
// metrics say why.
func TestReadsGoByTheLease(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Args: leasing()})
	testkit.Tries(t, mostTold(), func(try testing.TB) { readByTheLease(t, try, c) }) // of a master that stays
	wantOff(t, "not-master", func() (*testkit.Node, error) {
		i, err := c.FindMaster()
		return c.Nodes[(i+1)%len(c.Nodes)], err
	})
}

// readByTheLease reports wrong values to always, and everything else to t.
func readByTheLease(always, t testing.TB, c *testkit.Cluster) {
	t.Helper()
	n := waitLease(t, c, "on")
	r := testkit.MustDial(t, n.Addr())
	r.MustDo(t, "SET", "key", "value")
	used, err := gauge(t, n, "holdfast_lease_confirmations_total")
	rounds, err2 := gauge(t, n, "holdfast_probe_rounds_total")
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	const reads = 2000
	for range reads / 2 {
		if got := string(r.MustDo(t, "GET", "key").Text); got != "value" {
			always.Fatalf("got %q", got)
		}
		r.MustDo(t, "ROLE")
	}
	usedAfter, err := gauge(t, n, "holdfast_lease_confirmations_total")
	roundsAfter, err2 := gauge(t, n, "holdfast_probe_rounds_total")
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v of %d confirmations by the lease, %v rounds", usedAfter-used, reads, roundsAfter-rounds)
	if usedAfter-used < reads*9/10 || roundsAfter-rounds > reads/5 {
		t.Errorf("%v confirmations by the lease and %v rounds for %d reads", usedAfter-used, roundsAfter-rounds, reads)
	}
	for _, o := range c.Nodes {
		if got, err := leaseOf(o); o != n && (err != nil || got != "off: this node is not the master") {
			t.Errorf("%s says %q, %v", o.ID, got, err)
		}
	}
}

// wantOff wants the metrics of a node, which is found anew each time, to name the reason
// why it has no lease.
func wantOff(t testing.TB, reason string, node func() (*testkit.Node, error)) {
	t.Helper()
	testkit.Eventually(t, formLimit, "there is no lease: "+reason, func() error {
		n, err := node()
		if err != nil {
			return err
		}
		off, err := gauge(t, n, `holdfast_lease_off{reason="`+reason+`"}`)
		on, err2 := gauge(t, n, "holdfast_lease")
		return errors.Join(err, err2, testkit.Check(off == 1 && on == 0, "off %v, on %v", off, on))
	})
}

// P2: while one voter has another election timeout the lease is off and reads go on.
func TestLeaseIsOffWhileAVoterDiffers(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Args: leasing(), NodeArgs: func(i int) []string {
		if i == 2 {
			return []string{"--election-timeout", "5s"} // it is never elected
		}
		return nil
	}})
	waitLease(t, c, "off: n3 has an election timeout of 5s")
	wantOff(t, "voters", masterNode(c))
	insist(t, c).MustDo(t, "GET", "key")
	plain := start(t, testkit.ClusterOptions{})
	waitLease(t, plain, "off: read-mode is not lease")
	wantOff(t, "read-mode", masterNode(plain))
}

// masterNode finds the master.
func masterNode(c *testkit.Cluster) func() (*testkit.Node, error) {
	return func() (*testkit.Node, error) {
		i, err := c.FindMaster()
		if err != nil {
			return nil, err
		}
		return c.Nodes[i], nil
	}
}

// P2: with leases too histories are linearizable while masters are killed, suspended, and
// hand over.
func TestLinearizableWithLeases(t *testing.T) {
	for name, nemesis := range map[string]func(*testkit.Cluster){
		"kills": killMaster, "suspension": suspendMaster,
		"handovers": func(c *testkit.Cluster) {
			for range 3 {
				at := c.WaitWhole(formLimit)
				settled(t, c, c.Nodes[at], func() error {
					_, err := answerOf(c.Nodes[at], "RAFT", "TRANSFER", c.Nodes[(at+1)%3].ID)
					return err
				})
				time.Sleep(500 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, testkit.ClusterOptions{Args: leasing()})
			waitLease(t, c, "on")
			linearizable(t, c, func() { nemesis(c) })
			wantUsed(t, c)
		})
	}
}

// wantUsed wants the master to have a lease that was used.
func wantUsed(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	testkit.Eventually(t, formLimit, "leases are used", func() error {
		n := waitLease(t, c, "on")
		_, err := answerOf(n, "GET", "key0")
		used, err2 := gauge(t, n, "holdfast_lease_confirmations_total")
		return errors.Join(err, err2, testkit.Check(used > 0, "not once"))
	})
}

// P2: a master that is suspended answers no read by a lease that has passed meanwhile.
func TestSuspendedMasterWithLeaseServesNothingOld(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Args: leasing()})
	waitLease(t, c, "on")
	suspendedMasterServesNothingOld(t, c)
}

// P2: with leases histories are linearizable while CLOCK_BOOTTIME of the master jumps back and
// ahead and it is cut off from the others at the same time, but not from its clients.
func TestLinearizableWithLeasesAndJumpingClocks(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Tags: []string{"faults"}, Args: leasing()})
	waitLease(t, c, "on")
	shift := -time.Minute
	linearizable(t, c, func() {
		n := c.Nodes[c.WaitMaster(formLimit)]
		var others []string
		for _, o := range c.Nodes {
			if o != n {
				others = append(others, o.ID)
			}
		}
		inject(t, n, map[string]any{"boot_offset_ms": shift.Milliseconds(), "cut": others})
		time.Sleep(1500 * time.Millisecond)
		if err := os.Remove(filepath.Join(n.DataDir, "faults.json")); err != nil {
			t.Error(err)
		}
		time.Sleep(1500 * time.Millisecond)
		shift = -shift
	})
	wantUsed(t, c)
}
