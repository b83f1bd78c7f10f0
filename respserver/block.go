package respserver

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// aheadMax is how many bytes are read from a connection while it is blocked.
const aheadMax = 4 << 10

// ahead is what a client has sent while one of its commands was blocked. It is
// read so that the end of the connection is noticed: a client that went away
// must not keep a command waiting for ever.
type ahead struct {
	buf []byte
	err error // of the connection, to be told when buf has been taken
}

// take is Read of what was read ahead; false if there is nothing.
func (a *ahead) take(p []byte) (n int, err error, ok bool) {
	if len(a.buf) > 0 {
		n = copy(p, a.buf)
		if a.buf = a.buf[n:]; len(a.buf) == 0 {
			a.buf = nil
		}
		return n, nil, true
	}
	return 0, a.err, a.err != nil
}

// block begins a wait that lasts as long as the client wishes. woken delivers
// when somebody ends it, or when the connection has ended; the caller calls
// unblock when the wait is over.
func (c *client) block() (woken <-chan wakeup, unblock func()) {
	woken = c.life.block()
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.readAhead()
	}()
	return woken, func() {
		_ = c.conn.SetReadDeadline(longAgo) // ends a Read that is under way
		<-done
		_ = c.conn.SetReadDeadline(time.Time{})
		c.life.unblocked()
	}
}

// hungUp tells whether the client has ended its side of the connection, as far as
// the kernel knows. Reading ahead finds that out too, unless the client has sent
// more than that: then the end stands behind it.
func (c *client) hungUp() (gone bool) {
	if c.out.socket == nil {
		return false
	}
	ended := c.out.socket.Control(func(fd uintptr) {
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}} // of the whole process, so it fits
		n, err := unix.Poll(poll, 0)
		gone = err == nil && n > 0
	})
	return gone || ended != nil
}

// readAhead reads until it is interrupted, the connection ends, or it has read
// enough. The connection's own goroutine is blocked meanwhile.
func (c *client) readAhead() {
	buf := make([]byte, aheadMax)
	for len(c.ahead.buf) < aheadMax {
		n, err := c.conn.Read(buf[:aheadMax-len(c.ahead.buf)])
		c.ahead.buf = append(c.ahead.buf, buf[:n]...)
		if interrupted, ok := errors.AsType[net.Error](err); ok && interrupted.Timeout() {
			return
		}
		if err != nil {
			c.ahead.err = err
			c.life.unblock(wakeGone)
			return
		}
	}
}
