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
func leaseOf(t testing.TB, n *testkit.Node) string {
	t.Helper()
	c := testkit.MustDial(t, n.Addr())
	defer c.Close()
	list := c.MustDo(t, "RAFT", "STATUS").Elems
	for i := 0; i+1 < len(list); i += 2 {
		if string(list[i].Text) == "lease" {
			return string(list[i+1].Text)
		}
	}
	t.Fatal("RAFT STATUS says nothing of leases")
	return ""
}

// waitLease waits until the line about the lease of the present master is as wanted, and
// returns the master.
func waitLease(t testing.TB, c *testkit.Cluster, want string) *testkit.Node {
	t.Helper()
	var n *testkit.Node
	testkit.Eventually(t, formLimit, "the master's lease is "+want, func() error {
		n = c.Nodes[c.WaitMaster(formLimit)]
		got := leaseOf(t, n)
		return testkit.Check(got == want, "%s says %q", n.ID, got)
	})
	return n
}

// P2: with read-mode lease reads need no round, ROLE neither; while a voter has another
// election timeout, and on nodes with another read-mode, they do, and RAFT STATUS and the
// metrics say why.
func TestReadsGoByTheLease(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Args: leasing()})
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
			t.Fatalf("got %q", got)
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
		if got := leaseOf(t, o); o != n && got != "off: this node is not the master" {
			t.Errorf("%s says %q", o.ID, got)
		}
	}
	wantOff(t, c.Nodes[(c.WaitMaster(formLimit)+1)%3], "not-master")
}

// wantOff wants a node's metrics to name the reason why it has no lease.
func wantOff(t testing.TB, n *testkit.Node, reason string) {
	t.Helper()
	testkit.Eventually(t, 5*time.Second, n.ID+" has no lease: "+reason, func() error {
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
	n := waitLease(t, c, "off: n3 has an election timeout of 5s")
	wantOff(t, n, "voters")
	testkit.MustDial(t, n.Addr()).MustDo(t, "GET", "key")
	plain := start(t, testkit.ClusterOptions{})
	wantOff(t, waitLease(t, plain, "off: read-mode is not lease"), "read-mode")
}

// P2: with leases too histories are linearizable while masters are killed, suspended, and
// hand over.
func TestLinearizableWithLeases(t *testing.T) {
	for name, nemesis := range map[string]func(*testkit.Cluster){
		"kills": killMaster, "suspension": suspendMaster,
		"handovers": func(c *testkit.Cluster) {
			for range 3 {
				at := c.WaitWhole(formLimit)
				testkit.MustDial(t, c.Nodes[at].Addr()).MustDo(t, "RAFT", "TRANSFER", c.Nodes[(at+1)%3].ID)
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
	n := waitLease(t, c, "on")
	testkit.MustDial(t, n.Addr()).MustDo(t, "GET", "key0")
	if used, err := gauge(t, n, "holdfast_lease_confirmations_total"); err != nil || used == 0 {
		t.Errorf("leases were not used: %v, %v", used, err)
	}
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
