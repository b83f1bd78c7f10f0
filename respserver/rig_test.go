package respserver_test

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/store"
)

// testBound is how long a test waits for what has to happen.
const testBound = 20 * time.Second

// fakeNode stands for the log, the cluster and the state of a node: writes are
// applied as soon as they are submitted, unless they are held.
type fakeNode struct {
	store *store.Store
	clock clock.Fake

	role     atomic.Pointer[respserver.Role]
	confirms atomic.Int64
	views    atomic.Int64
	batches  atomic.Int64
	expires  atomic.Int64
	ready    chan struct{} // one token per batch that is held
	index    atomic.Uint64

	mu struct {
		sync.Mutex
		lost     error // what Confirm answers
		stuck    bool  // Confirm does not answer
		held     []*command.Batch
		hold     bool
		outcome  command.Outcome // of all requests, if not Pending
		sizes    []int           // requests per batch
		replicas []respserver.ReplicaState
		settings map[string]string
		shutdown []respserver.ShutdownMode
		saves    int
		saveErr  error
	}
}

var errNotMaster = errors.New("not the master")

func newFakeNode() *fakeNode {
	n := &fakeNode{store: store.New(16), ready: make(chan struct{}, 100)}
	n.clock.SetWall(1_000_000)
	n.mu.settings = map[string]string{"maxclients": "10000", "timeout": "0", "databases": "16"}
	n.setRole(respserver.Role{Master: true})
	return n
}

func (n *fakeNode) setRole(r respserver.Role) { n.role.Store(&r) }
func (n *fakeNode) Role() respserver.Role     { return *n.role.Load() }
func (n *fakeNode) Index() uint64             { return n.index.Load() }
func (n *fakeNode) History() string           { return "" }
func (n *fakeNode) Info() respserver.Info {
	return respserver.Info{
		Store: n.store.Stats(n.clock.WallMilli()),
		Raft:  []respserver.Pair{{Name: "raft_term", Value: "7"}},
	}
}

func (n *fakeNode) Replicas() []respserver.ReplicaState {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.replicas
}

func (n *fakeNode) Get(pattern string) []respserver.Pair {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []respserver.Pair
	for _, name := range []string{"databases", "maxclients", "timeout"} {
		if pattern == "*" || strings.EqualFold(pattern, name) {
			out = append(out, respserver.Pair{Name: name, Value: n.mu.settings[name]})
		}
	}
	return out
}

func (n *fakeNode) Set(_ context.Context, pairs []respserver.Pair) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range pairs {
		if _, ok := n.mu.settings[p.Name]; !ok {
			return resp.Error("ERR Unknown option or number of arguments for CONFIG SET - '" + p.Name + "'")
		}
	}
	for _, p := range pairs {
		n.mu.settings[p.Name] = p.Value
	}
	return nil
}

func (n *fakeNode) Save(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.saves++
	return n.mu.saveErr
}

func (n *fakeNode) Status() respserver.SaveStatus {
	return respserver.SaveStatus{LastUnix: 1000, LastOK: true, LastSeconds: -1}
}

func (n *fakeNode) Confirm(ctx context.Context) error {
	n.confirms.Add(1)
	n.mu.Lock()
	lost, stuck := n.mu.lost, n.mu.stuck
	n.mu.Unlock()
	if stuck {
		<-ctx.Done()
		return ctx.Err()
	}
	return lost
}

func (n *fakeNode) loseTerm(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.lost = err
}

func (n *fakeNode) View(db int, fn func(*store.Reader)) []store.Victim {
	n.views.Add(1)
	return n.store.View(n.clock.WallMilli(), db, fn)
}

func (n *fakeNode) Freeze() *store.Frozen { return n.store.Freeze() }

func (n *fakeNode) Expire(_ context.Context, victims []store.Victim) error {
	n.expires.Add(1)
	n.store.Update(n.clock.WallMilli(), 1, func(tx *store.Tx) {
		tx.Begin(0)
		for _, v := range victims {
			tx.Expire(v)
		}
	})
	return nil
}

// Submit ends the batch at once, or keeps it.
func (n *fakeNode) Submit(b *command.Batch) {
	b.Start()
	n.batches.Add(1)
	n.mu.Lock()
	n.mu.sizes = append(n.mu.sizes, len(b.Requests))
	hold, outcome := n.mu.hold, n.mu.outcome
	if hold {
		n.mu.held = append(n.mu.held, b)
	}
	n.mu.Unlock()
	if hold {
		n.ready <- struct{}{}
		return
	}
	n.end(b, outcome)
}

func (n *fakeNode) end(b *command.Batch, outcome command.Outcome) {
	for i := range len(b.Requests) {
		switch outcome {
		case command.Refused:
			b.End(i, command.Refused, resp.Err(resp.ErrReadOnly))
		case command.InDoubt:
			b.End(i, command.InDoubt, resp.Err(resp.ErrInDoubt))
		default:
			b.End(i, command.Replied, n.apply(&b.Requests[i]))
		}
	}
}

func (n *fakeNode) apply(r *command.Request) (reply resp.Value) {
	n.index.Add(1)
	n.store.Update(n.clock.WallMilli(), 1, func(tx *store.Tx) {
		if r.Exec == nil {
			reply = applyOne(tx, r.Spec, r.DB, r.Args)
			return
		}
		for _, w := range r.Exec.Watch {
			tx.Use(w.DB)
			if tx.Version(w.Key) != w.Version {
				reply = resp.NullArray
				return
			}
		}
		var list []resp.Value
		for _, q := range r.Exec.Queue {
			list = append(list, applyOne(tx, q.Spec, q.DB, q.Args))
		}
		reply = resp.Array(list...)
	})
	return reply
}

func applyOne(tx *store.Tx, s *command.Spec, db int, args [][]byte) resp.Value {
	tx.Begin(db)
	if s.Do.Route == command.RouteRead {
		return s.Do.Read(&tx.Reader, args)
	}
	return s.Do.Apply(tx, args)
}

// setHold makes batches wait from now on.
func (n *fakeNode) setHold(hold bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.hold = hold
}

// setOutcome makes requests end so from now on; Pending for applying them.
func (n *fakeNode) setOutcome(o command.Outcome) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.outcome = o
}

// awaitHeld waits until a batch is held.
func (n *fakeNode) awaitHeld(tb testing.TB) {
	tb.Helper()
	select {
	case <-n.ready:
	case <-time.After(testBound):
		tb.Fatal("no batch was submitted")
	}
}

// release ends the batches that are held.
func (n *fakeNode) release(o command.Outcome) {
	n.mu.Lock()
	held := n.mu.held
	n.mu.held = nil
	n.mu.Unlock()
	for _, b := range held {
		n.end(b, o)
	}
}

func (n *fakeNode) batchSizes() []int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.mu.sizes
}

// dataSpecs are a few data commands, so that these tests depend on the server only.
func dataSpecs() []*command.Spec {
	raw := func(args [][]byte) ([][]byte, error) { return args, nil }
	key := func(flags command.KeyFlags, last int) []command.Keys {
		return []command.Keys{{Flags: flags, First: 1, Last: last, Step: 1}}
	}
	value := func(r *store.Reader, key []byte) resp.Value {
		if e := r.Find(key); e != nil {
			return resp.Bulk(e.Value().Bytes())
		}
		return resp.Null
	}
	get := &command.Spec{
		Name: "get", Arity: 2, Flags: command.FlagFast, Keys: key(command.KeyRO|command.KeyAccess, 0), Group: "string",
		Do: command.Reads(raw, func(r *store.Reader, args [][]byte) resp.Value { return value(r, args[1]) }),
	}
	mget := &command.Spec{
		Name: "mget", Arity: -2, Flags: command.FlagFast, Keys: key(command.KeyRO|command.KeyAccess, -1), Group: "string",
		Do: command.Reads(raw, func(r *store.Reader, args [][]byte) resp.Value {
			var list []resp.Value
			for _, k := range args[1:] {
				list = append(list, value(r, k))
			}
			return resp.Array(list...)
		}),
	}
	set := &command.Spec{
		Name: "set", Arity: -3, Flags: command.FlagDenyOOM, Keys: key(command.KeyOW|command.KeyUpdate, 0), Group: "string",
		Do: command.Writes(parseSet, func(tx *store.Tx, op setOp) resp.Value {
			deadline := int64(0)
			if op.px > 0 {
				deadline = tx.Now() + op.px
			}
			tx.Set(op.key, store.StringValue(op.value), deadline)
			return resp.OK
		}),
	}
	incr := &command.Spec{
		Name: "incr", Arity: 2, Flags: command.FlagFast, Keys: key(command.KeyRW|command.KeyUpdate, 0), Group: "string",
		Do: command.Writes(raw, func(tx *store.Tx, args [][]byte) resp.Value {
			n := int64(0)
			if e := tx.Find(args[1]); e != nil {
				var err error
				if n, err = strconv.ParseInt(string(e.Value().Bytes()), 10, 64); err != nil {
					return resp.Err(resp.ErrNotInteger)
				}
			}
			tx.Set(args[1], store.StringValue(strconv.AppendInt(nil, n+1, 10)), store.KeepDeadline)
			return resp.Int(n + 1)
		}),
	}
	keys := &command.Spec{
		Name: "keys", Arity: 2, Group: "generic",
		Do: command.Reads(raw, func(r *store.Reader, _ [][]byte) resp.Value { return resp.Int(int64(r.Len())) }),
	}
	keys.Do.Frozen = func(f *store.Frozen, db int, _ [][]byte) resp.Value {
		return resp.Simple("frozen " + strconv.Itoa(f.Len(db)))
	}
	return []*command.Spec{get, mget, set, incr, keys}
}

type setOp struct {
	key, value []byte
	px         int64
}

func parseSet(args [][]byte) (setOp, error) {
	op := setOp{key: args[1], value: append([]byte{}, args[2]...)}
	if len(args) == 3 {
		return op, nil
	}
	if len(args) != 5 || !strings.EqualFold(string(args[3]), "PX") {
		return op, resp.ErrSyntax
	}
	px, err := strconv.ParseInt(string(args[4]), 10, 64)
	if err != nil {
		return op, resp.ErrNotInteger
	}
	op.px = px
	return op, nil
}

// rig is a server on a loopback port over a fake node.
type rig struct {
	*respserver.Server
	node   *fakeNode
	addr   string
	cancel context.CancelFunc
	done   chan struct{}
}

func baseConfig(n *fakeNode) respserver.Config {
	return respserver.Config{
		Identity: respserver.Identity{Version: "0.1.0", RedisVersion: "7.2.4", RunID: strings.Repeat("a", 40), NodeID: "n1", Port: 6379},
		Tuning:   respserver.Tuning{Requests: resp.DefaultLimits(), Databases: 16},
		Submit:   n, Confirm: n, Data: n, Roles: n, Replication: n, Info: n, Persist: n, Settings: n,
		Hub: pubsub.NewHub(pubsub.Limits{}),
		Shutdown: func(m respserver.ShutdownMode) error {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.mu.shutdown = append(n.mu.shutdown, m)
			if m.Abort {
				return resp.Error("ERR No shutdown in progress.")
			}
			return nil
		},
	}
}

func dataTable(tb testing.TB) *command.Table {
	tb.Helper()
	var t *command.Table
	t, err := command.Join(dataSpecs(), respserver.ConnectionSpecs(), respserver.TransactionSpecs(), respserver.ServerSpecs(),
		respserver.SubscribeSpecs(), command.TableSpecs(func() *command.Table { return t }))
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// start serves the data port; changes adjust the configuration.
func start(tb testing.TB, changes ...func(*respserver.Config)) *rig {
	tb.Helper()
	n := newFakeNode()
	cfg := baseConfig(n)
	cfg.Table = dataTable(tb)
	for _, change := range changes {
		change(&cfg)
	}
	return serve(tb, n, cfg)
}

func serve(tb testing.TB, n *fakeNode, cfg respserver.Config) *rig {
	tb.Helper()
	var lc net.ListenConfig
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rig{Server: respserver.New(cfg), node: n, addr: ln.Addr().String(), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		if err := r.Serve(ctx, ln); err != nil {
			tb.Errorf("Serve: %v", err)
		}
	}()
	tb.Cleanup(func() { r.stop(tb) })
	return r
}

// stop ends the server and waits for it.
func (r *rig) stop(tb testing.TB) {
	tb.Helper()
	r.cancel()
	select {
	case <-r.done:
	case <-time.After(testBound):
		tb.Error("the server does not stop")
	}
}

// peer is a client that sends bytes and reads replies.
type peer struct {
	tb   testing.TB
	conn net.Conn
	buf  []byte // read and not yet decoded
}

func (r *rig) dial(tb testing.TB) *peer {
	tb.Helper()
	conn, err := (&net.Dialer{Timeout: testBound}).DialContext(context.Background(), "tcp", r.addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &peer{tb: tb, conn: conn}
}

// encode is a command as bytes; line is split at spaces.
func encode(line string) []byte {
	words := strings.Fields(line)
	out := []byte("*" + strconv.Itoa(len(words)) + "\r\n")
	for _, w := range words {
		out = append(out, "$"+strconv.Itoa(len(w))+"\r\n"+w+"\r\n"...)
	}
	return out
}

// send sends the lines as one pipeline.
func (p *peer) send(lines ...string) {
	p.tb.Helper()
	var out []byte
	for _, l := range lines {
		out = append(out, encode(l)...)
	}
	p.sendBytes(out)
}

func (p *peer) sendBytes(b []byte) {
	p.tb.Helper()
	_ = p.conn.SetWriteDeadline(time.Now().Add(testBound))
	if _, err := p.conn.Write(b); err != nil {
		p.tb.Fatalf("send: %v", err)
	}
}

// read is the next reply.
func (p *peer) read() resp.Value {
	p.tb.Helper()
	v, err := p.tryRead(testBound)
	if err != nil {
		p.tb.Fatalf("read: %v", err)
	}
	return v
}

func (p *peer) tryRead(bound time.Duration) (resp.Value, error) {
	_ = p.conn.SetReadDeadline(time.Now().Add(bound))
	piece := make([]byte, 64<<10)
	for {
		if v, n, err := resp.Decode(p.buf); err == nil {
			p.buf = p.buf[n:]
			return v, nil
		}
		n, err := p.conn.Read(piece)
		if err != nil {
			return resp.None, err
		}
		p.buf = append(p.buf, piece[:n]...)
	}
}

// do sends one command and shows its reply.
func (p *peer) do(line string) string {
	p.tb.Helper()
	p.send(line)
	return show(p.read())
}

// want sends one command and compares its reply.
func (p *peer) want(line, reply string) {
	p.tb.Helper()
	if got := p.do(line); got != reply {
		p.tb.Errorf("%s\n got %s\nwant %s", line, got, reply)
	}
}

// wantAll reads replies to what was sent before.
func (p *peer) wantAll(replies ...string) {
	p.tb.Helper()
	for i, want := range replies {
		if got := show(p.read()); got != want {
			p.tb.Errorf("reply %d\n got %s\nwant %s", i, got, want)
		}
	}
}

// wantClosed reads until the server closes the connection, and fails if it
// sends anything before or does not.
func (p *peer) wantClosed() {
	p.tb.Helper()
	v, err := p.tryRead(testBound)
	var timeout net.Error
	switch {
	case err == nil:
		p.tb.Errorf("got %s, want the connection closed", show(v))
	case errors.As(err, &timeout) && timeout.Timeout():
		p.tb.Error("the connection is still open")
	}
}

// show is a reply on one line: errors as !text, strings as they are, arrays in [],
// maps in {}, pushes in <>.
func show(v resp.Value) string {
	list := func(open, shut string) string {
		var parts []string
		for _, e := range v.Elems() {
			parts = append(parts, show(e))
		}
		return open + strings.Join(parts, " ") + shut
	}
	switch v.Kind() {
	case resp.KindError:
		return "!" + string(v.Bytes())
	case resp.KindInt:
		return ":" + strconv.FormatInt(v.Int64(), 10)
	case resp.KindNull:
		return "null"
	case resp.KindNullArray:
		return "null[]"
	case resp.KindArray:
		return list("[", "]")
	case resp.KindMap:
		return list("{", "}")
	case resp.KindPush:
		return list("<", ">")
	case resp.KindSet:
		return list("~", "~")
	default:
		return string(v.Bytes())
	}
}

// eventually waits for a condition that other goroutines bring about.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	limit := time.After(testBound)
	for !ok() {
		select {
		case <-t.C:
		case <-limit:
			if !ok() { // the machine may have stood still
				tb.Fatalf("never came true: %s", what)
			}
			return
		}
	}
}
