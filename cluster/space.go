package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// SpaceConfig says when a disk counts as low. Zero values switch the watch off.
type SpaceConfig struct {
	// Mark is how many bytes must be free on the disk of the data directory. Below it
	// the disk is low, until twice as much is free.
	Mark int64
	// Reserve is the size of a file that is kept for when they are not: it is given up
	// at a quarter of the mark, so that what the cluster itself must write still fits.
	// It does not count as free.
	Reserve int64
	// Free tells how many bytes are free; nil asks the file system.
	Free func() (int64, error)
}

// spaceEvery is how often free space is looked at: at 500 MB/s, before half of the
// usual mark is written.
const spaceEvery = 250 * time.Millisecond

// reserveFile is the reserve's name in the data directory.
const reserveFile = "reserve"

// space watches the free space of a data directory. Its methods but low, free and
// fits are for one goroutine.
type space struct {
	cfg   SpaceConfig
	path  string // of the reserve
	log   *slog.Logger
	hooks *hooks

	isLow  atomic.Bool
	beside atomic.Int64 // bytes free beside the reserve, be it there or not; below 0 if it would not fit
	have   atomic.Bool  // the reserve is there
	blind  bool         // the last look failed
}

// openSpace looks for the first time.
func openSpace(n *Node) *space {
	s := &space{cfg: n.cfg.Space, path: filepath.Join(n.cfg.Dir, reserveFile), log: n.log, hooks: &n.hooks}
	if s.cfg.Free == nil {
		s.cfg.Free = func() (int64, error) { return freeBytes(n.cfg.Dir) }
	}
	s.have.Store(s.found())
	s.look()
	return s
}

// freeBytes is what a process without privileges may still write.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// run looks until ctx ends; changed is called after the disk has become low, or is
// so no longer. A disk that hangs holds up this goroutine alone.
func (s *space) run(ctx context.Context, changed func()) {
	if s.cfg.Mark == 0 {
		return
	}
	tick := time.NewTicker(spaceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if s.look() {
				changed()
			}
		}
	}
}

// look takes note of the free space, and makes or gives up the reserve. It tells
// whether the disk has become low, or is so no longer.
func (s *space) look() (changed bool) {
	if s.cfg.Mark == 0 {
		return false
	}
	free, err := s.cfg.Free()
	if err != nil {
		if !s.blind {
			s.log.Warn("cannot tell how much of the disk is free", "err", err)
		}
		s.blind = true
		return false
	}
	s.blind = false
	free = s.hooks.free(free)
	beside := free
	if !s.have.Load() {
		beside -= s.cfg.Reserve
	}
	s.beside.Store(beside)
	low := s.isLow.Load()
	switch {
	case !low && beside < s.cfg.Mark:
		s.log.Error("the disk is low: the master takes no writes of clients while its own is, or too many are", "free", max(0, beside), "mark", s.cfg.Mark)
		s.isLow.Store(true)
	case low && beside >= 2*s.cfg.Mark:
		s.log.Info("the disk has space again", "free", beside, "mark", s.cfg.Mark)
		s.isLow.Store(false)
	}
	switch have := s.have.Load(); {
	case have && free < s.cfg.Mark/4:
		s.release(free)
	case !have && !s.isLow.Load():
		s.make()
	}
	return low != s.isLow.Load()
}

// low tells whether too little space is free. Safe for concurrent use.
func (s *space) low() bool { return s.isLow.Load() }

// fits tells whether so many bytes may be written aside, a snapshot for instance,
// without using up what the log needs. Safe for concurrent use.
func (s *space) fits(bytes int64) bool {
	return s.cfg.Mark == 0 || s.beside.Load()-bytes >= s.cfg.Mark/2
}

// found tells whether the reserve is there, whole.
func (s *space) found() bool {
	const sector = 512 // what Blocks counts
	var st unix.Stat_t
	return s.cfg.Reserve > 0 && unix.Stat(s.path, &st) == nil && st.Size == s.cfg.Reserve && st.Blocks*sector >= s.cfg.Reserve
}

// make lays the reserve down.
func (s *space) make() {
	if s.cfg.Reserve == 0 {
		return
	}
	err := allocate(s.path, s.cfg.Reserve)
	if err == nil {
		s.have.Store(true)
		return
	}
	_ = os.Remove(s.path) // what there is of it
	s.log.Warn("no space can be reserved on this disk", "bytes", s.cfg.Reserve, "err", err)
	if errors.Is(err, unix.EOPNOTSUPP) {
		s.cfg.Reserve = 0 // nor will it ever
	}
}

// allocate makes a file whose blocks are all taken.
func allocate(path string, size int64) error {
	const owner = 0o600
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, owner) //nolint:gosec // a fixed name in our own directory
	if err != nil {
		return err
	}
	return errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, size), f.Close())
}

// release gives the reserve up.
func (s *space) release(free int64) {
	if err := os.Remove(s.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.log.Error("the reserve cannot be given up", "err", err)
		return
	}
	s.have.Store(false)
	s.log.Error("the disk is almost full: the reserve is given up, so that the cluster can still change its master and its members", "free", free, "reserve", s.cfg.Reserve)
}

// errNoSpace is why no snapshot is made: it could use up what the log needs.
var errNoSpace = errors.New("no snapshot: too little space is free on the disk")

// room tells whether a snapshot fits.
func (n *Node) room() error {
	if need := n.cfg.Log.DatasetBytes(); !n.space.fits(need) {
		return fmt.Errorf("%w: it may need %d bytes", errNoSpace, need)
	}
	return nil
}

// short tells whether writes of clients are to be refused, should this node be the
// master: its own disk is low, or so many are that no majority could be had without
// one of them.
func (n *Node) short(now time.Duration) bool {
	if n.space.low() {
		return true
	}
	mask, low := uint64(selfBit), false
	for _, p := range n.others() {
		if !p.contact(now, n.window()) {
			continue
		}
		if rep, _ := p.last(); rep.low {
			low = true
			continue
		}
		mask |= p.bit
	}
	return low && !n.quorum.Load().met(mask)
}
