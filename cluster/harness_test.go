package cluster_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/testkit"
)

// machine is a state machine: a map, and the term of the last establishing entry.
type machine struct {
	established, applied atomic.Uint64
	hint                 func()

	mu   sync.Mutex
	data map[string]string
}

const establishing = "establish"

func (m *machine) Apply(l *raft.Log) any {
	defer m.applied.Store(l.Index)
	if string(l.Data) == establishing {
		m.established.Store(l.Term)
		if m.hint != nil {
			m.hint()
		}
		return nil
	}
	k, v, _ := strings.Cut(string(l.Data), "=")
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[k] = v
	return v
}

func (m *machine) get(k string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data[k]
}

// image is what snapshots of a machine hold.
type image struct {
	Data                 map[string]string
	Applied, Established uint64
}

func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return image{maps.Clone(m.data), m.applied.Load(), m.established.Load()}, nil
}

func (m *machine) Restore(r io.ReadCloser) error {
	var i image
	if err := json.NewDecoder(r).Decode(&i); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data = i.Data
	m.applied.Store(i.Applied)
	m.established.Store(i.Established)
	return nil
}

func (i image) Persist(sink raft.SnapshotSink) error {
	if err := json.NewEncoder(sink).Encode(i); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (image) Release() {}

// The machine is the node's Source as well.
func (m *machine) Established() uint64 { return m.established.Load() }
func (m *machine) Applied() uint64     { return m.applied.Load() }
func (m *machine) Time() (int64, bool) { return int64(m.applied.Load()), true }

// source adds the record of a node.
type source struct {
	*machine
	id string
}

func (s source) Info() []byte { return []byte("info of " + s.id) }

// member is one node with the program around it.
type member struct {
	id   string
	cfg  cluster.Config
	fsm  *machine
	node *cluster.Node

	prepare func(*cluster.Node) // called between Open and Run; may be nil

	stop   context.CancelFunc
	ended  chan struct{} // closed when Run has returned
	result error         // of Run, once ended
}

// trio is a cluster under test.
type trio struct {
	t       testing.TB // or one telling of it, see told
	test    testing.TB // hears of what must never happen, however slow the machine is
	wires   *wires
	members map[string]*member
	ids     []string
	tweak   func(*cluster.Config)
}

const testElection = 150 * time.Millisecond

// newTrio prepares three nodes; none is started.
func newTrio(tb testing.TB, tweak func(*cluster.Config)) *trio {
	tb.Helper()
	c := &trio{t: tb, test: tb, wires: newWires(), members: map[string]*member{}, ids: []string{"n1", "n2", "n3"}, tweak: tweak}
	var peers []cluster.Peer
	for _, id := range c.ids {
		peers = append(peers, cluster.Peer{ID: id, Addr: freeAddr(tb)})
	}
	for i, id := range c.ids {
		c.members[id] = &member{id: id, cfg: cluster.Config{
			NodeID:          id,
			Dir:             filepath.Join(testkit.MemoryDir(tb), id),
			Peers:           peers,
			Bind:            peers[i].Addr,
			Secret:          "open sesame",
			ElectionTimeout: testElection,
			Dial:            c.wires.dialer(id, peers),
			Logger:          testLogger(tb, id),
		}}
	}
	tb.Cleanup(c.close)
	return c
}

// started is a trio that runs.
func started(tb testing.TB, tweak func(*cluster.Config)) *trio {
	tb.Helper()
	c := newTrio(tb, tweak)
	for _, id := range c.ids {
		c.start(id)
	}
	return c
}

// tries is how often a story is told that an unplanned election spoils. One is the
// usual end of a standstill of the machine: the timers of all nodes go off at once.
const tries = 5

// told tells a story of a trio, each time of a new one, until it passes.
func told(tb testing.TB, tweak func(*cluster.Config), story func(t testing.TB, c *trio)) {
	tb.Helper()
	testkit.Tries(tb, tries, func(t testing.TB) {
		c := started(t, tweak)
		c.test = tb
		story(t, c)
	})
}

func (c *trio) close() {
	c.wires.heal()
	for _, id := range c.ids {
		c.kill(id)
	}
}

// start opens and runs a node.
func (c *trio) start(id string) *member {
	c.t.Helper()
	m := c.members[id]
	if c.tweak != nil {
		c.tweak(&m.cfg)
	}
	if err := m.start(); err != nil {
		c.t.Fatalf("%s does not open: %v", id, err)
	}
	return m
}

// startBroken starts a node whose appends to the log fail with what err returns.
func (c *trio) startBroken(id string, err func() error) *member {
	c.t.Helper()
	m := c.members[id]
	m.prepare = func(n *cluster.Node) { n.BreakLog(err) }
	defer func() { m.prepare = nil }()
	return c.start(id)
}

// lead makes a node the leader, by cutting off whoever else is elected.
func (c *trio) lead(m *member) {
	c.t.Helper()
	for {
		l := c.leader()
		if l == m {
			return
		}
		c.eventually(m.id+" is ready", func() bool { return m.node.View().Ready })
		rest := c.others(l)
		c.wires.isolate(l.id, rest[0].id, rest[1].id)
		c.leaderAmong(rest[0].id, rest[1].id)
		c.wires.heal()
		c.eventually(l.id+" follows", func() bool { return !l.node.View().RaftLeader && l.node.View().Leader != "" })
	}
}

func (m *member) start() error {
	m.fsm = &machine{data: map[string]string{}}
	m.cfg.FSM, m.cfg.Source = m.fsm, source{m.fsm, m.id}
	node, err := cluster.Open(m.cfg)
	if err != nil {
		return err
	}
	m.node, m.fsm.hint = node, node.Look
	if m.prepare != nil {
		m.prepare(node)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop, m.ended = cancel, make(chan struct{})
	ended := m.ended
	go func() {
		defer close(ended)
		m.result = node.Run(ctx)
	}()
	go m.fsm.establish(node, m.ended)
	return nil
}

// establish does what a leader has to do first.
func (m *machine) establish(node *cluster.Node, ended <-chan struct{}) {
	var term uint64
	for {
		if v := node.View(); v.RaftLeader && v.Term != term {
			term = v.Term
			node.Apply([]byte(establishing), time.Second)
		}
		select {
		case <-ended:
			return
		case <-node.Changed():
		}
	}
}

// kill ends a node if it runs, and waits.
func (c *trio) kill(id string) {
	c.t.Helper()
	m := c.members[id]
	if m.node == nil {
		return
	}
	m.stop()
	<-m.ended
	if err := m.node.Close(); err != nil {
		c.t.Logf("close %s: %v", id, err)
	}
	m.node = nil
}

// live are the nodes that run.
func (c *trio) live() (list []*member) {
	for _, id := range c.ids {
		if c.members[id].node != nil {
			list = append(list, c.members[id])
		}
	}
	return list
}

// leader waits for a node that is confirmed as established leader.
func (c *trio) leader() *member {
	c.t.Helper()
	return c.leaderAmong(c.ids...)
}

func (c *trio) leaderAmong(ids ...string) *member {
	c.t.Helper()
	var found *member
	c.eventually(fmt.Sprintf("a leader among %v", ids), func() bool {
		for _, id := range ids {
			m := c.members[id]
			if m.node == nil {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), testElection)
			err := m.node.Confirm(ctx)
			cancel()
			if err == nil && m.node.View().IsLeader {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// leadsAlone wants no other node to be confirmed in the term in which l leads.
func (c *trio) leadsAlone(l *member) {
	c.t.Helper()
	v := l.node.View()
	for _, m := range c.others(l) {
		err := confirm(m, time.Second)
		if err == nil && v.RaftLeader && m.node.Stats().Term == v.Term {
			c.test.Errorf("%s is confirmed in term %d, which %s leads", m.id, v.Term, l.id)
		}
		if !errors.Is(err, cluster.ErrNotMaster) {
			c.t.Errorf("%s: %v", m.id, err) // it may have been elected
		}
	}
}

// others are the running nodes but one.
func (c *trio) others(m *member) (list []*member) {
	for _, o := range c.live() {
		if o != m {
			list = append(list, o)
		}
	}
	return list
}

// join prepares a node that is to be taken in through the given ones; it is not
// started.
func (c *trio) join(id string, through ...string) *member {
	c.t.Helper()
	addr := freeAddr(c.t)
	cfg := cluster.Config{
		NodeID: id, Dir: filepath.Join(testkit.MemoryDir(c.t), id), Bind: addr, Announce: addr,
		Secret: "open sesame", ElectionTimeout: testElection, Logger: testLogger(c.t, id),
	}
	for _, at := range through {
		cfg.Join = append(cfg.Join, c.members[at].cfg.Bind)
	}
	m := &member{id: id, cfg: cfg}
	c.members[id], c.ids = m, append(c.ids, id)
	return m
}

// votes waits until the leader has exactly the given voters and each of them serves.
func (c *trio) votes(ids ...string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("the voters are %v", ids), func() bool {
		for _, id := range ids {
			v := c.members[id].node.View()
			if !slices.Equal(v.Voters, ids) || !v.Ready || v.Leader == "" {
				return false
			}
		}
		return true
	})
}

// change has whoever leads change the membership, until it has. The answer of a leader
// that is lost on the way is not heard: after the first attempt it counts as success
// that the next one finds it made, as an error with the words made says.
func (c *trio) change(what, made string, f func(ctx context.Context, n *cluster.Node) error) {
	c.t.Helper()
	var last error
	again := false
	defer func() {
		if c.t.Failed() {
			c.t.Logf("%s: %v", what, last)
		}
	}()
	c.eventually(what, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		last = f(ctx, c.leader().node)
		done := last == nil || again && strings.Contains(last.Error(), made)
		again = true
		return done
	})
}

// put writes through whoever leads, until it has succeeded.
func (c *trio) put(k, v string) {
	c.t.Helper()
	c.eventually("a write of "+k, func() bool {
		return c.leader().node.Apply([]byte(k+"="+v), time.Second).Error() == nil
	})
}

// sees waits until a node's state has k=v.
func (c *trio) sees(m *member, k, v string) {
	c.t.Helper()
	c.eventually(fmt.Sprintf("%s=%.20s on %s", k, v, m.id), func() bool { return m.fsm.get(k) == v })
}

// eventually polls until cond holds.
func (c *trio) eventually(what string, cond func() bool) {
	c.t.Helper()
	eventually(c.t, what, cond)
}

func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := clock.Mono() + 15*time.Second
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if clock.Mono() > deadline {
			tb.Fatalf("not within 15 s: %s", what)
		}
		<-tick.C
	}
}

// pause lets time pass in which something must not happen.
func pause(d time.Duration) { <-time.After(d) }

// freeAddr is an address that nobody else takes before the end of the test.
func freeAddr(tb testing.TB) string {
	tb.Helper()
	return testkit.Loopback(testkit.Ports(tb))
}

// testLogger logs to stderr if HOLDFAST_TEST_LOG is set.
func testLogger(tb testing.TB, id string) *slog.Logger {
	tb.Helper()
	if os.Getenv("HOLDFAST_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("n", id)
}

// stopsWith waits until the node has stopped by itself, for at most bound, and wants
// the error to be why.
func (m *member) stopsWith(t *testing.T, want error, bound time.Duration) {
	t.Helper()
	select {
	case <-m.ended:
	case <-time.After(bound):
		t.Fatalf("%s goes on", m.id)
	}
	if !errors.Is(m.result, want) {
		t.Fatalf("%s stopped with %v, want %v", m.id, m.result, want)
	}
}
