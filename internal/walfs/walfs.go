// Package walfs is the file system under the raft log: raft-wal's files, written so
// that a commit costs the disk one write and one flush and the processor no copy.
//
// A segment is written with direct I/O, past the page cache, which nobody reads: the
// newest entries are kept in memory above. While one segment is filled, the next one
// is made ready beside it, all zeros and synced. Writing into it later changes
// neither its size nor its extents, so that fdatasync finds no metadata to write.
//
// Where the file system knows no direct I/O, and while no segment is ready, plain
// writes and unprepared files do the same more slowly.
package walfs

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"

	"github.com/holdfast/holdfast/internal/quiet"
)

const (
	readyName = "next.ready" // the segment that is made ready, and is
	fileMode  = 0o640

	zeroBytes = 256 << 10 // written at once while a segment is made ready,
	zeroEvery = 2 * time.Millisecond
)

// FS is raft-wal's file system for one directory. Its methods are for raft-wal,
// which calls those that change the directory from one goroutine at a time.
type FS struct {
	plain
	path string
	disk *quiet.Disk // nil where the kernel has no asynchronous I/O for us

	mu     sync.Mutex
	ready  uint64 // size of the segment that is ready, 0 for none
	making bool
	closed bool
	stop   chan struct{}
	wg     sync.WaitGroup
}

// plain is raft-wal's own file system: it lists, deletes and opens for reading.
type plain = *fs.FS

var _ types.VFS = (*FS)(nil)

// New returns the file system for the segments in dir, which must exist.
func New(dir string) (*FS, error) {
	d := &FS{plain: fs.New(), path: dir, stop: make(chan struct{})}
	if err := d.removeReady(); err != nil { // perhaps not all zeros
		return nil, err
	}
	d.disk, _ = quiet.NewDisk() // nil, and it works without
	return d, nil
}

func (d *FS) removeReady() error {
	err := os.Remove(filepath.Join(d.path, readyName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Close ends the preparation of a segment and removes what is not needed. Files
// that are open stay so. Call it once.
func (d *FS) Close() error {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	close(d.stop)
	d.wg.Wait()
	err := d.removeReady()
	if d.disk != nil {
		err = errors.Join(err, d.disk.Close())
	}
	return err
}

// Create makes a segment of size bytes, all zeros: the one that is ready, if it is
// and has that size. It is durable once its first Sync has returned.
func (d *FS) Create(dir, name string, size uint64) (types.WritableFile, error) {
	if dir != d.path {
		return nil, fmt.Errorf("create %s: not in %s", name, d.path)
	}
	if size > math.MaxInt32 {
		return nil, fmt.Errorf("create %s: %d bytes, at most %d", name, size, math.MaxInt32)
	}
	path := filepath.Join(dir, name)
	taken, err := d.takeReady(path, size)
	if err != nil {
		return nil, err
	}
	if !taken {
		if err := allocate(path, int64(size)); err != nil {
			return nil, err
		}
	}
	f, err := d.open(path, 0)
	if err != nil {
		return nil, err
	}
	f.unsynced = true
	f.readyAt = int64(size) / 4
	return f, nil
}

// takeReady gives the segment that is ready its name, and tells whether there was one.
func (d *FS) takeReady(path string, size uint64) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready != size || size == 0 {
		return false, nil
	}
	d.ready = 0
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return false, fmt.Errorf("create %s: %w", filepath.Base(path), os.ErrExist)
	}
	return true, os.Rename(filepath.Join(d.path, readyName), path)
}

// allocate makes a new file whose bytes read as zeros, and reserves the room for
// them if the file system can.
func allocate(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode) //nolint:gosec // a name of raft-wal's in its own directory
	if err != nil {
		return err
	}
	if size > 0 {
		err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
		if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
			err = f.Truncate(size)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("create %s: %w", filepath.Base(path), err), os.Remove(path))
	}
	return nil
}

// OpenWriter opens an existing segment for more writes.
func (d *FS) OpenWriter(dir, name string) (types.WritableFile, error) {
	path := filepath.Join(dir, name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	f, err := d.open(path, info.Size())
	if err != nil {
		return nil, err
	}
	f.readyAt = info.Size() / 4
	return f, f.findEnd()
}

func (d *FS) open(path string, end int64) (*file, error) {
	r, err := os.Open(path) //nolint:gosec // a name of raft-wal's in its own directory
	if err != nil {
		return nil, err
	}
	w, direct, err := openDirect(path)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	f := &file{dir: d, r: r, w: w, direct: direct, end: end, tailAt: -1}
	if f.buf, err = alignedBuffer(bufferBytes); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openDirect opens a file for writes past the page cache, or for plain writes where
// its file system cannot do that.
func openDirect(path string) (f *os.File, direct bool, err error) {
	f, err = os.OpenFile(path, os.O_WRONLY|syscall.O_DIRECT, 0) //nolint:gosec // as above
	if errors.Is(err, syscall.EINVAL) {
		f, err = os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // as above
		return f, false, err
	}
	return f, true, err
}

// alignedBuffer returns memory that starts at a page, as direct I/O needs it.
func alignedBuffer(size int) ([]byte, error) {
	return syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
}

// prepare makes the next segment ready in the background, unless one of that size is
// or any is being made. One of another size nobody asks for: a segment grows with an
// entry that is bigger. That it fails is no error: a segment can be made when it is needed.
func (d *FS) prepare(size int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.making || d.ready == uint64(size) {
		return
	}
	d.making, d.ready = true, 0
	d.wg.Go(func() {
		err := d.makeReady(size)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.making = false
		if err == nil {
			d.ready = uint64(size)
		}
	})
}

var errStopped = errors.New("stopped")

// makeReady writes a file of zeros, a little at a time: appends go on beside it.
func (d *FS) makeReady(size int64) (err error) {
	if err := d.removeReady(); err != nil {
		return err
	}
	path := filepath.Join(d.path, readyName)
	if err := allocate(path, size); err != nil {
		return err
	}
	f, _, err := openDirect(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	zeros, err := alignedBuffer(zeroBytes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, syscall.Munmap(zeros)) }()
	pace := time.NewTicker(zeroEvery)
	defer pace.Stop()
	for at := int64(0); at < size; at += zeroBytes {
		if _, err := f.WriteAt(zeros[:min(zeroBytes, size-at)], at); err != nil {
			return err
		}
		select {
		case <-pace.C:
		case <-d.stop:
			return errStopped
		}
	}
	return f.Sync()
}
