package cluster

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"

	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/walfs"
)

// entryOverhead is what an entry takes beside its command: raft's own entries,
// which configurations are, fit in it as well.
const entryOverhead = 64 << 10

// backend is a log store that can be closed.
type backend interface {
	raft.LogStore
	io.Closer
}

// openBackend opens the chosen log store in dir.
func openBackend(kind, dir string, log hclog.Logger) (backend, error) {
	if kind == LogStoreBolt {
		return openBolt(filepath.Join(dir, "log.db"))
	}
	path := filepath.Join(dir, "wal")
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, err
	}
	return openWAL(path, log)
}

// segmentBytes is the size of the log's files. The first one of a new log is written
// slowly, because it could not be made ready beside another (see walfs): half of what
// raft-wal would take ends that sooner, and a ready one takes half the room.
const segmentBytes = 32 << 20

// walStore is a write-ahead log with the file system under it.
type walStore struct {
	*wal.WAL
	files *walfs.FS
}

func openWAL(path string, log hclog.Logger) (backend, error) {
	files, err := walfs.New(path)
	if err != nil {
		return nil, err
	}
	segments, err := newSegments(path, files)
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	w, err := wal.Open(path, wal.WithLogger(log), wal.WithSegmentSize(segmentBytes), wal.WithSegmentFiler(segments))
	if err != nil {
		return nil, errors.Join(err, files.Close())
	}
	return &walStore{w, files}, nil
}

// Close closes the log.
func (s *walStore) Close() error { return errors.Join(s.WAL.Close(), s.files.Close()) }

// openBolt opens a bolt file. The list of free pages is not written with every
// commit; it is found again at the next start.
func openBolt(path string) (*raftboltdb.BoltStore, error) {
	return raftboltdb.New(raftboltdb.Options{
		Path: path,
		BoltOptions: &bbolt.Options{
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			Timeout:        time.Second,
		},
		MsgpackUseNewTimeFormat: true,
	})
}

// logStore stands between raft and the log on disk: it measures, keeps recent
// entries in memory, lets a leader go on while its entries are being written, and makes
// the node stop at the first error, because after a failed fsync nobody knows what the
// disk holds.
type logStore struct {
	back     backend
	cache    *logCache
	maxBytes int64
	clock    clock.Clock
	hooks    *hooks
	check    func(cmd []byte) error // of the state machine; nil for none
	fail     func(error)            // stops the node; called at most a few times
	observe  func(time.Duration)
	onConfig func(index uint64, c raft.Configuration) // raft is about to use a configuration
	onCut    func(first uint64)                       // the log is about to end before first

	behind      behind
	leads       func() bool // this node is raft's leader; nil: entries are never left behind
	needsOthers func() bool // it cannot commit anything alone

	running   atomic.Bool // raft's goroutines have started, or are about to
	failed    atomic.Bool // something has; nothing is written any more
	slowAfter time.Duration
	onSlow    func(time.Duration) // slow appends are more than one in a thousand

	since atomic.Int64 // clock.Boot at the start of the append under way; 0 if none is
	mu    struct {
		sync.Mutex
		logFigures
		recent latencies
	}
}

// latencies are those of the last appends.
type latencies struct {
	ring [2000]time.Duration
	n    uint64 // how many were ever put in
}

// add takes one more.
func (l *latencies) add(d time.Duration) {
	l.ring[l.n%uint64(len(l.ring))] = d
	l.n++
}

// p999 is what all but one in a thousand of them took at most; 0 before the first.
func (l *latencies) p999() time.Duration {
	n := min(int(l.n), len(l.ring)) // the ring is short
	if n == 0 {
		return 0
	}
	const rare = 1000
	sorted := slices.Sorted(slices.Values(l.ring[:n]))
	return sorted[n-1-n/rare]
}

// logFigures count what was appended.
type logFigures struct {
	Appends  uint64        // calls, each with at least one fsync
	Entries  uint64        // entries in them
	Bytes    uint64        // of the commands in these
	Time     time.Duration // spent in them
	Slow     uint64        // of the calls: took longer than slowAfter
	sinceAll int64         // bytes since the last snapshot
	lastSlow uint64        // Appends at the last slow one
}

var (
	_ raft.LogStore          = (*logStore)(nil)
	_ raft.MonotonicLogStore = (*logStore)(nil)
)

// IsMonotonic passes on whether the store refuses gaps: raft has to know.
func (s *logStore) IsMonotonic() bool {
	m, ok := s.back.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// FirstIndex returns the index of the first entry, 0 for none.
func (s *logStore) FirstIndex() (uint64, error) { return s.back.FirstIndex() }

// LastIndex returns the index of the last entry, 0 for none.
func (s *logStore) LastIndex() (uint64, error) {
	if err := s.settle(math.MaxUint64); err != nil {
		return 0, err
	}
	return s.back.LastIndex()
}

// GetLog reads an entry. A damaged one stops the node, and ends the goroutine of
// raft that asked for it: raft would panic.
func (s *logStore) GetLog(index uint64, into *raft.Log) error {
	// Only a leader may read what is not durable: a follower tells its leader that it
	// has an entry after it has found it here.
	var err error
	if s.behind.first.Load() != 0 && !s.leads() {
		err = s.settle(index)
	}
	if err == nil && s.cache.get(index, into) {
		return nil
	}
	if err == nil {
		err = s.read(index, into)
	}
	if errors.Is(err, raft.ErrLogNotFound) || err != nil && err.Error() == raft.ErrLogNotFound.Error() {
		return raft.ErrLogNotFound // raft compares
	}
	if err != nil {
		err = s.stop(fmt.Errorf("read entry %d of the log: %w", index, err))
		if s.running.Load() {
			runtime.Goexit() // the deferred calls, ours and raft's, are run
		}
		return err
	}
	if s.running.Load() {
		return nil
	}
	return s.replay(into)
}

// replay takes note of an entry that raft reads behind the last snapshot when it starts.
func (s *logStore) replay(e *raft.Log) error {
	if e.Type == raft.LogCommand && s.check != nil {
		if err := s.check(e.Data); err != nil {
			return s.stop(fmt.Errorf("entry %d of the log: %w", e.Index, err))
		}
	}
	if e.Type == raft.LogConfiguration && s.onConfig != nil {
		s.onConfig(e.Index, raft.DecodeConfiguration(e.Data))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.sinceAll += int64(len(e.Data))
	return nil
}

// read reads an entry from the disk, when it is there. One that is cut off from the log
// meanwhile is not found: raft-wal v0.4.2 can close its file under the read.
func (s *logStore) read(index uint64, into *raft.Log) error {
	if err := s.settle(index); err != nil {
		return err
	}
	err := s.back.GetLog(index, into)
	if err == nil {
		return nil
	}
	if first, bad := s.back.FirstIndex(); bad == nil && index < first {
		return raft.ErrLogNotFound
	}
	return err
}

// StoreLog appends one entry.
func (s *logStore) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs appends entries and returns when they are durable, or when they will be
// and the caller leads (see behind.go). There is no limit on the time: an abandoned
// append that is carried out later would spoil the log.
func (s *logStore) StoreLogs(entries []*raft.Log) error {
	if s.failed.Load() {
		return errBroken
	}
	for _, e := range entries {
		if n := int64(len(e.Data)); n > s.maxBytes+entryOverhead {
			return s.stop(fmt.Errorf("entry %d has %d bytes; %d can be read again", e.Index, n, s.maxBytes))
		}
		if e.Type == raft.LogConfiguration && s.onConfig != nil {
			s.onConfig(e.Index, raft.DecodeConfiguration(e.Data))
		}
	}
	size := bytesOf(entries)
	if s.mayLeave(entries) {
		s.cache.add(entries)
		if s.behind.leave(entries, size, s.writeBehind) {
			return nil
		}
	}
	if err := s.settle(math.MaxUint64); err != nil {
		return err
	}
	if err := s.write(entries, size); err != nil {
		return err
	}
	s.cache.add(entries)
	return nil
}

// write appends entries with size bytes of commands to the log on disk.
func (s *logStore) write(entries []*raft.Log, size int64) error {
	if s.failed.Load() {
		return errBroken
	}
	s.since.Store(int64(s.clock.Boot()))
	began := clock.Mono()
	err := s.append(entries)
	took := clock.Mono() - began
	s.since.Store(0)
	if err != nil {
		return s.stop(fmt.Errorf("append to the log: %w", err))
	}
	if s.observe != nil {
		s.observe(took)
	}
	if s.count(len(entries), size, took) {
		s.onSlow(took)
	}
	return nil
}

// count takes note of an append, and tells whether it was slow and another one of
// the last thousand was.
func (s *logStore) count(entries int, size int64, took time.Duration) (slow bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.Appends++
	s.mu.Entries += uint64(entries)
	s.mu.Bytes += uint64(size)
	s.mu.Time += took
	s.mu.recent.add(took)
	s.mu.sinceAll += size
	if took <= s.slowAfter {
		return false
	}
	s.mu.Slow++
	slow = s.mu.lastSlow != 0 && s.mu.Appends-s.mu.lastSlow < 1000
	s.mu.lastSlow = s.mu.Appends
	return slow
}

func (s *logStore) append(entries []*raft.Log) error {
	if err := s.hooks.beforeAppend(); err != nil {
		return err
	}
	if err := s.back.StoreLogs(entries); err != nil {
		return err
	}
	return s.hooks.afterAppend()
}

// DeleteRange removes entries, both ends included.
func (s *logStore) DeleteRange(first, last uint64) error {
	if s.failed.Load() {
		return errBroken
	}
	if err := s.settle(last); err != nil {
		return err
	}
	s.cache.clear()
	if end, err := s.back.LastIndex(); err == nil && last >= end && s.onCut != nil {
		s.onCut(first)
	}
	if err := s.back.DeleteRange(first, last); err != nil {
		return s.stop(fmt.Errorf("truncate the log from %d to %d: %w", first, last, err))
	}
	return nil
}

// stop makes the node stop and returns err. Nothing is written until it has: after a
// failed sync the next one may succeed without what the failed one lost.
func (s *logStore) stop(err error) error {
	s.failed.Store(true)
	s.fail(err)
	return err
}

// outstanding is for how long an append has been under way, 0 if none is.
func (s *logStore) outstanding() time.Duration {
	since := s.since.Load()
	if since == 0 {
		return 0
	}
	return s.clock.Boot() - time.Duration(since)
}

func (s *logStore) figures() logFigures {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.logFigures
}

// slowest is the 99.9th percentile of the last appends.
func (s *logStore) slowest() time.Duration {
	s.mu.Lock()
	last := s.mu.recent
	s.mu.Unlock()
	return last.p999()
}

// snapshotted takes note that a snapshot covers all but the last kept bytes.
func (s *logStore) snapshotted(covered int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.sinceAll = max(0, s.mu.sinceAll-covered)
}
