package integration_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// point is a state as replaying a log gives it.
type point struct {
	index   uint64 // of the last applied entry
	expired uint64 // keys removed so far because their deadline had come
	digest  uint64
}

// logReplay is what a node's own log says, applied entry by entry by the state
// machine alone, without a clock, a network or a second node.
type logReplay struct {
	state  *store.Store
	points []point           // after each applied entry, in order
	gone   map[string]uint64 // index at which each key was removed as expired
	again  []string          // keys that were so removed more than once
}

// Applied takes note of one entry.
func (r *logReplay) Applied(u raftfsm.Update) {
	p := point{index: u.Index}
	if len(r.points) > 0 {
		p.expired = r.points[len(r.points)-1].expired
	}
	for i := range u.Events {
		if u.Events[i].Class != store.ClassExpired {
			continue
		}
		p.expired++
		if _, before := r.gone[u.Events[i].Key]; before {
			r.again = append(r.again, u.Events[i].Key)
		}
		r.gone[u.Events[i].Key] = u.Index
	}
	p.digest = r.state.Digest()
	r.points = append(r.points, p)
}

// after is the state at an index, and the one an entry later, or the same at the
// end. Entries of raft itself have no point of their own.
func (r *logReplay) after(index uint64) (at, next point) {
	i, found := slices.BinarySearchFunc(r.points, index, func(p point, index uint64) int { return int(p.index) - int(index) })
	if found {
		at = r.points[i]
		i++
	} else if i > 0 {
		at = r.points[i-1]
	}
	return at, r.points[min(i, len(r.points)-1)]
}

// openLog opens the log in the data directory of a stopped node.
func openLog(t testing.TB, dataDir string) *wal.WAL {
	t.Helper()
	log, err := wal.Open(filepath.Join(dataDir, "raft", "wal"), wal.WithLogger(hclog.NewNullLogger()))
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// replayLog applies the log in a stopped node's data directory from its first
// entry up to an index. The log must be whole: no snapshot has cut it.
func replayLog(t testing.TB, dataDir string, upTo uint64) *logReplay {
	t.Helper()
	log := openLog(t, dataDir)
	defer log.Close()
	first, err := log.FirstIndex()
	if err != nil || first != 1 {
		t.Fatalf("the log begins at entry %d, %v; a replay needs all of it", first, err)
	}
	table, err := command.Join(command.StringSpecs(), command.KeySpecs())
	if err != nil {
		t.Fatal(err)
	}
	r := &logReplay{state: store.New(16), gone: map[string]uint64{}}
	fsm := raftfsm.New(raftfsm.Config{
		Store: r.state, Lookup: table.ByName, Clock: &clock.Fake{}, Log: slog.New(slog.DiscardHandler), Sink: r,
	})
	for i := first; i <= upTo; i++ {
		var entry raft.Log
		if err := log.GetLog(i, &entry); err != nil {
			t.Fatalf("entry %d: %v", i, err)
		}
		if entry.Type != raft.LogCommand {
			continue
		}
		if answer := fsm.Apply(&entry); answer != nil {
			t.Fatalf("entry %d: %v", i, answer)
		}
	}
	if len(r.points) == 0 {
		t.Fatal("the log has no entry for the state machine")
	}
	return r
}

// sighting is what a running node said of itself in one INFO, in this order.
type sighting struct{ expired, applied, digest uint64 }

// explain tells what a node said while it ran that its log does not explain.
// Between the sighting before and the one in question lie the states that may be
// shown: the count is of an entry after the index that was shown before, and at
// most of the entry being applied.
func (r *logReplay) explain(before, s sighting) error {
	from, _ := r.after(before.applied)
	_, to := r.after(s.applied)
	if s.expired < from.expired || s.expired > to.expired {
		return fmt.Errorf("%d keys were expired at index %d, the log says %d to %d", s.expired, s.applied, from.expired, to.expired)
	}
	return nil
}

// exact tells whether what a node showed is, digest and all, the state at the
// index it named. While it is applying an entry it may be in between.
func (r *logReplay) exact(s sighting) bool {
	at, _ := r.after(s.applied)
	return s.digest == at.digest && s.expired == at.expired
}

// The comparison with a replay finds a count that is off, a digest that is off, and
// a key that goes twice.
func TestReplayComparisonFindsDifferences(t *testing.T) {
	r := &logReplay{state: store.New(1), gone: map[string]uint64{}}
	r.points = []point{{index: 2, digest: 20}, {index: 4, expired: 3, digest: 40}, {index: 9, expired: 7, digest: 90}}
	good := []struct{ before, now sighting }{
		{sighting{}, sighting{0, 1, 1}},
		{sighting{0, 2, 20}, sighting{0, 2, 20}},
		{sighting{0, 2, 20}, sighting{2, 2, 21}}, // entry 4 is being applied
		{sighting{0, 2, 20}, sighting{3, 4, 40}},
		{sighting{3, 4, 40}, sighting{3, 7, 40}}, // raft's own entries lie between
		{sighting{3, 4, 40}, sighting{7, 9, 90}},
	}
	for _, c := range good {
		if err := r.explain(c.before, c.now); err != nil {
			t.Errorf("%+v after %+v: %v", c.now, c.before, err)
		}
	}
	bad := []struct{ before, now sighting }{
		{sighting{0, 2, 20}, sighting{4, 2, 20}}, // ahead of its log
		{sighting{3, 4, 40}, sighting{2, 4, 40}}, // behind it
		{sighting{7, 9, 90}, sighting{8, 9, 90}},
	}
	for _, c := range bad {
		if r.explain(c.before, c.now) == nil {
			t.Errorf("%+v after %+v is taken for right", c.now, c.before)
		}
	}
	if !r.exact(sighting{3, 5, 40}) || r.exact(sighting{3, 5, 41}) || r.exact(sighting{2, 5, 40}) {
		t.Error("exact does not tell states apart")
	}
	for index := range uint64(2) {
		r.Applied(raftfsm.Update{Index: 10 + index, Events: []store.Event{{Class: store.ClassExpired, Key: "k"}}})
	}
	if len(r.again) != 1 || r.points[len(r.points)-1].expired != 9 {
		t.Errorf("a key that went twice: %v, %+v", r.again, r.points)
	}
}
