package integration_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// P2, P3, P5: with two of three nodes gone the last one refuses or closes confirmed
// reads and writes within a second, nobody names an unflagged master, and when a
// second node is back service returns by itself with nothing lost. A machine that stands
// still may not keep the second, so the short form tells it again; a write that is
// answered, and a master that is named a second later, are never excused.
func TestLostQuorumIsRefusedAndReturns(t *testing.T) {
	for _, survivor := range []string{"master", "replica"} {
		t.Run(survivor, func(t *testing.T) {
			test := t
			testkit.Tries(t, pick(4, 1), func(t testing.TB) { lostQuorum(t, test, survivor == "master") })
		})
	}
}

func lostQuorum(t, test testing.TB, masterSurvives bool) {
	c := start(t, testkit.ClusterOptions{})
	at := c.WaitWhole(formLimit)
	testkit.MustDial(t, c.Nodes[at].Addr()).MustDo(t, "SET", "kept", "value")
	last := at
	if !masterSurvives {
		last = (at + 1) % 3
	}
	node := c.Nodes[last]
	reader, writer := testkit.MustDial(t, node.Addr()), testkit.MustDial(t, node.Addr())
	for _, n := range besides(c, node) {
		n.Kill9()
	}
	killed := testkit.Now()
	if masterSurvives {
		if got := refusedWithin(t, killed, reader, "GET", "kept"); got != nil {
			t.Errorf("GET without a quorum answered %v", got)
		}
	}
	// Nothing at all can be written from here on.
	if got := refusedWithin(t, killed, writer, "SET", "kept", "changed"); got != nil {
		test.Errorf("SET without a quorum answered %v", got)
	}
	time.Sleep(time.Second - (testkit.Now() - killed))
	for range 20 {
		judge := t
		if testkit.Now()-killed > 2*time.Second {
			judge = test
		}
		namesNoMaster(judge, c)
		time.Sleep(100 * time.Millisecond)
	}
	if client, err := testkit.Dial(node.Addr(), 5*time.Second); err == nil && masterSurvives {
		defer client.Close()
		if got := refusedWithin(t, testkit.Now(), client, "SET", "kept", "changed"); got != nil {
			test.Errorf("SET without a quorum answered %v", got)
		}
	}
	started := testkit.Now()
	c.Nodes[(last+1)%3].Start()
	f := testkit.NewFollower(c.Sentinels(), time.Second)
	t.Cleanup(f.Close)
	testkit.Eventually(t, formLimit, "service is back with two nodes", func() error {
		_, _, err := f.Do("SET", "back", "yes")
		return err
	})
	t.Logf("writes succeed again %v after the second node's start", testkit.Now()-started)
	if got := string(atMaster(t, c, "GET", "kept").Text); got != "value" && got != "changed" {
		test.Errorf("kept is %q", got)
	}
	c.Nodes[(last+2)%3].Start()
	c.WaitWhole(formLimit)
}

// refusedWithin sends a command, which must be refused or end with the connection closed
// within a second since the given instant. It returns the reply if it is answered.
func refusedWithin(t testing.TB, since time.Duration, client *testkit.Client, args ...string) *testkit.Reply {
	t.Helper()
	reply, err := client.Do(args...)
	took := testkit.Now() - since
	t.Logf("%v ended after %v: %v", args, took.Round(time.Millisecond), err)
	if took > time.Second {
		t.Errorf("%v without a quorum took %v to fail with %v", args, took, err)
	}
	if err == nil {
		return &reply
	}
	return nil
}

// namesNoMaster asks every port that answers who the master is. None may name one,
// except by MASTER and MASTERS with flags that say it is down.
func namesNoMaster(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	for _, i := range c.Alive() {
		n := c.Nodes[i]
		if addr, err := testkit.AskSentinel(n.SentinelAddr()); err == nil {
			t.Errorf("%s names %s as master", n.ID, addr)
		}
		if role, err := testkit.Role(n.Addr()); err == nil && role == "master" {
			t.Errorf("%s calls itself master", n.ID)
		}
		for _, f := range masterFlags(n.SentinelAddr()) {
			if !strings.Contains(f, "s_down") || !strings.Contains(f, "o_down") {
				t.Errorf("%s shows a master with flags %q", n.ID, f)
			}
		}
	}
}

// masterFlags are the flags of the master in MASTER and MASTERS, as far as the
// Sentinel port answers at all.
func masterFlags(sentinel string) []string {
	client, err := testkit.Dial(sentinel, 500*time.Millisecond)
	if err != nil {
		return nil
	}
	defer client.Close()
	var list []string
	if r, err := client.Do("SENTINEL", "MASTER", testkit.MasterName); err == nil {
		list = append(list, string(r.Map()["flags"].Text))
	}
	if r, err := client.Do("SENTINEL", "MASTERS"); err == nil {
		for _, m := range r.Elems {
			list = append(list, string(m.Map()["flags"].Text))
		}
	}
	return list
}

// P1, P4: all nodes killed with -9 and started again in any order have everything
// that was acknowledged, deadlines too.
func TestAllKilledComesBackInAnyOrder(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	orders := [][]int{{0, 1, 2}, {2, 0, 1}, {1, 2, 0}, {2, 1, 0}, {0, 2, 1}, {1, 0, 2}}
	total := 0
	for round, order := range orders[:pick(3, 6)] {
		prefix := fmt.Sprintf("r%d:", round)
		var commands [][]string
		for i := range 500 {
			commands = append(commands, []string{"SET", prefix + strconv.Itoa(i+1), strconv.Itoa(i + 1), "EX", "1000"})
		}
		atMasterAll(t, c, commands...)
		total += len(commands)
		for _, n := range c.Nodes {
			n.Kill9()
		}
		started := testkit.Now()
		for _, i := range order {
			c.Nodes[i].Start()
			time.Sleep(200 * time.Millisecond)
		}
		c.WaitWhole(formLimit)
		t.Logf("order %v: whole again after %v", order, testkit.Now()-started)
		if got := atMaster(t, c, "DBSIZE").Int(); got != int64(total) {
			t.Errorf("order %v: %d keys, want %d", order, got, total)
		}
		for n, value := range readAll(t, whoeverLeads{c}, prefix, 500) {
			if value != strconv.Itoa(n) {
				t.Errorf("order %v: %s%d holds %q", order, prefix, n, value)
			}
		}
		if ttl := atMaster(t, c, "TTL", prefix+"1").Int(); ttl < 900 || ttl > 1000 {
			t.Errorf("order %v: TTL is %d after the restart", order, ttl)
		}
	}
}

func errorsOf(replies []testkit.Reply) []error {
	var list []error
	for _, r := range replies {
		list = append(list, r.Err())
	}
	return list
}
