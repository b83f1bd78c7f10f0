//go:build !race

package quiet

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// read is read(2).
func read(fd uintptr, b []byte) (int, syscall.Errno) { return transferred(unix.SYS_READ, fd, b) }

// write is write(2).
func write(fd uintptr, b []byte) (int, syscall.Errno) { return transferred(unix.SYS_WRITE, fd, b) }

func transferred(call, fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))) //nolint:gosec // as unix.Read and unix.Write do
	return int(n), errno
}
