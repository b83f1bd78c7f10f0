package respserver

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/resp"
)

func now() time.Duration { return clock.Mono() }

// goodbye is how long the last replies may take to leave before the connection
// is closed.
const goodbye = time.Second

// source counts the bytes a client sends.
type source client

// Read reads from the connection.
func (s *source) Read(p []byte) (int, error) {
	n, err, ok := s.ahead.take(p)
	switch {
	case ok:
	case s.out.socket != nil:
		n, err = s.out.socket.Read(p)
	default:
		n, err = s.conn.Read(p)
	}
	if n > 0 {
		s.srv.counters.netIn.Add(int64(n))
		s.life.since.Store(s.srv.gate.tick.Load())
	}
	return n, err
}

// serve is the life of a connection.
func (c *client) serve() {
	defer c.finish()
	if tcp, ok := c.conn.(*net.TCPConn); ok {
		keepAlive(tcp, c.srv.tuning().KeepAlive)
	}
	for {
		cmds, err := c.rd.ReadPipeline()
		c.learnRole()
		if !c.life.begin(c.srv.gate.tick.Load()) {
			return
		}
		if err != nil {
			c.failed(err)
			return
		}
		if err := c.carryOut(cmds); err != nil || c.sess.ending || !c.life.end(c.srv.gate.tick.Load()) {
			return
		}
	}
}

// learnRole takes the node's role for one pipeline, before it is known whether
// the pipeline may be carried out: a node that ceases to be master dooms its
// connections first and changes its role afterwards, so what was sent to the
// master is never read from a replica.
func (c *client) learnRole() {
	if c.srv.cfg.Roles != nil {
		c.sess.role = c.srv.cfg.Roles.Role()
	}
}

// contain reports a panic that was recovered. It is the end of this connection only.
func (c *client) contain(p any) {
	if p == nil {
		return
	}
	c.srv.counters.panics.Add(1)
	c.srv.cfg.Log.Error("panic while serving a client", "client", c.id, "panic", withoutContents(p), "stack", string(debug.Stack()))
	c.life.close()
}

// withoutContents describes the value of a panic. What the runtime says is known
// to hold nothing of requests and keys; of anything else only the type is told.
func withoutContents(p any) string {
	if err, ok := p.(runtime.Error); ok {
		return err.Error()
	}
	return fmt.Sprintf("%T", p)
}

// finish ends a connection for good, whatever ended its loop.
func (c *client) finish() {
	c.contain(recover())
	c.unsubscribeAll()
	c.out.drained(goodbye)
	if c.srv.retiring.Load() && shut(c.conn) {
		c.srv.forget(c)
		_ = c.conn.SetReadDeadline(time.Time{}) // see dismiss
		c.srv.drain(c.conn)
	}
	c.life.close()
	if c.inbox.Load() != nil {
		c.srv.tracking.Forget(c.id)
	}
	c.srv.forget(c)
}

// failed answers a broken protocol; other errors of the connection end it silently.
func (c *client) failed(err error) {
	broken, ok := errors.AsType[resp.Error](err)
	if !ok {
		if errors.Is(err, resp.ErrQueryLimit) {
			c.srv.cfg.Log.Warn("closing a client that exceeded client-query-buffer-limit", "client", c.id)
		}
		return
	}
	c.srv.errors.count(broken)
	c.turn.Lock()
	defer c.turn.Unlock()
	c.out.buf = resp.Err(broken).Append(c.out.buf, c.sess.proto)
	_ = c.flush() // the connection ends either way
}

// carryOut carries out one pipeline and sends its replies.
func (c *client) carryOut(cmds []resp.Command) error {
	c.turn.Lock()
	defer c.turn.Unlock()
	if c.sess.tuned != c.srv.tuning() {
		c.limit()
	}
	c.tellChanges() // those of before come before the replies
	for i := range cmds {
		c.handle(cmds[i].Args)
		if c.sess.track.caching {
			c.endCaching(cmds[i].Args[0])
		}
		if c.sess.ending || c.sess.failed != nil {
			break
		}
	}
	c.settle()
	c.tellChanges()
	c.srv.counters.commands.Add(c.sess.ran)
	c.sess.ran = 0
	if c.sess.failed != nil {
		return c.sess.failed
	}
	c.sess.ending = c.sess.ending || c.sess.lost
	if c.retires() {
		c.sess.ending = true
		c.out.cork()
	}
	return c.flush()
}

func (c *client) flush() error {
	err := c.out.flush(c.outputLimit(), c.pendingMax())
	if errors.Is(err, errOutputLimit) {
		c.srv.counters.tooSlow.Add(1)
		c.srv.cfg.Log.Warn("closing a client: its output buffer limit is exceeded", "client", c.id)
		c.life.close()
	}
	return err
}
