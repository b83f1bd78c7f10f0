package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/holdfast/holdfast/internal/durable"
	"github.com/holdfast/holdfast/internal/walfs"
)

// segments are the files of the write-ahead log. They add to raft-wal's what it lacks
// in v0.4.2: the segment that is full is sealed first, and its successor is made a
// moment later. A log that ended in between, or in the middle of the write that seals,
// is opened with a sealed tail and refuses every append from then on.
type segments struct {
	*segment.Filer
	dir string
}

// Where a tail is copied to, and how much is written at once.
const (
	asideDir   = "unsealed"
	asideBytes = 1 << 20
)

func newSegments(dir string, files types.VFS) (*segments, error) {
	s := &segments{Filer: segment.NewFiler(dir, files), dir: dir}
	if err := os.RemoveAll(s.aside()); err != nil { // of a copy that was never finished
		return nil, err
	}
	return s, nil
}

func (s *segments) aside() string { return filepath.Join(s.dir, asideDir) }

// RecoverTail opens the newest segment for appends. Where it is sealed its entries go
// to a new file of the same name without the seal; the next append seals that again
// and its successor is made as always.
func (s *segments) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	tail, err := s.Filer.RecoverTail(info)
	if err != nil {
		return nil, err
	}
	sealed, _, err := tail.Sealed()
	if err == nil && !sealed {
		return tail, nil
	}
	if err = errors.Join(err, tail.Close()); err == nil {
		err = s.unseal(info)
	}
	if err != nil {
		return nil, fmt.Errorf("sealed segment from entry %d: %w", info.BaseIndex, err)
	}
	return s.Filer.RecoverTail(info)
}

// unseal replaces a segment by one with the same entries. A crash at any moment leaves
// the old file or the new one.
func (s *segments) unseal(info types.SegmentInfo) (err error) {
	path := filepath.Join(s.dir, segment.FileName(info))
	old, err := os.Stat(path)
	if err != nil {
		return err
	}
	info.MinIndex = info.BaseIndex                   // truncated ones keep their place
	info.SizeLimit = uint32(old.Size()) + asideBytes // so much that it is not sealed
	if err := os.Mkdir(s.aside(), 0o750); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.aside())) }()
	if err := s.copyAside(info); err != nil {
		return err
	}
	copied := filepath.Join(s.aside(), segment.FileName(info))
	if err := durable.Sync(copied); err != nil {
		return err
	}
	if err := os.Rename(copied, path); err != nil {
		return err
	}
	return durable.Sync(s.dir)
}

// copyAside writes the entries of a segment to a file beside it.
func (s *segments) copyAside(info types.SegmentInfo) (err error) {
	from, err := s.Filer.RecoverTail(info)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.Close()) }()
	files, err := walfs.New(s.aside())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	to, err := segment.NewFiler(s.aside(), files).Create(info)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	return copyEntries(to, from, info.BaseIndex)
}

// copyEntries appends to one segment what another one has from index first on.
func copyEntries(to, from types.SegmentWriter, first uint64) error {
	var batch []types.LogEntry
	size := 0
	for i, last := first, from.LastIndex(); i <= last; i++ {
		raw, err := from.GetLog(i)
		if err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
		batch = append(batch, types.LogEntry{Index: i, Data: bytes.Clone(raw.Bs)})
		size += len(raw.Bs)
		if err := raw.Close(); err != nil {
			return err
		}
		if size < asideBytes && i < last {
			continue
		}
		if err := to.Append(batch); err != nil {
			return err
		}
		batch, size = nil, 0
	}
	return nil
}
