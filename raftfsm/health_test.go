package raftfsm_test

import (
	"errors"
	"maps"
	"testing"

	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// healthOf is what a state has recorded.
func (r *rig) healthOf() (health map[string]store.Health) {
	r.fsm.View(0, func(rd *store.Reader) { health = rd.System().Health })
	return health
}

// A master records the health of all nodes at once, from the level on that has such
// records; snapshots carry it, and the digest is of it.
func TestHealthIsRecorded(t *testing.T) {
	r := newMaster(t)
	first := map[string]store.Health{"n1": {Process: 7}, "n2": {Down: true, Deposed: true, Process: 1 << 63}}
	if r.prop.PutHealth(t.Context(), first) == nil || len(r.healthOf()) > 0 {
		t.Error("it is recorded while earlier releases may take part")
	}
	if err := r.prop.RaiseLevel(t.Context(), raftfsm.LevelHealth); err != nil {
		t.Fatal(err)
	}
	before := r.fsm.Digest()
	if err := r.prop.PutHealth(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := r.healthOf(); !maps.Equal(got, first) || r.fsm.Digest() == before {
		t.Errorf("recorded is %v", got)
	}
	if u := r.heard(3); !u[2].SystemChanged {
		t.Error("the sink does not hear of it")
	}
	twin := newFSM(t)
	if err := twin.restore(r.snapshot()); err != nil {
		t.Fatal(err)
	}
	if got := twin.healthOf(); !maps.Equal(got, first) || twin.fsm.Digest() != r.fsm.Digest() {
		t.Errorf("restored is %v", got)
	}
	if err := r.prop.PutHealth(t.Context(), map[string]store.Health{"n3": {}}); err != nil {
		t.Fatal(err)
	}
	if got := r.healthOf(); len(got) != 1 {
		t.Errorf("another record is added instead of taking its place: %v", got)
	}
	r.prop.StepDown()
	if err := r.prop.PutHealth(t.Context(), first); !errors.Is(err, raftfsm.ErrRefused) {
		t.Errorf("no master any more: %v", err)
	}
}

// An establishing entry says whose it is, and records with the same entry how the new
// master sees the nodes, from the level on that has such records.
func TestEstablishingEntryRecordsHealth(t *testing.T) {
	seen := map[string]store.Health{"n1": {Process: 1}, "n2": {Down: true, Deposed: true}}
	r := newMaster(t, func(c *raftfsm.ProposerConfig) { c.Health = func() map[string]store.Health { return seen } })
	if u := r.heard(1); u[0].Master != "n1" || !u[0].Establishing || len(r.healthOf()) > 0 {
		t.Errorf("at the first level: %+v, %v", u[0], r.healthOf())
	}
	if err := r.prop.RaiseLevel(t.Context(), raftfsm.LevelHealth); err != nil {
		t.Fatal(err)
	}
	r.prop.StepDown()
	r.establish(r.loop.Elect())
	if got := r.healthOf(); !maps.Equal(got, seen) {
		t.Errorf("recorded is %v", got)
	}
	u := r.heard(3)
	if last := u[len(u)-1]; last.Index != 3 || last.Master != "n1" || !last.Establishing {
		t.Errorf("the sink heard %+v", u)
	}
	r.submit(set("a", "1"))
	if got := r.heard(4); got[3].Master != "" {
		t.Errorf("another entry is %s's", got[3].Master)
	}
}

// An entry of a level without records of health that has one is damaged.
func TestHealthNeedsItsLevel(t *testing.T) {
	for level, want := range map[uint64]error{raftfsm.LevelHealth - 1: raftfsm.ErrBadEntry, raftfsm.LevelHealth: nil} {
		r := newFSM(t)
		got, _ := r.apply(1, raftfsm.HealthEntry(level, wall, map[string]store.Health{"n1": {}})).(error)
		if !errors.Is(got, want) {
			t.Errorf("level %d: %v, want %v", level, got, want)
		}
	}
}
