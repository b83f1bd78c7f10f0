package respserver

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/holdfast/holdfast/internal/quiet"
)

// errOutputLimit closes a client for which too much waits.
var errOutputLimit = errors.New("client-output-buffer-limit exceeded")

const (
	keptOutput    = 16 << 10  // the largest reply buffer an idle connection keeps
	flushAt       = 256 << 10 // replies of one pipeline are sent in pieces of about this size
	writeChunk    = 256 << 10 // bytes after which a slow reader counts as alive
	pendingMax    = 128 << 20 // bytes for one slow reader after which its commands wait
	directWrite   = 16 << 10  // what a connection that cannot write without blocking is sent at once
	pendingAlways = 64 << 10  // what may wait for any client, whatever the server's budget
)

// output is the way of replies to a connection. Replies are gathered in buf and
// sent by flush, without blocking as long as the client takes them. For a slow
// reader the rest is handed to a goroutine, so that the connection goes on
// reading: clients may send a long pipeline before they read the first reply.
// Once too much waits, flush does too.
//
// buf, wrote and flush belong to whoever holds the client's turn.
type output struct {
	conn   net.Conn
	socket *quiet.Socket // nil if the connection has no descriptor of its own
	buf    []byte
	wrote  int // of buf, by sendNow

	direct  atomic.Bool   // the connection's own goroutine is in a write that may block
	writing atomic.Bool   // the goroutine runs
	pending atomic.Int64  // bytes it has not written
	tick    atomic.Int64  // the server's tick when it last wrote a chunk
	over    atomic.Int64  // the tick since which pending is above the soft limit, 0 if it is not
	room    chan struct{} // holds one token after it wrote something or failed
	gate    *gate

	mu struct {
		sync.Mutex
		queue [][]byte
		err   error
	}
}

// gate is what the outputs of a server share.
type gate struct {
	tick    atomic.Int64 // counts the server's housekeeping rounds
	pending atomic.Int64 // bytes waiting for all slow readers
	sent    atomic.Int64 // bytes written
	budget  int64
}

func (o *output) init(conn net.Conn, g *gate) {
	o.conn, o.gate = conn, g
	if sc, ok := conn.(syscall.Conn); ok {
		o.socket, _ = quiet.NewSocket(sc) // it works without
	}
}

// flush sends what was gathered, and keeps the buffer only if it is small. limit
// is that of the client's class; most is how much may be pending before flush
// waits.
func (o *output) flush(limit OutputLimit, most int64) error {
	if len(o.buf) == 0 {
		return nil
	}
	if o.writing.Load() {
		return o.enqueue(limit, most)
	}
	if err := o.sendNow(); err != nil {
		return err
	}
	o.gate.sent.Add(int64(o.wrote))
	if o.wrote < len(o.buf) {
		o.buf = o.buf[o.wrote:]
		return o.enqueue(limit, most)
	}
	o.reuse()
	return nil
}

// sendNow writes as much as can be written without waiting; wrote tells how much.
func (o *output) sendNow() (err error) {
	o.wrote = 0
	switch {
	case o.socket != nil:
		o.wrote, err = o.socket.TryWrite(o.buf)
	case len(o.buf) <= directWrite:
		o.tick.Store(o.gate.tick.Load())
		o.direct.Store(true)
		o.wrote, err = o.conn.Write(o.buf)
		o.direct.Store(false)
	}
	return err
}

func (o *output) reuse() {
	if cap(o.buf) > keptOutput {
		o.buf = nil
		return
	}
	o.buf = o.buf[:0]
}

// enqueue hands the buffer to the writing goroutine and waits while too much is
// pending.
func (o *output) enqueue(limit OutputLimit, most int64) error {
	n := int64(len(o.buf))
	o.mu.Lock()
	if err := o.mu.err; err != nil {
		o.mu.Unlock()
		return err
	}
	o.mu.queue = append(o.mu.queue, o.buf)
	o.buf = nil
	waiting := o.pending.Add(n)
	total := o.gate.pending.Add(n)
	if !o.writing.Load() {
		o.over.Store(0)
		o.tick.Store(o.gate.tick.Load())
		if o.room == nil {
			o.room = make(chan struct{}, 1)
		}
		o.writing.Store(true) // last: whoever sees it may wait for room
		go o.write()
	}
	o.mu.Unlock()
	if limit.Hard > 0 && waiting > limit.Hard {
		return errOutputLimit
	}
	for waiting > most || (total > o.gate.budget && waiting > pendingAlways) {
		<-o.room
		if err := o.err(); err != nil {
			return err
		}
		waiting, total = o.pending.Load(), o.gate.pending.Load()
	}
	return nil
}

func (o *output) err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mu.err
}

// write sends the queue until it is empty or the connection fails; a connection
// that is closed makes it end.
func (o *output) write() {
	for {
		o.mu.Lock()
		if len(o.mu.queue) == 0 {
			o.mu.queue = nil
			o.writing.Store(false)
			o.mu.Unlock()
			o.signal()
			return
		}
		piece := o.mu.queue[0]
		o.mu.queue[0] = nil
		o.mu.queue = o.mu.queue[1:]
		o.mu.Unlock()
		if err := o.writePiece(piece); err != nil {
			o.abandon(err)
			return
		}
	}
}

func (o *output) writePiece(piece []byte) error {
	for len(piece) > 0 {
		n, err := o.conn.Write(piece[:min(len(piece), writeChunk)])
		o.pending.Add(int64(-n))
		o.gate.pending.Add(int64(-n))
		o.gate.sent.Add(int64(n))
		o.tick.Store(o.gate.tick.Load())
		o.signal()
		if err != nil {
			return err
		}
		piece = piece[n:]
	}
	return nil
}

// abandon drops what waits. Nothing is written after it: writing stays set, so
// that flush comes here to learn the error.
func (o *output) abandon(err error) {
	o.mu.Lock()
	o.mu.err = err
	o.mu.queue = nil
	o.mu.Unlock()
	o.gate.pending.Add(-o.pending.Swap(0))
	o.signal()
}

func (o *output) signal() {
	select {
	case o.room <- struct{}{}:
	default:
	}
}

// drained waits until nothing is pending, the connection has failed, or the
// time is up. A flush that waits meanwhile shares the tokens in room with it:
// the last one is passed on.
func (o *output) drained(bound time.Duration) {
	if !o.writing.Load() {
		return
	}
	defer o.signal()
	t := time.NewTimer(bound)
	defer t.Stop()
	for o.writing.Load() && o.err() == nil {
		select {
		case <-o.room:
		case <-t.C:
			return
		}
	}
}
