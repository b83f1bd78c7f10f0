package testkit

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a small file system of its own, mounted in a Sandbox.
type Disk struct {
	tb   testing.TB
	dir  string
	fill string // a file that takes space away
	Kind string // its type
}

// Mount makes a file system of so many bytes and mounts it at dir, which is made if
// it is missing, until the test ends. It is ext4 on a file where the machine allows
// that, else a tmpfs.
func Mount(tb testing.TB, dir string, bytes int64) *Disk {
	tb.Helper()
	needSandbox(tb)
	d := &Disk{tb: tb, dir: dir, fill: filepath.Join(dir, "fill"), Kind: "ext4"}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		tb.Fatal(err)
	}
	if err := d.mountImage(filepath.Join(tb.TempDir(), "image"), bytes); err != nil {
		tb.Logf("a tmpfs instead of ext4: %v", err)
		d.Kind = "tmpfs"
		if err := unix.Mount("disk", dir, "tmpfs", 0, "size="+number(bytes)); err != nil {
			tb.Fatalf("mount a tmpfs: %v", err)
		}
	}
	tb.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			tb.Errorf("unmount %s: %v", dir, err)
		}
	})
	return d
}

// mountImage mounts an ext4 in a sparse file. Its loop device goes with the mount,
// and that with the last process of the sandbox.
func (d *Disk) mountImage(image string, bytes int64) error {
	if os.Geteuid() != 0 {
		return os.ErrPermission
	}
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(image, bytes); err != nil {
		return err
	}
	// No space for root alone and no journal worth mentioning: all of it is the node's.
	if err := run("", "mkfs.ext4", "-q", "-m", "0", "-J", "size=4", image); err != nil {
		return err
	}
	if err := run("", "mount", "-o", "loop", image, d.dir); err != nil {
		return err
	}
	return os.Remove(filepath.Join(d.dir, "lost+found"))
}

// Free is how many bytes the file system has left.
func (d *Disk) Free() int64 {
	d.tb.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(d.dir, &st); err != nil {
		d.tb.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// Leave takes space away, or gives it back, until so many bytes are free. It fails
// the test when more than that is used by others.
func (d *Disk) Leave(bytes int64) {
	d.tb.Helper()
	if err := d.leave(bytes); err != nil {
		d.tb.Fatalf("leave %d bytes: %v", bytes, err)
	}
}

func (d *Disk) leave(bytes int64) (err error) {
	const owner = 0o600
	f, err := os.OpenFile(d.fill, os.O_CREATE|os.O_RDWR, owner)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := info.Size() + d.Free() - bytes
	if size <= info.Size() {
		return f.Truncate(max(0, size))
	}
	return unix.Fallocate(int(f.Fd()), 0, info.Size(), size-info.Size())
}

// Fill takes all the space there is, to the last few blocks.
func (d *Disk) Fill() {
	d.tb.Helper()
	const smallest = 1 << 10
	for step := max(d.Free(), smallest); step >= smallest; {
		err := d.leave(d.Free() - step)
		switch {
		case errors.Is(err, unix.ENOSPC):
			step /= 2
		case err != nil:
			d.tb.Fatalf("fill: %v", err)
		}
	}
}
