package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// askEvery is how often the watcher asks each port.
const askEvery = 5 * time.Millisecond

// The watcher's patience with a question before it asks on another connection, and with
// those it has left waiting: a node that is stopped answers them when it goes on.
const (
	askPatience  = 60 * time.Millisecond
	leftPatience = 20 * time.Second
	mostLeft     = 40
)

// watcher asks every port of a cluster who is master, has every node count, and listens
// to every Sentinel port.
type watcher struct {
	nodes []*testkit.Node
	ids   map[string]string // by address of the data port
	ctx   context.Context
	stop  context.CancelFunc
	wait  sync.WaitGroup

	mu       sync.Mutex
	history  sightings
	errors   []string
	refusals []refusal
	switches int
}

// refusal is a write that a node has refused whose mastery was announced just before.
type refusal struct {
	by, says string // node ids
	text     string
	span
}

// watch starts a watcher. Its end and judgement are the caller's; the test's end stops it.
func watch(t testing.TB, nodes []*testkit.Node) *watcher {
	t.Helper()
	w := &watcher{nodes: nodes, ids: map[string]string{}}
	w.history.silent = map[string][]span{}
	w.history.leaving = map[string][]span{}
	w.ctx, w.stop = context.WithCancel(context.Background())
	for _, n := range nodes {
		w.ids[n.Addr()] = n.ID
		w.loop(n, n.Addr(), "ROLE", "INFO replication", "HELLO", "ROLE")
		w.loop(n, n.Addr(), "INCR masters:count")
		w.loop(n, n.SentinelAddr(), "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster", "SENTINEL MASTER mymaster", "SENTINEL MASTERS",
			"SENTINEL REPLICAS mymaster", "INFO sentinel")
		w.wait.Go(func() { w.listen(n) })
	}
	t.Cleanup(w.end)
	return w
}

// end stops asking.
func (w *watcher) end() {
	w.stop()
	w.wait.Wait()
}

// loop asks a port the questions in turn, until the end.
func (w *watcher) loop(n *testkit.Node, addr string, questions ...string) {
	w.wait.Go(func() {
		tick := time.NewTicker(askEvery)
		defer tick.Stop()
		left := make(chan struct{}, mostLeft)
		var conn *testkit.Client
		for i := 0; w.ctx.Err() == nil; i++ {
			<-tick.C
			if conn == nil {
				var err error
				if conn, err = testkit.Dial(addr, leftPatience); err != nil {
					conn = nil
					testkit.Pause(w.ctx, 2*askEvery)
					continue
				}
			}
			conn = w.ask(n, conn, strings.Fields(questions[i%len(questions)]), left)
		}
		if conn != nil {
			_ = conn.Close()
		}
	})
}

// ask asks one question and returns the connection for the next one, nil if there is none.
// One that is not answered soon is left to wait aside.
func (w *watcher) ask(n *testkit.Node, conn *testkit.Client, args []string, left chan struct{}) *testkit.Client {
	from := testkit.Now()
	if conn.Send(args...) != nil {
		_ = conn.Close()
		return nil
	}
	if !conn.Readable(askPatience) {
		select {
		case left <- struct{}{}:
		case <-w.ctx.Done():
		}
		w.wait.Go(func() {
			defer func() { <-left; _ = conn.Close() }()
			if conn.Readable(leftPatience) {
				_ = w.read(n, conn, args, from)
			}
		})
		return nil
	}
	if w.read(n, conn, args, from) != nil {
		_ = conn.Close()
		return nil
	}
	return conn
}

// read reads a reply and takes note of what it says.
func (w *watcher) read(n *testkit.Node, conn *testkit.Client, args []string, from time.Duration) error {
	r, err := conn.Read()
	to := testkit.Now()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	how := strings.Join(args[:min(2, len(args))], " ")
	if args[0] == "INCR" {
		if r.Err() == nil {
			w.history.acks = append(w.history.acks, ack{n.ID, r.Int(), span{from, to}})
		}
		return nil
	}
	for _, addr := range mastersIn(n, args, r) {
		id, ok := w.ids[addr]
		if !ok {
			w.errors = append(w.errors, fmt.Sprintf("%s names %s by %s: %v", n.ID, addr, how, r))
		}
		w.history.claims = append(w.history.claims, claim{n.ID, id, how, span{from, to}})
	}
	return nil
}

// mastersIn are the addresses of data ports that a reply says are master's.
func mastersIn(n *testkit.Node, args []string, r testkit.Reply) []string {
	if r.Err() != nil {
		return nil
	}
	at := func(host, port string) []string {
		if host == "" || host == "?" {
			return nil
		}
		return []string{net.JoinHostPort(host, port)}
	}
	instance := func(m map[string]testkit.Reply, ip, port string) []string {
		if strings.Contains(string(m["flags"].Text), "o_down") {
			return nil
		}
		return at(string(m[ip].Text), string(m[port].Text))
	}
	switch args[len(args)-1] + " " + args[0] {
	case "ROLE ROLE":
		if string(r.Elems[0].Text) == "master" {
			return []string{n.Addr()}
		}
		return at(string(r.Elems[1].Text), string(r.Elems[2].Text))
	case "HELLO HELLO":
		if string(r.Map()["role"].Text) == "master" {
			return []string{n.Addr()}
		}
		return nil
	case "replication INFO":
		info := testkit.ParseInfo(string(r.Text))
		if info["role"] == "master" {
			return []string{n.Addr()}
		}
		return at(info["master_host"], info["master_port"])
	case "sentinel INFO":
		_, rest, _ := strings.Cut(testkit.ParseInfo(string(r.Text))["master0"], "address=")
		if strings.Contains(string(r.Text), "status=odown") {
			return nil
		}
		addr, _, _ := strings.Cut(rest, ",")
		return []string{addr}
	case "MASTERS SENTINEL":
		return instance(r.Elems[0].Map(), "ip", "port")
	}
	switch args[1] {
	case "MASTER":
		return instance(r.Map(), "ip", "port")
	case "REPLICAS":
		var list []string
		for _, e := range r.Elems {
			list = append(list, instance(e.Map(), "master-host", "master-port")...)
		}
		return slices.Compact(list)
	}
	return at(string(r.Elems[0].Text), string(r.Elems[1].Text))
}

// listen reads +switch-master of a node, and writes to the new master at once.
func (w *watcher) listen(n *testkit.Node) {
	for w.ctx.Err() == nil {
		conn, err := testkit.Dial(n.SentinelAddr(), leftPatience)
		if err != nil {
			testkit.Pause(w.ctx, 2*askEvery)
			continue
		}
		if _, err := conn.Do("SUBSCRIBE", "+switch-master"); err == nil {
			for w.ctx.Err() == nil && !conn.Ended() {
				if conn.Readable(50 * time.Millisecond) {
					w.hear(n, conn)
				}
			}
		}
		_ = conn.Close()
	}
}

// hear takes one +switch-master.
func (w *watcher) hear(n *testkit.Node, conn *testkit.Client) {
	m, err := conn.Read()
	now := testkit.Now()
	if err != nil || len(m.Elems) != 3 {
		return
	}
	words := strings.Fields(string(m.Elems[2].Text))
	addr := net.JoinHostPort(words[3], words[4])
	err = writesAt(addr)
	at := span{now, testkit.Now()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.switches++
	w.history.claims = append(w.history.claims, claim{n.ID, w.ids[addr], "event", span{now, now}})
	// A connection that breaks shows nothing: the new master may be gone already.
	if told := testkit.ReplyError(""); errors.As(err, &told) && testkit.OutcomeOf(told) != testkit.Unknown {
		w.refusals = append(w.refusals, refusal{n.ID, w.ids[addr], err.Error(), at})
	}
}

// tooEarly are the announcements after which the new master refused a write although it
// had taken none before: one that had may have lost its office again before the test read
// the announcement.
func (w *watcher) tooEarly() (wrong []string) {
	for _, r := range w.refusals {
		taken := slices.ContainsFunc(w.history.acks, func(a ack) bool {
			return a.node == r.says && a.to > r.from-time.Second && a.to < r.to
		})
		if !taken {
			wrong = append(wrong, fmt.Sprintf("%s announced %s at %v, where a write ended with: %s", r.by, r.says, r.from, r.text))
		}
	}
	return wrong
}

// lacks tells what has been seen too little of for a judgement that would have found
// something wrong, of so many changes of the master.
func (w *watcher) lacks(changes int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, judged := w.history.judge(claimBound)
	if judged < 1000*changes || w.switches < 2*changes || len(w.history.reigns()) < 2 {
		return fmt.Errorf("of %d claims %d could have been found wrong, %d +switch-master were heard", len(w.history.claims), judged, w.switches)
	}
	for _, n := range w.nodes {
		for _, how := range []string{"ROLE", "INFO replication", "HELLO", "SENTINEL MASTER", "SENTINEL MASTERS", "SENTINEL REPLICAS", "SENTINEL GET-MASTER-ADDR-BY-NAME", "INFO sentinel", "event"} {
			if !slices.ContainsFunc(w.history.claims, func(c claim) bool { return c.by == n.ID && c.how == how }) {
				return fmt.Errorf("%s never named a master by %s", n.ID, how)
			}
		}
	}
	return nil
}

// writesAt writes to a node.
func writesAt(addr string) error {
	conn, err := testkit.Dial(addr, time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	_, err = conn.Do("SET", "masters:announced", "1")
	return err
}

// changed takes note that a disturbance of a node has lasted until now: since began it was
// to hand over, if it was to do so, since from it was not to be master, if it was cut off.
func (w *watcher) changed(d *disturbance, n *testkit.Node, began, from time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := testkit.Now()
	if d.silent {
		w.history.silent[n.ID] = append(w.history.silent[n.ID], span{from, now})
	}
	if d.planned {
		w.history.leaving[n.ID] = append(w.history.leaving[n.ID], span{began, now})
	}
}

// disturbance changes who is master: away begins it, for the master, and back ends it. One
// in which the master answers no longer is silent, one that asks it to hand over planned.
type disturbance struct {
	name       string
	silent     bool
	planned    bool
	away, back func(t testing.TB, c *testkit.Cluster, n *testkit.Node)
}

// disturbances are those that the watcher is to see. Others are added here.
func disturbances() []disturbance {
	start := func(_ testing.TB, _ *testkit.Cluster, n *testkit.Node) { n.Start() }
	return []disturbance{
		{"kill", true, false, func(_ testing.TB, _ *testkit.Cluster, n *testkit.Node) { n.Kill9() }, start},
		{"stop and continue", true, false, func(_ testing.TB, _ *testkit.Cluster, n *testkit.Node) { n.Stop() }, func(_ testing.TB, _ *testkit.Cluster, n *testkit.Node) { n.Cont() }},
		{"partition", true, false, func(t testing.TB, c *testkit.Cluster, n *testkit.Node) {
			t.Helper()
			var others []string
			for _, o := range besides(c, n) {
				others = append(others, o.ID)
			}
			told := func() int { return n.LogLines("msg=faults", "cut:["+strings.Join(others, " ")) }
			before := told()
			inject(t, n, map[string]any{"cut": others})
			testkit.Eventually(t, 15*time.Second, "the node is cut off", func() error {
				return testkit.Check(told() > before, "not yet")
			})
		}, func(t testing.TB, _ *testkit.Cluster, n *testkit.Node) {
			t.Helper()
			inject(t, n, nil)
		}},
		{"a replica that sleeps through a change", false, false, sleepThrough, wake},
		{"handover", false, true, func(t testing.TB, c *testkit.Cluster, n *testkit.Node) {
			t.Helper()
			settled(t, c, n, func() error {
				client, err := testkit.Dial(n.SentinelAddr(), 5*time.Second)
				if err != nil {
					return err
				}
				defer client.Close()
				_, err = client.Do("SENTINEL", "FAILOVER", testkit.MasterName)
				return err
			})
		}, func(testing.TB, *testkit.Cluster, *testkit.Node) {}},
		{"clean stop", false, true, func(t testing.TB, _ *testkit.Cluster, n *testkit.Node) {
			t.Helper()
			if code := n.Term(formLimit); code != 0 {
				t.Errorf("%s ended with code %d", n.ID, code)
			}
		}, start},
	}
}

// sleepThrough suspends a replica, and has the other one become master meanwhile.
func sleepThrough(t testing.TB, c *testkit.Cluster, n *testkit.Node) {
	t.Helper()
	others := besides(c, n)
	others[0].Stop()
	testkit.Eventually(t, formLimit, others[1].ID+" is master", func() error {
		n.Kill9()
		n.Start()
		var role string
		testkit.Eventually(t, formLimit, "a master", func() error {
			for _, o := range []*testkit.Node{n, others[1]} {
				if got, err := testkit.Role(o.Addr()); err == nil && got == "master" {
					role = o.ID
					return nil
				}
			}
			return errors.New("there is none")
		})
		return testkit.Check(role == others[1].ID, "%s is", role)
	})
}

// wake lets the replica go on that sleepThrough has suspended.
func wake(_ testing.TB, c *testkit.Cluster, n *testkit.Node) { besides(c, n)[0].Cont() }

// besides are the other nodes.
func besides(c *testkit.Cluster, n *testkit.Node) []*testkit.Node {
	var list []*testkit.Node
	for _, o := range c.Nodes {
		if o != n {
			list = append(list, o)
		}
	}
	return list
}

// claimBound is how old the claim that another node is master may be: two election timeouts.
const claimBound = 500 * time.Millisecond

// P3: a watcher that asks every data and Sentinel port every 5 ms, over kills,
// suspensions, partitions, handovers and clean stops of masters, gets no reply that names a master
// which was none when it had to be (itself: between request and reply; another: within two
// election timeouts before), sees no two masters accept writes, and hears no
// +switch-master before the new master takes a write.
func TestOneMasterAtATime(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Tags: []string{"faults"}})
	levelReached(t, c.Nodes)
	w := watch(t, c.Nodes)
	rounds := pick(1, 8)
	enough := rounds * len(disturbances())
	changes := 0
	// On a machine that stands still now and then little can be judged: more is watched.
	for round := range rounds + 3 {
		if round >= rounds && w.lacks(enough) == nil {
			break
		}
		for _, d := range disturbances() {
			w.disturb(t, c, &d)
			changes++
		}
	}
	w.end()
	wrong, judged := w.history.judge(claimBound)
	for _, text := range slices.Concat(wrong, w.errors, w.tooEarly()) {
		t.Error(text)
	}
	t.Logf("%d changes of master; %d writes, %d claims of which %d could have been found wrong, %d +switch-master heard",
		changes, len(w.history.acks), len(w.history.claims), judged, w.switches)
	if err := w.lacks(enough); err != nil {
		t.Errorf("the watcher has seen too little: %v", err)
	}
}

// disturb changes who is master under the watcher's eyes.
func (w *watcher) disturb(t testing.TB, c *testkit.Cluster, d *disturbance) {
	t.Helper()
	old := c.WaitWhole(formLimit)
	n := c.Nodes[old]
	testkit.Pause(t.Context(), 300*time.Millisecond)
	began := testkit.Now()
	d.away(t, c, n)
	from := testkit.Now()
	testkit.Eventually(t, formLimit, "another master after: "+d.name, func() error {
		for i, o := range c.Nodes {
			if role, err := testkit.Role(o.Addr()); i != old && err == nil && role == "master" {
				return nil
			}
		}
		return errors.New("there is none")
	})
	testkit.Pause(t.Context(), 1500*time.Millisecond)
	w.changed(d, n, began, from)
	d.back(t, c, n)
	c.WaitWhole(formLimit)
}
