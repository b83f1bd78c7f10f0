package durable_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast/holdfast/internal/durable"
)

// names are the files in a directory.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// A file is made, and replaced by longer, shorter and empty contents; nothing else
// stays in the directory, and only the owner can read it.
func TestWriteFileReplacesTheWhole(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, text := range []string{"first", "a longer second", "3", ""} {
		if err := durable.WriteFile(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != text {
			t.Errorf("the file holds %q, %v; want %q", got, err, text)
		}
	}
	if list := names(t, dir); len(list) != 1 {
		t.Errorf("the directory holds %v", list)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info.Mode(), err)
	}
}

// What a crash has left under the temporary name is in nobody's way, and none of it
// gets into the file.
func TestWriteFileAfterACrash(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := durable.WriteFile(path, []byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".tmp", []byte("half of something longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(path, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "new" {
		t.Errorf("the file holds %q, %v", got, err)
	}
	if list := names(t, dir); len(list) != 1 {
		t.Errorf("the directory holds %v", list)
	}
}

// Whoever reads the file while it is replaced gets one of its contents whole.
func TestReadersSeeWholeContents(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	contents := [][]byte{bytes.Repeat([]byte("a"), 10_000), bytes.Repeat([]byte("b"), 5_000)}
	if err := durable.WriteFile(path, contents[0]); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for i := range 50 {
			if err := durable.WriteFile(path, contents[i%2]); err != nil {
				t.Error(err)
			}
		}
	})
	for range 200 {
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, contents[0]) && !bytes.Equal(got, contents[1]) {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
	}
}

// A failure is told, leaves the old file, and nothing beside it.
func TestWriteFileFails(t *testing.T) {
	dir := t.TempDir()
	if err := durable.WriteFile(filepath.Join(dir, "gone", "f"), []byte("x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := durable.WriteFile(taken, []byte("x")); err == nil {
		t.Error("a directory was replaced by a file")
	}
	if list := names(t, dir); len(list) != 1 || list[0] != "taken" {
		t.Errorf("the directory holds %v", list)
	}
}

// Files and directories can be synced, also all below one; what is not there is an error,
// and what cannot be synced is passed by.
func TestSync(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "a", "b"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "a", "f")
	if err := os.WriteFile(file, []byte("x"), 0o400); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink("nowhere", filepath.Join(dir, "a", "link")), syscall.Mkfifo(filepath.Join(dir, "a", "pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(durable.Sync(dir), durable.Sync(file), durable.SyncTree(dir)); err != nil {
		t.Error(err)
	}
	gone := filepath.Join(dir, "gone")
	for name, err := range map[string]error{"Sync": durable.Sync(gone), "SyncTree": durable.SyncTree(gone)} {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of nothing: %v", name, err)
		}
	}
}
