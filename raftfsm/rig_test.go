package raftfsm_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/testkit/loopback"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// wall is where the fake clock of the tests begins, ms.
const wall = 1_700_000_000_000

var settings = store.Settings{Databases: 16, MaxEntryBytes: 32 << 20, MaxBulkBytes: 32 << 20}

// rig is a state machine, a Proposer and a raft of one node.
type rig struct {
	t     testing.TB
	clock *clock.Fake
	store *store.Store
	fsm   *raftfsm.FSM
	loop  *loopback.Loop
	prop  *raftfsm.Proposer
	sink  *sink
	watch *watcher
	fatal error
}

// sink keeps what it hears.
type sink struct {
	mu      sync.Mutex
	updates []raftfsm.Update
}

func (s *sink) Applied(u raftfsm.Update) {
	u.Events = append([]store.Event(nil), u.Events...)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updates = append(s.updates, u)
}

// heard is what the sink heard, once that goes up to an index.
func (r *rig) heard(index uint64) []raftfsm.Update {
	r.t.Helper()
	var got []raftfsm.Update
	eventually(r.t, "the sink hears of the entry", func() bool {
		r.sink.mu.Lock()
		defer r.sink.mu.Unlock()
		got = r.sink.updates
		return len(got) > 0 && got[len(got)-1].Index >= index
	})
	return got
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// newFSM returns a state machine over an empty store, on a clock moved by hand.
func newFSM(tb testing.TB) *rig {
	tb.Helper()
	c := &clock.Fake{}
	c.SetWall(wall)
	c.Advance(time.Hour)
	r := newFSMOn(tb, c)
	r.clock = c
	return r
}

// newFSMOn returns a state machine on the given clock, that knows some more
// commands.
func newFSMOn(tb testing.TB, c clock.Clock, more ...*command.Spec) *rig {
	tb.Helper()
	r := &rig{t: tb, store: store.New(16), sink: &sink{}, watch: &watcher{}}
	lookup := func(name string) *command.Spec {
		for _, s := range more {
			if s.Name == name {
				return s
			}
		}
		return raftfsm.Lookup(name)
	}
	r.fsm = raftfsm.New(raftfsm.Config{
		Store: r.store, Lookup: lookup, Clock: c, Log: quiet(), Sink: r.sink, Watch: r.watch,
		Fatal: func(err error) { r.fatal = err },
	})
	return r
}

// newRig returns a running Proposer that is not established yet.
func newRig(tb testing.TB, change ...func(*raftfsm.ProposerConfig)) *rig {
	tb.Helper()
	r := newFSM(tb)
	r.run(change...)
	return r
}

// run starts a Proposer over the state machine; it ends with the test.
func (r *rig) run(change ...func(*raftfsm.ProposerConfig)) {
	r.t.Helper()
	r.runOver(r.fsm, change...)
}

// runOver is run with a state machine between raft and the rig's.
func (r *rig) runOver(applies loopback.FSM, change ...func(*raftfsm.ProposerConfig)) {
	r.t.Helper()
	r.loop = loopback.New(applies)
	cfg := raftfsm.ProposerConfig{
		FSM: r.fsm, Applier: r.loop, Log: quiet(), NodeID: "n1", ClusterID: func() string { return "c1" }, Settings: settings,
		HashSeed: [2]uint64{1, 2},
	}
	for _, fn := range change {
		fn(&cfg)
	}
	r.prop = raftfsm.NewProposer(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.prop.Run(ctx) }()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
		r.loop.Close()
	})
}

// newMaster returns a rig that is established in term 1.
func newMaster(tb testing.TB, change ...func(*raftfsm.ProposerConfig)) *rig {
	tb.Helper()
	r := newRig(tb, change...)
	r.establish(1)
	return r
}

func (r *rig) establish(term uint64) {
	r.t.Helper()
	if err := r.prop.Establish(r.t.Context(), term); err != nil {
		r.t.Fatal(err)
	}
}

// req is a request of the words in database 0.
func req(spec *command.Spec, words ...string) command.Request {
	args := [][]byte{[]byte(spec.Name)}
	for _, w := range words {
		args = append(args, []byte(w))
	}
	return command.Request{Spec: spec, Args: args}
}

func set(key, value string) command.Request { return req(raftfsm.SpecSet, key, value) }
func get(key string) command.Request        { return req(raftfsm.SpecGet, key) }
func incr(key string) command.Request       { return req(raftfsm.SpecIncr, key) }
func setUntil(key string, deadline int64) command.Request {
	return req(raftfsm.SpecSet, key, "v", "PXAT", fmt.Sprint(deadline))
}

func transaction(watch []command.Watched, queue ...command.Request) command.Request {
	x := &command.Exec{Watch: watch}
	for _, q := range queue {
		x.Queue = append(x.Queue, command.Queued{Spec: q.Spec, DB: q.DB, Args: q.Args})
	}
	return command.Request{Spec: raftfsm.SpecExec, Exec: x}
}

func batch(reqs ...command.Request) *command.Batch {
	b := command.NewBatch()
	b.Requests = append(b.Requests, reqs...)
	return b
}

// submit sends the requests and waits for their endings.
func (r *rig) submit(reqs ...command.Request) *command.Batch {
	r.t.Helper()
	b := batch(reqs...)
	r.prop.Submit(b)
	waitDone(r.t, b)
	return b
}

func waitDone(tb testing.TB, b *command.Batch) {
	tb.Helper()
	select {
	case <-b.Done():
	case <-time.After(20 * time.Second):
		tb.Fatal("a batch never ended")
	}
}

// text is a reply as it goes over the wire.
func text(v resp.Value) string { return string(v.Append(nil, 2)) }

// endings is the outcomes and replies of a batch, one word each.
func endings(b *command.Batch) []string {
	var out []string
	for i := range b.Requests {
		switch r := &b.Requests[i]; r.Outcome {
		case command.Replied:
			out = append(out, text(r.Reply))
		case command.Refused:
			out = append(out, "refused "+text(r.Reply))
		case command.InDoubt:
			out = append(out, "doubt "+text(r.Reply))
		default:
			out = append(out, "pending")
		}
	}
	return out
}

func wantEndings(tb testing.TB, b *command.Batch, want ...string) {
	tb.Helper()
	got := endings(b)
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		tb.Fatalf("got  %q\nwant %q", got, want)
	}
}

const (
	refused = "refused -READONLY You can't write against a read only replica.\r\n"
	doubt   = "doubt -INDOUBT leadership was lost on the way; the command may or may not have been executed\r\n"
	ok      = "+OK\r\n"
	null    = "$-1\r\n"
)

// value is what a key of database 0 holds now, null if nothing.
func (r *rig) value(key string) string {
	v := null
	r.fsm.View(0, func(rd *store.Reader) {
		if e := rd.Peek([]byte(key)); e != nil {
			v = string(e.Value().Bytes())
		}
	})
	return v
}

// apply applies one entry as raft would.
func (r *rig) apply(index uint64, data []byte) any {
	return r.fsm.Apply(&raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: data})
}

// alone runs fn as raft would run it, not beside Apply.
func (r *rig) alone(fn func()) {
	if r.loop != nil {
		r.loop.Do(fn)
		return
	}
	fn()
}

// freeze is a snapshot of the present state, to be persisted and released.
func (r *rig) freeze() raft.FSMSnapshot {
	r.t.Helper()
	var snap raft.FSMSnapshot
	var err error
	r.alone(func() { snap, err = r.fsm.Snapshot() })
	if err != nil {
		r.t.Fatal(err)
	}
	return snap
}

// snapshot is the stream of the present state.
func (r *rig) snapshot() []byte {
	r.t.Helper()
	snap := r.freeze()
	defer snap.Release()
	var buf memorySink
	if err := snap.Persist(&buf); err != nil {
		r.t.Fatal(err)
	}
	return buf.Bytes()
}

func (r *rig) restore(stream []byte) (err error) {
	r.alone(func() { err = r.fsm.Restore(io.NopCloser(bytes.NewReader(stream))) })
	return err
}

// memorySink is a raft.SnapshotSink in memory.
type memorySink struct {
	bytes.Buffer
	cancelled, closed bool
}

func (m *memorySink) ID() string    { return "memory" }
func (m *memorySink) Cancel() error { m.cancelled = true; return nil }
func (m *memorySink) Close() error  { m.closed = true; return nil }

// eventually waits until cond holds.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for !cond() {
		select {
		case <-poll.C:
		case <-deadline.C:
			if !cond() { // the machine may have stood still
				tb.Fatalf("never happened: %s", what)
			}
			return
		}
	}
}
