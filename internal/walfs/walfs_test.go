package walfs

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"

	"github.com/holdfast/holdfast/internal/quiet"
)

const size = 256 << 10 // of the segments in these tests

func newDirectory(tb testing.TB) *FS {
	tb.Helper()
	d, err := New(tb.TempDir())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if d.wg.Wait(); !d.closed {
			_ = d.Close() // of the test
		}
	})
	return d
}

func create(tb testing.TB, d *FS, name string) *file {
	tb.Helper()
	w, err := d.Create(d.path, name, size)
	if err != nil {
		tb.Fatal(err)
	}
	f, ok := w.(*file)
	if !ok {
		tb.Fatalf("%T", w)
	}
	tb.Cleanup(func() { _ = f.Close() })
	return f
}

func reopen(tb testing.TB, d *FS, f *file) *file {
	tb.Helper()
	name := filepath.Base(f.r.Name())
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	w, err := d.OpenWriter(d.path, name)
	if err != nil {
		tb.Fatal(err)
	}
	g, ok := w.(*file)
	if !ok {
		tb.Fatalf("%T", w)
	}
	tb.Cleanup(func() { _ = g.Close() })
	return g
}

// The machine that runs the tests has direct I/O, or they would test nothing.
func TestWritesAreDirect(t *testing.T) {
	if f := create(t, newDirectory(t), "a"); !f.direct {
		t.Skip("the file system of the temporary directory knows no direct I/O")
	}
}

// Property: whatever is written where, in whichever pieces, across reopening, with
// direct I/O and without, asynchronous or not: the file holds what a file would hold.
func FuzzFileIsLikeAFile(f *testing.F) {
	f.Add([]byte{10, 0, 1, 200, 10, 3, 255, 255, 9, 1, 4, 0})
	f.Add([]byte{0, 16, 0, 16, 0, 16, 1, 0, 255, 2, 0, 1})
	disk, err := quiet.NewDisk() // one for all: to make and to end one takes 20 ms
	if err == nil {
		f.Cleanup(func() { _ = disk.Close() }) // at the end
	}
	f.Fuzz(func(t *testing.T, ops []byte) {
		for _, way := range []struct{ direct, async bool }{{true, true}, {true, false}, {false, true}} {
			d := &FS{plain: fs.New(), path: t.TempDir(), stop: make(chan struct{})}
			if way.async {
				d.disk = disk
			}
			g := create(t, d, "f")
			t.Cleanup(d.wg.Wait)
			g.direct = g.direct && way.direct
			if !g.direct {
				w, err := os.OpenFile(g.w.Name(), os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				_ = g.w.Close()
				g.w = w
			}
			model, next := make([]byte, size), 0
			random := rand.New(rand.NewPCG(uint64(len(ops)), 1))
			for i := 0; i+1 < len(ops) && i < 60; i += 2 {
				n := (int(ops[i]) + 1) * (int(ops[i+1])/4 + 1)
				at := next
				switch ops[i+1] % 4 {
				case 0: // somewhere else
					at = random.IntN(size)
				case 1:
					if way.direct {
						g = reopen(t, g.dir, g)
					}
				}
				p := make([]byte, n)
				for k := range p {
					p[k] = byte(random.Uint32())
				}
				if m, err := g.WriteAt(p, int64(at)); m != n || err != nil {
					t.Fatal(m, err)
				}
				if at+n > len(model) {
					model = append(model, make([]byte, at+n-len(model))...)
				}
				copy(model[at:], p)
				next = at + n
			}
			if err := g.Sync(); err != nil {
				t.Fatal(err)
			}
			got := make([]byte, len(model)+block)
			n, err := g.ReadAt(got, 0)
			if n < len(model) || !errors.Is(err, io.EOF) && err != nil {
				t.Fatal(n, err)
			}
			if !bytes.Equal(got[:len(model)], model) {
				t.Fatal("the file holds something else")
			}
			if len(bytes.Trim(got[len(model):], "\x00")) > 0 {
				t.Fatal("something lies behind the end")
			}
		}
	})
}

// Property: what is skipped stays zero, also right behind a whole block.
func TestGapsAreZero(t *testing.T) {
	f := create(t, newDirectory(t), "gap")
	want := make([]byte, 6*block)
	at := 0
	for _, w := range []struct{ gap, blocks int }{{0, 3}, {0, 1}, {10, 1}} {
		at += w.gap
		p := bytes.Repeat([]byte{'x'}, w.blocks*block)
		copy(want[at:], p)
		if _, err := f.WriteAt(p, int64(at)); err != nil {
			t.Fatal(err)
		}
		at += len(p)
	}
	got := make([]byte, len(want))
	if _, err := f.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Fatal("something lies in the gap", err)
	}
}

// Property: one write may be larger than the buffer, and than the segment.
func TestLargeWrite(t *testing.T) {
	f := create(t, newDirectory(t), "large")
	p := bytes.Repeat([]byte("0123456789"), 350_000)
	if n, err := f.WriteAt(p, 777); n != len(p) || err != nil {
		t.Fatal(n, err)
	}
	got := make([]byte, len(p))
	if _, err := f.ReadAt(got, 777); err != nil || !bytes.Equal(got, p) {
		t.Fatal("not what was written", err)
	}
	if f = reopen(t, f.dir, f); f.end != int64(777+len(p)) {
		t.Fatalf("the end was found at %d, not %d", f.end, 777+len(p))
	}
}

// Property: when a quarter of a segment is written the next one is made, and
// becomes the next segment: full of zeros, of the same size, under its own name.
func TestNextSegmentIsMadeReady(t *testing.T) {
	d := newDirectory(t)
	f := create(t, d, "1")
	for range 2 {
		if _, err := f.WriteAt([]byte("x"), 10); err != nil {
			t.Fatal(err)
		}
	}
	if d.wg.Wait(); d.ready != 0 {
		t.Fatal("made too early")
	}
	if _, err := f.WriteAt([]byte("x"), size/4); err != nil {
		t.Fatal(err)
	}
	if d.wg.Wait(); d.ready != size {
		t.Fatal("not made")
	}
	ready, err := os.Stat(filepath.Join(d.path, readyName))
	if err != nil || ready.Size() != size {
		t.Fatal(ready, err)
	}
	g := create(t, d, "2")
	if info, err := g.r.Stat(); err != nil || !os.SameFile(info, ready) {
		t.Fatal("not the one that was ready", err)
	}
	if _, err := os.Stat(filepath.Join(d.path, readyName)); !errors.Is(err, os.ErrNotExist) {
		t.Fatal("it still has its old name", err)
	}
	text, err := os.ReadFile(g.w.Name())
	if err != nil || len(bytes.Trim(text, "\x00")) > 0 {
		t.Fatal("not all zeros", err)
	}
	if h := create(t, d, "3"); h.end != 0 { // nothing is ready: it is made on the spot
		t.Fatal(h.end)
	}
}

// Property: a segment of a size that nobody asks for is not in the way of one that is.
func TestSegmentOfAnotherSizeIsReplaced(t *testing.T) {
	d := newDirectory(t)
	d.prepare(2 * size) // after the restart of a log whose last segment has grown
	d.wg.Wait()
	d.prepare(size)
	d.wg.Wait()
	info, err := os.Stat(filepath.Join(d.path, readyName))
	if err != nil || info.Size() != size || d.ready != size {
		t.Fatal(info, d.ready, err)
	}
}

// Property: a segment that was being made when the process ended is not used, and
// a segment never takes another's place.
func TestOldFilesAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, readyName), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := New(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, readyName)); !errors.Is(err, os.ErrNotExist) {
		t.Error("it is still there")
	}
	create(t, d, "1")
	for _, ready := range []bool{false, true} {
		if ready {
			d.prepare(size)
			d.wg.Wait()
		}
		if _, err := d.Create(dir, "1", size); !errors.Is(err, os.ErrExist) {
			t.Errorf("with a ready segment %v: %v", ready, err)
		}
	}
	if _, err := d.Create(t.TempDir(), "2", size); err == nil {
		t.Error("a segment in another directory was made")
	}
	if _, err := d.OpenWriter(dir, "2"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	d.prepare(size)
	if d.wg.Wait(); d.ready != 0 {
		t.Error("made after Close")
	}
}

// Property: Close does not wait until a large segment is made.
func TestCloseEndsThePreparation(t *testing.T) {
	d := newDirectory(t)
	d.prepare(1 << 30)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if names, err := d.ListDir(d.path); err != nil || len(names) > 0 {
		t.Fatal(names, err)
	}
}

// Property: P1 below raft. Whatever moment the process dies at, and into whichever
// segments entries of whatever size went: every entry that was stored is there,
// and the log goes on behind it.
func TestLogSurvivesAtAnyMoment(t *testing.T) {
	dir := t.TempDir()
	open := func(dir string) (*wal.WAL, *FS) {
		files, err := New(dir)
		if err != nil {
			t.Fatal(err)
		}
		w, err := wal.Open(dir, wal.WithSegmentSize(size), wal.WithSegmentFiler(segment.NewFiler(dir, files)))
		if err != nil {
			t.Fatal(err)
		}
		return w, files
	}
	check := func(w *wal.WAL, last uint64) {
		t.Helper()
		if got, err := w.LastIndex(); got != last || err != nil {
			t.Fatalf("%d entries, want %d: %v", got, last, err)
		}
		for i := uint64(1); i <= last; i++ {
			var l raft.Log
			if err := w.GetLog(i, &l); err != nil || l.Index != i || !bytes.Equal(l.Data, entry(i)) {
				t.Fatalf("entry %d: %v", i, err)
			}
		}
	}
	w, files := open(dir)
	stored := uint64(0)
	for round := range 12 {
		for range 25 {
			stored++
			if err := w.StoreLog(&raft.Log{Index: stored, Data: entry(stored)}); err != nil {
				t.Fatal(err)
			}
		}
		died := copyLog(t, dir)
		other, others := open(died)
		check(other, stored)
		if err := other.StoreLog(&raft.Log{Index: stored + 1, Data: entry(stored + 1)}); err != nil {
			t.Fatal(err)
		}
		check(other, stored+1)
		if err := errors.Join(other.Close(), others.Close()); err != nil {
			t.Fatal(err)
		}
		if round%4 == 3 {
			if err := errors.Join(w.Close(), files.Close()); err != nil {
				t.Fatal(err)
			}
			w, files = open(dir)
		}
	}
	check(w, stored)
	if err := errors.Join(w.Close(), files.Close()); err != nil {
		t.Fatal(err)
	}
}

// copyLog copies the files of a log, but for the segment that is being made.
func copyLog(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	files, err := filepath.Glob(filepath.Join(dir, "*wal*")) // segments and their list
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		p, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, filepath.Base(path)), p, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// entry is the data of entry i, of 0 to 40 KB.
func entry(i uint64) []byte {
	r := rand.New(rand.NewPCG(i, 7))
	p := make([]byte, r.IntN(40_000))
	for k := range p {
		p[k] = byte(r.Uint32())
	}
	return p
}

// BenchmarkAppend compares an append of 8 KiB and its sync on raft-wal's own file
// system with one behind a segment that was made ready.
func BenchmarkAppend(b *testing.B) {
	const size = 64 << 20
	for name, open := range map[string]func(dir string) types.VFS{
		"raft-wal": func(string) types.VFS { return fs.New() },
		"walfs": func(dir string) types.VFS {
			d, err := New(dir)
			if err != nil {
				b.Fatal(err)
			}
			d.prepare(size)
			d.wg.Wait()
			return d
		},
	} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			f, err := open(dir).Create(dir, "1", size)
			if err != nil {
				b.Fatal(err)
			}
			p := make([]byte, 8<<10)
			for at := int64(0); b.Loop(); at = (at + int64(len(p))) % size {
				if _, err := f.WriteAt(p, at); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}

// Property: the segment that a log ended in is written on asynchronously after a restart,
// although it was read through the page cache meanwhile.
func TestReopenedSegmentIsWrittenAsynchronously(t *testing.T) {
	const (
		large  = 8 << 20
		before = 1 << 20
		after  = 4 * patience
	)
	d := newDirectory(t)
	d.prepare(large)
	d.wg.Wait()
	w, err := d.Create(d.path, "1", large)
	if err != nil {
		t.Fatal(err)
	}
	f := w.(*file)
	entry := bytes.Repeat([]byte("x"), block)
	for at := int64(0); at < before; at += block {
		if _, err := f.WriteAt(entry, at); err != nil {
			t.Fatal(err)
		}
	}
	if f.declined > 0 {
		t.Fatalf("%d of the writes before were not asynchronous", f.declined)
	}
	f = reopen(t, d, f)
	if _, err := io.Copy(io.Discard, io.NewSectionReader(f, 0, before+block)); err != nil { // as raft-wal looks for the end
		t.Fatal(err)
	}
	for i := range int64(after) {
		if _, err := f.WriteAt(entry, before+i*block); err != nil {
			t.Fatal(err)
		}
	}
	if f.declined > 0 {
		t.Errorf("the last %d of %d writes were not asynchronous", f.declined, after)
	}
}
