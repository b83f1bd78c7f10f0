package raftfsm_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// filled is a state with something of everything.
func filled(tb testing.TB) *rig {
	tb.Helper()
	r := newMaster(tb)
	other := setUntil("k", r.fsm.Instant()+3_600_000)
	other.DB = 7
	swapped := set("", "empty name")
	r.submit(set("k", "v"), set("n", "12"), set("bin", "\x00\r\n\xff$3"), set("", ""), other, swapped,
		setUntil("e", r.fsm.Instant()+60_000), set("gone", "x"), req(raftfsm.SpecDel, "gone"))
	if err := r.prop.PutMember(tb.Context(), store.Member{ID: "n1", RunID: "r", DataHost: "::1", DataPort: 1}); err != nil {
		tb.Fatal(err)
	}
	if err := r.prop.PutMember(tb.Context(), store.Member{ID: "n0", SentinelPort: 26379, Version: "1"}); err != nil {
		tb.Fatal(err)
	}
	return r
}

// Property: P6. A restored state has the digest, the index, the clock and the
// watched versions of the one it was made of.
func TestRestoredStateEqualsTheOriginal(t *testing.T) {
	r := filled(t)
	stream := r.snapshot()
	twin := newFSM(t)
	if err := twin.restore(stream); err != nil {
		t.Fatal(err)
	}
	if twin.fsm.Digest() != r.fsm.Digest() || twin.fsm.Applied() != r.fsm.Applied() {
		t.Fatalf("digest %x, want %x; index %d, want %d", twin.fsm.Digest(), r.fsm.Digest(), twin.fsm.Applied(), r.fsm.Applied())
	}
	for _, k := range []string{"k", "n", "bin", "", "e", "gone", "never"} {
		if r.value(k) != twin.value(k) {
			t.Errorf("%q is %q, want %q", k, twin.value(k), r.value(k))
		}
		var a, b uint64
		r.fsm.View(0, func(rd *store.Reader) { a = rd.Version([]byte(k)) })
		twin.fsm.View(0, func(rd *store.Reader) { b = rd.Version([]byte(k)) })
		if a != b {
			t.Errorf("%q has version %d, want %d", k, b, a)
		}
	}
	if twin.fsm.Instant() < r.fsm.Instant() {
		t.Error("the clock went back")
	}
	if !bytes.Equal(twin.snapshot(), stream) {
		t.Error("the restored state writes another stream")
	}
	u := twin.sink.updates
	if len(u) != 1 || !u[0].Restored || !u[0].SystemChanged || len(u[0].Events) != 0 {
		t.Errorf("sink heard %+v", u)
	}
}

// Property: an empty node's snapshot restores too.
func TestEmptyStateIsASnapshot(t *testing.T) {
	r := newFSM(t)
	if err := newFSM(t).restore(r.snapshot()); err != nil {
		t.Fatal(err)
	}
}

// mustRefuse checks that a stream is refused and nothing has changed.
func mustRefuse(t *testing.T, r *rig, stream []byte, what string, want ...error) {
	t.Helper()
	r.alone(func() {}) // the tail of the last Apply
	digest, applied, heard := r.fsm.Digest(), r.fsm.Applied(), len(r.sink.updates)
	err := r.restore(stream)
	if err == nil {
		t.Fatalf("%s: accepted", what)
	}
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	if r.fsm.Digest() != digest || r.fsm.Applied() != applied || len(r.sink.updates) != heard {
		t.Fatalf("%s: the failed restore changed the state", what)
	}
}

// Property: a stream cut anywhere, or with any bit flipped, or longer than it
// should be, is refused and changes nothing.
func TestDamagedStreamIsRefused(t *testing.T) {
	stream := filled(t).snapshot()
	r := newFSM(t)
	r.apply(1, raftfsm.Entry(1000, 1, set("mine", "1")))
	for n := range stream {
		mustRefuse(t, r, stream[:n], fmt.Sprint("cut at ", n), raftfsm.ErrBadStream)
	}
	mustRefuse(t, r, append(bytes.Clone(stream), 0), "a byte more", raftfsm.ErrBadStream)
	mustRefuse(t, r, append(bytes.Clone(stream), stream...), "twice", raftfsm.ErrBadStream)
	for i := range stream {
		for bit := range 8 {
			flipped := bytes.Clone(stream)
			flipped[i] ^= 1 << bit
			into := r
			if i == len("HOLDFAST") { // the format: it may stop the node as a newer one
				into = newFSM(t)
			}
			mustRefuse(t, into, flipped, fmt.Sprintf("bit %d of byte %d", bit, i))
		}
	}
	if err := r.restore(stream); err != nil {
		t.Fatal(err)
	}
}

// Property: a stream of a newer release is refused as such.
func TestNewerStreamIsRefused(t *testing.T) {
	stream := filled(t).snapshot()
	format := bytes.Clone(stream)
	format[8]++
	mustRefuse(t, newFSM(t), format, "format", raftfsm.ErrNewerStream)
	mustRefuse(t, newFSM(t), raftfsm.StreamOfLevel(raftfsm.Level+1), "level", raftfsm.ErrNewerStream)
}

// Property: P7. A newer release's snapshot stops the node: raft would go on with the
// snapshot before it, or be sent this one again and again. A damaged one does not,
// for the one before it is right.
func TestNewerStreamStopsTheNode(t *testing.T) {
	old := filled(t)
	before := old.snapshot()
	old.submit(set("k", "newer"))
	stream := old.snapshot()

	damaged := newFSM(t)
	mustRefuse(t, damaged, stream[:len(stream)-1], "damaged", raftfsm.ErrBadStream)
	if damaged.fatal != nil {
		t.Fatalf("a damaged snapshot stopped the node: %v", damaged.fatal)
	}
	if err := damaged.restore(before); err != nil {
		t.Fatal(err)
	}

	r := newFSM(t)
	stream[8]++ // the format
	mustRefuse(t, r, stream, "newer", raftfsm.ErrNewerStream)
	if !errors.Is(r.fatal, raftfsm.ErrNewerStream) {
		t.Fatalf("the node was stopped with %v", r.fatal)
	}
	mustRefuse(t, r, before, "the one before", raftfsm.ErrNewerStream)
	if r.apply(1, raftfsm.Entry(1000, 1, set("k", "v"))) == nil {
		t.Fatal("an entry was applied")
	}
}

// Property: a state older than the present one, or of another cluster, is refused.
func TestForeignAndStaleSnapshotsAreRefused(t *testing.T) {
	r := filled(t)
	old := r.snapshot()
	if err := r.restore(old); err != nil {
		t.Fatalf("the present state again: %v", err)
	}
	r.submit(set("k", "newer"))
	mustRefuse(t, r, old, "stale", raftfsm.ErrStale)

	foreign := newFSM(t)
	foreign.apply(1, raftfsm.EstablishEntry(1000, "another", settings))
	mustRefuse(t, foreign, old, "foreign", raftfsm.ErrForeign)
}

// Property: a reader that fails half-way changes nothing and tells why.
func TestFailingReaderChangesNothing(t *testing.T) {
	stream := filled(t).snapshot()
	r := newFSM(t)
	broken := errors.New("broken disk")
	err := r.fsm.Restore(io.NopCloser(io.MultiReader(bytes.NewReader(stream[:len(stream)/2]), failing{broken})))
	if !errors.Is(err, broken) || r.fsm.Applied() != 0 {
		t.Fatal(err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// failingSink fails to be written to.
type failingSink struct {
	memorySink
	err error
}

func (f *failingSink) Write([]byte) (int, error) { return 0, f.err }

// Property: a snapshot that cannot be written is cancelled, not closed.
func TestSnapshotThatCannotBeWrittenIsCancelled(t *testing.T) {
	r := filled(t)
	snap := r.freeze()
	defer snap.Release()
	full := &failingSink{err: errors.New("disk full")}
	if err := snap.Persist(full); !errors.Is(err, full.err) || !full.cancelled || full.closed {
		t.Fatalf("%v, cancelled %v, closed %v", err, full.cancelled, full.closed)
	}
}

// Property: a snapshot holds the state of its moment, whatever is written
// before it is persisted.
func TestSnapshotHoldsTheStateOfItsMoment(t *testing.T) {
	r := filled(t)
	snap := r.freeze()
	digest, index := r.fsm.Digest(), r.fsm.Applied()
	r.submit(set("k", "later"), set("new", "1"), req(raftfsm.SpecDel, "n"))
	var buf memorySink
	if err := snap.Persist(&buf); err != nil {
		t.Fatal(err)
	}
	snap.Release()
	twin := newFSM(t)
	if err := twin.restore(buf.Bytes()); err != nil {
		t.Fatal(err)
	}
	if twin.fsm.Digest() != digest || twin.fsm.Applied() != index || twin.value("k") != "v" {
		t.Fatal("the snapshot is of another moment")
	}
}

// Property: values and keys of every size around the size of a block survive.
func TestRecordsMayCrossBlocks(t *testing.T) {
	r := newFSM(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i, size := range []int{0, 1, 1<<20 - 60, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 7, 5, 9 << 20, 17} {
		value := make([]byte, size)
		for k := range value {
			value[k] = byte(rnd.Uint32())
		}
		r.apply(uint64(i+1), raftfsm.Entry(1000, 1, set(fmt.Sprint("k", i), string(value)), set(string(value[:min(size, 2<<20)]), "x")))
	}
	twin := newFSM(t)
	if err := twin.restore(r.snapshot()); err != nil {
		t.Fatal(err)
	}
	if twin.fsm.Digest() != r.fsm.Digest() || len(twin.value("k8")) != 9<<20 {
		t.Fatal("not the same state")
	}
}
