package raftfsm_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Property: what is not established refuses everything at once.
func TestNothingIsTakenBeforeEstablishing(t *testing.T) {
	r := newRig(t)
	wantEndings(t, r.submit(set("k", "v"), get("k")), refused, refused)
	for name, err := range map[string]error{
		"expire":   r.prop.Expire(t.Context(), []store.Victim{{Key: "k", Deadline: 1}}),
		"member":   r.prop.PutMember(t.Context(), store.Member{ID: "n1"}),
		"settings": r.prop.PutSettings(t.Context(), settings),
	} {
		if !errors.Is(err, raftfsm.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if r.fsm.Applied() != 0 {
		t.Fatal("an entry was proposed")
	}
}

// Property: the establishing entry seeds the state, opens the gate, and shows
// the term; an entry of another term than asked for does not open it.
func TestEstablishOpensTheGateForItsTermOnly(t *testing.T) {
	r := newRig(t)
	if err := r.prop.Establish(t.Context(), 7); !errors.Is(err, raftfsm.ErrRefused) {
		t.Fatalf("term 7 of a raft in term 1: %v", err)
	}
	wantEndings(t, r.submit(set("k", "v")), refused)
	r.establish(1)
	r.establish(1) // again is no news
	wantEndings(t, r.submit(set("k", "v")), ok)
	if r.fsm.EstablishedTerm() != 1 || r.fsm.Applied() != 3 {
		t.Fatalf("term %d, applied %d", r.fsm.EstablishedTerm(), r.fsm.Applied())
	}
	r.establish(r.loop.Elect())
	if r.fsm.EstablishedTerm() != 2 {
		t.Fatalf("term %d", r.fsm.EstablishedTerm())
	}
}

// giveUpEstablishing returns a rig whose establishing entry is applied after its
// caller has stopped waiting for it, as behind a long backlog.
func giveUpEstablishing(t *testing.T) *rig {
	t.Helper()
	r := newRig(t)
	r.loop.Hold()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.prop.Establish(ctx, 1) }()
	eventually(t, "in flight", func() bool { return r.loop.Waiting() == 1 })
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r.loop.Release()
	return r
}

// Property: an Establish that was given up does not open the gate later.
func TestEstablishGivenUpLeavesTheGateShut(t *testing.T) {
	r := giveUpEstablishing(t)
	if err := r.fsm.WaitApplied(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	wantEndings(t, r.submit(set("k", "v")), refused)
	r.establish(1)
	wantEndings(t, r.submit(set("k", "v")), ok)
}

// Property: P5. Every way an entry can end without being applied here ends its
// requests as refused only if it is sure that they are not executed.
func TestEndingMatrix(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
		shut bool // leadership is over: nothing more is taken
	}{
		{raft.ErrNotLeader, refused, true},
		{raft.ErrEnqueueTimeout, refused, false},
		{raft.ErrLeadershipTransferInProgress, refused, false},
		{raft.ErrRaftShutdown, refused, true},
		{raft.ErrLeadershipLost, doubt, true},
		{raft.ErrAbortedByRestore, doubt, true},
		{errors.New("disk I/O error"), doubt, true},
	} {
		r := newMaster(t)
		r.loop.Fail(c.err)
		wantEndings(t, r.submit(set("k", "v"), get("k")), c.want, c.want)
		if r.value("k") != null {
			t.Errorf("%v: executed", c.err)
		}
		if c.shut {
			eventually(t, "gate shut", func() bool { return endings(r.submit(set("k", "v")))[0] == refused })
			r.establish(r.loop.Elect())
		}
		wantEndings(t, r.submit(set("k", "v")), ok)
	}
}

// Property: an entry that raft never resolves ends in doubt after the bound, and
// its place is free again.
func TestForgottenEntryEndsInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMaster(t)
		for range 3 {
			r.loop.Forget()
			wantEndings(t, r.submit(set("k", "v")), doubt)
		}
		wantEndings(t, r.submit(set("k", "v")), ok)
		eventually(t, "its place is free", func() bool { return r.prop.Stats().Flying == 0 }) // it is answered before it has landed
		if s := r.prop.Stats(); s.Timeouts != 3 || s.InDoubt != 3 {
			t.Fatalf("%+v", s)
		}
	})
}

// Property: a state machine that has stopped leaves its requests in doubt, not
// waiting.
func TestStoppedStateMachineLeavesRequestsInDoubt(t *testing.T) {
	r := newMaster(t)
	r.loop.Apply(raftfsm.Entry(1, 1, req(&command.Spec{Name: "future"}, "k")), 0) // of a newer node
	wantEndings(t, r.submit(set("k", "v")), doubt)
	eventually(t, "gate shut", func() bool { return endings(r.submit(set("k", "v")))[0] == refused })
	if !errors.Is(r.fatal, raftfsm.ErrNewerEntry) {
		t.Fatal(r.fatal)
	}
}

// fat is a value big enough for an entry beside another one.
var fat = strings.Repeat("f", 130<<10)

// Property: at most two entries are in raft's hands; what arrives meanwhile goes
// together.
func TestTwoEntriesInFlight(t *testing.T) {
	r := newMaster(t)
	r.loop.Hold()
	var waiting []*command.Batch
	for i := range 20 {
		b := batch(incr("n"))
		if i < 2 {
			b.Requests = append(b.Requests, set("k", fat))
		}
		r.prop.Submit(b)
		waiting = append(waiting, b)
		if i < 2 {
			eventually(t, "in flight", func() bool { return r.loop.Waiting() == i+1 })
		}
	}
	fatter := batch(set("k", fat))
	r.prop.Submit(fatter)
	if s := r.prop.Stats(); s.Flying != 2 || s.Queued != 19 {
		t.Fatalf("%+v", s)
	}
	r.loop.Release()
	for i, b := range waiting {
		waitDone(t, b)
		if got := endings(b)[0]; got != fmt.Sprintf(":%d\r\n", i+1) {
			t.Errorf("request %d ended %q", i, got)
		}
	}
	waitDone(t, fatter)
	if s := r.prop.Stats(); s.Entries != 4 { // the establishing one, two, and one for all the rest
		t.Fatalf("%+v", s)
	}
}

// Property: P5 at a loss of leadership: what was not sent is refused, what was
// sent is in doubt, both at once; nothing is ended twice, and nothing is taken
// until the next establishing entry.
func TestStepDownEndsEverythingAtOnce(t *testing.T) {
	r := newMaster(t)
	r.loop.Hold()
	sent := []*command.Batch{batch(set("a", "1"), get("a")), batch(set("b", fat))}
	for i, b := range sent {
		r.prop.Submit(b)
		eventually(t, "in flight", func() bool { return r.loop.Waiting() == i+1 })
	}
	unsent := batch(set("c", "1"))
	r.prop.Submit(unsent)
	expire := make(chan error, 1)
	go func() { expire <- r.prop.Expire(t.Context(), []store.Victim{{Key: "k", Deadline: 1}}) }()

	r.prop.StepDown()
	waitDone(t, sent[0])
	waitDone(t, sent[1])
	waitDone(t, unsent)
	wantEndings(t, sent[0], doubt, doubt)
	wantEndings(t, sent[1], doubt)
	wantEndings(t, unsent, refused)
	if err := <-expire; !errors.Is(err, raftfsm.ErrRefused) {
		t.Fatal(err)
	}
	wantEndings(t, r.submit(set("d", "1")), refused)

	r.loop.Release() // what was in doubt happens after all
	r.establish(r.loop.Elect())
	if r.value("a") != "1" || r.value("b") != fat || r.value("c") != null {
		t.Fatal("not what was promised")
	}
	wantEndings(t, r.submit(set("d", "1")), ok)
}

// Property: a batch too long for one entry keeps its order over several, and
// two of its entries are never in flight together.
func TestLongBatchKeepsItsOrder(t *testing.T) {
	r := newMaster(t)
	var reqs []command.Request
	for range 3000 {
		reqs = append(reqs, incr("n"), get("n"))
	}
	b := r.submit(reqs...)
	for i := range 3000 {
		n := strconv.Itoa(i + 1)
		if got := text(b.Requests[2*i].Reply); got != ":"+n+"\r\n" {
			t.Fatalf("incr %d: %q", i, got)
		}
		if got := text(b.Requests[2*i+1].Reply); got != fmt.Sprintf("$%d\r\n%s\r\n", len(n), n) {
			t.Fatalf("get %d: %q", i, got)
		}
	}
	eventually(t, "all are counted", func() bool { return r.prop.Stats().Requests == 6000 })
	if s := r.prop.Stats(); s.Entries < 7 {
		t.Fatalf("%+v", s)
	}
}

// Property: after the refusal of one entry nothing later of the same batch is
// executed; other connections go on.
func TestRefusalIsNotOvertaken(t *testing.T) {
	for _, c := range []struct {
		err   error
		first string
	}{{raft.ErrEnqueueTimeout, refused}, {raft.ErrLeadershipTransferInProgress, refused}} {
		r := newMaster(t)
		var reqs []command.Request
		for range 3000 {
			reqs = append(reqs, incr("n"))
		}
		r.loop.Fail(c.err)
		b := r.submit(reqs...)
		for i, e := range endings(b) {
			if e != refused {
				t.Fatalf("request %d: %q", i, e)
			}
		}
		if r.value("n") != null {
			t.Fatalf("n is %s", r.value("n"))
		}
		wantEndings(t, r.submit(incr("n")), ":1\r\n")
	}
}

// Property: after the first part of a batch is in doubt, what was not sent is
// refused.
func TestRestOfBatchInDoubtIsRefused(t *testing.T) {
	r := newMaster(t)
	var reqs []command.Request
	for range 1500 {
		reqs = append(reqs, incr("n"))
	}
	r.loop.Fail(raft.ErrLeadershipLost)
	got := endings(r.submit(reqs...))
	if got[0] != doubt || got[1023] != doubt || got[1024] != refused || got[1499] != refused {
		t.Fatalf("%q %q %q %q", got[0], got[1023], got[1024], got[1499])
	}
}

// Property: entries stay within their limits, and a bigger request travels alone.
func TestEntriesStayWithinTheirLimits(t *testing.T) {
	r := newMaster(t)
	r.loop.Keep()
	r.loop.Hold()
	big := strings.Repeat("x", 200<<10)
	var waiting []*command.Batch
	for _, reqs := range [][]command.Request{
		{set("x", fat)}, {set("x", fat)}, // take both places
		{set("a", big)}, {set("b", big)}, {set("c", big)}, // two go together
		{set("d", strings.Repeat(big, 5))}, // alone
		{set("e", big), set("f", big), set("g", big), set("h", "1")}, {incr("n")},
	} {
		b := batch(reqs...)
		r.prop.Submit(b)
		waiting = append(waiting, b)
		if len(waiting) <= 2 {
			eventually(t, "in flight", func() bool { return r.loop.Waiting() == len(waiting) })
		}
	}
	r.loop.Release()
	for _, b := range waiting {
		waitDone(t, b)
	}
	var sizes []int
	for _, l := range r.loop.Log() {
		sizes = append(sizes, len(l.Data)>>10)
	}
	// The last batch may go beside the second part of the long one or before it.
	if got := fmt.Sprint(sizes); got != "[130 130 400 200 1000 400 0 200]" && got != "[130 130 400 200 1000 400 200]" {
		t.Fatalf("entries of %v KiB", sizes)
	}
	if len(r.value("g")) != len(big) || r.value("h") != "1" {
		t.Fatal("the long batch is not whole")
	}
}

// Property: what no log store can hold is refused, with the whole batch.
func TestImpossibleRequestIsRefused(t *testing.T) {
	r := newMaster(t)
	tooBig := "refused " + text(resp.Err(resp.ErrEntryTooBig))
	wantEndings(t, r.submit(set("a", "1"), set("k", strings.Repeat("x", 61<<20))), tooBig, tooBig)
	wantEndings(t, r.submit(get("a")), null)
}

// Property: what no state machine could apply is refused before it can stop
// every node.
func TestCommandThatCannotBeReplicatedIsRefused(t *testing.T) {
	r := newMaster(t)
	internal := "refused " + text(resp.Err(resp.ErrInternal))
	copied := *raftfsm.SpecSet // not the one the table has
	for _, bad := range []command.Request{
		req(raftfsm.SpecPing), req(raftfsm.SpecSub), req(&copied, "k", "v"), req(&command.Spec{Name: "future", Do: raftfsm.SpecSet.Do}, "k", "v"),
		transaction(nil, set("k", "v"), req(raftfsm.SpecPing)),
	} {
		wantEndings(t, r.submit(set("k", "v"), bad), internal, internal)
	}
	if r.value("k") != null || r.fatal != nil {
		t.Fatal("not refused as a whole")
	}
	wantEndings(t, r.submit(set("k", "v")), ok)
}

// Property: under any race of submitting, losing and regaining leadership, every
// request ends exactly once, what was replied has happened, and what was refused
// has not.
func TestEndingsAreTrueUnderRaces(t *testing.T) {
	r := newMaster(t)
	var wg sync.WaitGroup
	books := r.write(&wg, 8, 100)
	stop := make(chan struct{})
	var chaos sync.WaitGroup
	chaos.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if i%2 == 0 { // end it while an entry is on its way, unless the writers have finished
				r.loop.Hold()
				for n := 0; n < 1000 && r.loop.Waiting() == 0; n++ {
					runtime.Gosched()
				}
			}
			switch i % 3 {
			case 0:
				r.prop.StepDown()
			case 1:
				r.loop.Lose(i%4 == 0)
			}
			r.loop.Release()
			_ = r.prop.Establish(t.Context(), r.loop.Elect())
			for range i % 4 {
				r.submit(set("x", "1"))
			}
		}
	})
	wg.Wait()
	close(stop)
	chaos.Wait()
	r.establish(r.loop.Elect())
	books.check(t, r)
}

// Property: ended is ended: after Run has returned everything is refused.
func TestRunEndsEverything(t *testing.T) {
	r := newFSM(t)
	var prop *raftfsm.Proposer
	t.Run("life", func(t *testing.T) {
		r.t = t
		r.run()
		r.establish(1)
		prop = r.prop
	})
	r.t = t
	wantEndings(t, r.submit(set("k", "v")), refused)
	if err := prop.Establish(t.Context(), 1); !errors.Is(err, raftfsm.ErrRefused) {
		t.Fatal(err)
	}
}

// Property: victims asked for by several callers go together, 512 in a tick, and
// only those due with an unchanged deadline are removed.
func TestExpireRemovesWhatIsDue(t *testing.T) {
	r := newMaster(t)
	end := r.fsm.Instant() + 1000
	var reqs []command.Request
	var victims []store.Victim
	for i := range 1200 {
		reqs = append(reqs, setUntil(fmt.Sprint(i), end))
		victims = append(victims, store.Victim{Key: fmt.Sprint(i), Deadline: end})
	}
	reqs = append(reqs, setUntil("moved", end+5000))
	r.submit(reqs...)
	victims = append(victims, store.Victim{Key: "moved", Deadline: end}, store.Victim{Key: "none", Deadline: end}, store.Victim{DB: 99, Key: "x", Deadline: 1})

	if err := r.prop.Expire(t.Context(), victims); err != nil {
		t.Fatal(err)
	}
	if got := r.fsm.Stats().Expired; got != 0 {
		t.Fatalf("%d keys removed before their time", got)
	}
	r.clock.Advance(time.Second)
	if err := r.prop.Expire(t.Context(), victims); err != nil {
		t.Fatal(err)
	}
	if got := r.fsm.Stats().Expired; got != 1200 {
		t.Fatalf("%d keys removed", got)
	}
	if r.value("moved") != "v" {
		t.Fatal("a key whose deadline was moved is gone")
	}
	if got := r.prop.Stats().Ticks; got != 6 {
		t.Fatalf("%d ticks", got)
	}
}

// Property: members and settings are replicated; the number of databases stays.
func TestMembersAndSettingsAreReplicated(t *testing.T) {
	r := newMaster(t)
	m := store.Member{ID: "n2", RunID: "abc", DataHost: "::1", DataPort: 6379, SentinelHost: "h", SentinelPort: 26379, Version: "v", Level: 1}
	if err := r.prop.PutMember(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if err := r.prop.PutSettings(t.Context(), store.Settings{Databases: 99, MaxEntryBytes: 5, MaxBulkBytes: 4}); err != nil {
		t.Fatal(err)
	}
	r.fsm.View(0, func(rd *store.Reader) {
		sys := rd.System()
		if sys.Members["n2"] != m || sys.Settings != (store.Settings{Databases: 16, MaxEntryBytes: 5, MaxBulkBytes: 4}) {
			t.Fatalf("%+v", sys)
		}
	})
}

// Property: P8. A node is established exactly while its gate is open: whoever
// asks is never told of a master that refuses every write, and so sees that the
// term has to be established again.
func TestEstablishedWhileTheGateIsOpenOnly(t *testing.T) {
	r := giveUpEstablishing(t)
	r.heard(1)
	if got := r.fsm.EstablishedTerm(); got != 0 {
		t.Fatalf("established in term %d behind a shut gate", got)
	}
	r.establish(1)
	if got := r.fsm.EstablishedTerm(); got != 1 {
		t.Fatalf("established in term %d", got)
	}
	r.prop.StepDown() // contact with the majority was lost for a moment
	if got := r.fsm.EstablishedTerm(); got != 0 {
		t.Fatalf("established in term %d after stepping down", got)
	}
	r.establish(1)
	wantEndings(t, r.submit(set("k", "v")), ok)
	r.loop.Fail(raft.ErrNotLeader)
	wantEndings(t, r.submit(set("k", "w")), refused)
	eventually(t, "the gate is shut", func() bool { return r.fsm.EstablishedTerm() == 0 })
}

// Property: P7. Neither the removal of keys with long names nor a tick beside a
// big request makes an entry that a log store would refuse, which would stop
// every node; and neither of the two keeps the other waiting for ever.
func TestTicksKeepEntriesWithinTheirLimits(t *testing.T) {
	r := newMaster(t)
	end := r.fsm.Instant() + 1000
	var victims []store.Victim
	for i := range 40 {
		key := fmt.Sprint(i) + strings.Repeat("k", 100<<10)
		r.submit(setUntil(key, end))
		victims = append(victims, store.Victim{Key: key, Deadline: end})
	}
	huge := strings.Repeat("h", 5<<20)
	r.submit(setUntil(huge, end))
	victims = append(victims, store.Victim{Key: huge, Deadline: end})
	r.clock.Advance(time.Second)
	r.loop.Keep()
	r.loop.Hold()
	var first []*command.Batch
	for i := range 2 { // take both places, so that the rest meets
		b := batch(set("n", fat))
		r.prop.Submit(b)
		first = append(first, b)
		eventually(t, "in flight", func() bool { return r.loop.Waiting() == i+1 })
	}
	big := batch(set("big", strings.Repeat("x", 5<<20)), set("small", "1"))
	r.prop.Submit(big)
	expired := make(chan error, 1)
	go func() { expired <- r.prop.Expire(t.Context(), victims) }()
	eventually(t, "ticks are waiting", func() bool { return raftfsm.WaitingTicks(r.prop) > 0 })
	r.loop.Release()
	if err := <-expired; err != nil {
		t.Fatal(err)
	}
	for _, b := range append(first, big) {
		waitDone(t, b)
	}
	wantEndings(t, big, ok, ok)
	if got := r.fsm.Stats().Expired; got != 41 {
		t.Fatalf("%d keys removed", got)
	}
	alone := 0
	for i, l := range r.loop.Log() {
		switch n := len(l.Data); {
		case n > 5<<20+1000:
			t.Errorf("entry %d has %d bytes: something big does not travel alone", i, n)
		case n > 5<<20:
			alone++
		case n > 512<<10:
			t.Errorf("entry %d has %d bytes", i, n)
		}
	}
	if alone != 2 {
		t.Errorf("%d big entries", alone)
	}
}
