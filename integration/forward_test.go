package integration_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/internal/testkit/script"
)

// A replica in replica-mode forward answers every command as the master does, in both
// protocols, but for those about the node itself.
func TestScriptsThroughAReplica(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Args: []string{"--enable-debug-command", "yes", "--replica-mode", "forward"}})
	replica := func() string { return c.Nodes[(c.WaitWhole(formLimit)+1)%len(c.Nodes)].Addr() }
	aboutNodes := []string{"server", "failover", "auth", "raft"} // ROLE and HELLO name the role
	// A replica tells of changes when it applies them, which may be after the reply, and
	// does not know who made them.
	aboutNodes = append(aboutNodes, "tracking2", "tracking3", "tracking_own")
	for _, path := range scripts(t) {
		s, err := script.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(aboutNodes, s.Name) {
			continue
		}
		for _, proto := range []int{2, 3} {
			if s.Proto == 0 || s.Proto == proto {
				t.Run(fmt.Sprintf("%s/%d", s.Name, proto), func(t *testing.T) {
					play(t, s, replica, script.Options{Proto: proto})
				})
			}
		}
	}
}

// plainClient is a client that knows the address of one node and nothing of Sentinels. It
// repeats nothing.
type plainClient struct {
	addr string
	conn *testkit.Client // nil when not connected
}

// Connect connects to the node, unless connected.
func (p *plainClient) Connect() (err error) {
	if p.conn == nil {
		p.conn, err = testkit.Dial(p.addr, 10*time.Second)
	}
	if err != nil {
		p.conn = nil
		time.Sleep(retryPause)
	}
	return err
}

// Do sends one command. After anything but an answer it connects anew.
func (p *plainClient) Do(args ...string) (testkit.Reply, testkit.Outcome, error) {
	if err := p.Connect(); err != nil {
		return testkit.Reply{}, testkit.Refused, err
	}
	r, err := p.conn.Do(args...)
	var told testkit.ReplyError
	switch {
	case err == nil:
		return r, testkit.Done, nil
	case !errors.As(err, &told):
		p.Close()
		return r, testkit.Unknown, err
	}
	outcome := testkit.OutcomeOf(told)
	if outcome == testkit.Unknown {
		p.Close()
	}
	return r, outcome, err
}

// Close closes the connection, if there is one.
func (p *plainClient) Close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// P2, P5: what plain clients of all three nodes see is linearizable while masters are
// killed and hand over, and no counter is incremented twice for one reply.
func TestForwardedHistoriesAreLinearizable(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Args: []string{"--replica-mode", "forward"}})
	round := 0
	nemesis := func() {
		node := c.Nodes[c.WaitWhole(formLimit)]
		if round++; round%3 == 0 {
			node.Kill9()
			time.Sleep(1500 * time.Millisecond)
			node.Start()
			time.Sleep(1500 * time.Millisecond)
			return
		}
		if round%3 == 1 {
			settled(t, c, node, func() error {
				_, err := answerOf(node, "FAILOVER")
				return err
			})
		} else {
			node.Term(20 * time.Second)
			node.Start()
		}
		time.Sleep(1500 * time.Millisecond)
	}
	linearizableFor(t, c, nemesis, func(i int) commander { return &plainClient{addr: c.Nodes[i%len(c.Nodes)].Addr()} })
}

// P5, P8: a planned change of the master fails no command of plain clients of the nodes
// that stay.
func TestHandoverUnderForwardedLoad(t *testing.T) {
	testkit.Tries(t, mostTold(), func(try testing.TB) { handoverUnderForwardedLoad(t, try) })
}

// handoverUnderForwardedLoad reports what was executed twice or not at all to always, and
// everything else to t: an election that nobody asked for fails commands.
func handoverUnderForwardedLoad(always, t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{Args: []string{"--replica-mode", "forward"}})
	old := c.WaitWhole(formLimit)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	var failed sync.Map
	for i, n := range c.Nodes {
		if i == old {
			continue
		}
		for k := range 4 {
			wait.Go(func() {
				p := &plainClient{addr: n.Addr()}
				defer p.Close()
				key := fmt.Sprintf("forwarded:%d:%d", i, k)
				for want := int64(1); ; want++ {
					select {
					case <-stop:
						return
					case <-time.After(2 * time.Millisecond):
					}
					r, _, err := p.Do("INCR", key)
					if err == nil && r.Int() != want {
						always.Errorf("%s: %v, want %d", key, r, want)
					}
					if err != nil || r.Int() != want {
						failed.Store(key, fmt.Sprintf("%v, %v, want %d", r, err, want))
						return
					}
				}
			})
		}
	}
	end := sync.OnceFunc(func() {
		close(stop)
		wait.Wait()
	})
	t.Cleanup(end)
	time.Sleep(300 * time.Millisecond)
	testkit.MustDial(t, c.Nodes[old].Addr()).MustDo(t, "FAILOVER")
	testkit.Eventually(t, formLimit, "another master", func() error {
		next, err := c.FindMaster()
		return errors.Join(err, testkit.Check(next != old, "it is the same"))
	})
	time.Sleep(500 * time.Millisecond)
	end()
	failed.Range(func(key, what any) bool {
		t.Errorf("%v: %v", key, what)
		return true
	})
}

// WAIT through a replica counts the replicas of the master, those that have what this
// connection has written.
func TestWaitThroughAReplica(t *testing.T) {
	testkit.Tries(t, mostTold(), waitThroughAReplica)
}

func waitThroughAReplica(t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{Args: []string{"--replica-mode", "forward"}})
	old := c.WaitWhole(formLimit)
	r := testkit.MustDial(t, c.Nodes[(old+1)%3].Addr())
	for range 20 {
		r.MustDo(t, "SET", "k", "v")
		if n := r.MustDo(t, "WAIT", "2", "10000"); n.Int() != 2 {
			t.Fatalf("WAIT answers %v", n)
		}
	}
	if role := r.MustDo(t, "ROLE"); string(role.Elems[0].Text) != "slave" {
		t.Errorf("ROLE says %v", role)
	}
	c.Nodes[(old+2)%3].Kill9()
	r.MustDo(t, "SET", "k", "w")
	testkit.Eventually(t, formLimit, "WAIT counts the one replica that is left", func() error {
		n, err := r.Do("WAIT", "2", "300")
		return errors.Join(err, testkit.Check(n.Int() == 1, "it answers %v", n))
	})
}

// Large values and long pipelines pass through a replica whole and in order.
func TestBigAndManyThroughAReplica(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Args: []string{"--replica-mode", "forward"}})
	try := 0
	testkit.Tries(t, mostTold(), func(told testing.TB) {
		try++
		bigAndMany(t, told, testkit.MustDial(told, c.Nodes[(c.WaitWhole(formLimit)+1)%3].Addr()), try)
	})
}

// bigAndMany reports wrong replies to always, and those that an election leaves open to t.
func bigAndMany(always, t testing.TB, r *testkit.Client, try int) {
	t.Helper()
	big := strings.Repeat("x", 20<<20)
	r.MustDo(t, "SET", "big", big)
	if got := r.MustDo(t, "GETEX", "big", "PERSIST"); string(got.Text) != big {
		always.Errorf("a value of %d bytes comes back with %d", len(big), len(got.Text))
	}
	var commands [][]string
	for i := range 5000 {
		key := fmt.Sprintf("many:%d:%d", try, i%7)
		commands = append(commands, []string{"INCR", key}, []string{"GET", key})
	}
	replies, err := r.Pipeline(commands...)
	for i, reply := range replies {
		if err := reply.Err(); err != nil {
			t.Fatalf("reply %d is %v", i, err) // the next ones depend on it
		}
		if want := int64(i/14 + 1); reply.Int() != want {
			always.Fatalf("reply %d is %v, want %d", i, reply, want)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// P1, P5: what a replica passes on is refused like what the master is asked itself: while
// the disks are short no write is taken, and reads are answered, those of transactions too.
func TestShortDisksThroughAReplica(t *testing.T) {
	testkit.Tries(t, mostTold(), shortDisksThroughAReplica) // whose master stays
}

func shortDisksThroughAReplica(t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{Tags: []string{"faults"}, Args: []string{"--replica-mode", "forward"}})
	lead := c.WaitWhole(formLimit)
	r := testkit.MustDial(t, c.Nodes[(lead+1)%3].Addr())
	r.MustDo(t, "SET", "kept", "value")
	crowd(t, littleSpace, c.Nodes[lead])
	refused(t, c)
	for _, write := range [][]string{{"SET", "k", "v"}, {"DEL", "kept"}} {
		if _, err := r.Do(write...); err == nil || !strings.HasPrefix(err.Error(), misconf) {
			t.Errorf("%s: %v", write[0], err)
		}
	}
	if got := r.MustDo(t, "GET", "kept"); string(got.Text) != "value" {
		t.Errorf("GET answers %s", got.Text)
	}
	replies, err := r.Pipeline([]string{"MULTI"}, []string{"GET", "kept"}, []string{"GET", "none"}, []string{"EXEC"})
	if err != nil || len(replies[3].Elems) != 2 || string(replies[3].Elems[0].Text) != "value" || !replies[3].Elems[1].Null {
		t.Errorf("a transaction of reads: %v, %v", replies, err)
	}
	replies, err = r.Pipeline([]string{"MULTI"}, []string{"SET", "none", "v"}, []string{"EXEC"}, []string{"GET", "none"})
	if err != nil || !strings.HasPrefix(string(replies[2].Text), "EXECABORT") || !replies[3].Null {
		t.Errorf("a transaction with a write: %v, %v", replies, err)
	}
	crowd(t, muchSpace, c.Nodes...)
	testkit.Eventually(t, 15*time.Second, "writes are taken", func() error {
		_, err := r.Do("SET", "k", "v")
		return err
	})
}

// CONFIG SET through a replica changes what is the node's own there, and what is the whole
// cluster's everywhere; a wrong value is refused as on the master. Without forwarding only
// the master changes the latter.
func TestConfigThroughAReplica(t *testing.T) {
	testkit.Tries(t, mostTold(), configThroughAReplica) // whose master stays
}

func configThroughAReplica(t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{Args: []string{"--replica-mode", "forward"}})
	lead := c.WaitWhole(formLimit)
	r := testkit.MustDial(t, c.Nodes[(lead+1)%3].Addr())
	r.MustDo(t, "CONFIG", "SET", "timeout", "77", "proto-max-bulk-len", "2097152")
	for i, n := range c.Nodes {
		testkit.Eventually(t, formLimit, n.ID+" has it", func() error {
			r, err := answerOf(n, "CONFIG", "GET", "proto-max-bulk-len")
			got := r.Strings()
			return errors.Join(err, testkit.Check(slices.Equal(got, []string{"proto-max-bulk-len", "2097152"}), "it has %v", got))
		})
		want := "0"
		if i == (lead+1)%3 {
			want = "77"
		}
		if got := asked(t, n, "CONFIG", "GET", "timeout").Strings(); got[1] != want {
			t.Errorf("%s has timeout %s, want %s", n.ID, got[1], want)
		}
	}
	if got := r.MustDo(t, "CONFIG", "GET", "proto-max-bulk-len").Strings(); got[1] != "2097152" {
		t.Errorf("the replica shows %v", got)
	}
	at := testkit.MustDial(t, c.Nodes[lead].Addr())
	_, here := r.Do("CONFIG", "SET", "proto-max-bulk-len", "99999999999")
	_, there := at.Do("CONFIG", "SET", "proto-max-bulk-len", "99999999999")
	if here == nil || there == nil || here.Error() != there.Error() {
		t.Errorf("a wrong value: %v, on the master %v", here, there)
	}
	r.MustDo(t, "CONFIG", "SET", "replica-mode", "redis")
	testkit.Eventually(t, formLimit, "the replica does not forward any more", func() error {
		_, err := r.Do("CONFIG", "SET", "proto-max-bulk-len", "3145728")
		return testkit.Check(err != nil && strings.Contains(err.Error(), "only the master can"), "CONFIG SET: %v", err)
	})
}
