package integration_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// probe writes and reads without a pause until the telling ends and fails it if
// anything goes wrong: whatever the story does must leave other clients alone.
type probe struct {
	test    testing.TB // is told what is never excused
	cluster *testkit.Cluster
	before  []int64 // memory of each node at the start

	stop  atomic.Bool
	wait  sync.WaitGroup
	count atomic.Int64
	worst atomic.Int64 // ns
}

// besideProbe tells a story of input that harms nobody. The probe has one connection to one
// master, and loses it in an election; as other work on the machine may cause one too, the
// story is told again.
func besideProbe(t *testing.T, story func(t testing.TB, c *testkit.Cluster, p *probe)) {
	t.Helper()
	test := t
	testkit.Tries(t, 6, func(t testing.TB) {
		c := start(t, testkit.ClusterOptions{})
		p := startProbe(t, test, c)
		story(t, c, p)
		p.stillWhole(t)
	})
}

func startProbe(t, test testing.TB, c *testkit.Cluster) *probe {
	t.Helper()
	p := &probe{test: test, cluster: c, before: resident(t, c)}
	client := testkit.MustDial(t, c.Nodes[c.WaitWhole(formLimit)].Addr())
	p.wait.Go(func() {
		for n := 0; !p.stop.Load(); n++ {
			sent := testkit.Now()
			value := strconv.Itoa(n)
			_, err := client.Do("SET", "probe", value)
			got, readErr := client.Do("GET", "probe")
			if err := errors.Join(err, readErr); err != nil {
				t.Errorf("another client was harmed: wrote %s, read %v, %v", value, got, err)
				return
			}
			if string(got.Text) != value {
				test.Errorf("another client was harmed: wrote %s, read %v", value, got)
				return
			}
			p.worst.Store(max(p.worst.Load(), int64(testkit.Now()-sent)))
			p.count.Add(1)
			time.Sleep(time.Millisecond)
		}
	})
	t.Cleanup(p.end)
	return p
}

func (p *probe) end() {
	p.stop.Store(true)
	p.wait.Wait()
}

// P7: bytes that are no command end their connection with an error, and nothing
// else: on the data port and on the Sentinel port, of a master and of a replica.
func TestMalformedRequestsHarmOnlyTheirSender(t *testing.T) {
	besideProbe(t, malformedRequestsHarmOnlyTheirSender)
}

func malformedRequestsHarmOnlyTheirSender(t testing.TB, c *testkit.Cluster, _ *probe) {
	requests := map[string]string{
		"bulk length not a number":  "*1\r\n$x\r\n",
		"negative bulk length":      "*1\r\n$-5\r\n",
		"huge bulk length":          "*1\r\n$99999999999\r\n",
		"bulk length overflow":      "*1\r\n$99999999999999999999\r\n",
		"count not a number":        "*x\r\n",
		"huge count":                "*2147483647\r\n",
		"count overflow":            "*99999999999999999999\r\n",
		"no dollar":                 "*1\r\n:4\r\nPING\r\n",
		"endless inline":            strings.Repeat("a", 100_000),
		"endless count":             "*" + strings.Repeat("1", 100_000),
		"unbalanced quotes":         "SET a \"b\r\n",
		"a web browser":             "POST / HTTP/1.1\r\nHost: a\r\n\r\n",
		"a TLS hello":               "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + strings.Repeat("\x00", 500),
		"nested arrays":             strings.Repeat("*1\r\n", 100_000),
		"zeros":                     strings.Repeat("\x00", 70_000),
		"wrong end of bulk":         "*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n",
		"a megabyte of line breaks": strings.Repeat("\r\n", 500_000) + "*1\r\n$x\r\n",
	}
	for what, bytes := range requests {
		for _, addr := range []string{c.Nodes[0].Addr(), c.Nodes[1].Addr(), c.Nodes[2].SentinelAddr()} {
			client, err := testkit.Dial(addr, 5*time.Second)
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			_ = client.SendBytes([]byte(bytes)) // the server may have hung up before the end
			_ = client.CloseWrite()
			if err := client.Closed(15 * time.Second); err != nil {
				t.Errorf("%s to %s: %v", what, addr, err)
			}
			client.Close()
		}
	}
	rawGarbage(t, c)
}

// rawGarbage sends noise to the node-to-node port and the metrics port.
func rawGarbage(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	for _, n := range c.Nodes {
		for _, port := range []int{n.RaftPort, n.MetricsPort} {
			for _, noise := range []string{strings.Repeat("\xff", 100_000), "\x00\x00\x00\x00", "*1\r\n$4\r\nPING\r\n", blob(9, mebibyte)} {
				client, err := testkit.Dial(testkit.Loopback(port), 5*time.Second)
				if err != nil {
					t.Errorf("port %d: %v", port, err)
					continue
				}
				_ = client.SendBytes([]byte(noise)) // the server may hang up before the end
				_ = client.CloseWrite()
				if err := client.Closed(15 * time.Second); err != nil {
					t.Errorf("port %d: %v", port, err)
				}
				client.Close()
			}
		}
	}
}

// resident is the memory of each node.
func resident(t testing.TB, c *testkit.Cluster) []int64 {
	t.Helper()
	var list []int64
	for _, n := range c.Nodes {
		rss, err := testkit.ResidentBytes(n.Pid())
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, rss)
	}
	return list
}

// stillWhole fails unless the same master serves, all nodes run with little more
// memory than before, and the probe met nothing.
func (p *probe) stillWhole(t testing.TB) {
	t.Helper()
	testkit.Eventually(t, 10*time.Second, "another client is served", func() error {
		return testkit.Check(t.Failed() || p.count.Load() >= 50, "%d times", p.count.Load())
	})
	p.end()
	p.cluster.WaitWhole(formLimit)
	t.Logf("the probe ran %d times meanwhile, slowest %v", p.count.Load(), time.Duration(p.worst.Load()))
	for i, rss := range resident(t, p.cluster) {
		t.Logf("%s: %d MiB before, %d MiB after", p.cluster.Nodes[i].ID, p.before[i]/mebibyte, rss/mebibyte)
		if rss > p.before[i]+1024*mebibyte { // what may wait for slow readers is half of it
			t.Errorf("%s grew from %d to %d MiB", p.cluster.Nodes[i].ID, p.before[i]/mebibyte, rss/mebibyte)
		}
	}
}

// P7, P8: requests that are unusual but right are served: a million arguments, a
// command that arrives byte by byte, empty lines, inline commands.
func TestUnusualRequestsAreServed(t *testing.T) {
	besideProbe(t, unusualRequestsAreServed)
}

func unusualRequestsAreServed(t testing.TB, c *testkit.Cluster, _ *probe) {
	m := master(t, c)
	args := make([]string, 1_000_001)
	args[0] = "EXISTS"
	for i := 1; i < len(args); i++ {
		args[i] = "probe"
	}
	if got := m.MustDo(t, args...).Int(); got != 1_000_000 {
		t.Errorf("EXISTS with a million arguments answers %d", got)
	}
	args[0] = "DEL"
	for i := 1; i < len(args); i++ {
		args[i] = "absent"
	}
	if got := m.MustDo(t, args...).Int(); got != 0 {
		t.Errorf("DEL with a million arguments answers %d", got)
	}
	for _, b := range testkit.AppendCommand(nil, "SET", "slowly", "sent") {
		if err := m.SendBytes([]byte{b}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := m.Read(); err != nil || r.String() != "+OK" {
		t.Errorf("a command byte by byte: %v, %v", r, err)
	}
	if err := m.SendBytes([]byte("\r\n\r\nGET slowly\r\n*0\r\nGET \"slowly\"\r\n")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, err := m.Read(); err != nil || string(r.Text) != "sent" {
			t.Errorf("inline GET: %v, %v", r, err)
		}
	}
}

// P7: clients that read nothing, that send nothing, that vanish in the middle of a
// command, and thousands that only sit there, harm nobody.
func TestSlowAndIdleClientsHarmNobody(t *testing.T) {
	besideProbe(t, slowAndIdleClientsHarmNobody)
}

func slowAndIdleClientsHarmNobody(t testing.TB, c *testkit.Cluster, _ *probe) {
	addr := c.Nodes[c.WaitMaster(formLimit)].Addr()
	m := testkit.MustDial(t, addr)
	m.MustDo(t, "SET", "big", blob(5, mebibyte))

	var idle []*testkit.Client
	for range pick(2000, 5000) {
		client, err := testkit.Dial(addr, 5*time.Second)
		if err != nil {
			t.Fatalf("connection %d: %v", len(idle), err)
		}
		t.Cleanup(func() { _ = client.Close() })
		idle = append(idle, client)
	}
	for i, client := range idle[:500] {
		if i%2 == 0 {
			_ = client.SendBytes([]byte("*3\r\n$3\r\nSET\r\n$5\r\nhalf"))
		}
		if i%5 == 0 {
			client.Close()
		}
	}
	// Each asks for 200 MiB and reads none of it.
	for range 20 {
		slow := testkit.MustDial(t, addr)
		_ = slow.SendBytes([]byte(strings.Repeat("*2\r\n$3\r\nGET\r\n$3\r\nbig\r\n", 200)))
	}
	for i, client := range idle[500:600] {
		if r, err := client.Do("ECHO", strconv.Itoa(i)); err != nil || string(r.Text) != strconv.Itoa(i) {
			t.Errorf("an idle connection is of no use: %v, %v", r, err)
		}
	}
	if got := m.MustDo(t, "EXISTS", "half").Int(); got != 0 {
		t.Error("half a command was executed")
	}
	time.Sleep(time.Second)
}

// P7: before AUTH nothing is answered but what needs no user, and requests of more
// than 10 arguments or 16 KiB end the connection.
func TestUnauthenticatedClientsGetNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	const password = "very-secret-word"
	c := testkit.NewCluster(t, testkit.ClusterOptions{Size: 1, Args: []string{"--requirepass", password}})
	n := c.Nodes[0]
	n.Start()
	testkit.Eventually(t, formLimit, "the node serves who knows the password", func() error {
		client, err := testkit.Dial(n.Addr(), time.Second)
		if err != nil {
			return err
		}
		defer client.Close()
		if _, err := client.Do("AUTH", password); err != nil {
			return err
		}
		_, err = client.Do("SET", "a", "b")
		return err
	})
	client := testkit.MustDial(t, n.Addr())
	for _, line := range []string{"GET a", "SET a c", "MULTI", "INFO", "CONFIG GET *", "CLIENT LIST", "PING", "DEBUG SLEEP 0", "SHUTDOWN"} {
		if _, err := client.Do(strings.Fields(line)...); err == nil || !strings.HasPrefix(err.Error(), "NOAUTH ") {
			t.Errorf("%s before AUTH: %v, want NOAUTH", line, err)
		}
	}
	if _, err := client.Do("AUTH", "wrong"); err == nil || !strings.HasPrefix(err.Error(), "WRONGPASS ") {
		t.Errorf("wrong password: %v", err)
	}
	for what, request := range map[string]string{
		"11 arguments":       "*11\r\n",
		"a bulk over 16 KiB": "*2\r\n$4\r\nPING\r\n$16385\r\n",
	} {
		big := testkit.MustDial(t, n.Addr())
		if err := big.SendBytes([]byte(request)); err != nil {
			t.Fatal(err)
		}
		r, err := big.ReadWithin(5 * time.Second)
		if err != nil || r.Type != '-' {
			t.Errorf("%s before AUTH: %v, %v, want an error", what, r, err)
		}
		if err := big.Closed(5 * time.Second); err != nil {
			t.Errorf("%s before AUTH: %v", what, err)
		}
	}
	client.MustDo(t, "AUTH", password)
	if got := string(client.MustDo(t, "GET", "a").Text); got != "b" {
		t.Errorf("after AUTH: GET answers %q", got)
	}
	if n.LogContains(password) {
		t.Error("the password is in the log")
	}
}

// P1, P7: a node that takes another's place with a wrong secret, and a second node
// with the id of a living one, are kept out with a line in the log, and the
// cluster goes on.
func TestIntrudersAreKeptOut(t *testing.T) {
	besideProbe(t, intrudersAreKeptOut)
}

func intrudersAreKeptOut(t testing.TB, c *testkit.Cluster, p *probe) {
	at := c.WaitMaster(formLimit)
	victim := c.Nodes[(at+1)%3]
	t.Log("a wrong secret")
	victim.Kill9()
	intruder := c.NewNode("--node-id", victim.ID, "--raft-port", strconv.Itoa(victim.RaftPort), "--cluster-secret", "not-the-secret")
	p.staysOut(t, intruder)
	if intruder.LogContains("not-the-secret") {
		t.Error("the secret is in the log")
	}
	victim.Start()
	c.WaitWhole(formLimit)
	t.Log("the same id")
	p.staysOut(t, c.NewNode("--node-id", victim.ID))
	if got := c.WaitMaster(formLimit); got != at {
		t.Errorf("the master moved from node %d to node %d", at+1, got+1)
	}
	for i, n := range c.Nodes {
		client := testkit.MustDial(t, n.Addr())
		if got := client.MustDo(t, "EXISTS", "intruder").Int(); got != 0 {
			p.test.Errorf("node %d has the intruder's key", i+1)
		}
	}
}

// staysOut starts a node that does not belong to the cluster. It may end by itself
// or go on, but must say in its log that something is wrong, and serve nothing.
func (p *probe) staysOut(t testing.TB, intruder *testkit.Node) {
	t.Helper()
	intruder.Start()
	defer intruder.Kill9()
	end := testkit.Now() + 4*time.Second
	for testkit.Now() < end && intruder.Running() {
		if client, err := testkit.Dial(intruder.Addr(), time.Second); err == nil {
			if r, err := client.Do("SET", "intruder", "was here"); err == nil {
				p.test.Errorf("the intruder accepted a write: %v", r)
			}
			client.Close()
		}
		if addr, err := testkit.AskSentinel(intruder.SentinelAddr()); err == nil && addr == intruder.Addr() {
			p.test.Error("the intruder names itself master")
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Logf("still running: %v; it says:\n%s", intruder.Running(), intruder.Tail(800))
	if !intruder.LogContains("WARN") && !intruder.LogContains("ERROR") {
		t.Error("no line in its log says that something is wrong")
	}
}

// P1, P7: a data directory that is in use, or that belongs to another cluster or
// node, is refused at start with a message, untouched.
func TestWrongDataDirectoryIsRefused(t *testing.T) {
	besideProbe(t, wrongDataDirectoryIsRefused)
}

func wrongDataDirectoryIsRefused(t testing.TB, c *testkit.Cluster, p *probe) {
	at := c.WaitMaster(formLimit)
	node, other := c.Nodes[(at+1)%3], c.Nodes[(at+2)%3]

	t.Log("in use")
	refusesToStart(t, c.NewNode("--node-id", node.ID, "--dir", node.DataDir), "in use")

	t.Log("of another node")
	node.Kill9()
	dir := copyDir(t, node.DataDir)
	node.Start()
	c.WaitWhole(formLimit)
	refusesToStart(t, c.NewNode("--node-id", other.ID, "--dir", dir), node.ID)

	t.Log("of another cluster")
	strange := testkit.StartCluster(t, testkit.ClusterOptions{})
	i := (c.WaitMaster(formLimit) + 2) % 3
	victim, foreign := c.Nodes[i], strange.Nodes[i]
	for _, n := range strange.Nodes {
		n.Kill9()
	}
	victim.Kill9()
	stranger := c.NewNode("--node-id", victim.ID, "--raft-port", strconv.Itoa(victim.RaftPort), "--dir", foreign.DataDir)
	p.staysOut(t, stranger)
	if !stranger.LogContains("cluster") {
		t.Error("no line in the log names the other cluster")
	}
	victim.Start()
	c.WaitWhole(formLimit)
}

// refusesToStart fails unless the node ends by itself with an exit code above 0
// and a message that contains the word.
func refusesToStart(t testing.TB, n *testkit.Node, word string) {
	t.Helper()
	n.Start()
	if code := n.WaitExit(30 * time.Second); code <= 0 {
		t.Errorf("exit code %d, want one above 0", code)
	}
	if !n.LogContains(word) {
		t.Errorf("no message with %q:\n%s", word, n.Tail(1000))
	}
	t.Logf("it says:\n%s", n.Tail(400))
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	return to
}

// P7: maxclients is a limit for the one that comes too late, who is told so.
func TestTooManyClientsAreTold(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Size: 1, Args: []string{"--maxclients", "50"}})
	addr := c.Nodes[0].Addr()
	refused := 0
	for range 80 {
		client := testkit.MustDial(t, addr)
		if _, err := client.Do("PING"); err != nil {
			if !strings.Contains(err.Error(), "max number of clients") && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("too late: %v", err)
			}
			refused++
		}
	}
	if refused < 30 || refused > 40 {
		t.Errorf("%d of 80 clients were refused at a limit of 50", refused)
	}
}

// P7: a half-open connection, whose client is gone without a word, costs no more
// than an idle one: the server keeps serving on all ports.
func TestPortScansHarmNobody(t *testing.T) {
	besideProbe(t, portScansHarmNobody)
}

func portScansHarmNobody(t testing.TB, c *testkit.Cluster, _ *probe) {
	for _, n := range c.Nodes {
		for _, port := range []int{n.Port, n.SentinelPort, n.RaftPort, n.MetricsPort} {
			for range 200 {
				conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", testkit.Loopback(port))
				if err != nil {
					t.Fatal(fmt.Errorf("port %d: %w", port, err))
				}
				_ = conn.(*net.TCPConn).SetLinger(0) // the close is a reset
				_ = conn.Close()
			}
		}
	}
}
