//go:build !linux

package walfs

import "github.com/hashicorp/raft-wal/fs"

type plain struct{ *fs.FS }

// Close has nothing to end.
func (plain) Close() error { return nil }

// New returns the file system for the segments in dir, which must exist.
func New(string) (FS, error) { return plain{fs.New()}, nil }
