package respserver

import (
	"strconv"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// handle plans one command: it is refused, queued, run at once, or becomes a
// step of the segment.
func (c *client) handle(args [][]byte) {
	muted := c.mute()
	spec, err := c.srv.table.Lookup(args)
	if err != nil {
		if !c.refuseHTTP(args[0]) {
			c.rejectCall(args, err, muted)
		}
		return
	}
	e := c.srv.table.entries[spec]
	c.card.last.Store(e)
	if err := c.refuse(e); err != nil {
		c.reject(e, err, muted)
		return
	}
	if !c.awaitPause(e) {
		return
	}
	if c.tx != nil && !e.spec.Has(command.FlagQueueless) {
		c.queue(e, args, muted)
		return
	}
	if check := e.spec.Do.Check; check != nil {
		if err := check(args); err != nil {
			c.reject(e, err, muted)
			return
		}
	}
	s := step{entry: e, args: args, db: c.sess.db, muted: muted}
	switch e.spec.Do.Route {
	case command.RouteLocal:
		c.runLocal(e, args, muted)
	case command.RouteRead:
		s.kind = stepRead
		if c.sess.track.reads() {
			c.remember(e.spec, args)
		}
		alone := c.sess.role.Forward && c.sess.track.on // see passesReads
		c.planRead(s, !e.spec.Has(command.FlagFast) || len(args) > rideArgs || alone)
	default:
		s.kind = stepLog
		if err := c.refuseSize(&s); err != nil {
			c.reject(e, err, muted)
			return
		}
		c.planWrite(s)
	}
}

// mute tells whether the command that comes next is not to be answered.
func (c *client) mute() bool {
	m := c.sess.muted
	if m == muteSkip {
		c.sess.muted = muteOff
	}
	return m != muteOff
}

// reject answers a command that is not carried out; e is nil for an unknown one
// or one with a wrong number of arguments.
func (c *client) reject(e *entry, err error, muted bool) {
	if e != nil {
		e.rejected.Add(1)
	}
	if c.tx != nil {
		c.tx.spoil()
	}
	if e != nil && e.commits {
		err = c.abortExec(err)
	}
	reply := resp.Err(err)
	c.srv.errors.count(resp.Error(reply.Bytes()))
	c.answer(reply, muted)
}

// rejectCall answers a call of no command, or with a wrong number of arguments.
func (c *client) rejectCall(args [][]byte, err error, muted bool) {
	if word(args[0], execName) && c.srv.table.ByName(execName) != nil {
		err = c.abortExec(err)
	}
	c.reject(nil, err, muted)
}

// abortExec ends the transaction of an EXEC that was refused itself, and tells why.
func (c *client) abortExec(why error) error {
	c.endTransaction()
	return resp.ExecAborted(why)
}

// answer gives a reply in its turn: now, or when the segment is settled.
func (c *client) answer(v resp.Value, muted bool) {
	if len(c.seg.steps) > 0 && !c.seg.settling {
		c.seg.steps = append(c.seg.steps, step{reply: v, muted: muted})
		return
	}
	c.write(v, muted)
}

// write encodes a reply whose bytes may be gone after the pipeline.
func (c *client) write(v resp.Value, muted bool) {
	if !muted {
		c.put(v, false)
	}
}

// passAt is the size from which a value of the store is sent from where it is,
// without a copy of it.
const passAt = 64 << 10

// put encodes a reply, and sends what was encoded if that is much. shared tells
// that its bytes stay as they are: values of the store are immutable, but what
// came with a request is overwritten by the next. After an error nothing is
// written any more.
func (c *client) put(v resp.Value, shared bool) {
	if c.sess.failed != nil {
		return
	}
	switch {
	case shared && v.Kind() == resp.KindBulk && len(v.Bytes()) >= passAt:
		c.pass(v.Bytes())
	case large(v):
		c.out.buf = appendHead(c.out.buf, v, c.sess.proto)
		for _, e := range v.Elems() {
			c.put(e, shared)
		}
	default:
		c.out.buf = v.Append(c.out.buf, c.sess.proto)
	}
	if len(c.out.buf) >= flushAt && c.sess.failed == nil {
		c.sess.failed = c.flush()
	}
}

// pass sends a bulk string without copying it.
func (c *client) pass(b []byte) {
	c.out.buf = append(strconv.AppendInt(append(c.out.buf, '$'), int64(len(b)), 10), '\r', '\n')
	if c.sess.failed = c.flush(); c.sess.failed != nil {
		return
	}
	own := c.out.buf
	c.out.buf = b
	c.sess.failed = c.flush() // lets go of b, whatever comes of it
	c.out.buf = append(own, '\r', '\n')
}

// large tells whether a reply is better sent in parts: its elements are shared
// with the store, but encoded together they could be any multiple of it.
func large(v resp.Value) bool {
	size := 0
	for _, e := range v.Elems() {
		size += len(e.Bytes()) + len(e.Elems())
		if size > flushAt || large(e) {
			return true
		}
	}
	return false
}

// appendHead appends what stands before the elements of an aggregate.
func appendHead(dst []byte, v resp.Value, proto int) []byte {
	mark, n := byte('*'), len(v.Elems())
	if proto >= 3 {
		switch v.Kind() {
		case resp.KindMap:
			mark, n = '%', n/2
		case resp.KindSet:
			mark = '~'
		case resp.KindPush:
			mark = '>'
		default: // an array
		}
	}
	return append(strconv.AppendInt(append(dst, mark), int64(n), 10), '\r', '\n')
}

// current is the Local command that runs now.
type current struct {
	entry *entry // nil once it is accounted for by a step of the segment
	db    int
	muted bool
}

// asStep makes a step out of the command that runs now: it is answered, and
// accounted for, when the segment is settled.
func (n *current) asStep(t *transaction, kind stepKind) step {
	s := step{entry: n.entry, tx: t, db: n.db, kind: kind, muted: n.muted}
	n.entry = nil
	return s
}

// runLocal runs a command of this connection or node. Those that are fast, about a
// transaction, or about the next command only do not wait for the commands before them, unless they
// settle the segment themselves; their replies do.
func (c *client) runLocal(e *entry, args [][]byte, muted bool) {
	if e.spec.Flags&(command.FlagFast|command.FlagQueueless) == 0 && !e.prompt && !c.settleBefore(e, muted) {
		return
	}
	if v := c.local(e, args, muted); v.Kind() != resp.KindNone {
		c.answer(v, muted)
	}
	if len(c.sess.late) > 0 {
		c.writeLate()
	}
}

// local calls the body of a Local command and accounts for it.
func (c *client) local(e *entry, args [][]byte, muted bool) resp.Value {
	outer := c.now
	c.now = current{entry: e, db: c.sess.db, muted: muted}
	began := now()
	v := e.spec.Do.Local(c, args)
	if c.now.entry != nil {
		c.count(e, v, now()-began)
	}
	c.now = outer
	return v
}
