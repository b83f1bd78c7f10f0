package forward

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Endings of a question that was not answered as asked.
var (
	// ErrRefused says that nothing was done and nothing will be: the question was
	// never sent, or the other node is not the master. It may be asked again.
	ErrRefused = errors.New("forward: refused, nothing was done")
	// ErrUnknown says that the question was sent and no answer came.
	ErrUnknown = errors.New("forward: no answer, the outcome is unknown")
)

const (
	writeBuffer = 64 << 10
	// writeBound is how long the other node may take for writePiece bytes.
	writeBound = 5 * time.Second
	writePiece = 4 << 20
	// answerBound is how long an answer may take: longer than a proposal may.
	answerBound = 8 * time.Second
)

// Conn asks another node over one connection, any number of questions at a time.
// They are sent in the order in which they were asked. All methods are safe for
// concurrent use.
type Conn struct {
	conn net.Conn
	wake chan struct{}
	wg   sync.WaitGroup
	dead atomic.Bool

	mu struct {
		sync.Mutex
		closed bool
		id     uint64
		queue  []*call          // not sent
		sent   map[uint64]*call // not answered
		heard  uint64           // answers so far
	}
}

// call is one question. done is closed when answer or err is there.
type call struct {
	kind   byte
	encode func(dst []byte) []byte
	id     uint64
	heard  uint64 // answers to others when it was sent; guarded by the lock of Conn
	done   chan struct{}
	answer frame
	err    error
}

// NewConn takes conn over. Close it.
func NewConn(conn net.Conn) *Conn {
	c := &Conn{conn: conn, wake: make(chan struct{}, 1)}
	c.mu.sent = map[uint64]*call{}
	c.wg.Go(c.write)
	c.wg.Go(c.read)
	return c
}

// Broken tells whether the connection has ended.
func (c *Conn) Broken() bool { return c.dead.Load() }

// Close ends the connection and waits for its goroutines. What was not answered
// ends as ErrUnknown, what was not sent as ErrRefused.
func (c *Conn) Close() {
	c.fail()
	c.wg.Wait()
}

// fail ends the connection and everything that waits for it.
func (c *Conn) fail() {
	c.mu.Lock()
	if c.mu.closed {
		c.mu.Unlock()
		return
	}
	c.mu.closed = true
	c.dead.Store(true)
	queue, sent := c.mu.queue, c.mu.sent
	c.mu.queue, c.mu.sent = nil, nil
	c.mu.Unlock()
	_ = c.conn.Close() // it is over either way
	c.stir()
	for _, x := range queue {
		x.end(frame{}, ErrRefused)
	}
	for _, x := range sent {
		x.end(frame{}, ErrUnknown)
	}
}

func (x *call) end(answer frame, err error) {
	x.answer, x.err = answer, err
	close(x.done)
}

func (c *Conn) stir() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// ask queues a question; encode is called at most once, before it has ended.
func (c *Conn) ask(kind byte, encode func(dst []byte) []byte) *call {
	x := &call{kind: kind, encode: encode, done: make(chan struct{})}
	c.mu.Lock()
	if c.mu.closed {
		c.mu.Unlock()
		x.end(frame{}, ErrRefused)
		return x
	}
	c.mu.id++
	x.id = c.mu.id
	c.mu.queue = append(c.mu.queue, x)
	c.mu.Unlock()
	c.stir()
	return x
}

// next is the question to send, nil if there is none.
func (c *Conn) next() *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.mu.queue) == 0 {
		c.mu.queue = nil
		return nil
	}
	x := c.mu.queue[0]
	c.mu.queue[0] = nil
	c.mu.queue = c.mu.queue[1:]
	return x
}

// leaves takes note that a question is about to be sent: from then on its outcome is
// unknown until it is answered. false if it must not be sent any more.
func (c *Conn) leaves(x *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mu.closed {
		return false
	}
	c.mu.sent[x.id], x.heard = x, c.mu.heard
	return true
}

// overtaken tells whether a question was sent and is not answered, while others have been
// since. Nothing that it was made of is needed any more.
func (c *Conn) overtaken(x *call) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.mu.sent[x.id] == x && c.mu.heard > x.heard
}

// write sends questions until the connection ends.
func (c *Conn) write() {
	defer c.fail()
	w := bufio.NewWriterSize(bounded{c.conn, writeBound}, writeBuffer)
	var buf []byte
	for {
		x := c.next()
		if x == nil {
			if w.Flush() != nil {
				return
			}
			<-c.wake
			if c.Broken() {
				return
			}
			continue
		}
		if buf = x.encode(append(buf[:0], make([]byte, headLen)...)); !c.post(w, x, buf) {
			return
		}
		if cap(buf) > writeBuffer {
			buf = nil
		}
	}
}

// post sends a question as it was encoded, behind the room for its head; false if the
// connection has ended. The other node would end the connection on one that is too large,
// and with it all that others have asked: it is refused here.
func (c *Conn) post(w io.Writer, x *call, buf []byte) bool {
	size := len(buf) - headLen
	switch {
	case size > maxAsk:
		x.end(frame{}, resp.ErrRequestTooBig)
		return true
	case !c.leaves(x):
		x.end(frame{}, ErrRefused)
		return false
	}
	appendHead(buf[:0], x.kind, x.id, size)
	_, err := w.Write(buf)
	return err == nil
}

// bounded closes a connection that takes too little. A large frame may take longer than
// bound, as long as each piece of it does not.
type bounded struct {
	net.Conn
	bound time.Duration
}

// Write writes p.
func (b bounded) Write(p []byte) (n int, err error) {
	t := time.AfterFunc(b.bound, func() { _ = b.Close() }) // the write fails then
	defer t.Stop()
	for err == nil && n < len(p) {
		t.Reset(b.bound)
		var more int
		more, err = b.Conn.Write(p[n:min(len(p), n+writePiece)])
		n += more
	}
	return n, err
}

// read takes answers until the connection ends.
func (c *Conn) read() {
	defer c.fail()
	r := bufio.NewReader(c.conn)
	for {
		f, err := readFrame(r, maxTell)
		if err != nil {
			return
		}
		c.mu.Lock()
		x := c.mu.sent[f.id]
		delete(c.mu.sent, f.id)
		c.mu.heard++
		c.mu.Unlock()
		if x == nil {
			return // nobody has asked
		}
		x.end(f, nil)
	}
}

// wait is the answer's body, which is of the wanted kind.
func (x *call) wait(ctx context.Context, want byte) ([]byte, error) {
	select {
	case <-x.done:
	case <-ctx.Done():
		return nil, ErrUnknown
	}
	switch {
	case x.err != nil:
		return nil, x.err
	case x.answer.kind == want:
		return x.answer.body, nil
	case x.answer.kind == tellRefused:
		return nil, ErrRefused
	case x.answer.kind == tellError:
		return nil, resp.Error(x.answer.body)
	}
	return nil, ErrUnknown
}

// number asks for a number.
func (c *Conn) number(ctx context.Context, kind byte, encode func(dst []byte) []byte) (uint64, error) {
	body, err := c.ask(kind, encode).wait(ctx, tellNumber)
	if err != nil {
		return 0, err
	}
	n, size := binary.Uvarint(body)
	if size != len(body) || size <= 0 {
		return 0, ErrUnknown
	}
	return n, nil
}

func nothing(dst []byte) []byte { return dst }

// Index is a log index that covers everything the master had answered when the
// call began. The master has confirmed that it is one.
func (c *Conn) Index(ctx context.Context) (uint64, error) { return c.number(ctx, askIndex, nothing) }

// Expire has the master commit the removal of due keys, and returns the log index
// that its state has reached after it.
func (c *Conn) Expire(ctx context.Context, victims []store.Victim) (uint64, error) {
	return c.number(ctx, askExpire, func(dst []byte) []byte { return appendVictims(dst, victims) })
}

// AwaitMaster returns the term of the other node once it is the established and
// confirmed master.
func (c *Conn) AwaitMaster(ctx context.Context) (term uint64, err error) {
	return c.number(ctx, askMaster, nothing)
}

// Versions are the versions of keys for WATCH, as the confirmed master has them.
func (c *Conn) Versions(ctx context.Context, db int, keys [][]byte) ([]uint64, error) {
	body, err := c.ask(askVersions, func(dst []byte) []byte { return appendCall(dst, db, keys) }).wait(ctx, tellNumbers)
	if err != nil {
		return nil, err
	}
	list := make([]uint64, 0, len(keys))
	d := decoder{b: body}
	for range keys {
		list = append(list, d.uvarint())
	}
	if d.err != nil || len(d.b) > 0 {
		return nil, ErrUnknown
	}
	return list, nil
}

// Acked is how many replicas have acknowledged the master's log up to index.
func (c *Conn) Acked(ctx context.Context, index uint64) (uint64, error) {
	return c.number(ctx, askAcked, func(dst []byte) []byte { return binary.AppendUvarint(dst, index) })
}

// HandOver has the master begin to hand over its leadership, to the node with the given
// id if that is not empty. An error of type resp.Error is the one to tell a client.
func (c *Conn) HandOver(ctx context.Context, target string) error {
	_, err := c.number(ctx, askHandover, func(dst []byte) []byte { return append(dst, target...) })
	return err
}

// Veil has the other node keep it to itself, for a while, when it becomes master.
func (c *Conn) Veil(ctx context.Context) error {
	_, err := c.number(ctx, askVeil, nothing)
	return err
}

// Unveil has the other node tell that it is the master.
func (c *Conn) Unveil(ctx context.Context) error {
	_, err := c.number(ctx, askUnveil, nothing)
	return err
}

// Hush has the other node, for a moment, keep waiting who asks it for the master, until it
// knows one of a later term.
func (c *Conn) Hush(ctx context.Context, term uint64) error {
	_, err := c.number(ctx, askHush, func(dst []byte) []byte { return binary.AppendUvarint(dst, term) })
	return err
}

// Order has the other node do what words say, which is between the nodes that use the
// connection, and returns a log index that covers it. An error of type resp.Error is the
// one to tell a client.
func (c *Conn) Order(ctx context.Context, words ...string) (index uint64, err error) {
	return c.number(ctx, askOrder, func(dst []byte) []byte {
		for _, w := range words {
			dst = appendText(dst, []byte(w))
		}
		return dst
	})
}

// Part is a run of requests of a batch that has been sent together.
type Part struct {
	From, To int // requests [From, To) of the batch
	call     *call
}

// Send queues the requests of b from from on, as many as travel together. They are
// borrowed until the part has ended, as by a Submitter.
func (c *Conn) Send(b *command.Batch, from int) *Part {
	p := &Part{From: from, To: cut(b.Requests, from)}
	p.call = c.ask(askUnits, func(dst []byte) []byte {
		dst = binary.AppendUvarint(dst, uint64(p.To-p.From))
		for i := p.From; i < p.To; i++ {
			dst = appendUnit(dst, &b.Requests[i])
		}
		return dst
	})
	return p
}

// Wait returns how each request of the part has ended and the log index that the
// master's state had reached by then, or ErrRefused or an error of type resp.Error if none
// of them was or will be executed, or ErrUnknown. It does not wait for ever.
func (p *Part) Wait(c *Conn) (index uint64, list []Ending, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerBound)
	defer cancel()
	body, err := p.call.wait(ctx, tellEndings)
	if err == nil {
		index, list, err = parseEndings(body, p.To-p.From)
	}
	if err == nil || errors.Is(err, ErrRefused) {
		return index, list, err
	}
	if _, final := errors.AsType[resp.Error](err); final {
		return 0, nil, err
	}
	if c.overtaken(p.call) {
		return 0, nil, ErrUnknown
	}
	c.fail() // it takes or answers nothing, or what cannot be read
	<-p.call.done
	if errors.Is(p.call.err, ErrRefused) {
		return 0, nil, ErrRefused // it had not been sent
	}
	return 0, nil, ErrUnknown
}
