package raftfsm_test

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/testkit/loopback"
	"github.com/holdfast/holdfast/raftfsm"
)

// levels keeps the levels of the entries that a state machine was given.
type levels struct {
	loopback.FSM
	seen []uint64
}

func (l *levels) Apply(e *raft.Log) any {
	l.seen = append(l.seen, raftfsm.LevelOf(e.Data))
	return l.FSM.Apply(e)
}

// Entries are of the first level until the cluster's was raised by an entry, which is
// of the new one already, as all after it are. A level that is not higher, or that
// this release does not speak, is refused.
func TestEntriesAreOfTheClustersLevel(t *testing.T) {
	r := newFSM(t)
	l := &levels{FSM: r.fsm}
	r.runOver(l)
	r.establish(1)
	r.submit(set("a", "1"))
	if got := r.fsm.Level(); got != 1 {
		t.Fatalf("level %d at the start", got)
	}
	for _, level := range []int{0, 1, raftfsm.Level + 1} {
		if r.prop.RaiseLevel(t.Context(), level) == nil {
			t.Errorf("level %d was taken", level)
		}
	}
	before := r.fsm.Digest()
	if err := r.prop.RaiseLevel(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if r.fsm.Level() != 2 || r.fsm.Digest() == before {
		t.Errorf("level %d, not in the digest", r.fsm.Level())
	}
	r.submit(set("b", "1"))
	if updates := r.heard(4); !updates[2].SystemChanged || updates[3].SystemChanged {
		t.Error("the sink does not hear of the level")
	}
	want := []uint64{1, 1, 2, 2}
	for i, level := range want {
		if l.seen[i] != level {
			t.Errorf("levels of entries %v, want %v", l.seen, want)
			break
		}
	}
	if r.prop.RaiseLevel(t.Context(), 2) == nil {
		t.Error("raised again to the same")
	}
	r.alone(func() {
		if err := r.apply(50, raftfsm.Entry(wall, 1, set("c", "1"))); err != nil || r.fsm.Level() != 2 {
			t.Errorf("an entry of an earlier level under way: %v, level %d", err, r.fsm.Level())
		}
	})
}

// The level goes with snapshots: the state restored from one has it, and the same
// digest. Snapshots of a cluster whose level was never raised are as earlier releases
// write and read them.
func TestSnapshotsCarryTheLevel(t *testing.T) {
	for _, level := range []int{1, 2} {
		r := newMaster(t)
		r.submit(set("a", "1"))
		if level > 1 {
			if err := r.prop.RaiseLevel(t.Context(), level); err != nil {
				t.Fatal(err)
			}
		}
		twin := newFSM(t)
		if err := twin.restore(r.snapshot()); err != nil {
			t.Fatal(err)
		}
		if twin.fsm.Level() != level || twin.fsm.Digest() != r.fsm.Digest() {
			t.Errorf("level %d became %d, digests %x and %x", level, twin.fsm.Level(), r.fsm.Digest(), twin.fsm.Digest())
		}
		if got := raftfsm.New(raftfsm.Config{Store: twin.store, Lookup: raftfsm.Lookup, Clock: twin.clock, Log: quiet()}).Level(); got != level {
			t.Errorf("a state machine over that state has level %d", got)
		}
	}
}

// A level is raised by an established master only.
func TestReplicaRaisesNoLevel(t *testing.T) {
	r := newRig(t)
	if err := r.prop.RaiseLevel(t.Context(), 2); !errors.Is(err, raftfsm.ErrRefused) {
		t.Errorf("got %v", err)
	}
}
