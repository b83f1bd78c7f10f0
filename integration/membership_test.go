package integration_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// roles are what the node at addr says of the members: role by id.
func roles(addr string) (map[string]string, error) {
	c, err := testkit.Dial(addr, time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r, err := c.Do("RAFT", "MEMBERS")
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, m := range r.Elems {
		fields := m.Map()
		found[string(fields["id"].Text)] = string(fields["role"].Text)
	}
	return found, nil
}

// waitVoters waits until every one of the nodes knows them, and no other, as members
// with a vote, and serves.
func waitVoters(t testing.TB, nodes ...*testkit.Node) {
	t.Helper()
	testkit.Eventually(t, formLimit, "the nodes are the voters", func() error {
		for _, n := range nodes {
			found, err := roles(n.Addr())
			if err != nil {
				return err
			}
			ok := len(found) == len(nodes)
			for _, o := range nodes {
				ok = ok && (found[o.ID] == "voter" || found[o.ID] == "leader")
			}
			if !ok {
				return fmt.Errorf("%s knows %v", n.ID, found)
			}
			if _, err := testkit.Role(n.Addr()); err != nil {
				return err
			}
		}
		return nil
	})
}

// onMaster sends a command to whichever of the nodes is master until it answers OK, or
// done says that nothing is left to do.
func onMaster(t testing.TB, nodes []*testkit.Node, done func(addr string) bool, args ...string) {
	t.Helper()
	c := &testkit.Cluster{Nodes: nodes}
	testkit.Eventually(t, formLimit, strings.Join(args, " "), func() error {
		at, err := c.FindMaster()
		if err != nil {
			return err
		}
		addr := nodes[at].Addr()
		if done(addr) {
			return nil
		}
		client, err := testkit.Dial(addr, formLimit)
		if err != nil {
			return err
		}
		defer client.Close()
		_, err = client.Do(args...)
		return err
	})
}

// P1, P8: each of three nodes is replaced by an empty one with another id and address
// while 16 writers go on: nothing is lost, no client waits for more than 2 s, no other
// node is restarted, and the old ones say that they were removed and stop.
func TestEveryMachineIsReplacedUnderWriters(t *testing.T) {
	testkit.Tries(t, mostTold(), func(try testing.TB) { replaceEveryMachine(t, try) })
}

// replaceEveryMachine reports what is lost to always, and everything else to t.
func replaceEveryMachine(always, t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{})
	everyone := *c
	var fresh []*testkit.Node
	for i, through := range []*testkit.Node{c.Nodes[1], c.Nodes[2], nil} {
		if through == nil {
			through = fresh[0] // none of the first three is left but the one to be replaced
		}
		fresh = append(fresh, c.NewJoiner(fmt.Sprintf("m%d", i+1), through))
	}
	everyone.Nodes = append(append([]*testkit.Node{}, c.Nodes...), fresh...)
	ws := startWriters(t, &everyone, 16, "replace")
	time.Sleep(300 * time.Millisecond)
	began := testkit.Now()
	now := append([]*testkit.Node{}, c.Nodes...)
	for i, old := range c.Nodes {
		fresh[i].Start()
		waitVoters(t, append(append([]*testkit.Node{}, now...), fresh[i])...)
		onMaster(t, append(append([]*testkit.Node{}, now...), fresh[i]), func(addr string) bool {
			found, err := roles(addr)
			return err == nil && found[old.ID] == ""
		}, "RAFT", "REPLACE", old.ID, fresh[i].ID)
		if code := old.WaitExit(formLimit); code <= 0 {
			t.Errorf("%s: exit code %d, want one above 0", old.ID, code)
		}
		if !old.LogContains("removed from its cluster") {
			t.Errorf("%s does not say why it stopped:\n%s", old.ID, old.Tail(1000))
		}
		now[i] = fresh[i]
		waitVoters(t, now...)
		time.Sleep(300 * time.Millisecond)
	}
	for _, n := range fresh {
		if !n.Running() {
			t.Errorf("%s does not run any more:\n%s", n.ID, n.Tail(1000))
		}
	}
	ws.end()
	all, worst := ws.gaps(began)
	t.Logf("%d writes acknowledged; without one: any client %v, worst of 16 %v; errors %v", ws.acknowledged(), all, worst, ws.failures())
	if worst > 2*time.Second {
		t.Errorf("a client waited for %v", worst)
	}
	ws.verify(always, insist(t, &testkit.Cluster{Nodes: fresh}))
}

// P1: a node that has lost its disk is started with the same command line and comes
// back as a voter by itself, with all that was written; its vote counts.
func TestWipedDiskComesBackByItself(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	ws := startWriters(t, c, 4, "wipe")
	at := c.WaitMaster(formLimit)
	wiped, other := c.Nodes[(at+1)%3], c.Nodes[(at+2)%3]
	for range 2 {
		wiped.Kill9()
		if err := os.RemoveAll(wiped.DataDir); err != nil {
			t.Fatal(err)
		}
		wiped.Start()
		waitVoters(t, c.Nodes...)
		c.WaitWhole(formLimit)
	}
	other.Kill9() // from now on every write needs the disk that is new
	time.Sleep(500 * time.Millisecond)
	ws.end()
	ws.verify(t, insist(t, c))
	other.Start()
	c.WaitWhole(formLimit)
}

// P1: with two nodes down and the third one's disk wiped nothing forms and nothing is
// served as if it were everything; the log says what is waited for. When the two come
// back, everything is there, and the third comes back as well.
func TestWipedNodeAloneFormsNothing(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	insist(t, c).MustDo(t, "SET", "precious", "v")
	for _, n := range c.Nodes {
		n.Kill9()
	}
	alone := c.Nodes[0]
	if err := os.RemoveAll(alone.DataDir); err != nil {
		t.Fatal(err)
	}
	alone.Start()
	testkit.Eventually(t, formLimit, "it says for whom it waits", func() error {
		return testkit.Check(alone.LogContains("formation waits", "n2", "n3"), "its log: %s", alone.Tail(500))
	})
	c.Nodes[1].Start()
	testkit.Eventually(t, formLimit, "it says why it waits", func() error {
		return testkit.Check(alone.LogContains("data directory is empty", "no master is confirmed"), "its log: %s", alone.Tail(500))
	})
	for range 20 {
		for _, n := range c.Nodes[:2] {
			if role, err := testkit.Role(n.Addr()); err == nil && role == "master" {
				t.Fatalf("%s calls itself master without a majority of disks", n.ID)
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	c.Nodes[2].Start()
	waitVoters(t, c.Nodes...)
	c.WaitWhole(formLimit)
	if got := insist(t, c).MustDo(t, "GET", "precious").String(); !strings.Contains(got, "v") {
		t.Errorf("precious is %s", got)
	}
}

// Two of three disks are gone for good: the third node becomes a cluster of its own when
// somebody consents, keeps what it has, and is joined by empty nodes. A node of the old
// cluster that turns up again is kept out.
func TestRecoveryFromALostMajority(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	testkit.Eventually(t, formLimit, "all nodes have the key", func() error {
		client, err := testkit.Dial(c.Nodes[c.WaitMaster(formLimit)].Addr(), formLimit)
		if err != nil {
			return err
		}
		defer client.Close()
		if _, err = client.Do("SET", "k", "v"); err != nil {
			return err
		}
		have, err := client.Do("WAIT", "2", "10000")
		return errors.Join(err, testkit.Check(have.Int() == 2, "only %v of 2 replicas", have))
	})
	for _, n := range c.Nodes {
		n.Kill9()
	}
	recoverNode := func(more ...string) (string, error) {
		args := append([]string{
			"recover", "--node-id", "n1", "--dir", c.Nodes[0].DataDir, "--bind", "127.0.0.1",
			"--raft-port", strconv.Itoa(c.Nodes[0].RaftPort), "--join", "127.0.0.1:1", "--cluster-secret", c.Secret(),
		}, more...)
		out, err := exec.Command(testkit.Binary(t), args...).CombinedOutput()
		return string(out), err
	}
	text, err := recoverNode()
	_, consent, found := strings.Cut(text, "To consent, add ")
	if err == nil || !found || !strings.Contains(text, "The members are n1, n2, n3") {
		t.Fatalf("without consent: %v\n%s", err, text)
	}
	if text, err = recoverNode(strings.Fields(consent)[0]); err != nil {
		t.Fatalf("with consent: %v\n%s", err, text)
	}
	c.Nodes[0].Start()
	waitVoters(t, c.Nodes[0])
	c.Nodes[1].Start() // with its old directory
	fresh := c.NewJoiner("n4", c.Nodes[0])
	fresh.Start()
	waitVoters(t, c.Nodes[0], fresh)
	for _, n := range []*testkit.Node{c.Nodes[0], fresh} {
		testkit.Eventually(t, formLimit, "the key is there", func() error {
			r, err := answerOf(n, "GET", "k")
			if err != nil {
				return err
			}
			return testkit.Check(string(r.Text) == "v", "k is %v", r)
		})
	}
	if role, err := testkit.Role(c.Nodes[1].Addr()); err == nil && role == "master" {
		t.Error("a node of the old cluster is master")
	}
}

// Five nodes serve like three: two fail at the same instant and writes go on; and a
// member that was removed and whose directory was emptied comes back when it is added.
func TestFiveNodes(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	all := append([]*testkit.Node{}, c.Nodes...)
	for _, id := range []string{"n4", "n5"} {
		n := c.NewJoiner(id, c.Nodes...)
		n.Start()
		all = append(all, n)
		waitVoters(t, all...)
	}
	five := *c
	five.Nodes = all
	five.WaitWhole(formLimit)
	ws := startWriters(t, &five, 8, "five")
	time.Sleep(300 * time.Millisecond)
	at := five.WaitMaster(formLimit)
	five.Nodes[at].Kill9()
	five.Nodes[(at+1)%5].Kill9()
	five.WaitMaster(formLimit)
	time.Sleep(500 * time.Millisecond)
	ws.end()
	ws.verify(t, insist(t, &five))
	five.Nodes[at].Start()
	five.Nodes[(at+1)%5].Start()
	five.WaitWhole(formLimit)

	gone := all[(five.WaitMaster(formLimit)+1)%5]
	member := func(want bool) func(addr string) bool {
		return func(addr string) bool {
			found, err := roles(addr)
			return err == nil && (found[gone.ID] != "") == want
		}
	}
	onMaster(t, all, member(false), "RAFT", "REMOVE", gone.ID)
	gone.WaitExit(formLimit)
	if err := os.RemoveAll(gone.DataDir); err != nil {
		t.Fatal(err)
	}
	onMaster(t, all, member(true), "RAFT", "ADD", gone.ID, testkit.Loopback(gone.RaftPort))
	gone.Start()
	waitVoters(t, all...)
}
