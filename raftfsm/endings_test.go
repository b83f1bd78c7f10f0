package raftfsm_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/testkit/loopback"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// dice returns a source of chance whose seed is logged.
func dice(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// pausing is a master whose state machine stops in the middle of an entry.
type pausing struct {
	*rig
	pause  command.Request // where it stops
	paused chan struct{}   // closed when it has
	goOn   chan struct{}   // to be closed
}

func newPausing(t *testing.T) pausing {
	t.Helper()
	p := pausing{paused: make(chan struct{}), goOn: make(chan struct{})}
	spec := &command.Spec{Name: "pause", Do: command.Handler{Route: command.RouteRead, Read: func(*store.Reader, [][]byte) resp.Value {
		close(p.paused)
		<-p.goOn
		return resp.OK
	}}}
	p.pause = req(spec)
	p.rig = newFSMOn(t, clock.System{}, spec)
	p.run()
	p.establish(1)
	return p
}

// Property: P5. An entry that is being applied when leadership ends is answered as
// what it is, executed; StepDown does not wait for it, and what comes behind it
// ends at once.
func TestStepDownAmidAnEntry(t *testing.T) {
	r := newPausing(t)
	inside := batch(set("a", "1"), r.pause, incr("n"), get("a"))
	r.prop.Submit(inside)
	<-r.paused
	behind, waiting := batch(set("b", fat)), batch(set("c", "1"))
	r.prop.Submit(behind)
	eventually(t, "the second entry is in raft's hands", func() bool { return r.prop.Stats().Flying == 2 && r.loop.Waiting() == 1 })
	r.prop.Submit(waiting)

	r.prop.StepDown()
	waitDone(t, behind)
	waitDone(t, waiting)
	wantEndings(t, behind, doubt)
	wantEndings(t, waiting, refused)
	wantEndings(t, r.submit(incr("n")), refused)
	select {
	case <-inside.Done():
		t.Fatal("the entry has ended before it was applied")
	default:
	}
	close(r.goOn)
	waitDone(t, inside)
	wantEndings(t, inside, ok, ok, ":1\r\n", "$1\r\n1\r\n")
	r.establish(r.loop.Elect())
	wantEndings(t, r.submit(get("c"), incr("n")), null, ":2\r\n")
	if r.value("b") != fat {
		t.Error("what was in doubt has not happened")
	}
}

// Property: P5. A master that steps down and is established again while one of its
// entries is being applied loses nothing: the rest of a batch whose first part
// belongs to the earlier reign is refused, not carried over.
func TestRestOfABatchDoesNotCrossReigns(t *testing.T) {
	r := newPausing(t)
	reqs := []command.Request{r.pause}
	for range 1500 {
		reqs = append(reqs, incr("n"))
	}
	long := batch(reqs...)
	r.prop.Submit(long)
	<-r.paused
	r.prop.StepDown()
	again := make(chan error, 1)
	go func() { again <- r.prop.Establish(t.Context(), r.loop.Elect()) }()
	eventually(t, "the establishing entry is behind", func() bool { return r.loop.Waiting() == 1 })
	close(r.goOn)
	waitDone(t, long)
	if err := <-again; err != nil {
		t.Fatal(err)
	}
	got := endings(long)
	if got[1023] != ":1023\r\n" || got[1024] != refused || got[1500] != refused {
		t.Fatalf("%q %q %q", got[1023], got[1024], got[1500])
	}
	wantEndings(t, r.submit(incr("n")), ":1024\r\n")
}

// Property: P5. An establishing entry whose leader has stepped down meanwhile opens
// nothing when it is applied, and whoever waits for it is told.
func TestStepDownGivesUpEstablishing(t *testing.T) {
	r := newRig(t)
	r.loop.Hold()
	ended := make(chan error, 1)
	go func() { ended <- r.prop.Establish(t.Context(), 1) }()
	eventually(t, "in flight", func() bool { return r.loop.Waiting() == 1 })
	r.prop.StepDown()
	r.prop.StepDown() // again is no news
	if err := <-ended; !errors.Is(err, raftfsm.ErrUnknown) {
		t.Fatal(err)
	}
	r.loop.Release()
	r.heard(1)
	if r.fsm.EstablishedTerm() != 0 {
		t.Fatal("the gate is open")
	}
	wantEndings(t, r.submit(set("k", "v")), refused)
	r.establish(1)
	wantEndings(t, r.submit(set("k", "v")), ok)
}

// stuck is a raft that takes no entry until it is told to: its queue is full.
type stuck struct {
	loop *loopback.Loop
	full atomic.Bool
	goOn chan struct{}
}

// Apply waits for room.
func (s *stuck) Apply(cmd []byte, timeout time.Duration) raft.ApplyFuture {
	if s.full.Load() {
		<-s.goOn
	}
	return s.loop.Apply(cmd, timeout)
}

// Property: P5, P8. While raft takes nothing, StepDown ends everything all the same,
// an establishing entry that waits for its turn included, and nothing of it is left
// for the next reign.
func TestStepDownWhileRaftTakesNothing(t *testing.T) {
	r, jam := newFSM(t), &stuck{goOn: make(chan struct{})}
	r.run(func(c *raftfsm.ProposerConfig) {
		jam.loop = r.loop
		c.Applier = jam
	})
	r.establish(1)
	jam.full.Store(true)
	handed, waiting := batch(set("a", "1")), batch(set("b", "1"))
	r.prop.Submit(handed)
	eventually(t, "it is handed to raft", func() bool { return r.prop.Stats().Entries == 2 })
	r.prop.Submit(waiting)
	r.prop.StepDown()
	waitDone(t, handed)
	waitDone(t, waiting)
	wantEndings(t, handed, doubt)
	wantEndings(t, waiting, refused)
	for range 2 {
		ended := make(chan error, 1)
		go func() { ended <- r.prop.Establish(t.Context(), 1) }()
		eventually(t, "it is told", func() bool {
			r.prop.StepDown() // perhaps before it has begun
			return len(ended) == 1
		})
		if err := <-ended; !errors.Is(err, raftfsm.ErrRefused) {
			t.Fatal(err)
		}
	}
	jam.full.Store(false)
	close(jam.goOn)
	r.establish(r.loop.Elect())
	wantEndings(t, r.submit(get("a"), get("b"), incr("n")), "$1\r\n1\r\n", null, ":1\r\n")
	if entries := r.prop.Stats().Entries; entries != 4 { // two that establish, the one in doubt, this one
		t.Fatalf("%d entries were proposed", entries)
	}
}

// Property: P8. Entries that raft has forgotten keep others waiting for no longer
// than the time limit: what waits goes on by itself.
func TestWaitingRequestsGoOnBehindForgottenEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := newMaster(t), time.Now()
		var lost []*command.Batch
		for i := range 2 {
			r.loop.Forget()
			lost = append(lost, batch(set("n", fat)))
			r.prop.Submit(lost[i])
			eventually(t, "in flight", func() bool { return r.prop.Stats().Entries == uint64(i+2) })
		}
		waiting := batch(incr("n"))
		r.prop.Submit(waiting)
		for _, b := range append(lost, waiting) {
			waitDone(t, b)
		}
		if took := time.Since(began); took > 6*time.Second { // the limit is 5 s
			t.Errorf("they waited for %v", took)
		}
		wantEndings(t, lost[0], doubt)
		wantEndings(t, lost[1], doubt)
		wantEndings(t, waiting, ":1\r\n")
	})
}

// Property: an entry that is applied long after its requests ended in doubt does
// what was asked, and touches neither the batch nor the memory of its arguments,
// which belong to the submitter again.
func TestLateEntryTouchesNothingOfTheSubmitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newMaster(t)
		r.loop.Hold()
		value := []byte("asked")
		first := set("k", "")
		first.Args[2] = value
		b := batch(first, get("k"))
		r.prop.Submit(b)
		waitDone(t, b)
		wantEndings(t, b, doubt, doubt)

		copy(value, "XXXXX")
		b.Reset()
		b.Requests = append(b.Requests, incr("n"), incr("n"), get("k"))
		r.prop.Submit(b)
		r.loop.Release()
		waitDone(t, b)
		wantEndings(t, b, ":1\r\n", ":2\r\n", "$5\r\nasked\r\n")
		eventually(t, "both entries are applied", func() bool { return r.value("n") == "2" })
		if r.value("k") != "asked" {
			t.Fatalf("k is %q", r.value("k"))
		}
	})
}

// Property: P5, P2. At whatever moment leadership ends, a batch ends as executed up
// to some request, in doubt up to another, and refused from there on; at most one
// entry of it is in doubt; and what is in the state fits.
func TestBatchEndsInOrderAtAnyMoment(t *testing.T) {
	rnd := dice(t)
	r := newMaster(t)
	const length = 2600 // three entries
	for round := range 60 {
		name := fmt.Sprint("n", round)
		b := command.NewBatch()
		for range length {
			b.Requests = append(b.Requests, incr(name))
		}
		r.loop.SetDelay(time.Duration(rnd.IntN(400)) * time.Microsecond)
		r.prop.Submit(b)
		<-time.After(time.Duration(rnd.IntN(4000)) * time.Microsecond)
		switch round % 3 {
		case 0:
			r.prop.StepDown()
		case 1:
			r.loop.Lose(true)
		case 2:
			r.loop.Lose(false)
		}
		waitDone(t, b)
		count := map[command.Outcome]int{}
		last := command.Replied
		for i := range b.Requests {
			x := &b.Requests[i]
			order := map[command.Outcome]int{command.Replied: 0, command.InDoubt: 1, command.Refused: 2}
			if order[x.Outcome] < order[last] {
				t.Fatalf("round %d: request %d ended with %v behind one with %v", round, i, x.Outcome, last)
			}
			last = x.Outcome
			count[last]++
			if last == command.Replied && text(x.Reply) != fmt.Sprintf(":%d\r\n", i+1) {
				t.Fatalf("round %d: request %d got %q", round, i, text(x.Reply))
			}
		}
		r.prop.StepDown()
		r.establish(r.loop.Elect())
		n, _ := strconv.Atoi(r.value(name))
		if n < count[command.Replied] || n > count[command.Replied]+count[command.InDoubt] || count[command.InDoubt] > 1024 {
			t.Fatalf("round %d: %d executed, %d in doubt, %d refused; the counter is %d", round,
				count[command.Replied], count[command.InDoubt], count[command.Refused], n)
		}
	}
}

// flaky is a raft on which everything goes wrong from time to time.
type flaky struct {
	loop *loopback.Loop
	mu   sync.Mutex
	rnd  *rand.Rand // guarded by mu
}

// swallowed is a future that says an entry was applied, which it was not.
type swallowed struct{}

func (swallowed) Error() error  { return nil }
func (swallowed) Response() any { return nil }
func (swallowed) Index() uint64 { return 1 }

// Apply hands on three of four entries; something happens to the others.
func (f *flaky) Apply(cmd []byte, timeout time.Duration) raft.ApplyFuture {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rnd.IntN(4) != 0 {
		return f.loop.Apply(cmd, timeout)
	}
	switch n := f.rnd.IntN(8); n {
	case 0:
		f.loop.Forget()
	case 1:
		return swallowed{}
	case 2, 3:
		future := f.loop.Apply(cmd, timeout)
		f.loop.Lose(n == 2)
		return future
	default:
		f.loop.Fail([]error{
			raft.ErrNotLeader, raft.ErrEnqueueTimeout, raft.ErrLeadershipLost, raft.ErrLeadershipTransferInProgress,
		}[n-4])
	}
	return f.loop.Apply(cmd, timeout)
}

// Property: P5. On a raft on which anything goes wrong at any time, every request
// and every operation of the server itself ends exactly once, what was answered has
// happened, what was refused has not, and the counts add up.
func TestEndingsAreTrueOnAFlakyRaft(t *testing.T) {
	rnd := dice(t)
	r := newFSM(t)
	shaky := &flaky{rnd: rnd}
	r.run(func(c *raftfsm.ProposerConfig) {
		shaky.loop = r.loop
		c.Applier, c.Timeout = shaky, 15*time.Millisecond
	})
	const writers, enough = 6, 100
	var work, care sync.WaitGroup
	books := r.write(&work, writers, enough)
	work.Go(func() {
		for i := range enough {
			err := r.prop.PutMember(t.Context(), store.Member{ID: "n1", DataPort: i + 1})
			if err == nil {
				err = r.prop.Expire(t.Context(), []store.Victim{{Key: "k", Deadline: 1}})
			}
			if err != nil && !errors.Is(err, raftfsm.ErrRefused) && !errors.Is(err, raftfsm.ErrUnknown) {
				t.Errorf("operation %d: %v", i, err)
			}
		}
	})
	done := make(chan struct{})
	care.Go(func() { // what the node does: establish whenever it is not
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Microsecond):
			}
			if r.fsm.EstablishedTerm() == 0 {
				_ = r.prop.Establish(t.Context(), r.loop.Elect())
			}
		}
	})
	work.Wait()
	close(done)
	care.Wait()
	books.check(t, r)
	eventually(t, "the counts add up", func() bool {
		s := r.prop.Stats()
		return s.Requests+s.Refused+s.InDoubt == books.submitted.Load() && s.Flying+s.Queued == 0
	})
}

// books are what the writers of counters were told.
type books struct {
	replied, unsure []int // by writer, one of which each counter is
	submitted       atomic.Uint64
}

// write starts writers that count, with a read in between, until each was told of
// enough successes.
func (r *rig) write(wait *sync.WaitGroup, writers, enough int) *books {
	k := &books{replied: make([]int, writers), unsure: make([]int, writers)}
	for w := range writers {
		wait.Go(func() {
			b := command.NewBatch()
			for k.replied[w] < enough {
				b.Reset()
				b.Requests = append(b.Requests, incr(fmt.Sprint(w)), get("x"), incr(fmt.Sprint(w)))
				k.submitted.Add(3)
				r.prop.Submit(b)
				waitDone(r.t, b)
				for _, i := range []int{0, 2} {
					switch b.Requests[i].Outcome {
					case command.Replied:
						k.replied[w]++
					case command.InDoubt:
						k.unsure[w]++
					default:
					}
				}
			}
		})
	}
	return k
}

// check lets what is on its way be applied and compares the counters with what
// their writers were told.
func (k *books) check(t *testing.T, r *rig) {
	t.Helper()
	eventually(t, "everything is applied", func() bool { return r.loop.Waiting() == 0 })
	r.loop.Do(func() {})
	sure, open := 0, 0
	for w := range k.replied {
		n, _ := strconv.Atoi(r.value(fmt.Sprint(w)))
		if n < k.replied[w] || n > k.replied[w]+k.unsure[w] {
			t.Errorf("writer %d: %d replied, %d in doubt, counter %d", w, k.replied[w], k.unsure[w], n)
		}
		sure, open = sure+k.replied[w], open+k.unsure[w]
	}
	t.Logf("%d replied, %d in doubt", sure, open)
	if sure == 0 || open == 0 {
		t.Error("nothing was replied, or nothing went wrong: the test shows nothing")
	}
}
