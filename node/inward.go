package node

import (
	"context"
	"net"
	"os"
	"sync"
	"syscall"
)

// inward is how the program that embeds a node connects to it without any network:
// a listener whose connections are made by dial. It is safe for concurrent use.
type inward struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

var _ net.Listener = (*inward)(nil)

func newInward() *inward {
	return &inward{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept waits for the next connection.
func (l *inward) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
		return nil, net.ErrClosed
	case c := <-l.conns:
		return c, nil
	}
}

// Close ends Accept and dial.
func (l *inward) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is a name for the log.
func (*inward) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// dial connects once somebody accepts.
func (l *inward) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	err = net.ErrClosed
	select {
	case l.conns <- theirs:
		return ours, nil
	case <-l.closed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	_, _ = ours.Close(), theirs.Close() // nobody has used them
	return nil, err
}

// socketPair are two ends of one connection. The kernel keeps what is under way, as
// it does for every other client.
func socketPair() (a, b net.Conn, err error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if a, err = asConn(pair[0]); err != nil {
		_ = syscall.Close(pair[1]) // it was never used
		return nil, nil, err
	}
	if b, err = asConn(pair[1]); err != nil {
		_ = a.Close() // the same
		return nil, nil, err
	}
	return a, b, nil
}

// asConn is the connection with a descriptor, which it takes over.
func asConn(fd int) (net.Conn, error) {
	file := os.NewFile(uintptr(fd), "socketpair") // a descriptor of the kernel's, not negative
	defer file.Close()
	return net.FileConn(file)
}
