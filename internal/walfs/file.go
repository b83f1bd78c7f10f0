package walfs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holdfast/holdfast/internal/durable"
	"github.com/holdfast/holdfast/internal/quiet"
)

const (
	block       = 4096 // the unit of direct I/O: no disk has larger sectors
	bufferBytes = 1 << 20

	patience = 16 // writes that may not be asynchronous before it is not tried any more in a file
)

// file is a segment. One goroutine writes; any number may read what is synced.
type file struct {
	dir    *FS
	r      *os.File // reads through the page cache
	w      *os.File
	direct bool // w passes the page cache by

	end      int64  // nothing but zeros lies from here on
	buf      []byte // what is written next; starts at a page
	tailAt   int64  // the block that buf begins with since the last write, -1 for none
	readyAt  int64  // when this much is written, the next segment is made ready
	declined int    // writes in a row that could not be asynchronous
	unsynced bool   // the directory does not know the file for sure
}

// findEnd looks for the last byte that is not zero. raft-wal writes behind it.
func (f *file) findEnd() error {
	for f.end > 0 {
		n := min(f.end, bufferBytes)
		if _, err := f.r.ReadAt(f.buf[:n], f.end-n); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		for i := n; i > 0; i-- {
			if f.buf[i-1] != 0 {
				f.end += i - n
				return nil
			}
		}
		f.end -= n
	}
	return nil
}

// ReadAt reads as os.File does.
func (f *file) ReadAt(p []byte, at int64) (int, error) { return f.r.ReadAt(p, at) }

// WriteAt writes as os.File does. The file may grow to whole blocks, with zeros.
func (f *file) WriteAt(p []byte, at int64) (int, error) {
	if !f.direct {
		n, err := f.w.WriteAt(p, at)
		f.wrote(at + int64(n))
		return n, err
	}
	done := 0
	for done < len(p) {
		n, err := f.writeBlocks(p[done:], at+int64(done))
		done += n
		if err != nil {
			f.tailAt = -1
			return done, err
		}
	}
	return done, nil
}

// writeBlocks writes as much of p as the buffer takes, in whole blocks: what lies
// around p in the first and the last one is written again.
func (f *file) writeBlocks(p []byte, at int64) (int, error) {
	first := at - at%block
	before := int(at - first)
	n := min(len(p), len(f.buf)-before)
	end := at + int64(n)
	last := (end + block - 1) / block * block // behind the last block
	if err := f.load(first, before); err != nil {
		return 0, err
	}
	copy(f.buf[before:], p[:n])
	if err := f.loadRest(first, end, last); err != nil {
		return 0, err
	}
	if err := f.put(f.buf[:last-first], first); err != nil {
		return 0, err
	}
	f.keepTail(first, end)
	f.wrote(end)
	return n, nil
}

// put writes whole blocks.
func (f *file) put(p []byte, at int64) error {
	if f.dir.disk != nil && f.declined < patience {
		n, err := f.dir.disk.Write(f.w.Fd(), p, at)
		switch {
		case err == nil && n == len(p):
			f.declined = 0
			return nil
		case err != nil && !errors.Is(err, quiet.ErrNotBegun):
			return f.failed("write", err)
		}
		f.declined++
		f.forget(at)
	}
	_, err := f.w.WriteAt(p, at)
	return err
}

// forget lets the page cache drop what it has of the file from at on: a write there would
// have to wait for it. It holds what was looked through for the end of the log.
func (f *file) forget(at int64) {
	_ = unix.Fadvise(int(f.r.Fd()), at, 0, unix.FADV_DONTNEED) // advice
}

// load makes sure that the buffer begins with what the file has at first.
func (f *file) load(first int64, n int) error {
	if n == 0 || f.tailAt == first {
		return nil
	}
	return f.read(f.buf[:n], first)
}

// loadRest fills the last block behind end with what the file has there.
func (f *file) loadRest(first, end, last int64) error {
	rest := f.buf[end-first : last-first]
	if end < f.end {
		return f.read(rest, end)
	}
	clear(rest)
	return nil
}

// read reads; what lies behind the end of the file is zero.
func (f *file) read(p []byte, at int64) error {
	n, err := f.r.ReadAt(p, at)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return nil
	}
	return err
}

// keepTail moves the block that the next write begins in to the front, if any of it
// was written.
func (f *file) keepTail(first, end int64) {
	f.tailAt = -1
	if end%block == 0 {
		return
	}
	f.tailAt = end - end%block
	copy(f.buf[:block], f.buf[f.tailAt-first:])
}

// wrote takes note of how far the file is written.
func (f *file) wrote(end int64) {
	f.end = max(f.end, end)
	if f.readyAt > 0 && f.end >= f.readyAt {
		f.dir.prepare(f.readyAt * 4)
		f.readyAt = 0
	}
}

// Sync returns when everything written is durable, and the file's name.
func (f *file) Sync() error {
	if err := f.syncData(); err != nil {
		return f.failed("fdatasync", err)
	}
	if f.unsynced {
		if err := durable.Sync(f.dir.path); err != nil {
			return err
		}
		f.unsynced = false
	}
	return nil
}

func (f *file) syncData() error {
	if f.dir.disk != nil {
		if err := f.dir.disk.Sync(f.w.Fd()); !errors.Is(err, quiet.ErrNotBegun) {
			return err
		}
	}
	for {
		if err := syscall.Fdatasync(int(f.w.Fd())); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func (f *file) failed(op string, err error) error {
	return &os.PathError{Op: op, Path: filepath.Base(f.w.Name()), Err: err}
}

// Close closes the file.
func (f *file) Close() error {
	err := errors.Join(f.w.Close(), f.r.Close())
	if f.buf != nil {
		err = errors.Join(err, syscall.Munmap(f.buf))
		f.buf = nil
	}
	return err
}
