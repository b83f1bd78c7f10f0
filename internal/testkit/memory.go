package testkit

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// MemoryDir is a directory that lasts as long as the test, in memory where the machine
// has a file system there with room, else like tb.TempDir. It is for tests whose
// subject is not the disk: one that stalls for longer than their short election
// timeouts would make elections they do not expect.
func MemoryDir(tb testing.TB) string {
	tb.Helper()
	const memory, room = "/dev/shm", 1 << 30
	var st unix.Statfs_t
	if err := unix.Statfs(memory, &st); err != nil || st.Type != unix.TMPFS_MAGIC || int64(st.Bavail)*st.Bsize < room {
		return tb.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "holdfast-") //nolint:usetesting // tb.TempDir is not in memory
	if err != nil {
		return tb.TempDir()
	}
	tb.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			tb.Errorf("remove %s: %v", dir, err)
		}
	})
	return dir
}
