package quiet

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const block = 4096

func newDisk(t *testing.T) *Disk {
	t.Helper()
	d, err := NewDisk()
	if err != nil {
		t.Skip("asynchronous I/O is not allowed here:", err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// directFile is a file of zeros that is opened for direct I/O.
func directFile(t *testing.T, size int) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	zeros, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = zeros.Write(make([]byte, size))
	if err = errors.Join(err, zeros.Sync(), zeros.Close()); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_DIRECT, 0)
	if err != nil {
		t.Skip("the file system of the temporary directory knows no direct I/O:", err)
	}
	t.Cleanup(func() { _ = f.Close() }) // some tests have
	return f
}

// aligned is a block of memory as direct I/O needs it.
func aligned(t *testing.T, fill byte) []byte {
	t.Helper()
	p, err := unix.Mmap(-1, 0, block, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(p) }) // nobody uses it any more
	for i := range p {
		p[i] = fill
	}
	return p
}

// Property: what was written and synced by many at once is in the file.
func TestDiskWrites(t *testing.T) {
	const writers, rounds = 4, 16
	d, f := newDisk(t), directFile(t, writers*rounds*block)
	var wg sync.WaitGroup
	for i := range writers {
		p := aligned(t, byte('a'+i))
		wg.Go(func() {
			for r := range rounds {
				at := int64(r*writers+i) * block
				n, err := d.Write(f.Fd(), p, at)
				if errors.Is(err, ErrNotBegun) {
					n, err = f.WriteAt(p, at)
				}
				if n != block || err != nil {
					t.Errorf("wrote %d bytes: %v", n, err)
				}
				if err := d.Sync(f.Fd()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	for k := range writers * rounds {
		if want := bytes.Repeat([]byte{byte('a' + k%writers)}, block); !bytes.Equal(got[k*block:][:block], want) {
			t.Errorf("block %d holds something else", k)
		}
	}
}

// Property: what the kernel does not take is an error of the operation, or ErrNotBegun; what
// was not begun has changed nothing.
func TestDiskFails(t *testing.T) {
	d, f := newDisk(t), directFile(t, block)
	p := aligned(t, 'x')
	if n, err := d.Write(f.Fd(), p[1:], 0); n != 0 || err == nil {
		t.Errorf("wrote %d bytes from an odd address", n)
	}
	if n, err := d.Write(f.Fd(), nil, 0); n != 0 || err != nil {
		t.Errorf("wrote nothing: %d, %v", n, err)
	}
	fd := f.Fd()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Write(fd, p, 0); n != 0 || !errors.Is(err, ErrNotBegun) {
		t.Errorf("wrote %d bytes to a file that is closed: %v", n, err)
	}
	if err := d.Sync(fd); !errors.Is(err, ErrNotBegun) {
		t.Errorf("synced a file that is closed: %v", err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil || len(bytes.Trim(got, "\x00")) > 0 {
		t.Error("the file was changed", err)
	}
}

// Property: once the end of an operation was not heard, nothing that comes later counts as done.
func TestDiskThatHeardNothingIsDone(t *testing.T) {
	d, f := newDisk(t), directFile(t, block)
	if err := d.ended.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := d.Sync(f.Fd()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if err := d.ended.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Write(f.Fd(), aligned(t, 'x'), 0); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d bytes: %v", n, err)
	}
	if err := d.Sync(f.Fd()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("synced: %v", err)
	}
}

// Property: a Disk that is closed begins nothing, not in the queue of another one either.
func TestClosedDisk(t *testing.T) {
	f := directFile(t, block)
	d, err := NewDisk()
	if err != nil {
		t.Skip("asynchronous I/O is not allowed here:", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	other := newDisk(t)
	if n, err := d.Write(f.Fd(), aligned(t, 'x'), 0); n != 0 || !errors.Is(err, ErrNotBegun) {
		t.Errorf("wrote %d bytes: %v", n, err)
	}
	if err := d.Sync(f.Fd()); !errors.Is(err, ErrNotBegun) {
		t.Errorf("synced: %v", err)
	}
	if err := d.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	if err := other.Sync(f.Fd()); err != nil {
		t.Errorf("another disk: %v", err)
	}
}

// Property: a full device is told as it is, not as something to try again.
func TestDiskTellsErrors(t *testing.T) {
	d := newDisk(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	n, err := d.Write(full.Fd(), aligned(t, 'x'), 0)
	if n != 0 || !errors.Is(err, unix.ENOSPC) && !errors.Is(err, ErrNotBegun) {
		t.Errorf("wrote %d bytes to a full device: %v", n, err)
	}
	if _, err := full.WriteAt([]byte("x"), 0); !errors.Is(err, unix.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("the device is not full: %v", err)
	}
}
