package raftfsm

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/store"
)

// Errors of restoring a snapshot that is sound in itself.
var (
	// ErrForeign is a snapshot of another cluster.
	ErrForeign = errors.New("raftfsm: the snapshot is of another cluster")
	// ErrStale is a snapshot that would take the state back.
	ErrStale = errors.New("raftfsm: the snapshot is older than the state")
)

// Snapshot returns the present state as a value that can be written at leisure.
// It costs O(1).
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	if f.halted != nil {
		return nil, f.halted
	}
	frozen := f.cfg.Store.Freeze()
	sys := frozen.System()
	return &snapshot{
		frozen: frozen,
		log:    f.cfg.Log,
		head: streamHead{
			clusterID: sys.ClusterID,
			index:     f.mark.index.Load(),
			term:      f.term,
			level:     levelOf(&sys),
			clock:     sys.Stamp,
			databases: f.databases(),
		},
	}, nil
}

// snapshot is a state on its way to a file.
type snapshot struct {
	frozen *store.Frozen
	head   streamHead
	log    *slog.Logger
}

// Persist writes the state to the sink, in pieces of 1 MiB, and closes it.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	n, err := writeStream(sink, s.head, s.frozen)
	if err != nil {
		return errors.Join(fmt.Errorf("writing a snapshot: %w", err), sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("closing a snapshot: %w", err)
	}
	s.log.Info("snapshot written", "index", s.head.index, "term", s.head.term, "bytes", n)
	return nil
}

// Release ends the frozen view.
func (s *snapshot) Release() { s.frozen.Release() }

// Restore puts the state that r holds in the place of the present one. It is
// read, rebuilt aside and verified first: after an error nothing has changed. A
// state older than the present one is refused. One that a newer release wrote
// stops the node, as an entry of such a release does.
func (f *FSM) Restore(r io.ReadCloser) error {
	if f.halted != nil {
		return errors.Join(f.halted, r.Close())
	}
	h, built, err := f.rebuild(r)
	if err = errors.Join(err, r.Close()); err != nil {
		err = fmt.Errorf("restoring a snapshot: %w", err)
		if errors.Is(err, ErrNewerStream) {
			return f.halt(err) // raft would take the snapshot before it, and go on
		}
		return err
	}
	if f.cfg.Restoring != nil {
		f.cfg.Restoring()
	}
	f.cfg.Store.Replace(built)
	f.index, f.term = h.index, h.term
	sys := f.system()
	f.stamp = sys.Stamp
	f.level.Store(levelOf(&sys))
	f.time.restored(f.stamp)
	f.mark.reach(h.index)
	f.cfg.Log.Info("snapshot restored", "index", h.index, "term", h.term)
	if f.cfg.Sink != nil {
		f.cfg.Sink.Applied(Update{Index: h.index, Term: h.term, SystemChanged: true, Restored: true})
	}
	return nil
}

// rebuild reads a stream into a store of its own.
func (f *FSM) rebuild(r io.Reader) (streamHead, *store.Store, error) {
	var head streamHead
	var built *store.Store
	err := readStream(r, visitor{
		head: func(h streamHead) error {
			head = h
			return f.admit(h)
		},
		system: func(sys store.System) error {
			if sys.ClusterID != head.clusterID {
				return fmt.Errorf("%w: two cluster ids", ErrBadStream)
			}
			if head.level > firstLevel {
				sys.Level = int(head.level) // at most Level
			}
			built = store.New(head.databases)
			built.LoadSystem(sys)
			return nil
		},
		side: func(db int, s store.Side) error {
			built.LoadSide(db, s)
			return nil
		},
		key: func(rec store.Record) error {
			built.LoadRecord(rec)
			return nil
		},
		trailer: func(digest uint64) error {
			if built.Digest() != digest {
				return fmt.Errorf("%w: the state's digest is not the writer's", ErrBadStream)
			}
			return nil
		},
	})
	return head, built, err
}

// admit tells why a state must not take the place of the present one.
func (f *FSM) admit(h streamHead) error {
	own := f.system().ClusterID
	if own == "" && f.cfg.ClusterID != nil {
		own = f.cfg.ClusterID()
	}
	if own != "" && h.clusterID != "" && own != h.clusterID {
		return fmt.Errorf("%w: %q, this one is %q", ErrForeign, h.clusterID, own)
	}
	if h.index < f.mark.index.Load() {
		return fmt.Errorf("%w: index %d, applied %d", ErrStale, h.index, f.mark.index.Load())
	}
	return nil
}
