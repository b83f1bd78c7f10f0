package cluster

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// directConn reads and writes its socket by system calls that the Go scheduler does not
// hear of. None of them blocks: the socket is non-blocking, and the runtime's poller does
// the waiting, with deadlines and Close as usual. After each silence the first system
// call that the scheduler hears of wakes its monitor thread, and that took a third of the
// processor time of an idle master, whose silences are milliseconds long.
type directConn struct {
	net.Conn
	raw syscall.RawConn
}

// Read reads what has arrived, and waits for that.
func (c *directConn) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	var errno syscall.Errno
	err = c.raw.Read(func(fd uintptr) (done bool) {
		n, errno = transfer(unix.SYS_READ, fd, b)
		return errno != unix.EAGAIN
	})
	switch {
	case err != nil:
		return 0, err
	case errno != 0:
		return 0, os.NewSyscallError("read", errno)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Write writes all of b.
func (c *directConn) Write(b []byte) (n int, err error) {
	var errno syscall.Errno
	err = c.raw.Write(func(fd uintptr) (done bool) {
		for n < len(b) {
			var wrote int
			if wrote, errno = transfer(unix.SYS_WRITE, fd, b[n:]); errno != 0 {
				return errno != unix.EAGAIN
			}
			n += wrote
		}
		return true
	})
	switch {
	case err != nil:
		return n, err
	case errno != 0 && n < len(b):
		return n, os.NewSyscallError("write", errno)
	}
	return n, nil
}

// transfer makes one system call on b, which is not empty.
func transfer(call, fd uintptr, b []byte) (int, syscall.Errno) {
	for {
		n, _, errno := unix.RawSyscall(call, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b))) //nolint:gosec // as unix.Read and unix.Write do
		if errno != unix.EINTR {
			return int(n), errno
		}
	}
}
