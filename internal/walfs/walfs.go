// Package walfs is the file system under the raft log: raft-wal's files, written so
// that a commit costs the disk one write and one flush and the processor no copy.
//
// A segment is written with direct I/O, past the page cache, which nobody reads: the
// newest entries are kept in memory above. While one segment is filled, the next one
// is made ready beside it, all zeros and synced. Writing into it later changes
// neither its size nor its extents, so that fdatasync finds no metadata to write.
//
// Where the file system knows no direct I/O, and while no segment is ready, plain
// writes and unprepared files do the same more slowly. Only Linux has any of this;
// elsewhere New is raft-wal's own file system.
package walfs

import "github.com/hashicorp/raft-wal/types"

// FS is raft-wal's file system for one directory. Its methods are for raft-wal,
// which calls those that change the directory from one goroutine at a time.
type FS interface {
	types.VFS
	// Close ends the preparation of a segment and removes what is not needed.
	// Files that are open stay so. Call it once.
	Close() error
}
