package respserver

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// pausing holds up the commands of all connections (redis.io/commands/client-pause).
// It is safe for concurrent use.
type pausing struct {
	current atomic.Pointer[pause] // nil for none
	mu      sync.Mutex            // held to replace current
}

// pause is one pause; it never changes, but changed is closed when another one, or
// none, has taken its place.
type pause struct {
	until   time.Duration // by now
	all     bool          // not only commands that others would be told of
	changed chan struct{}
}

// begin pauses until the given moment. A pause that is under way becomes neither
// shorter nor weaker.
func (p *pausing) begin(until time.Duration, all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := &pause{until: until, all: all, changed: make(chan struct{})}
	old := p.current.Load()
	if old != nil && old.until > now() {
		next.until, next.all = max(until, old.until), all || old.all
	}
	p.replace(old, next)
}

func (p *pausing) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replace(p.current.Load(), nil)
}

func (p *pausing) replace(old, next *pause) {
	p.current.Store(next)
	if old != nil {
		close(old.changed)
	}
}

// holds tells whether the command has to wait.
func (p *pause) holds(e *entry) bool {
	return p != nil && (p.all || e.spec.Has(command.FlagMayReplicate)) && now() < p.until
}

// awaitPause waits as long as commands such as e are paused. It is false if the
// connection has ended meanwhile.
func (c *client) awaitPause(e *entry) bool {
	p := c.srv.pausing.current.Load()
	if !p.holds(e) {
		return true
	}
	c.settle()
	if c.sess.failed = c.flush(); c.sess.failed != nil { // what was answered before need not wait
		return false
	}
	woken, unblock := c.block()
	defer unblock()
	for ; p.holds(e); p = c.srv.pausing.current.Load() {
		if !c.sleep(p, woken) {
			c.sess.ending = true
			return false
		}
	}
	return true
}

// sleep waits for the end of p or for another pause in its place; false if the
// connection is to end.
func (c *client) sleep(p *pause, woken <-chan wakeup) bool {
	t := time.NewTimer(p.until - now())
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.changed:
	case why := <-woken: // CLIENT UNBLOCK does not end a pause
		return why != wakeDoomed && why != wakeGone
	case <-c.life.ctx.Done():
		return false
	}
	return true
}

func pauseSpec() *command.Spec {
	return said(clientSub("pause", -3, command.FlagAdmin, "3.0.0", clientPause), "timeout [WRITE | ALL]", "Holds up the commands of all connections for some milliseconds.")
}

func unpauseSpec() *command.Spec {
	s := said(clientSub("unpause", 2, command.FlagAdmin, "6.2.0", clientUnpause), "", "Ends a pause.")
	s.Complexity = "O(N) Where N is the number of paused clients"
	return s
}

func clientPause(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	all := len(args) == 3 || word(args[3], "ALL")
	switch {
	case len(args) > 4:
		return resp.Err(resp.SubcommandArity("client", args[1]))
	case !all && !word(args[3], "WRITE"):
		return resp.Err(resp.ErrPauseMode)
	}
	timeout, err := parseTimeout(args[2])
	switch {
	case err != nil:
		return resp.Err(err)
	case !c.Trusted():
		return resp.Err(resp.ErrUntrusted)
	}
	c.srv.pausing.begin(now()+min(timeout, maxPause), all)
	return resp.OK
}

// maxPause keeps the end of a pause a moment that can be told.
const maxPause = 100 * 365 * 24 * time.Hour

func clientUnpause(conn command.Conn, _ [][]byte) resp.Value {
	conn.(*client).srv.pausing.end()
	return resp.OK
}
