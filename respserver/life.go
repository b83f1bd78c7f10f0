package respserver

import (
	"context"
	"net"
	"sync/atomic"
	"time"
)

// The states of a connection, as bits.
const (
	lifeBusy    = 1 << iota // a pipeline is being carried out
	lifeDoomed              // to be closed as soon as it is not busy
	lifeBlocked             // busy with a command that may wait as long as its client wants (WAIT)
	lifeClosed
)

// life decides when a connection ends. Others end a connection only through it,
// so that a pipeline whose commands are under way is always answered first.
// Its methods are safe for concurrent use.
type life struct {
	conn   net.Conn
	bits   atomic.Uint32
	since  atomic.Int64 // the tick of the last change between idle and busy
	turns  atomic.Int64 // pipelines begun
	waits  atomic.Int64 // the tick at which it began to wait for the log or a confirmation, 0 if it does not
	ctx    context.Context
	cancel context.CancelFunc
	wake   chan wakeup // to a blocked command
}

// wakeup is why a blocked command is woken.
type wakeup uint8

const (
	wakeTimeout wakeup = iota // CLIENT UNBLOCK … TIMEOUT: answer as if the time was up
	wakeError                 // CLIENT UNBLOCK … ERROR
	wakeDoomed                // the connection is to be closed
	wakeGone                  // the client has closed it
)

func (l *life) init(ctx context.Context, conn net.Conn) {
	l.conn = conn
	l.ctx, l.cancel = context.WithCancel(ctx)
	l.wake = make(chan wakeup, 1)
}

// begin marks the connection busy; false if it is to be closed instead.
func (l *life) begin(tick int64) bool {
	l.since.Store(tick)
	l.turns.Add(1)
	return l.bits.Or(lifeBusy)&(lifeDoomed|lifeClosed) == 0
}

// end marks it idle; false if it is to be closed now.
func (l *life) end(tick int64) bool {
	l.since.Store(tick)
	return l.bits.And(^uint32(lifeBusy))&(lifeDoomed|lifeClosed) == 0
}

// doom closes the connection: at once if it is idle, otherwise when what is
// under way has been answered.
func (l *life) doom() {
	old := l.bits.Or(lifeDoomed)
	if old&lifeBusy == 0 {
		l.close()
		return
	}
	if old&lifeBlocked != 0 {
		l.unblock(wakeDoomed)
	}
}

// longAgo ends a read that waits.
var longAgo = time.Unix(1, 0)

// dismiss is doom for a connection of which its goroutine is to see to the end: if it is
// idle that goroutine is woken.
func (l *life) dismiss() {
	if l.bits.Or(lifeDoomed)&lifeBusy == 0 {
		_ = l.conn.SetReadDeadline(longAgo) // fails only if it has ended
	}
}

// close closes the connection whatever it is doing.
func (l *life) close() {
	if l.bits.Or(lifeClosed)&lifeClosed != 0 {
		return
	}
	l.cancel()
	_ = l.conn.Close() // nobody is left to tell
}

// block begins a wait that has no bound of its own; unblocked ends it. See client.block.
func (l *life) block() (woken <-chan wakeup) {
	select {
	case <-l.wake: // left from a wait that ended by itself
	default:
	}
	if l.bits.Or(lifeBlocked)&lifeDoomed != 0 {
		l.unblock(wakeDoomed)
	}
	return l.wake
}

func (l *life) unblocked() { l.bits.And(^uint32(lifeBlocked)) }

// unblock wakes a blocked command and tells whether there was one.
func (l *life) unblock(why wakeup) bool {
	if l.bits.Load()&lifeBlocked == 0 {
		return false
	}
	select {
	case l.wake <- why:
	default:
	}
	return true
}

// idleFor is for how many ticks the connection has been idle, or -1 if it is not.
func (l *life) idleFor(tick int64) int64 {
	if l.bits.Load()&lifeBusy != 0 {
		return -1
	}
	return tick - l.since.Load()
}

// waitsFor is for how many ticks it has been waiting for the log or a
// confirmation, 0 if it is not.
func (l *life) waitsFor(tick int64) int64 {
	since := l.waits.Load()
	if since == 0 {
		return 0
	}
	return tick - since
}
