package node

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/forward"
	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// far is another node, as units reach it.
type far struct {
	mu      sync.Mutex
	got     []string
	outcome command.Outcome
	index   uint64
	pending []*command.Batch // never answered
}

// release ends what was never answered.
func (f *far) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.pending {
		for i, n := 0, len(b.Requests); i < n; i++ {
			b.End(i, command.Refused, resp.OK)
		}
	}
}

var _ forward.Master = (*far)(nil)

func (f *far) set(o command.Outcome) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outcome = o
}

func (f *far) words() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.got...)
}

func (f *far) Submit(b *command.Batch) {
	b.Start()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outcome == command.Pending {
		f.pending = append(f.pending, b)
		return
	}
	for i, n := 0, len(b.Requests); i < n; i++ {
		if f.outcome == command.Refused {
			b.End(i, command.Refused, resp.Err(resp.ErrReadOnly))
			continue
		}
		f.got = append(f.got, string(b.Requests[i].Args[1]))
		b.End(i, f.outcome, resp.OK)
	}
}

func (f *far) Index(context.Context) (uint64, error) { return f.index, nil }
func (f *far) Await(context.Context) (uint64, error) { return 1, nil }

func (f *far) Expire(context.Context, []store.Victim) (uint64, error) { return f.index, nil }

func (f *far) Versions(_ context.Context, _ int, keys [][]byte) ([]uint64, error) {
	return make([]uint64, len(keys)), nil
}

// holds waits until there is something that is never answered: it is under way.
func (f *far) holds(tb testing.TB) {
	tb.Helper()
	testkit.Eventually(tb, soon, "the other node has it", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		return testkit.Check(len(f.pending) > 0, "it does not")
	})
}

// relayRig is a relay of node n1 between its own Proposer and others.
type relayRig struct {
	*relay
	tb     testing.TB
	nodes  map[string]*far
	master atomic.Pointer[string]
	here   []string // what its own Proposer got
	waited atomic.Uint64
	parts  atomic.Bool // it hands over
	conns  sync.Map
	deaf   sync.Map // ids of nodes that nothing reaches
}

func newRelayRig(tb testing.TB) *relayRig {
	tb.Helper()
	r := &relayRig{tb: tb, nodes: map[string]*far{"n2": {outcome: command.Replied}, "n3": {outcome: command.Replied}}}
	r.follow("n2")
	table, err := dataTable()
	if err != nil {
		tb.Fatal(err)
	}
	r.relay = newRelay(relayConfig{
		self: "n1", patience: time.Second,
		submit: func(b *command.Batch) {
			b.Start()
			for i, n := 0, len(b.Requests); i < n; i++ {
				r.here = append(r.here, string(b.Requests[i].Args[1]))
				b.End(i, command.Replied, resp.OK)
			}
		},
		expire:  func(context.Context, []store.Victim) error { return errNotMaster },
		confirm: func(context.Context) error { return errNotMaster },
		applied: func(_ context.Context, index uint64) error {
			r.waited.Store(index)
			return nil
		},
		acked:    func(uint64) int64 { return 2 },
		versions: func(context.Context, int, [][]byte) ([]uint64, error) { return nil, errNotMaster },
		master:   func() string { return *r.master.Load() },
		parting:  r.parts.Load,
		dial: func(ctx context.Context, id string) (net.Conn, error) {
			if _, cut := r.deaf.Load(id); cut {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			f := r.nodes[id]
			if f == nil {
				return nil, errNoSuccessor
			}
			near, there := net.Pipe()
			r.conns.Store(id, there)
			server := forward.NewServer(forward.Config{
				Master: f, Table: table, Databases: func() int { return 16 },
				Answered: func() uint64 { return 77 }, Log: slog.New(slog.DiscardHandler),
			})
			go server.Serve(there, "n1") //nolint:contextcheck // it ends with the connection
			return near, nil
		},
	})
	tb.Cleanup(func() {
		for _, f := range r.nodes {
			f.release()
		}
		r.close()
	})
	return r
}

func (r *relayRig) follow(id string) { r.master.Store(&id) }

// submit sends SETs of keys in one batch.
func (r *relayRig) submit(keys ...string) *command.Batch {
	r.tb.Helper()
	b := r.setOf(keys...)
	r.Submit(b)
	return b
}

// setOf is a batch of SETs of keys.
func (r *relayRig) setOf(keys ...string) *command.Batch {
	r.tb.Helper()
	table, err := dataTable()
	if err != nil {
		r.tb.Fatal(err)
	}
	b := command.NewBatch()
	for _, k := range keys {
		b.Requests = append(b.Requests, command.Request{Spec: table.ByName("set"), Args: byteArgs([]string{"SET", k, "v"})})
	}
	return b
}

func (r *relayRig) wait(b *command.Batch) {
	r.tb.Helper()
	select {
	case <-b.Done():
	case <-time.After(soon):
		r.tb.Fatal("a batch never ended")
	}
}

func (r *relayRig) want(b *command.Batch, want ...command.Outcome) {
	r.tb.Helper()
	r.wait(b)
	for i, o := range want {
		if got := b.Requests[i].Outcome; got != o {
			r.tb.Errorf("request %d ended with outcome %d, want %d", i, got, o)
		}
	}
}

// What is parked goes, in order, where the way leads afterwards: here or to the master.
func TestParkedCommandsTakeTheNextWay(t *testing.T) {
	for w, name := range map[way]string{wayHere: "here", wayRemote: "remote"} {
		t.Run(name, func(t *testing.T) {
			r := newRelayRig(t)
			r.set(wayRemote)
			r.want(r.submit("warm"), command.Replied) // the connection is there
			r.set(wayParked)
			var all []*command.Batch
			for _, k := range []string{"a", "b", "c"} {
				all = append(all, r.submit(k))
			}
			if len(r.here) > 0 || len(r.nodes["n2"].words()) > 1 {
				t.Error("something was carried out")
			}
			r.set(w)
			all = append(all, r.submit("d"))
			for _, b := range all {
				r.want(b, command.Replied)
			}
			got := r.here
			if w == wayRemote {
				got = r.nodes["n2"].words()[1:]
			}
			if len(got) != 4 || got[0] != "a" || got[1] != "b" || got[2] != "c" || got[3] != "d" {
				t.Errorf("%v were carried out", got)
			}
		})
	}
}

// P8: a look at the role that was taken before a handover began does not let out what the
// handover has parked since.
func TestHandoverKeepsWhatItHasParked(t *testing.T) {
	r := newRelayRig(t)
	r.set(wayParked)
	b := r.submit("a")
	r.setUnless(wayHere, func() bool { return true })
	if len(r.here) != 0 || r.present() != wayParked {
		t.Errorf("%v were carried out", r.here)
	}
	r.setUnless(wayHere, func() bool { return false })
	r.want(b, command.Replied)
}

// A node that is not the master refuses; the command goes to the one that is, once.
func TestRefusedCommandsAreSentAgain(t *testing.T) {
	r := newRelayRig(t)
	r.nodes["n2"].set(command.Refused)
	r.set(wayRemote)
	b := r.submit("a", "b")
	testkit.Eventually(t, soon, "it was refused", func() error {
		return testkit.Check(r.stats.again.Load() > 0, "not yet")
	})
	r.follow("n3")
	r.want(b, command.Replied, command.Replied)
	if got := r.nodes["n3"].words(); len(got) != 2 || len(r.nodes["n2"].words()) != 0 {
		t.Errorf("n3 has carried out %v", got)
	}
	if r.Written() != 77 {
		t.Errorf("written up to %d", r.Written())
	}
}

// P5: a command that was sent and not answered is in doubt, and nothing of its batch is
// sent to another node.
func TestUnansweredCommandsAreInDoubt(t *testing.T) {
	r := newRelayRig(t)
	r.nodes["n2"].set(command.Pending)
	r.set(wayRemote)
	r.connect(t.Context(), "n2")
	b := r.submit("a", "b")
	r.nodes["n2"].holds(t)
	there, _ := r.conns.Load("n2")
	r.follow("n3")
	_ = there.(net.Conn).Close()
	r.want(b, command.InDoubt, command.InDoubt)
	if got := r.nodes["n3"].words(); len(got) != 0 {
		t.Errorf("n3 has carried out %v", got)
	}
}

// P5, P8: what was sent to a node that is lost without a word is in doubt at once, and
// not sent again; what comes later goes to the next master.
func TestLostNodesAreNotWaitedFor(t *testing.T) {
	r := newRelayRig(t)
	r.nodes["n2"].set(command.Pending)
	r.set(wayRemote)
	r.connect(t.Context(), "n2")
	b := r.submit("a", "b")
	r.nodes["n2"].holds(t)
	r.follow("n3")
	r.lose("n3") // there is no connection to it yet
	select {
	case <-b.Done():
		t.Fatal("it has ended while the master may still answer")
	case <-time.After(20 * time.Millisecond):
	}
	r.lose("n2")
	r.want(b, command.InDoubt, command.InDoubt)
	r.want(r.submit("c"), command.Replied)
	if got := r.nodes["n3"].words(); len(got) != 1 || got[0] != "c" {
		t.Errorf("n3 has carried out %v", got)
	}
}

// P8: a master that cannot be reached is not dialed for so long that the next one comes
// too late.
func TestDeadMastersAreNotDialedForLong(t *testing.T) {
	testkit.Tries(t, 5, func(t testing.TB) {
		r := newRelayRig(t)
		r.cfg.patience = 50 * time.Millisecond
		r.deaf.Store("n2", true)
		r.set(wayRemote)
		b := r.submit("a")
		testkit.Pause(t.Context(), 20*time.Millisecond) // it is dialed
		r.follow("n3")
		testkit.Within(t, passBound/2, "the next master's answer", func() { r.want(b, command.Replied) })
	})
}

// What the master says to be in doubt stays so.
func TestDoubtIsPassedOn(t *testing.T) {
	r := newRelayRig(t)
	r.nodes["n2"].set(command.InDoubt)
	r.set(wayRemote)
	r.want(r.submit("a", "b"), command.InDoubt, command.InDoubt)
}

// If no master is found in time commands are refused, reads in words of their own.
func TestWithoutMasterCommandsAreRefused(t *testing.T) {
	r := newRelayRig(t)
	r.follow("")
	r.set(wayRemote)
	table, err := dataTable()
	if err != nil {
		t.Fatal(err)
	}
	b := command.NewBatch()
	b.Requests = []command.Request{
		{Spec: table.ByName("set"), Args: byteArgs([]string{"SET", "a", "b"})},
		{Spec: table.ByName("get"), Args: byteArgs([]string{"GET", "a"})},
	}
	r.Submit(b)
	r.want(b, command.Refused, command.Refused)
	for i, want := range []resp.Error{resp.ErrReadOnly, resp.ErrMasterDown} {
		if got := string(b.Requests[i].Reply.Bytes()); got != string(want) {
			t.Errorf("request %d: %s", i, got)
		}
	}
	if err := r.Confirm(t.Context()); err == nil {
		t.Error("a read is fresh without a master")
	}
	if _, err := r.Acknowledged(t.Context(), 1); !errors.Is(err, forward.ErrRefused) {
		t.Errorf("acknowledged: %v", err)
	}
}

// attempts are how many a command may make that waits since then.
func attempts(since time.Duration) int64 {
	return 20 + int64((testkit.Now()-since)/(passPauseMost*2/3))
}

// P8: who waits for a master does not keep the processors busy that are to elect one.
func TestWaitingForAMasterCostsLittle(t *testing.T) {
	testkit.Tries(t, 3, func(t testing.TB) { // it waits for passBound
		r := newRelayRig(t)
		r.follow("")
		r.set(wayRemote)
		var looks atomic.Int64
		r.cfg.master = func() string {
			looks.Add(1)
			return *r.master.Load()
		}
		began := testkit.Now()
		b := r.submit("a")
		testkit.Pause(t.Context(), 320*time.Millisecond)
		if got := looks.Load(); got > attempts(began) {
			t.Errorf("%d looks for a master", got)
		}
		r.follow("n2")
		r.want(b, command.Replied)
	})
}

// P8: nor does who is refused again and again, because the old master is still named.
func TestAskingAnOldMasterCostsLittle(t *testing.T) {
	r := newRelayRig(t)
	r.nodes["n2"].set(command.Refused)
	r.set(wayRemote)
	began := testkit.Now()
	b := r.submit("a")
	testkit.Pause(t.Context(), 320*time.Millisecond)
	if got := r.stats.again.Load(); int64(got) > attempts(began) {
		t.Errorf("%d attempts", got)
	}
	r.follow("n3")
	r.want(b, command.Replied)
}

// P8: a client is refused in time also when a node goes on being named that is not the
// master, as when no majority can elect another.
func TestNobodyIsAskedForEver(t *testing.T) {
	r := newRelayRig(t)
	r.nodes["n2"].set(command.Refused)
	r.set(wayRemote)
	began := testkit.Now()
	r.want(r.submit("a"), command.Refused)
	if took := testkit.Now() - began; took < passBound {
		t.Errorf("refused after %v", took)
	}
}

// A node that becomes master while a command looks for one takes it itself.
func TestNewMasterTakesItsOwnCommands(t *testing.T) {
	testkit.Tries(t, 3, func(t testing.TB) { // it waits for passBound
		r := newRelayRig(t)
		r.follow("")
		r.set(wayRemote)
		b := r.submit("a")
		r.follow("n1")
		r.want(b, command.Replied)
		if len(r.here) != 1 {
			t.Errorf("%v were carried out here", r.here)
		}
	})
}

// A client that waits for replicas on a node that passes on hears of them also when that
// node has become the master meanwhile.
func TestNewMasterCountsItsOwnReplicas(t *testing.T) {
	r := newRelayRig(t)
	r.set(wayRemote)
	r.follow("n1")
	if n, err := r.Acknowledged(t.Context(), 1); n != 2 || err != nil {
		t.Errorf("%d replicas, %v", n, err)
	}
}

// P8: what was parked for a client that has gone is not carried out, wherever the way
// leads afterwards: it has asked again.
func TestAbandonedCommandsAreDropped(t *testing.T) {
	for w, name := range map[way]string{wayHere: "here", wayRemote: "remote"} {
		t.Run(name, func(t *testing.T) {
			r := newRelayRig(t)
			r.set(wayParked)
			b := r.setOf("a")
			b.Abandoned = func() bool { return true }
			r.Submit(b)
			r.set(w)
			r.want(b, command.InDoubt)
			if got := append(r.nodes["n2"].words(), r.here...); len(got) != 0 {
				t.Errorf("%v were carried out", got)
			}
		})
	}
}

// A client may end its side of the connection when it has sent everything: what it has
// asked is passed on, unless the master changes as planned and it may have heard of that.
func TestHalfClosedClientsAreServed(t *testing.T) {
	story := func(t testing.TB, parting bool, want command.Outcome) {
		r := newRelayRig(t)
		r.parts.Store(parting)
		r.set(wayRemote)
		for range 2 { // before there is a connection to the master, and with one
			b := r.setOf("a")
			b.Abandoned = func() bool { return true }
			r.Submit(b)
			r.want(b, want)
		}
	}
	story(t, true, command.InDoubt)
	testkit.Tries(t, 10, func(t testing.TB) { // after lateAfter it might have given up
		story(t, false, command.Replied)
	})
}

// P8: what waits for a master to take it is not carried out either once its client has
// gone: it asks the next master the same again.
func TestCommandsAbandonedOnTheWayAreDropped(t *testing.T) {
	for name, unsent := range map[string]func(r *relayRig){
		"refused":   func(r *relayRig) { r.nodes["n2"].set(command.Refused) },
		"no master": func(r *relayRig) { r.follow("") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelayRig(t)
			unsent(r)
			r.set(wayRemote)
			var gone atomic.Bool
			b := r.setOf("a")
			b.Abandoned = gone.Load
			r.Submit(b)
			gone.Store(true)
			testkit.Pause(t.Context(), lateAfter+20*time.Millisecond)
			r.follow("n3")
			r.want(b, command.InDoubt)
			if got := r.nodes["n3"].words(); len(got) != 0 {
				t.Errorf("%v were carried out", got)
			}
		})
	}
}

// P2: an index that was taken before this node was established as the master that is
// confirmed afterwards may lack what the one before has answered: reads do not get it.
func TestIndexOfAnEarlierTermIsRefused(t *testing.T) {
	var term, applied uint64
	serving, answered := func() uint64 { return term }, func() uint64 { return applied }
	for _, test := range []struct {
		name     string
		from, to uint64
		want     error
	}{
		{"not established before", 0, 3, errNotMaster},
		{"master of another term before", 2, 3, errNotMaster},
		{"the same term", 3, 3, nil},
	} {
		term, applied = test.from, 10
		index, err := readIndex(serving, answered, func() error {
			term, applied = test.to, 12
			return nil
		})
		if !errors.Is(err, test.want) || err == nil && index != 10 {
			t.Errorf("%s: %d, %v", test.name, index, err)
		}
	}
}

// A fresh read, and the removal of due keys, wait until the own state has reached what
// the master told.
func TestReadsWaitForTheMastersIndex(t *testing.T) {
	r := newRelayRig(t)
	r.nodes["n2"].index = 1234
	if err := r.Confirm(t.Context()); !errors.Is(err, errNotMaster) {
		t.Errorf("on a node that is no master: %v", err)
	}
	r.set(wayRemote)
	if err := r.Confirm(t.Context()); err != nil || r.waited.Load() != 1234 {
		t.Errorf("%v, waited for %d", err, r.waited.Load())
	}
	r.waited.Store(0)
	if err := r.Expire(t.Context(), []store.Victim{{Key: "a"}}); err != nil || r.waited.Load() != 1234 {
		t.Errorf("%v, waited for %d", err, r.waited.Load())
	}
	if list, err := r.Versions(t.Context(), 0, byteArgs([]string{"a", "b"})); err != nil || len(list) != 2 {
		t.Errorf("versions %v, %v", list, err)
	}
}
