package cluster

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/holdfast/holdfast/internal/walfs"
)

// big is an entry of which eight fill a segment.
func big(i uint64) *raft.Log {
	return &raft.Log{Index: i, Term: 1, Data: bytes.Repeat([]byte{byte(i)}, segmentBytes/8)}
}

func mustWAL(t *testing.T, dir string) backend {
	t.Helper()
	w, err := openWAL(dir, raftLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// mustHold closes a log after it was seen to have the entries up to last, and no more.
func mustHold(t *testing.T, w backend, last uint64) {
	t.Helper()
	if got, err := w.LastIndex(); got != last || err != nil {
		t.Errorf("the last entry is %d, want %d: %v", got, last, err)
	}
	for i := uint64(1); i <= last; i++ {
		var e raft.Log
		if err := w.GetLog(i, &e); err != nil || !bytes.Equal(e.Data, big(i).Data) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

// sealTail appends entry i to the last segment of a closed log so that it seals it, as
// a node does that is killed before the next one is made. It returns the file and where
// it was written.
func sealTail(t *testing.T, dir string, i uint64) (path string, from, to int64) {
	t.Helper()
	var meta metadb.BoltMetaDB
	state, err := meta.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	must(t, meta.Close())
	files, err := walfs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	info := state.Segments[len(state.Segments)-1]
	path = filepath.Join(dir, segment.FileName(info))
	before := mustRead(t, path)
	info.SizeLimit = 1
	tail, err := segment.NewFiler(dir, files).RecoverTail(info)
	if err != nil {
		t.Fatal(err)
	}
	var data bytes.Buffer
	must(t, (&wal.BinaryCodec{}).Encode(big(i), &data))
	must(t, tail.Append([]types.LogEntry{{Index: i, Data: data.Bytes()}}))
	if sealed, _, err := tail.Sealed(); !sealed || err != nil {
		t.Fatalf("sealed: %v, %v", sealed, err)
	}
	must(t, tail.Close())
	must(t, files.Close())
	return path, int64(len(bytes.TrimRight(before, "\x00"))), int64(len(bytes.TrimRight(mustRead(t, path), "\x00")))
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A log that ended between the write that seals a segment and the making of the next
// one goes on, and so does one that ended in the middle of that write.
func TestSealedTailIsOpenedForAppends(t *testing.T) {
	tests := []struct {
		name   string
		before uint64 // entries in the segment
		torn   func(from, to int64) (at int64, bytes int)
		kept   bool // the entry that seals
	}{
		{"complete", 5, nil, true},
		{"complete, of one entry", 0, nil, true},
		{"a sector is missing", 5, func(from, _ int64) (int64, int) { return from + 2*512, 512 }, false},
		{"the end is missing", 5, func(_, to int64) (int64, int) { return to - 4, 4 }, false},
		{"a sector of the only entry is missing", 0, func(int64, int64) (int64, int) { return 4096, 512 }, false},
		{"the end of the only entry is missing", 0, func(_, to int64) (int64, int) { return to - 4, 4 }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			w := mustWAL(t, dir)
			for i := uint64(1); i <= tt.before; i++ {
				must(t, w.StoreLog(big(i)))
			}
			mustHold(t, w, tt.before)
			path, from, to := sealTail(t, dir, tt.before+1)
			last := tt.before
			if tt.kept {
				last++
			}
			if tt.torn != nil {
				spoil(t, path, from, to, tt.torn)
			}
			must(t, os.MkdirAll(filepath.Join(dir, asideDir, "left"), 0o750))
			w = mustWAL(t, dir)
			for range 2 {
				last++
				if err := w.StoreLog(big(last)); err != nil {
					t.Errorf("append: %v", err)
				}
			}
			mustHold(t, w, last)
			mustHold(t, mustWAL(t, dir), last)
			if _, err := os.Stat(filepath.Join(dir, asideDir)); !os.IsNotExist(err) {
				t.Errorf("%s is left behind: %v", asideDir, err)
			}
		})
	}
}

// spoil makes zeros of a part of what was written between two places of a file.
func spoil(t *testing.T, path string, from, to int64, torn func(from, to int64) (int64, int)) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	at, n := torn(from, to)
	if _, err := f.WriteAt(make([]byte, n), at); err != nil {
		t.Fatal(err)
	}
	must(t, f.Close())
}
