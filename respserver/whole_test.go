package respserver_test

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/testkit/loopback"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/store"
	"github.com/holdfast/holdfast/tracking"
)

// whole is a server over the real state machine and the real way to the log, on
// a raft that loses its leadership on demand.
type whole struct {
	*rig
	fsm      *raftfsm.FSM
	loop     *loopback.Loop
	proposer *raftfsm.Proposer
	tracked  *tracking.Table
	role     atomic.Pointer[respserver.Role]
}

// Role is the role that the test has given the node.
func (w *whole) Role() respserver.Role { return *w.role.Load() }

// Confirm holds while the node is established and raft's leader says so.
func (w *whole) Confirm(context.Context) error {
	if term := w.fsm.EstablishedTerm(); term == 0 || term != w.loop.Term() {
		return errNotMaster
	}
	return nil
}

type wholeState struct {
	*raftfsm.FSM
	*raftfsm.Proposer
}

// wholeTable is the table of the data port, subscriptions included.
func wholeTable(tb testing.TB) *command.Table {
	tb.Helper()
	var t *command.Table
	t, err := command.Join(command.StringSpecs(), command.KeySpecs(), command.TableSpecs(func() *command.Table { return t }),
		respserver.ConnectionSpecs(), respserver.TransactionSpecs(), respserver.ServerSpecs(), respserver.SubscribeSpecs())
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// startWhole serves the master of term 1.
func startWhole(tb testing.TB, changes ...func(*respserver.Config, *raftfsm.ProposerConfig)) *whole {
	tb.Helper()
	table := wholeTable(tb)
	quiet := slog.New(slog.DiscardHandler)
	w := &whole{tracked: tracking.New(tracking.Limits{})}
	w.fsm = raftfsm.New(raftfsm.Config{
		Store: store.New(16), Lookup: table.ByName, Clock: clock.System{}, Log: quiet, Sink: deaf{},
		Watch: respserver.NewChanges(w.tracked),
		Fatal: func(err error) { tb.Errorf("the state machine stopped: %v", err) },
	})
	w.loop = loopback.New(w.fsm)
	tb.Cleanup(w.loop.Close)
	n := newFakeNode()
	cfg := baseConfig(n)
	cfg.Tracking = w.tracked
	settings := store.Settings{Databases: 16, MaxEntryBytes: 32 << 20, MaxBulkBytes: 32 << 20}
	prop := raftfsm.ProposerConfig{
		FSM: w.fsm, Applier: w.loop, Log: quiet, NodeID: "n1", ClusterID: func() string { return "c1" },
		Settings: settings, HashSeed: [2]uint64{1, 2},
	}
	for _, change := range changes {
		change(&cfg, &prop)
	}
	w.proposer = raftfsm.NewProposer(prop)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.proposer.Run(ctx) // nil, always
	}()
	tb.Cleanup(func() {
		cancel()
		<-done
	})
	cfg.Table, cfg.Submit, cfg.Confirm, cfg.Roles, cfg.Data = table, w.proposer, w, w, wholeState{w.fsm, w.proposer}
	cfg.SizeOf, cfg.Tuning.MaxEntryBytes = raftfsm.SizeOf, int(settings.MaxEntryBytes)
	cfg.Hub = pubsub.NewHub(pubsub.Limits{})
	w.establish(tb)
	w.rig = serve(tb, n, cfg)
	return w
}

type deaf struct{}

func (deaf) Applied(raftfsm.Update) {}

// establish makes the node master of raft's present term, trying again if raft
// refuses the entry.
func (w *whole) establish(tb testing.TB) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testBound)
	defer cancel()
	eventually(tb, "the node is established", func() bool { return w.proposer.Establish(ctx, w.loop.Term()) == nil })
	w.role.Store(&respserver.Role{Master: true})
}

// stepDown ends the node's time as master as the node does.
func (w *whole) stepDown() {
	w.CloseClients()
	w.proposer.StepDown()
	w.role.Store(&respserver.Role{})
	w.CloseClients()
}

// again makes the node master of a next term.
func (w *whole) again(tb testing.TB) {
	tb.Helper()
	w.loop.Elect()
	w.establish(tb)
}

// waiting waits until raft holds n entries.
func (w *whole) waiting(tb testing.TB, n int) {
	tb.Helper()
	eventually(tb, "raft holds the entries", func() bool { return w.loop.Waiting() == n })
}

// Leadership that is lost while an entry is on its way leaves its commands in
// doubt, the reads beside it too; what was read behind it was not executed, and
// the connection closes. Whether it was executed is for the next term to tell.
func TestLossWithAnEntryOnItsWay(t *testing.T) {
	for _, committed := range []bool{true, false} {
		for _, proto := range []string{"2", "3"} {
			w := startWhole(t)
			p := w.dial(t)
			p.do("HELLO " + proto)
			p.want("SET a old", "OK")
			w.loop.Hold()
			p.send("SET a new", "GET a", "NOSUCH", "INCR n", "MULTI", "SET b 1", "EXEC", "KEYS *", "SET late 1", "PING")
			w.waiting(t, 1)
			w.loop.Lose(committed)
			p.wantAll(inDoubt, inDoubt, "!ERR unknown command 'NOSUCH', with args beginning with: ", inDoubt, "OK", "QUEUED", inDoubt,
				readOnly, readOnly, readOnly)
			p.wantClosed()
			w.stepDown()
			w.loop.Release()
			w.again(t)
			q := w.dial(t)
			if committed {
				q.want("MGET a n b late", "[new 1 1 null]")
			} else {
				q.want("MGET a n b late", "[old null null null]")
			}
		}
	}
}

// Stepping down ends everything at once: what raft holds is in doubt, what waits
// behind it is refused, idle connections and subscribers are closed.
func TestStepDownEndsEverythingAtOnce(t *testing.T) {
	w := startWhole(t)
	idle, listener, tx := w.dial(t), w.dial(t), w.dial(t)
	idle.want("PING", "PONG")
	listener.want("SUBSCRIBE a", "[subscribe a :1]")
	tx.send("WATCH a", "MULTI", "SET a 1")
	tx.wantAll("OK", "OK", "QUEUED")
	w.loop.Hold()
	var sent []*peer // two entries are with raft, each with the command of one of these
	for i := range 2 {
		p := w.dial(t)
		p.send("INCR sent", "GET sent")
		w.waiting(t, i+1)
		sent = append(sent, p)
	}
	var unsent []*peer
	for range 3 {
		p := w.dial(t)
		p.send("INCR unsent", "GET unsent", "MULTI", "INCR unsent", "EXEC")
		unsent = append(unsent, p)
	}
	eventually(t, "the others wait", func() bool { return w.proposer.Stats().Queued == len(unsent) })
	w.stepDown()
	for _, p := range sent {
		p.wantAll(inDoubt, inDoubt)
		p.wantClosed()
	}
	for _, p := range unsent {
		p.wantAll(readOnly, readOnly, "OK", "QUEUED", readOnly)
		p.wantClosed()
	}
	for _, p := range []*peer{idle, listener, tx} {
		p.wantClosed()
	}
	w.loop.Release()
	eventually(t, "no connection is left", func() bool { return w.Stats().Connected == 0 })
	replica := w.dial(t)
	replica.want("SET a 1", readOnly)
	replica.want("GET unsent", "null")
	replica.want("ROLE", "[slave  :0 connect :0]")
	w.again(t)
	replica.want("SET a 1", "OK") // a connection to a replica that becomes master serves on
}

// What raft refuses for certain is refused for certain, in order, and nothing
// behind it was executed before it; the connection may go on.
func TestRefusalsOfRaftAreDefinite(t *testing.T) {
	for name, fault := range map[string]error{"the queue is full": raft.ErrEnqueueTimeout, "a transfer is under way": raft.ErrLeadershipTransferInProgress} {
		t.Run(name, func(t *testing.T) {
			w := startWhole(t)
			p := w.dial(t)
			w.loop.Fail(fault)
			p.send("SET a 1", "GET a", "WATCH a", "MULTI", "INCR b", "GET b", "EXEC")
			p.wantAll(readOnly, readOnly, "OK", "OK", "QUEUED", "QUEUED", "[:1 1]")
			p.want("GET a", "null")
			w.loop.Fail(fault)
			p.send("KEYS *", "MULTI", "INCR b", "SELECT 3", "EXEC", "GET b")
			p.wantAll("[b]", "OK", "QUEUED", "QUEUED", readOnly, "1")
		})
	}
}

// An entry that raft forgets leaves its commands in doubt after a while, and ends
// the connection.
func TestForgottenEntries(t *testing.T) {
	forgetful := &forgetfulRaft{ended: make(chan struct{})}
	t.Cleanup(func() { close(forgetful.ended) })
	w := startWhole(t, func(_ *respserver.Config, p *raftfsm.ProposerConfig) {
		p.Timeout = 100 * time.Millisecond
		forgetful.Applier, p.Applier = p.Applier, forgetful
	})
	p := w.dial(t)
	forgetful.forgets.Store(true)
	p.send("SELECT 2", "SET a 1", "ECHO x", "CLIENT REPLY OFF", "SET b 1")
	p.wantAll("OK", inDoubt, "x", readOnly, readOnly)
	p.wantClosed()
}

// forgetfulRaft takes entries and does nothing with them.
type forgetfulRaft struct {
	raftfsm.Applier
	forgets atomic.Bool
	ended   chan struct{} // resolves what was forgotten
}

func (f *forgetfulRaft) Apply(cmd []byte, timeout time.Duration) raft.ApplyFuture {
	if f.forgets.Load() {
		return forgotten{ended: f.ended}
	}
	return f.Applier.Apply(cmd, timeout)
}

type forgotten struct {
	raft.ApplyFuture
	ended chan struct{}
}

func (f forgotten) Index() uint64 { return 7 }

func (f forgotten) Error() error {
	<-f.ended
	return raft.ErrRaftShutdown
}

// A transaction in doubt changes nothing of its connection: its Local commands did
// not run.
func TestTransactionInDoubtRunsNoLocals(t *testing.T) {
	w := startWhole(t)
	p := w.dial(t)
	w.loop.Hold()
	p.send("MULTI", "SET a 1", "CLIENT SETNAME renamed", "SUBSCRIBE a", "HELLO 3", "EXEC")
	w.waiting(t, 1)
	other := w.dial(t)
	w.loop.Lose(false)
	p.wantAll("OK", "QUEUED", "QUEUED", "QUEUED", "QUEUED", inDoubt)
	p.wantClosed()
	if got := other.do("CLIENT LIST"); strings.Contains(got, "renamed") {
		t.Error(got)
	}
}

// Transactions see what others have changed between WATCH and EXEC wherever it
// came from, and nothing else.
func TestWatchOverTheLog(t *testing.T) {
	w := startWhole(t)
	for name, change := range map[string]struct {
		by  string
		hit bool
	}{
		"set": {"SET k 2", true}, "set to the same": {"SET k 1", true}, "deleted": {"DEL k", true}, "another key": {"SET other 1", false},
		"deadline": {"PEXPIRE k 100000", true}, "read": {"GET k", false}, "flushed": {"FLUSHDB", true}, "renamed onto": {"RENAME k2 k", true},
		"swapped": {"SWAPDB 0 1", true}, "moved": {"MOVE k 1", true}, "touched": {"TOUCH k", false}, "failed": {"INCRBY k x", false},
		"copied over": {"COPY k2 k REPLACE", true}, "copied from": {"COPY k k3", false}, "persisted in vain": {"PERSIST k", false},
		"not set": {"SET k 9 NX", false}, "flushed elsewhere": {"FLUSHALL", true},
	} {
		for _, body := range []string{"SET result 1", "GET k2"} {
			p, other := w.dial(t), w.dial(t)
			p.send("FLUSHALL", "MSET k 1 k2 2", "WATCH none k")
			p.wantAll("OK", "OK", "OK")
			other.do(change.by)
			p.send("MULTI", body, "EXEC")
			p.wantAll("OK", "QUEUED")
			if got := show(p.read()); (got == "null[]") != change.hit {
				t.Errorf("%s, then EXEC of %s: %s", name, body, got)
			}
		}
	}
}

// Reads of a pipeline see the writes before them and not those behind, however
// they are carried out.
func TestReadsNeverOvertakeWrites(t *testing.T) {
	w := startWhole(t)
	p := w.dial(t)
	var lines, want []string
	for i := range 1500 { // more than one pipeline, one batch and one entry take
		n := strings.Repeat("x", i%7)
		lines = append(lines, "GETRANGE k 0 -1", "SET k "+n+"v", "GET k")
		if i == 0 {
			want = append(want, "")
		} else {
			want = append(want, strings.Repeat("x", (i-1)%7)+"v")
		}
		want = append(want, "OK", n+"v")
		switch i % 50 {
		case 7:
			lines, want = append(lines, "KEYS *"), append(want, "[k]")
		case 17:
			lines, want = append(lines, "MULTI", "GET k", "STRLEN k", "EXEC"), append(want, "OK", "QUEUED", "QUEUED", "["+n+"v :"+string(rune('1'+len(n)))+"]")
		case 27:
			lines, want = append(lines, "DEL k", "EXISTS k", "SET k "+n+"v"), append(want, ":1", ":0", "OK")
		}
	}
	go p.send(lines...)
	p.wantAll(want...)
}
