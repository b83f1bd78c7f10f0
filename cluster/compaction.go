package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// Bounds of the number of entries kept behind a snapshot.
const (
	minTrailing = 128
	maxTrailing = 1 << 20
)

const (
	snapshotRetry = 10 * time.Second // after one that failed
	snapshotBound = 10 * time.Minute
)

// compaction makes snapshots when the log has grown by enough bytes.
type compaction struct {
	mu      sync.Mutex
	busy    bool
	notYet  time.Duration // clock.Mono before which the next one is not tried
	made    uint64
	failed  uint64
	lastErr error
}

// due tells whether it is time for a snapshot, and if so marks one as under way.
func (c *compaction) due(now time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy || now < c.notYet {
		return false
	}
	c.busy = true
	return true
}

// ended takes note of how a snapshot ended.
func (c *compaction) ended(now time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	c.lastErr = err
	if err != nil {
		c.failed++
		c.notYet = now + snapshotRetry
		return
	}
	c.made++
}

// consider makes a snapshot in the background if the log has grown by enough.
func (c *compaction) consider(n *Node, r *raft.Raft) {
	grown := n.logs.figures().sinceAll
	if grown < n.cfg.Log.SnapshotBytes || grown < n.cfg.Log.DatasetBytes() {
		return
	}
	if !c.due(clock.Mono()) {
		return
	}
	if err := n.room(); err != nil {
		n.log.Warn("the log is not cut", "err", err)
		c.ended(clock.Mono(), err)
		return
	}
	n.snapshot(r, func(error) {})
}

// errBusy is why a second snapshot is refused while one is made.
var errBusy = errors.New("a snapshot is being made already")

// Snapshot makes a snapshot and cuts the log behind it. That there is nothing new
// since the last one is success. If ctx ends before, the snapshot is still made.
func (n *Node) Snapshot(ctx context.Context) error {
	r := n.raftNode()
	switch {
	case n.ctx.Err() != nil:
		return errClosed
	case r == nil:
		return errors.New("no snapshot: the cluster is not formed yet")
	}
	if err := n.room(); err != nil {
		return err
	}
	if !n.compact.due(1<<63 - 1) {
		return errBusy
	}
	done := make(chan error, 1)
	n.snapshot(r, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-n.ctx.Done():
		return errClosed
	}
}

// snapshot makes one in the background; compaction.due was true.
func (n *Node) snapshot(r *raft.Raft, done func(error)) {
	began := clock.Mono()
	grown := n.logs.figures().sinceAll
	n.trail(r)
	n.background(snapshotBound, func() error { return r.Snapshot().Error() }, func(err error) {
		if errors.Is(err, raft.ErrNothingNewToSnapshot) {
			err = nil
		}
		now := clock.Mono()
		if err == nil {
			n.logs.snapshotted(grown)
			n.log.Info("snapshot made", "took", now-began, "log_bytes", grown)
		} else if !errors.Is(err, errClosed) {
			n.log.Warn("no snapshot", "err", err)
		}
		n.compact.ended(now, err)
		if n.cfg.Observe.Snapshot != nil {
			n.cfg.Observe.Snapshot(now-began, err)
		}
		done(err)
	})
}

// trail tells raft how many entries to keep behind the next snapshot, so that they
// are about TrailingBytes.
func (n *Node) trail(r *raft.Raft) {
	f := n.logs.figures()
	keep := uint64(maxTrailing)
	if f.Entries > 0 && f.Bytes > 0 {
		keep = uint64(n.cfg.Log.TrailingBytes) / max(1, f.Bytes/f.Entries) // a setting above 0
	}
	rc := r.ReloadableConfig()
	rc.TrailingLogs = min(max(keep, minTrailing), maxTrailing)
	if err := r.ReloadConfig(rc); err != nil {
		n.log.Warn("cannot set how much log is kept", "err", err)
	}
}
