package respserver

import (
	"context"
	"io"
	"maps"
	"net"
	"slices"
	"syscall"
	"time"

	"github.com/holdfast/holdfast/command"
)

// retirePolls is how often per quiet time connections are looked at.
const retirePolls = 4

// retirement is how a server sends its clients away without any of them losing a
// command: a connection is closed right behind a reply, so that a client that waits
// for one before it sends the next command sees the end when it has nothing under way.
// Guarded by Server.mu.
type retirement struct {
	hold    bool                  // new connections wait
	held    []net.Conn            // those that do
	parting map[net.Conn]struct{} // those of which only the client's end is open
}

// Retire begins to send clients away. From now on a connection is closed as soon as
// what it has sent was answered, unless that was about the connection itself, or it has
// begun a transaction or watches keys; and new connections are accepted and left waiting.
func (s *Server) Retire() {
	s.mu.Lock()
	s.mu.retired.hold = true
	s.mu.Unlock()
	s.retiring.Store(true)
}

// Retired closes connections that have been idle for quiet and returns when none is
// left, true then, or when ctx ends. Whoever waits for RAFT to change the master's own
// membership does not count: that comes after the handover. What has happened since the call of Still that
// returned seen is known; nil for nothing. Connections that wait since Retire do not
// count.
func (s *Server) Retired(ctx context.Context, quiet time.Duration, seen Stillness) bool {
	poll := time.NewTicker(quiet / retirePolls)
	defer poll.Stop()
	for {
		if seen = s.retire(seen, quiet); s.others() == 0 {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-poll.C:
		}
	}
}

// others are how many connections there are but those that wait for the end of a
// handover.
func (s *Server) others() (n int) {
	s.each(func(c *client) {
		if !c.card.stays.Load() {
			n++
		}
	})
	return n
}

// Stillness is which connections have done nothing since when.
type Stillness map[*client]stillness

// Still notes what connections are doing now.
func (s *Server) Still() Stillness {
	seen, at := make(Stillness), now()
	for _, c := range s.clients() {
		seen[c] = stillness{c.life.turns.Load(), at}
	}
	return seen
}

// Release closes the connections that wait; later ones are served. Nothing of what
// they have sent was carried out.
func (s *Server) Release() {
	s.mu.Lock()
	held := s.mu.retired.held
	s.mu.retired.hold, s.mu.retired.held = false, nil
	s.mu.Unlock()
	for _, conn := range held {
		s.conns.Go(func() { // whoever it was asks elsewhere
			if shut(conn) {
				s.drain(conn)
			}
			_ = conn.Close() // nothing is left to tell
		})
	}
}

// shut tells the client that nothing more will come; false if that cannot be told apart
// from closing the connection.
func shut(conn net.Conn) bool {
	half, ok := conn.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

// drain drops what the client still sends on a connection that was shut, until it has
// seen the end, but for no longer than goodbye. A connection that is closed with bytes
// unread is reset: then the client may get an error for what was answered.
func (s *Server) drain(conn net.Conn) {
	if !s.part(conn) {
		return
	}
	defer s.parted(conn)
	t := time.AfterFunc(goodbye, func() { _ = conn.Close() }) // reading ends
	defer t.Stop()
	_, _ = io.Copy(io.Discard, conn) // whatever ends it
}

// part notes a connection that waits for its client to see the end; false if the server
// has no time for that.
func (s *Server) part(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.serving == 0 {
		return false
	}
	s.mu.retired.parting[conn] = struct{}{}
	return true
}

func (s *Server) parted(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.mu.retired.parting, conn)
}

// closeParting closes the connections that were noted by part.
func (s *Server) closeParting() {
	s.mu.Lock()
	list := slices.Collect(maps.Keys(s.mu.retired.parting))
	s.mu.Unlock()
	for _, conn := range list {
		_ = conn.Close() // reading ends
	}
}

// Stay ends what Retire began, for who is connected then and comes later.
func (s *Server) Stay() {
	s.retiring.Store(false)
	s.Release()
}

// detain keeps a new connection waiting if new ones have to; false if not.
func (s *Server) detain(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.retired.hold {
		return false
	}
	s.mu.retired.held = append(s.mu.retired.held, conn)
	return true
}

// stillness is since when a connection has begun nothing.
type stillness struct {
	turns int64
	since time.Duration // clock.Mono
}

// retire closes the connections that have been still for long enough, and returns
// those to look at again. Whose replies are still on their way is not still: what was
// carried out would be asked again.
func (s *Server) retire(seen Stillness, quiet time.Duration) Stillness {
	next := make(Stillness)
	at := now()
	for _, c := range s.clients() {
		before, known := seen[c]
		turns := c.life.turns.Load()
		switch {
		case !known || turns != before.turns || c.life.bits.Load()&lifeBusy != 0 || c.engaged() || c.out.busy():
			next[c] = stillness{turns, at}
		case at-before.since < quiet || c.unread():
			next[c] = before
		default:
			c.life.dismiss()
		}
	}
	return next
}

// engaged tells whether a transaction has begun or keys are watched: the client is about
// to go on. It is safe for concurrent use.
func (c *client) engaged() bool { return c.card.multi.Load() >= 0 || c.card.watching.Load() }

// introduces tells whether the last command was about the connection itself: AUTH, or a PING
// that asks whether it is good. What it is wanted for comes next, and many libraries do
// not repeat that.
func (c *client) introduces() bool {
	e := c.card.last.Load()
	return e != nil && e.spec.Categories&command.CatConnection != 0
}

// retires tells whether the connection is to be closed behind the replies that are
// about to be sent: nothing more has come from the client.
func (c *client) retires() bool {
	return c.srv.retiring.Load() && !c.engaged() && !c.introduces() &&
		c.rd.Buffered() == 0 && len(c.ahead.buf) == 0 && !c.unread()
}

// cork keeps what is sent from now on from leaving before the connection is closed, so
// that the client gets the last reply and the end of the connection at once.
func (o *output) cork() {
	if o.socket == nil {
		return
	}
	_ = o.socket.Control(func(fd uintptr) { // without it the end comes a little later
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_CORK, 1) // as above
	})
}

// unread tells whether the kernel has bytes of the client that were not read.
func (c *client) unread() (some bool) {
	if c.out.socket == nil {
		return false
	}
	_ = c.out.socket.Control(func(fd uintptr) { // an ended connection has none
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		some = err == nil && n > 0
	})
	return some
}
