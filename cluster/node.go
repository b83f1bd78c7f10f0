// Package cluster is the raft node: its files, the connections to the other nodes,
// forming a cluster, who leads it, and the proof that this node still does. It does
// not know what log entries mean or what clients are.
package cluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/bell"
	"github.com/holdfast/holdfast/internal/durable"
)

// Node is one member of a cluster. Open makes it, Run lets it live, Close gives its
// directory back. All methods are safe for concurrent use.
type Node struct {
	storage
	network
	watch
	proofs

	cfg     Config
	log     *slog.Logger
	hclog   hclog.Logger
	raft    atomic.Pointer[raft.Raft] // nil until the cluster is formed
	quorum  atomic.Pointer[quorum]
	waiting atomic.Pointer[string]
	hooks   hooks
	veil    veil

	ctx  context.Context // ends when the node stops; its cause says why
	stop context.CancelCauseFunc
	wg   sync.WaitGroup // goroutines of the node and of its connections
	life life
}

// storage is what lies in the data directory.
type storage struct {
	dir      *directory
	identity atomic.Pointer[identity]
	logs     *logStore
	stable   *stableStore
	snaps    raft.SnapshotStore
	compact  compaction
	space    *space
}

// network is what connects to other nodes.
type network struct {
	listener *listener // nil in a cluster of one
	key      []byte
	instance [16]byte
	seed     maphash.Seed
	roster   atomic.Pointer[roster]
	config   sync.Mutex // held while quorum and roster change
	places   places     // guarded by config
	linked   linked
	streams  *streams
	standing standing
	grumbles grumbles
	pulse    bell.Bell // every pingEvery, for those who wait for time to pass
	handlers handlers
}

// proofs are what shows that this node leads, and what it owes to others that do.
type proofs struct {
	confirm *confirmer
	lease   lease
	pledge  pledge
}

// watch is what views are made from. The fields below the line belong to the
// goroutine that publishes views.
type watch struct {
	view      atomic.Pointer[View]
	changed   chan struct{}
	hint      chan struct{}
	highest   atomic.Uint64 // term any other node was seen in
	stalled   atomic.Bool   // an append to the log hangs
	ready     atomic.Bool
	changing  chan struct{} // holds one while a change of the configuration is under way
	doubt     atomic.Bool   // another node does not know this one any more
	elections atomic.Uint64 // this node has won

	transferred atomic.Uint64 // term this node was last a candidate in because a leader has handed over to it

	started time.Duration // clock.Boot

	waitLogged time.Duration // clock.Mono; owned, with waitText, by the goroutine that forms the cluster, then by settle
	waitText   string        // what was logged then

	termSince time.Duration
	lastTerm  uint64
	wasLeader bool
	target    uint64        // index to reach before the node is ready; 0 until it is known
	goal      uint64        // committed at the last beat
	goneSince time.Duration // clock.Mono since when a committed configuration lacks this node; 0 if none does
}

// life is how far Run and Close have come.
type life struct {
	mu      sync.Mutex
	running chan struct{} // closed when Run has returned; nil before Run
	closed  bool
	err     error        // of Close
	left    atomic.Int32 // what Run did not wait for any longer and has not ended
}

// Open takes the data directory, opens what is in it, and listens. Nothing is
// served before Run.
func Open(cfg Config) (*Node, error) {
	cfg, err := cfg.withDefaults()
	if err == nil && (cfg.FSM == nil || cfg.Source == nil) {
		err = errors.New("no state machine")
	}
	if err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, log: cfg.Logger, hclog: raftLogger(cfg.Logger)}
	n.ctx, n.stop = context.WithCancelCause(context.Background())
	n.changing = make(chan struct{}, 1)
	n.changed, n.hint = make(chan struct{}, 1), make(chan struct{}, 1)
	n.waiting.Store(new(string))
	n.started = cfg.Clock.Boot()
	n.termSince = n.started
	n.confirm = newConfirmer(n)
	if cfg.Lease {
		n.lease.length = leaseLength(cfg.ElectionTimeout)
	}
	if err := n.openNetwork(); err != nil {
		return nil, err
	}
	if err := n.openStorage(); err != nil {
		return nil, errors.Join(err, n.closeStorage())
	}
	if err := n.openListener(); err != nil {
		return nil, errors.Join(err, n.closeStorage())
	}
	n.firstRoster()
	n.view.Store(&View{Self: cfg.NodeID})
	n.publish()
	return n, nil
}

// openNetwork prepares what is known of the other nodes.
func (n *Node) openNetwork() error {
	n.key = key(n.cfg.Secret)
	n.seed = maphash.MakeSeed()
	if _, err := rand.Read(n.instance[:]); err != nil {
		return fmt.Errorf("draw instance id: %w", err)
	}
	n.standing.foreign, n.standing.twin = map[string]string{}, map[string]time.Duration{}
	n.grumbles.last = map[string]time.Duration{}
	n.roster.Store(&roster{})
	n.linked.stops = map[*peer]context.CancelFunc{}
	n.streams = newStreams(n)
	n.handlers.byKind = map[string]func(*session){
		kindForm:  n.serveForm,
		kindRaft:  n.streams.deliver,
		kindProbe: n.serveProbe,

		kindMember: n.serveMember,
		kindYield:  n.serveYield,
	}
	return nil
}

func (n *Node) openListener() (err error) {
	if n.cfg.alone() {
		return nil
	}
	n.listener, err = listen(n.cfg.Listen)
	return err
}

// Names in raft's directory that do not depend on the store of the log. The second
// one is raft's own.
const (
	stableFile  = "stable.db"
	snapshotDir = "snapshots"
)

// openStorage takes the directory and opens the stores.
func (n *Node) openStorage() error {
	var err error
	if n.dir, err = openDirectory(n.cfg.Dir); err != nil {
		return err
	}
	id, err := n.dir.readIdentity(&n.cfg)
	if err != nil {
		return err
	}
	n.identity.Store(&id)
	if err := errors.Join(n.checkList(), n.checkFiles()); err != nil {
		return err
	}
	if n.stable, err = openStable(filepath.Join(n.dir.raft(), stableFile), n.fail); err != nil {
		return fmt.Errorf("term and vote: %w", err)
	}
	if err := n.recall(); err != nil {
		return err
	}
	n.stable.mayVote = n.mayVote
	back, err := openBackend(n.cfg.Log.Store, n.dir.raft(), n.hclog)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	n.logs = &logStore{
		back:     back,
		cache:    newLogCache(cacheEntries, cacheBytes),
		maxBytes: n.cfg.Log.MaxEntryBytes,
		clock:    n.cfg.Clock,
		hooks:    &n.hooks,
		check:    n.cfg.Log.Check,
		fail:     n.fail,
		observe:  n.cfg.Observe.StoreLogs,
		onConfig: n.reconfigure,
		onCut:    n.cutOff,

		leads:       n.leads,
		needsOthers: n.needsOthers,

		slowAfter: n.cfg.ElectionTimeout / 4,
		onSlow:    n.warnSlow,
	}
	if n.snaps, err = raft.NewFileSnapshotStoreWithLogger(n.dir.raft(), 2, n.hclog); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	n.space = openSpace(n)
	if err := n.keepNames(); err != nil {
		return err
	}
	return n.checkState()
}

// keepNames has the names of all that was made so far on disk. The stores sync what
// they write, but not all of them the directories they were made in: after a crash of
// the machine a vote could be gone together with its file.
func (n *Node) keepNames() error {
	err := errors.Join(durable.Sync(n.dir.raft()), durable.Sync(n.dir.path))
	around := durable.Sync(filepath.Dir(n.dir.path))
	if around != nil && !errors.Is(around, fs.ErrPermission) { // that directory may not be ours
		err = errors.Join(err, around)
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// closeStorage closes what is open and gives the directory back.
func (n *Node) closeStorage() error {
	var errs []error
	if n.logs != nil {
		errs = append(errs, n.logs.back.Close())
	}
	if n.stable != nil {
		errs = append(errs, n.stable.Close())
	}
	if n.dir != nil {
		errs = append(errs, n.dir.release())
	}
	return errors.Join(errs...)
}

// Addr is where the node listens for the others, the first of several; nil in a
// cluster of one.
func (n *Node) Addr() net.Addr {
	if n.listener == nil {
		return nil
	}
	return n.listener.sockets[0].Addr()
}

// Run lets the node live until ctx ends or it has to stop: then the error says why.
// It is called once.
func (n *Node) Run(ctx context.Context) error {
	n.life.mu.Lock()
	if n.life.closed || n.life.running != nil {
		n.life.mu.Unlock()
		return errClosed
	}
	n.life.running = make(chan struct{})
	n.life.mu.Unlock()
	defer close(n.life.running)

	stop := context.AfterFunc(ctx, func() { n.stop(nil) })
	defer stop()
	n.start()
	<-n.ctx.Done()
	err := n.shutdown()
	return errors.Join(n.cause(), err)
}

// cause is why the node has stopped; nil if it was told to.
func (n *Node) cause() error {
	if err := context.Cause(n.ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// start starts the goroutines of the node.
func (n *Node) start() {
	n.hooks.watch(n)
	if n.listener != nil {
		for _, socket := range n.listener.sockets {
			n.wg.Go(func() { n.acceptLoop(n.ctx, socket) })
		}
	}
	n.wg.Go(func() { n.watchLoop(n.ctx) })
	n.wg.Go(func() { n.space.run(n.ctx, n.look) })
	n.wg.Go(func() {
		if err := n.form(n.ctx); err != nil {
			n.mayFail(err)
			return
		}
		n.mayFail(n.startRaft())
	})
}

// mayFail stops the node if err is not nil and the node is not stopping already.
func (n *Node) mayFail(err error) {
	if err != nil && n.ctx.Err() == nil {
		n.fail(err)
	}
}

// fail stops the node: the first error counts.
func (n *Node) fail(err error) {
	if n.ctx.Err() == nil {
		n.log.Error("the node stops", "err", err)
	}
	n.stop(err)
}

// raftNode is raft, or nil until the cluster is formed.
func (n *Node) raftNode() *raft.Raft { return n.raft.Load() }

// clusterID is the cluster this node is part of, "" until it is formed.
func (n *Node) clusterID() string {
	if id := n.identity.Load(); id.entered() {
		return id.ClusterID
	}
	return ""
}

// shutdownBound is how long raft may take to stop. A hanging disk keeps it for ever.
const shutdownBound = 5 * time.Second

// shutdown ends raft, connections and goroutines.
func (n *Node) shutdown() error {
	var err error
	if r := n.raftNode(); r != nil {
		err = n.within("raft", func() { _ = r.Shutdown().Error() }) // it is nil
	}
	if n.listener != nil {
		n.listener.shutdown()
	}
	_ = n.streams.Close() // it is nil
	n.confirm.close()
	err = errors.Join(err, n.within("its start or a connection", n.wg.Wait))
	if r := n.raftNode(); r != nil { // it may have come up meanwhile
		err = errors.Join(err, n.within("raft", func() { _ = r.Shutdown().Error() }))
	}
	return errors.Join(err, n.within("its log", func() { _ = n.logs.settle(math.MaxUint64) })) // a failure is n.cause
}

// within waits for f, but no longer than shutdownBound.
func (n *Node) within(what string, f func()) error {
	done := make(chan struct{})
	n.life.left.Add(1)
	go func() { // ends with f; if that hangs, with the process
		defer close(done)
		defer n.life.left.Add(-1)
		f()
	}()
	t := time.NewTimer(shutdownBound)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
		return fmt.Errorf("%s did not end within %v", what, shutdownBound)
	}
}

// Close stops the node if it runs, waits for Run, and gives the directory back. Files
// that something still hangs on stay open; that is an error, and Close can be called
// again.
func (n *Node) Close() error {
	n.stop(nil)
	n.life.mu.Lock() // held to the end: Run does not begin meanwhile
	defer n.life.mu.Unlock()
	running := n.life.running
	if running != nil {
		<-running
	}
	if n.life.closed {
		return n.life.err
	}
	if n.life.left.Load() > 0 || n.logs.outstanding() > 0 {
		return errors.New("a part of the node has not ended yet: its files stay open")
	}
	n.life.closed = true
	if running == nil && n.listener != nil {
		n.listener.shutdown()
	}
	n.confirm.close()
	n.life.err = n.closeStorage()
	return n.life.err
}

// ErrTooLarge is why an entry is refused before raft sees it.
var ErrTooLarge = errors.New("the entry is larger than entries may be")

// Apply proposes an entry. Before raft runs, and for an entry over the limit, the
// future has failed already and nothing was proposed. cmd belongs to raft from then
// on and must not be changed.
func (n *Node) Apply(cmd []byte, timeout time.Duration) raft.ApplyFuture {
	r := n.raftNode()
	switch {
	case int64(len(cmd)) > n.cfg.Log.MaxEntryBytes:
		return failed{ErrTooLarge}
	case r == nil:
		return failed{raft.ErrNotLeader}
	}
	return r.Apply(cmd, timeout)
}

// failed is a future that has failed.
type failed struct{ err error }

var _ raft.ApplyFuture = failed{}

// Error returns why.
func (f failed) Error() error { return f.err }

// Response is nil.
func (failed) Response() any { return nil }

// Index is 0.
func (failed) Index() uint64 { return 0 }

// handlers serve inbound connections by kind.
type handlers struct {
	mu     sync.RWMutex
	byKind map[string]func(*session)
}

// Handle has connections of a kind, at most 16 characters, served by h, in a
// goroutine of its own; they are closed when it returns and when the node stops.
// peerID has been proved. A kind is set once, before Run.
func (n *Node) Handle(kind string, h func(conn net.Conn, peerID string)) error {
	n.handlers.mu.Lock()
	defer n.handlers.mu.Unlock()
	if _, taken := n.handlers.byKind[kind]; taken || kind == "" || len(kind) > maxKind {
		return fmt.Errorf("connection kind %q is taken or not valid", kind)
	}
	n.handlers.byKind[kind] = func(c *session) {
		defer closeConn(c)
		h(c.Conn, c.said.from)
	}
	return nil
}

func (n *Node) handler(kind string) func(*session) {
	n.handlers.mu.RLock()
	defer n.handlers.mu.RUnlock()
	return n.handlers.byKind[kind]
}

// Dial opens a connection of a kind to another node, which has proved its id when
// Dial returns. The caller closes it.
func (n *Node) Dial(ctx context.Context, peerID, kind string) (net.Conn, error) {
	p := n.peer(peerID)
	if p == nil {
		return nil, fmt.Errorf("node %s is not a member", peerID)
	}
	c, err := n.dial(ctx, p, kind)
	if err != nil {
		return nil, err
	}
	return c.Conn, nil
}
