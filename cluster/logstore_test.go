package cluster

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// mustLogs opens a log store of a kind; failed gets the errors that stop the node.
func mustLogs(t *testing.T, kind, dir string, failed *error) *logStore {
	t.Helper()
	back, err := openBackend(kind, dir, raftLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return &logStore{
		back: back, cache: newLogCache(8, 1<<10), maxBytes: 1 << 10, clock: clock.System{}, hooks: &hooks{},
		slowAfter: time.Hour,
		fail: func(err error) {
			if *failed == nil {
				*failed = err
			}
		},
	}
}

func entries(from, to uint64) (list []*raft.Log) {
	for i := from; i <= to; i++ {
		list = append(list, &raft.Log{Index: i, Term: 1, Data: fmt.Appendf(nil, "entry %d", i)})
	}
	return list
}

// Entries are read back from memory and from disk, and after reopening, from both
// stores; what is not there is raft's own error.
func TestLogStoresKeepEntries(t *testing.T) {
	for _, kind := range []string{LogStoreWAL, LogStoreBolt} {
		t.Run(kind, func(t *testing.T) {
			dir := t.TempDir()
			var failed error
			s := mustLogs(t, kind, dir, &failed)
			if s.IsMonotonic() != (kind == LogStoreWAL) {
				t.Errorf("IsMonotonic is %v", s.IsMonotonic())
			}
			must(t, s.StoreLogs(entries(1, 30)))
			must(t, s.DeleteRange(1, 5))
			must(t, s.StoreLog(entries(31, 31)[0]))
			check := func() {
				t.Helper()
				for i := uint64(6); i <= 31; i++ {
					var l raft.Log
					if err := s.GetLog(i, &l); err != nil || string(l.Data) != fmt.Sprintf("entry %d", i) {
						t.Fatalf("entry %d is %q, %v", i, l.Data, err)
					}
				}
				var l raft.Log
				if err := s.GetLog(40, &l); err != raft.ErrLogNotFound { //nolint:errorlint // raft compares
					t.Errorf("a missing entry is %v", err)
				}
				if first, err := s.FirstIndex(); err != nil || first != 6 {
					t.Errorf("first is %d, %v", first, err)
				}
				if last, err := s.LastIndex(); err != nil || last != 31 {
					t.Errorf("last is %d, %v", last, err)
				}
			}
			check()
			must(t, s.back.Close())
			s = mustLogs(t, kind, dir, &failed)
			defer s.back.Close()
			check()
			if failed != nil {
				t.Errorf("the node would have stopped: %v", failed)
			}
		})
	}
}

// An entry that could not be read again is not written, and stops the node.
func TestOversizedEntryStopsTheNode(t *testing.T) {
	var failed error
	s := mustLogs(t, LogStoreWAL, t.TempDir(), &failed)
	defer s.back.Close()
	must(t, s.StoreLog(&raft.Log{Index: 1, Data: make([]byte, 1<<10+entryOverhead)}))
	if failed != nil {
		t.Fatal("an entry with the overhead was refused:", failed)
	}
	if err := s.StoreLog(&raft.Log{Index: 2, Data: make([]byte, 1<<10+entryOverhead+1)}); err == nil || failed == nil {
		t.Errorf("got %v, stopped with %v", err, failed)
	}
	if last, _ := s.LastIndex(); last != 1 {
		t.Errorf("last is %d", last)
	}
}

// brokenBackend fails or blocks appends.
type brokenBackend struct {
	backend
	err   error
	block chan struct{}
}

func (b brokenBackend) StoreLogs([]*raft.Log) error {
	if b.block != nil {
		<-b.block
	}
	return b.err
}

func (b brokenBackend) GetLog(uint64, *raft.Log) error { return b.err }

// P1: after an append has failed nothing is appended or cut off, even if the disk
// would take it again: what the failed one had written may be lost without a word.
func TestNothingIsAppendedAfterAFailure(t *testing.T) {
	var failed error
	s := mustLogs(t, LogStoreWAL, t.TempDir(), &failed)
	defer s.back.Close()
	must(t, s.StoreLogs(entries(1, 3)))
	sound := s.back
	s.back = brokenBackend{backend: sound, err: errors.New("input/output error")}
	if err := s.StoreLogs(entries(4, 4)); err == nil || failed == nil {
		t.Fatal("the failure is not seen")
	}
	s.back = sound
	if err := s.StoreLogs(entries(4, 4)); !errors.Is(err, errBroken) {
		t.Errorf("append: %v", err)
	}
	if err := s.DeleteRange(1, 2); !errors.Is(err, errBroken) {
		t.Errorf("truncation: %v", err)
	}
	if last, err := s.LastIndex(); last != 3 || err != nil {
		t.Errorf("last is %d, %v", last, err)
	}
}

// Any error of the log stops the node and reaches raft.
func TestLogErrorsStopTheNode(t *testing.T) {
	broken := errors.New("input/output error")
	for name, act := range map[string]func(*logStore) error{
		"append":   func(s *logStore) error { return s.StoreLogs(entries(1, 1)) },
		"read":     func(s *logStore) error { return s.GetLog(1, new(raft.Log)) },
		"truncate": func(s *logStore) error { return s.DeleteRange(5, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			var failed error
			s := mustLogs(t, LogStoreWAL, t.TempDir(), &failed)
			must(t, s.back.Close())
			if name != "truncate" {
				s.back = brokenBackend{s.back, broken, nil}
			}
			if err := act(s); err == nil || failed == nil {
				t.Errorf("got %v, stopped with %v", err, failed)
			}
		})
	}
}

// A damaged entry ends raft's goroutine once raft runs, and is an error before.
func TestDamagedEntryEndsRaftsGoroutine(t *testing.T) {
	var failed error
	s := mustLogs(t, LogStoreWAL, t.TempDir(), &failed)
	defer s.back.Close()
	s.back = brokenBackend{s.back, errors.New("checksum"), nil}
	s.running.Store(true)
	returned, ended := false, make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.GetLog(7, new(raft.Log))
		returned = true
	}()
	<-ended
	if returned || failed == nil || !strings.Contains(failed.Error(), "entry 7") {
		t.Errorf("returned %v, stopped with %v", returned, failed)
	}
}

// An entry that is cut off while it is read was not damaged.
func TestEntryCutOffUnderAReadIsNotFound(t *testing.T) {
	var failed error
	s := mustLogs(t, LogStoreWAL, t.TempDir(), &failed)
	defer s.back.Close()
	must(t, s.StoreLogs(entries(1, 9)))
	must(t, s.DeleteRange(1, 4))
	s.back = brokenBackend{s.back, os.ErrClosed, nil}
	if err := s.GetLog(4, new(raft.Log)); err != raft.ErrLogNotFound || failed != nil { //nolint:errorlint // raft compares
		t.Errorf("cut off: %v, stopped with %v", err, failed)
	}
	s.cache.clear()
	if err := s.GetLog(5, new(raft.Log)); err == nil || failed == nil {
		t.Errorf("still there: %v, stopped with %v", err, failed)
	}
}

// While an append hangs, outstanding grows; afterwards it is 0 again.
func TestOutstandingGrowsWhileAppendHangs(t *testing.T) {
	var failed error
	s := mustLogs(t, LogStoreWAL, t.TempDir(), &failed)
	defer s.back.Close()
	now := &clock.Fake{}
	now.Advance(time.Hour)
	block := make(chan struct{})
	s.clock, s.back = now, brokenBackend{s.back, nil, block}
	done := make(chan error)
	go func() { done <- s.StoreLogs(entries(1, 1)) }()
	for s.since.Load() == 0 {
		<-time.After(time.Millisecond)
	}
	now.Advance(3 * time.Second)
	if got := s.outstanding(); got != 3*time.Second {
		t.Errorf("outstanding is %v", got)
	}
	close(block)
	must(t, <-done)
	if got := s.outstanding(); got != 0 {
		t.Errorf("outstanding is %v afterwards", got)
	}
}

// A slow append is reported if it is the second of a thousand, and counted always.
func TestSlowAppendsAreReported(t *testing.T) {
	var failed error
	s := mustLogs(t, LogStoreWAL, t.TempDir(), &failed)
	defer s.back.Close()
	reports := 0
	s.slowAfter, s.onSlow = -1, func(time.Duration) { reports++ }
	must(t, s.StoreLogs(entries(1, 1)))
	if reports != 0 {
		t.Error("a single slow append was reported")
	}
	s.slowAfter = time.Hour
	for i := uint64(2); i < 1000; i++ {
		must(t, s.StoreLogs(entries(i, i)))
	}
	s.slowAfter = -1
	must(t, s.StoreLogs(entries(1000, 1000)))
	if got := s.figures(); reports != 1 || got.Slow != 2 || got.Appends != 1000 {
		t.Errorf("%d reports, figures %+v", reports, got)
	}
}

// Warnings of raft are logged once in a while, other lines always, debugging never;
// formats are filled in.
func TestRaftLinesAreLimited(t *testing.T) {
	var out strings.Builder
	l := raftLogger(slog.New(slog.NewTextHandler(&out, nil)))
	for range 3 {
		l.Error("failed to heartbeat", "peer", hclog.Fmt("%03d", 7))
		l.Info("entering follower state")
		l.Debug("noise")
	}
	text := out.String()
	if strings.Count(text, "failed to heartbeat") != 1 || strings.Count(text, "entering") != 3 ||
		strings.Contains(text, "noise") || !strings.Contains(text, "peer=007") {
		t.Error(text)
	}
}

// The bytes that lead to a snapshot are counted, those before a restart included.
func TestBytesSinceSnapshotAreCounted(t *testing.T) {
	dir := t.TempDir()
	var failed error
	s := mustLogs(t, LogStoreWAL, dir, &failed)
	var size int64
	for _, e := range entries(1, 20) {
		size += int64(len(e.Data))
		must(t, s.StoreLog(e))
	}
	if got := s.figures().sinceAll; got != size {
		t.Errorf("counted %d of %d", got, size)
	}
	must(t, s.back.Close())
	s = mustLogs(t, LogStoreWAL, dir, &failed)
	defer s.back.Close()
	for i := uint64(1); i <= 20; i++ {
		must(t, s.GetLog(i, new(raft.Log)))
	}
	s.running.Store(true)
	must(t, s.GetLog(1, new(raft.Log)))
	if got := s.figures().sinceAll; got != size {
		t.Errorf("counted %d of %d after a restart", got, size)
	}
	s.snapshotted(size - 1)
	if got := s.figures().sinceAll; got != 1 {
		t.Errorf("%d left after a snapshot", got)
	}
}

// Whatever is added and cleared, the cache gives either the entry that was added
// last at an index or none, and holds no more bytes than it may.
func TestLogCacheAgreesWithModel(t *testing.T) {
	const maxBytes = 500
	rng := rand.New(rand.NewPCG(1, 2))
	c := newLogCache(16, maxBytes)
	model := map[uint64]*raft.Log{}
	next := uint64(1)
	for range 5000 {
		switch rng.IntN(20) {
		case 0:
			c.clear()
		case 1:
			next = 1 + rng.Uint64N(next) // a tail was replaced
		case 2:
			next += rng.Uint64N(40)
		default:
			e := &raft.Log{Index: next, Data: make([]byte, rng.IntN(120))}
			if rng.IntN(50) == 0 {
				e.Data = make([]byte, maxBytes+1)
			}
			c.add([]*raft.Log{e})
			model[next] = e
			next++
		}
		var held int64
		for i := max(next, 40) - 40; i < next+20; i++ {
			var l raft.Log
			if c.get(i, &l) {
				held += int64(len(l.Data))
				if model[i] == nil || len(model[i].Data) != len(l.Data) || l.Index != i {
					t.Fatalf("index %d gives %d bytes of %d", i, len(l.Data), l.Index)
				}
			}
		}
		if held > maxBytes || c.bytes > maxBytes || c.bytes < held {
			t.Fatalf("holds %d, counts %d", held, c.bytes)
		}
	}
}

// Entries that keep up are served from memory: the newest is there at once.
func TestLogCacheHoldsTheNewest(t *testing.T) {
	c := newLogCache(16, 1<<20)
	for i := uint64(1); i < 100; i++ {
		c.add(entries(i, i))
		for j := max(i, 16) - 15; j <= i; j++ {
			if !c.get(j, new(raft.Log)) {
				t.Fatalf("at %d the entry %d is missing", i, j)
			}
		}
	}
}

// The 99.9th percentile passes over one append in a thousand, and forgets.
func TestSlowestAppends(t *testing.T) {
	var l latencies
	if got := l.p999(); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	l.add(3)
	if got := l.p999(); got != 3 {
		t.Errorf("of one: %v", got)
	}
	for range 1998 {
		l.add(1)
	}
	l.add(9)
	if got := l.p999(); got != 1 {
		t.Errorf("with two slow ones of 2000: %v", got)
	}
	l.add(8) // in the place of the first
	l.add(7)
	if got := l.p999(); got != 7 {
		t.Errorf("with three: %v", got)
	}
	for range 2000 {
		l.add(2)
	}
	if got := l.p999(); got != 2 {
		t.Errorf("of the last: %v", got)
	}
}
