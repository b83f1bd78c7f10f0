package quiet

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Socket reads and writes a connection of package net, or another descriptor that does not block.
// Deadlines and Close of the connection end what waits here, with its errors. It is safe for
// concurrent use, as the connection is; nothing is allocated.
type Socket struct {
	raw      syscall.RawConn
	in, out  transfer
	read     func(fd uintptr) (done bool)
	write    func(fd uintptr) (done bool)
	tryWrite func(fd uintptr) (done bool)
}

// transfer is what a call is about. It has its lock while the call is under way.
type transfer struct {
	mu    sync.Mutex
	buf   []byte // what is left to transfer
	n     int    // bytes transferred
	errno syscall.Errno
}

// NewSocket returns a Socket for conn, which remains the caller's.
func NewSocket(conn syscall.Conn) (*Socket, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Socket{raw: raw}
	s.read, s.write, s.tryWrite = s.readFrom, s.writeTo, s.tryWriteTo
	return s, nil
}

// Control calls fn with the connection's descriptor; see syscall.RawConn.
func (s *Socket) Control(fn func(fd uintptr)) error { return s.raw.Control(fn) }

// Read reads what has arrived, and waits for that.
func (s *Socket) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.in.begin(b)
	defer s.in.end()
	err := s.raw.Read(s.read)
	if err == nil {
		err = s.in.failed("read")
	}
	if err == nil && s.in.n == 0 {
		err = io.EOF
	}
	return s.in.n, err
}

// Write writes all of b.
func (s *Socket) Write(b []byte) (int, error) { return s.send(b, s.write) }

// TryWrite writes as much of b as can be written without waiting, perhaps nothing.
func (s *Socket) TryWrite(b []byte) (int, error) { return s.send(b, s.tryWrite) }

func (s *Socket) send(b []byte, how func(fd uintptr) bool) (int, error) {
	s.out.begin(b)
	defer s.out.end()
	err := s.raw.Write(how)
	if err == nil {
		err = s.out.failed("write")
	}
	return s.out.n, err
}

func (t *transfer) begin(b []byte) {
	t.mu.Lock()
	t.buf, t.n, t.errno = b, 0, 0
}

func (t *transfer) end() {
	t.buf = nil
	t.mu.Unlock()
}

// readFrom is called until it has read something, or the end or an error was met.
func (s *Socket) readFrom(fd uintptr) (done bool) {
	s.in.step(read, fd)
	return s.in.errno != unix.EAGAIN
}

// writeTo is called until everything is written, or an error was met.
func (s *Socket) writeTo(fd uintptr) (done bool) {
	for len(s.out.buf) > 0 {
		if s.out.step(write, fd); s.out.errno != 0 {
			return s.out.errno != unix.EAGAIN
		}
	}
	return true
}

// tryWriteTo never asks to be called again.
func (s *Socket) tryWriteTo(fd uintptr) (done bool) {
	if len(s.out.buf) > 0 {
		s.out.step(write, fd)
	}
	return true
}

// step makes one system call on what is left, which is not empty.
func (t *transfer) step(call func(fd uintptr, b []byte) (int, syscall.Errno), fd uintptr) {
	for {
		n, errno := call(fd, t.buf)
		if errno == unix.EINTR {
			continue
		}
		if t.errno = errno; errno == 0 {
			t.n += n
			t.buf = t.buf[n:]
		}
		return
	}
}

// failed is the error of the last call, which did not ask to be waited for.
func (t *transfer) failed(call string) error {
	if t.errno == 0 || t.errno == unix.EAGAIN {
		return nil
	}
	return os.NewSyscallError(call, t.errno)
}
