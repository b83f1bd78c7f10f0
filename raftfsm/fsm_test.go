package raftfsm_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// Property: a batch's replies are those of its commands run in order, reads
// riding between writes included.
func TestBatchRunsInOrderWithReadsAtTheirPlaces(t *testing.T) {
	r := newMaster(t)
	b := r.submit(get("k"), set("k", "1"), get("k"), incr("k"), get("k"), req(raftfsm.SpecDel, "k"), get("k"))
	wantEndings(t, b, null, ok, "$1\r\n1\r\n", ":2\r\n", "$1\r\n2\r\n", ":1\r\n", null)
	eventually(t, "all are counted", func() bool {
		s := r.fsm.Stats()
		return s.Commands == 3 && s.Reads == 4
	})
}

// Property: a batch of reads alone is answered too: its place is an entry
// without commands.
func TestBatchOfReadsAloneIsAnswered(t *testing.T) {
	r := newMaster(t)
	wantEndings(t, r.submit(get("k"), req(raftfsm.SpecLen)), null, ":0\r\n")
}

// Property: P6. Whoever applies the same entries has the same digest, with
// commands that draw random numbers and panics among them.
func TestReplicaOfTheLogHasTheSameDigest(t *testing.T) {
	r := newMaster(t)
	r.loop.Keep()
	r.submit(set("a", "1"), req(raftfsm.SpecRandom, "b"), req(raftfsm.SpecRandom, "c"), req(raftfsm.SpecBoom, "a"))
	r.submit(transaction(nil, incr("a"), get("a"), req(raftfsm.SpecBoom, "d"), incr("a")))
	if err := r.prop.PutMember(t.Context(), store.Member{ID: "n1", DataPort: 6379}); err != nil {
		t.Fatal(err)
	}
	log := r.loop.Log()

	twin := newFSM(t)
	twin.apply(1, raftfsm.EstablishEntry(wall, "c1", settings))
	other := newFSM(t)
	other.apply(1, raftfsm.EstablishEntry(wall, "c1", settings))
	for _, l := range log {
		twin.fsm.Apply(l)
		other.fsm.Apply(l)
	}
	if twin.fsm.Digest() != other.fsm.Digest() {
		t.Fatal("two replicas differ")
	}
	for _, k := range []string{"a", "b", "c", "d"} {
		if r.value(k) != twin.value(k) {
			t.Fatalf("%s is %q on the master and %q on a replica", k, r.value(k), twin.value(k))
		}
	}
	if r.value("b") == r.value("c") {
		t.Fatal("two commands of one entry drew the same number")
	}
}

// Property: a panic in a command undoes that command only, is answered as an
// internal error, and the rest goes on, on every node alike.
func TestPanicIsContained(t *testing.T) {
	r := newMaster(t)
	internal := "-ERR internal error\r\n"
	wantEndings(t, r.submit(set("k", "before"), req(raftfsm.SpecBoom, "k"), get("k"), req(raftfsm.SpecBad, "k"), incr("n")),
		ok, internal, "$6\r\nbefore\r\n", internal, ":1\r\n")
	wantEndings(t, r.submit(transaction(nil, set("k", "in exec"), req(raftfsm.SpecBoom, "k"), get("k"))),
		"*3\r\n"+ok+internal+"$7\r\nin exec\r\n")
	if got := r.fsm.Stats().Panics; got != 3 {
		t.Fatalf("%d panics counted, want 3", got)
	}
	for _, u := range r.heard(3) {
		for _, e := range u.Events {
			if e.Key == "k" && e.Name != "set" {
				t.Fatalf("event %+v", e)
			}
		}
	}
}

// Property: a transaction runs only if its watched keys are as they were; a key
// that has become due counts as changed.
func TestExecComparesWatchedVersions(t *testing.T) {
	r := newMaster(t)
	version := func(key string) (v uint64) {
		r.fsm.View(0, func(rd *store.Reader) { v = rd.Version([]byte(key)) })
		return v
	}
	watch := func(key string) []command.Watched {
		return []command.Watched{{Key: []byte(key), Version: version(key)}}
	}
	aborted := "*-1\r\n"

	w := watch("absent")
	wantEndings(t, r.submit(transaction(w, set("k", "1"))), "*1\r\n"+ok)
	w = watch("k")
	wantEndings(t, r.submit(transaction(w, incr("k"))), "*1\r\n:2\r\n")
	wantEndings(t, r.submit(transaction(w, incr("k"))), aborted)
	w = watch("absent")
	r.submit(set("absent", "x"))
	wantEndings(t, r.submit(transaction(w, incr("k"))), aborted)

	r.submit(setUntil("due", r.fsm.Instant()+1000))
	w = watch("due")
	r.clock.Advance(time.Second)
	wantEndings(t, r.submit(transaction(w, incr("k"))), aborted)
	if r.value("k") != "2" {
		t.Fatalf("k is %s", r.value("k"))
	}
}

// Property: P4. Inside apply a key due at the stamp is removed on touch, with
// its event; to a riding read it is absent, and stays so for everybody.
func TestDueKeyIsGoneInApply(t *testing.T) {
	r := newMaster(t)
	end := r.fsm.Instant() + 1000
	r.submit(setUntil("touched", end), setUntil("read", end))
	r.clock.Advance(time.Second)
	wantEndings(t, r.submit(get("read"), req(raftfsm.SpecExpire, "touched", "0"), get("touched"), get("read")), null, ":0\r\n", null, null)
	last := r.heard(3)[2]
	if len(last.Events) != 1 || last.Events[0].Name != "expired" || last.Events[0].Key != "touched" {
		t.Fatalf("events %+v", last.Events)
	}
	wantEndings(t, r.submit(req(raftfsm.SpecExpire, "read", "0"), get("read")), ":0\r\n", null)
}

// Property: a stamp below an earlier one counts as the earlier one.
func TestStampNeverGoesBack(t *testing.T) {
	r := newFSM(t)
	r.apply(1, raftfsm.Entry(5000, 1, setUntil("k", 6000)))
	r.apply(2, raftfsm.Entry(7000, 1))
	r.apply(3, raftfsm.Entry(5500, 1, incr("k")))
	if got := r.value("k"); got != "1" {
		t.Fatalf("k is %q: a key that was due came back", got)
	}
	if r.fsm.Instant() < 7000 {
		t.Fatalf("instant %d", r.fsm.Instant())
	}
}

// Property: a node stops before applying an entry it does not understand, says
// so once, and applies nothing after it.
func TestEntryThatIsNotUnderstoodStopsTheNode(t *testing.T) {
	good := raftfsm.Entry(1000, 1, set("k", "v"))
	newer := slices.Clone(good)
	newer[0]++
	level := slices.Clone(good)
	level[1] = raftfsm.Level + 1
	early := raftfsm.LevelEntry(1, 1000)
	unknown := raftfsm.Entry(1000, 1, set("k", "v"), req(&command.Spec{Name: "future"}, "x"))
	kind := raftfsm.Entry(1000, 1, set("k", "v"))
	kind[len(kind)-len("\x03set\x00\x00\x02\x01k\x01v")-1] = 99
	for name, c := range map[string]struct {
		data []byte
		want error
	}{
		"format": {newer, raftfsm.ErrNewerEntry}, "level": {level, raftfsm.ErrNewerEntry},
		"command": {unknown, raftfsm.ErrNewerEntry}, "unit": {kind, raftfsm.ErrNewerEntry},
		"cut": {good[:len(good)-1], raftfsm.ErrBadEntry}, "long": {append(slices.Clone(good), 0), raftfsm.ErrBadEntry},
		"level of level 1": {early, raftfsm.ErrBadEntry},
		"empty":            {nil, raftfsm.ErrBadEntry},
	} {
		r := newFSM(t)
		before := r.fsm.Digest()
		err, _ := r.apply(1, c.data).(error)
		if !errors.Is(err, c.want) || !errors.Is(r.fatal, c.want) {
			t.Errorf("%s: got %v, told %v", name, err, r.fatal)
		}
		if r.apply(2, good) == nil || r.fsm.Applied() != 0 || r.fsm.Digest() != before {
			t.Errorf("%s: went on", name)
		}
		if _, err := r.fsm.Snapshot(); err == nil {
			t.Errorf("%s: a stopped node took a snapshot", name)
		}
	}
}

// Property: a database the store does not have is an error, not a panic.
func TestUnknownDatabaseIsAnError(t *testing.T) {
	r := newMaster(t)
	bad := set("k", "v")
	bad.DB = 16
	wantEndings(t, r.submit(bad, set("k", "v")), "-ERR DB index is out of range\r\n", ok)
}

// Property: nothing in the store aliases the entry: raft's memory can be freed.
func TestStateDoesNotAliasTheEntry(t *testing.T) {
	r := newFSM(t)
	data := raftfsm.Entry(1000, 1, set("key", "value"), transaction(nil, set("other", "thing")))
	r.apply(1, data)
	for i := range data {
		data[i] = 'x'
	}
	if r.value("key") != "value" || r.value("other") != "thing" {
		t.Fatal("the state changed with the entry's bytes")
	}
}

// Property: the Sink hears of every entry once, in order, and of what it needs.
func TestSinkHearsEveryEntryInOrder(t *testing.T) {
	r := newMaster(t)
	for range 20 {
		r.submit(set("k", "v"))
	}
	if err := r.prop.PutMember(t.Context(), store.Member{ID: "n1"}); err != nil {
		t.Fatal(err)
	}
	for i, u := range r.heard(22) {
		if u.Index != uint64(i+1) || u.Term != 1 || u.Establishing != (i == 0) || u.SystemChanged != (i == 0 || i == 21) {
			t.Fatalf("update %d: %+v", i, u)
		}
		if i > 0 && i < 21 && len(u.Events) != 1 {
			t.Fatalf("update %d: %+v", i, u)
		}
	}
}

// Property: WaitApplied returns when the index is reached, and gives up with ctx.
func TestWaitAppliedWaitsForTheIndex(t *testing.T) {
	r := newFSM(t)
	done := make(chan error, 1)
	go func() { done <- r.fsm.WaitApplied(t.Context(), 3) }()
	for i := range uint64(3) {
		select {
		case err := <-done:
			t.Fatalf("returned at index %d: %v", i, err)
		default:
		}
		r.apply(i+1, raftfsm.Entry(1000, 1))
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.fsm.WaitApplied(ctx, 4); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := r.fsm.WaitApplied(ctx, 3); err != nil {
		t.Fatal("an index already reached needs no waiting")
	}
}

// Property: the first establishing entry gives the store as many databases as
// the cluster has, whatever the node was started with.
func TestFirstEstablishingEntrySeedsTheState(t *testing.T) {
	r := newFSM(t)
	few := settings
	few.Databases = 4
	r.apply(1, raftfsm.EstablishEntry(1000, "c1", few))
	r.apply(2, raftfsm.EstablishEntry(1000, "c2", settings))
	r.fsm.View(0, func(rd *store.Reader) {
		sys := rd.System()
		if rd.Databases() != 4 || sys.ClusterID != "c1" || sys.Settings != few || sys.HashSeed != [2]uint64{1, 2} {
			t.Fatalf("%d databases, system %+v", rd.Databases(), sys)
		}
	})
	if r.fsm.EstablishedTerm() != 0 {
		t.Fatalf("a follower is established in term %d", r.fsm.EstablishedTerm())
	}
}
