// Package durable replaces files so that a crash of the machine leaves either the
// old contents or the new ones.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// suffix ends the name of the file that new contents are written to. It is always
// the same, so that crashes do not pile up such files.
const suffix = ".tmp"

// WriteFile makes data the contents of the file at path, which only the owner may
// read, and returns when a crash cannot undo that: temporary name, fsync, rename,
// fsync of the directory. After an error the file is as before, unless the error is
// that of the last step; then it holds data, and a crash may bring back the old
// contents. Two calls for one path must not run at the same time.
func WriteFile(path string, data []byte) error {
	tmp := path + suffix
	err := write(tmp, data)
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp) // the next call overwrites what is left
		return err
	}
	return Sync(filepath.Dir(path))
}

// write writes a whole file and has it on disk when it returns.
func write(path string, data []byte) error {
	const owner = 0o600
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, owner) //nolint:gosec // the caller's file
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// Sync has a file's contents on disk when it returns, or the names in a directory:
// those of files and directories made in it, and that those removed from it are gone.
// The contents of a file are of no use after a crash if its name is lost.
func Sync(path string) error {
	f, err := os.Open(path) //nolint:gosec // the caller's file
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// SyncTree has all files and directories from root down on disk when it returns, and
// root's own name if its parent is synced. What a process wrote that was killed before
// it could sync is there for the next one to read, and gone when the machine crashes.
func SyncTree(root string) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() && !entry.Type().IsRegular() {
			return err
		}
		return Sync(path)
	})
}
