package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/internal/testkit"
)

// soon bounds everything that takes milliseconds on an idle machine.
const soon = 20 * time.Second

// TestMain fails the package if any test has left a goroutine behind. Those stay that
// wait for an entry which stood before the state machine when raft ended: raft answers
// them never.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/holdfast/holdfast/raftfsm.(*Proposer).await"))
}

// member is one node run by a test, in this process.
type member struct {
	tb  testing.TB
	cfg config.Config

	log   *journal
	node  *Node // of the present run
	stop  context.CancelFunc
	ended chan error // takes what Run has returned
}

// conf is the configuration of node id on four ports from first on, with
// directives as pairs of name and value.
func conf(tb testing.TB, id string, first int, directives ...string) *config.Config {
	tb.Helper()
	args := []string{
		"node-id", id, "dir", testkit.MemoryDir(tb), "bind", "127.0.0.1",
		"port", strconv.Itoa(first), "sentinel-port", strconv.Itoa(first + 1),
		"raft-port", strconv.Itoa(first + 2), "metrics-port", strconv.Itoa(first + 3),
	}
	args = append(args, directives...)
	var src config.Sources
	for i := 0; i < len(args); i += 2 {
		src.Flags = append(src.Flags, config.Setting{Name: args[i], Value: args[i+1]})
	}
	cfg, err := config.Load(src)
	if err != nil {
		tb.Fatal(err)
	}
	return cfg
}

// single is a running cluster of one.
func single(tb testing.TB, directives ...string) *member {
	tb.Helper()
	m := &member{tb: tb, cfg: *conf(tb, "n1", testkit.Ports(tb), directives...)}
	m.start()
	m.waitRole("master")
	return m
}

// trio is a running cluster of three; own holds further directives of single
// nodes by id.
func trio(tb testing.TB, own map[string][]string, directives ...string) []*member {
	tb.Helper()
	const size, ports = 3, 4
	first := testkit.Ports(tb)
	var peers []string
	for i := range size {
		peers = append(peers, fmt.Sprintf("n%d=%s", i+1, testkit.Loopback(first+ports*i+2)))
	}
	directives = append([]string{"peers", strings.Join(peers, ","), "cluster-secret", "s"}, directives...)
	var all []*member
	for i := range size {
		id := "n" + strconv.Itoa(i+1)
		m := &member{tb: tb, cfg: *conf(tb, id, first+ports*i, append(directives, own[id]...)...)}
		m.start()
		all = append(all, m)
	}
	waitWhole(tb, all)
	return all
}

// steadily tells a story of a cluster whose master changes only as the story has it. When
// the machine stands still for longer than an election timeout the nodes rightly elect
// another one: the story is told again then, with a longer one each time. times is a
// directive for trio.
func steadily(t *testing.T, story func(t testing.TB, times []string)) {
	t.Helper()
	elections := []string{"250ms", "1s", "2s", "2s"}
	testkit.Tries(t, len(elections), func(t testing.TB) {
		times := []string{"election-timeout", elections[0]}
		elections = elections[1:]
		story(t, times)
	})
}

// start runs the node until halt or the end of the test.
func (m *member) start() {
	m.tb.Helper()
	cfg := m.cfg // open owns what it is given
	n, err := open(&Config{Directives: &cfg, Log: m.logger(), Version: "test"})
	if err != nil {
		m.tb.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	m.node, m.stop, m.ended = n, stop, ended
	go func() { ended <- n.serve(ctx) }()
	m.tb.Cleanup(func() {
		if m.ended != nil {
			m.halt()
		}
	})
}

// logger writes to the test's output and keeps what was said in m.log.
func (m *member) logger() *slog.Logger {
	m.log = &journal{out: m.tb.Output()}
	return slog.New(slog.NewTextHandler(m.log, nil)).With("node", m.cfg.NodeID)
}

// journal keeps the log of a node.
type journal struct {
	out  io.Writer
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

// Write notes one line.
func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(line)
	return j.out.Write(line)
}

// String is what was logged so far.
func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// halt stops the node as a signal would, and wants it to end soon and well.
func (m *member) halt() {
	m.tb.Helper()
	const most = 10 * time.Second
	m.stop()
	began := testkit.Now()
	if err := m.wait(soon); err != nil {
		m.tb.Errorf("%s ended with %v", m.cfg.NodeID, err)
	}
	if took := testkit.Now() - began; took > most {
		m.tb.Errorf("%s took %v to stop", m.cfg.NodeID, took)
	}
}

// wait returns what Run returns.
func (m *member) wait(limit time.Duration) error {
	defer func() { m.ended = nil }()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case err := <-m.ended:
		return err
	case <-t.C:
		return errors.New("it is still running")
	}
}

func (m *member) data() string     { return testkit.Loopback(m.cfg.Port) }
func (m *member) sentinel() string { return testkit.Loopback(m.cfg.SentinelPort) }

// dial connects to the data port.
func (m *member) dial() *testkit.Client {
	m.tb.Helper()
	return testkit.MustDial(m.tb, m.data())
}

// do sends one command on a connection of its own.
func (m *member) do(args ...string) (testkit.Reply, error) { return ask(m.data(), args...) }

// ask sends one command to addr on a connection of its own.
func ask(addr string, args ...string) (testkit.Reply, error) {
	const limit = soon / 2
	conn, err := (&net.Dialer{Timeout: limit}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return testkit.Reply{}, err
	}
	c := testkit.NewClient(conn, limit)
	defer c.Close()
	return c.Do(args...)
}

// masterOf is the address a Sentinel port tells, however long that takes.
func masterOf(sentinel string) (addr string, err error) {
	r, err := ask(sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", testkit.MasterName)
	if words := r.Strings(); len(words) == 2 {
		return net.JoinHostPort(words[0], words[1]), err
	}
	return "", errors.Join(err, fmt.Errorf("no address but %v", r))
}

// info is INFO by field.
func (m *member) info() map[string]string {
	m.tb.Helper()
	var r testkit.Reply
	testkit.Eventually(m.tb, soon, "INFO", func() (err error) { // a node that loses its role closes connections
		r, err = m.do("INFO")
		return err
	})
	return testkit.ParseInfo(string(r.Text))
}

func (m *member) waitRole(want string) {
	m.tb.Helper()
	testkit.Eventually(m.tb, soon, m.cfg.NodeID+" is "+want, func() error {
		role, err := testkit.Role(m.data())
		return errors.Join(err, testkit.Check(role == want, "it says %s", role))
	})
}

// waitMaster is the one of the running nodes that says it is master and that
// the Sentinel ports of all name.
func waitMaster(tb testing.TB, all ...*member) *member {
	tb.Helper()
	var master *member
	testkit.Eventually(tb, soon, "a master", func() error {
		for _, m := range all {
			if role, err := testkit.Role(m.data()); err == nil && role == "master" {
				master = m
				return named(master, all)
			}
		}
		return errors.New("nobody says it is")
	})
	return master
}

// named tells which Sentinel port does not name master.
func named(master *member, all []*member) error {
	for _, m := range all {
		if addr, err := testkit.AskSentinel(m.sentinel()); err != nil || addr != master.data() {
			return fmt.Errorf("%s names %q, %w", m.cfg.NodeID, addr, err)
		}
	}
	return nil
}

// waitWhole waits until there is a master with two replicas, known to all, and
// every node is ready.
func waitWhole(tb testing.TB, all []*member) *member {
	tb.Helper()
	master := waitMaster(tb, all...)
	testkit.Eventually(tb, soon, "members are known and ready everywhere", func() error {
		for _, m := range all {
			if err := m.node.Ready(tb.Context()); err != nil {
				return fmt.Errorf("%s: %w", m.cfg.NodeID, err)
			}
			if got := len(m.node.members()); got != len(all) {
				return fmt.Errorf("%s has %d member records", m.cfg.NodeID, got)
			}
		}
		return nil
	})
	return master
}

// others are all but one.
func others(all []*member, but *member) []*member {
	var rest []*member
	for _, m := range all {
		if m != but {
			rest = append(rest, m)
		}
	}
	return rest
}

func itoa(n int) string { return strconv.Itoa(n) }
