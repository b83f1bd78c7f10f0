package raftfsm_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// place is a checkpoint that a state machine has offered.
type place struct{ index, digest uint64 }

// watched returns a state machine whose checkpoints are added to the list.
func watched(t *testing.T, every uint64, places *[]place) *rig {
	t.Helper()
	r := &rig{t: t, store: store.New(16), sink: &sink{}}
	clocked := newFSM(t)
	r.clock = clocked.clock
	r.fsm = raftfsm.New(raftfsm.Config{
		Store: r.store, Lookup: raftfsm.Lookup, Clock: r.clock, Log: quiet(), Sink: r.sink,
		Checkpoints: raftfsm.Checkpoints{Every: every, Take: func(index uint64, freeze func() *store.Frozen) {
			view := freeze()
			defer view.Release()
			*places = append(*places, place{index, view.Digest()})
		}},
	})
	return r
}

// logged is an entry with its index.
type logged struct {
	index uint64
	data  []byte
}

// logOf is a random log of n entries, some of whose indexes raft keeps for itself.
func logOf(rnd *rand.Rand, n int) []logged {
	log := []logged{{1, raftfsm.EstablishEntry(wall, "c1", settings)}}
	for i := 1; i < n; i++ {
		request := set(fmt.Sprint("k", rnd.IntN(50)), fmt.Sprint(rnd.Uint64()))
		index := log[i-1].index + 1 + uint64(rnd.IntN(3)/2)
		log = append(log, logged{index, raftfsm.Entry(wall+int64(i), rnd.Uint64(), request)})
	}
	return log
}

// Nodes that apply the same log have the same checkpoints with the same digests,
// however often they were restored from snapshots on the way; those of a node with a
// multiple of the distance are among them.
func TestCheckpointsAreAtEqualPlaces(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	log := logOf(rnd, 900)
	var straight, restored, wider []place
	a, c := watched(t, 50, &straight), watched(t, 150, &wider)
	b := watched(t, 50, &restored)
	for _, e := range log {
		for _, r := range []*rig{a, b, c} {
			if err := r.apply(e.index, e.data); err != nil {
				t.Fatal(err)
			}
		}
		if rnd.IntN(100) == 0 {
			stream := b.snapshot()
			b = watched(t, 50, &restored)
			if err := b.restore(stream); err != nil {
				t.Fatal(err)
			}
		}
	}
	if want := int(log[len(log)-1].index / 50); len(straight) != want {
		t.Errorf("%d checkpoints, want %d", len(straight), want)
	}
	if !slices.Equal(straight, restored) {
		t.Errorf("restored: %v\nwant %v", restored, straight)
	}
	if len(wider) < 5 {
		t.Errorf("%d checkpoints of the wider distance", len(wider))
	}
	for _, p := range wider {
		if !slices.Contains(straight, p) {
			t.Errorf("%v is nowhere among the narrow ones", p)
		}
	}
}

// The distance doubles with the size of the state, and places of a bigger state are
// places of a smaller one, so that nodes on both sides of a limit still meet.
func TestCheckpointsGoFurtherApartWithTheState(t *testing.T) {
	c := raftfsm.Checkpoints{Every: 10}
	count := func(used int64) (n int) {
		for i := uint64(1); i <= 640; i++ {
			if raftfsm.Passes(&c, i-1, i, used) {
				n++
			}
		}
		return n
	}
	for used, want := range map[int64]int{0: 64, 64 << 20: 64, 65 << 20: 32, 200 << 20: 16, 1 << 30: 4} {
		if got := count(used); got != want {
			t.Errorf("%d checkpoints with %d bytes, want %d", got, used, want)
		}
	}
	if raftfsm.Passes(&c, 3, 9, 0) || !raftfsm.Passes(&c, 9, 25, 0) || raftfsm.Passes(&raftfsm.Checkpoints{}, 0, 1<<40, 0) {
		t.Error("a checkpoint stands where no multiple was passed, or is missing where one was")
	}
}

// After a command that panicked the state is offered at once.
func TestPanicLeadsToACheckpoint(t *testing.T) {
	var places []place
	r := watched(t, 1_000_000, &places)
	r.run()
	r.establish(1)
	r.submit(set("k", "v"))
	if len(places) != 0 {
		t.Fatalf("a checkpoint without reason: %v", places)
	}
	b := r.submit(req(raftfsm.SpecBoom, "k"))
	if got := endings(b); !strings.Contains(got[0], "internal error") {
		t.Fatal(got)
	}
	r.heard(3)
	r.submit(set("k", "w"))
	r.heard(4)
	if len(places) != 1 || places[0].index != 3 {
		t.Errorf("checkpoints %v, want one at 3", places)
	}
}
