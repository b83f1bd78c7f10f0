package respserver

import (
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// stepKind says what is left to do for a step.
type stepKind uint8

const (
	stepAnswered stepKind = iota // nothing: reply is there
	stepLog                      // goes through the log as a request of the batch
	stepRead                     // reads the state, in a view or beside the log
	stepFrozen                   // reads a frozen view
	stepExec                     // a transaction of reads
)

// step is one command of a segment.
type step struct {
	entry *entry // nil if reply stands for no execution: a refusal, or QUEUED
	args  [][]byte
	tx    *transaction // of EXEC
	reply resp.Value
	db    int
	kind  stepKind
	muted bool
}

// request is the step as it travels through the log.
func (s *step) request() command.Request {
	return command.Request{Spec: s.entry.spec, DB: s.db, Args: s.args, Exec: s.tx.body()}
}

// segment gathers consecutive commands that are carried out together. Either
// all its reads are short enough to ride beside the entry, or it has no writes.
// The arguments of its steps are borrowed from the reader, so that a segment
// never outlives its pipeline.
type segment struct {
	steps    []step
	batch    *command.Batch  // nil until the first write
	probe    command.Request // what is being measured; here so that it need not be allocated
	log      int             // steps of kind stepLog
	reads    int             // steps of the other kinds that are not answered
	long     bool            // one of the reads may not ride
	settling bool
	began    time.Duration

	viewFn   func(*store.Reader) // runs steps[from:to]; built once
	from, to int
	keys     [][]byte // of warm; reused
}

const (
	// rideArgs is how many arguments a read may have that rides beside an entry,
	// where it holds up the state machine.
	rideArgs = 64
	// viewReads is how many reads run under one view before the lock is given up.
	viewReads = 128
	// viewArgs bounds the same by the number of arguments.
	viewArgs = 4096
	// keptSteps is how many steps a connection keeps room for.
	keptSteps = 128
	// warmFrom is how many reads under one view are worth reading ahead for.
	warmFrom = 4
	// frozenFrom is the size of a database from which reads over the whole of it
	// run on a frozen view.
	frozenFrom = 1000
	// expireRounds is how often a read is run again because it met due keys.
	expireRounds = 16
)

// Replies made once.
var (
	errInDoubtReply    = resp.Err(resp.ErrInDoubt)
	errMasterDownReply = resp.Err(resp.ErrMasterDown)
)

// add appends a step that is still to be carried out.
func (g *segment) add(s step) {
	if g.log+g.reads == 0 {
		g.began = now()
	}
	g.steps = append(g.steps, s)
	if s.kind == stepLog {
		g.log++
		return
	}
	g.reads++
}

// clear empties the segment and lets go of what it refers to.
func (g *segment) clear() {
	if cap(g.steps) > keptSteps {
		g.steps = nil
	} else {
		clear(g.steps)
		g.steps = g.steps[:0]
	}
	g.log, g.reads, g.long = 0, 0, false
}

// planRead makes a read part of the segment. A long one does not share it with
// writes.
func (c *client) planRead(s step, long bool) {
	if long && c.seg.log > 0 && !c.settleBefore(s.entry, s.muted) {
		return
	}
	c.seg.add(s)
	c.seg.long = c.seg.long || long
}

// planWrite makes a step that goes through the log part of the segment.
func (c *client) planWrite(s step) {
	if c.seg.long && !c.settleBefore(s.entry, s.muted) {
		return
	}
	c.seg.add(s)
}

// settleBefore settles the segment for a command that has to wait its turn, and
// refuses that command if the connection was lost meanwhile.
func (c *client) settleBefore(e *entry, muted bool) bool {
	c.settle()
	if err := refuseLost(c, e); err != nil {
		c.reject(e, err, muted)
		return false
	}
	return true
}

// settle carries out the segment and encodes its replies.
func (c *client) settle() {
	g := &c.seg
	if len(g.steps) == 0 || g.settling {
		return
	}
	g.settling = true
	switch passed := g.reads > 0 && c.passesReads(); {
	case g.log == 0 && passed:
		c.settlePassed()
	case g.log == 0 && g.reads > 0:
		c.settleReads()
	default:
		if g.log > 0 {
			c.settleLog(0)
		}
		c.encode(0, len(g.steps))
	}
	g.clear()
	g.settling = false
}

// passesReads tells whether reads take the way of writes: they are passed on, and
// the master answers them sooner than this node could tell that its state is fresh.
// Those of a client that tracks are answered here: the master may answer with less than
// this node has applied already, and of what was applied before nobody would tell.
func (c *client) passesReads() bool {
	return c.sess.role.Forward && !c.srv.cfg.LocalReads && !c.sess.track.on
}

// settlePassed has the master answer a segment of reads. What the master has refused
// because the replies before it left no room is asked again behind them.
func (c *client) settlePassed() {
	g := &c.seg
	for from := 0; from < len(g.steps) && c.sess.failed == nil; {
		c.settleLog(from)
		to := len(g.steps)
		if !c.sess.lost {
			to = g.crowdedOut(from)
		}
		c.encode(from, to)
		from = to
	}
}

// crowdedOut is the first step behind the one at from whose reply did not fit beside
// those before it.
func (g *segment) crowdedOut(from int) int {
	for i := from + 1; i < len(g.steps); i++ {
		s := &g.steps[i]
		if s.kind != stepAnswered && s.reply.IsError() && string(s.reply.Bytes()) == string(resp.ErrReplyTooBig) {
			return i
		}
	}
	return len(g.steps)
}

// settleLog submits the segment, from the step at from on, as one batch and waits for its
// end.
func (c *client) settleLog(from int) {
	g := &c.seg
	if g.batch == nil {
		g.batch = command.NewBatch()
		g.batch.Abandoned = c.hungUp
		g.batch.Origin = c.id
	}
	b := g.batch
	for i := from; i < len(g.steps); i++ {
		s := &g.steps[i]
		if s.kind == stepAnswered {
			continue
		}
		b.Requests = append(b.Requests, s.request())
	}
	if !c.await(b) {
		c.giveUp()
		return
	}
	n := 0
	for i := from; i < len(g.steps); i++ {
		s := &g.steps[i]
		if s.kind == stepAnswered {
			continue
		}
		s.reply = b.Requests[n].Reply
		c.sess.lost = c.sess.lost || b.Requests[n].Outcome == command.InDoubt
		n++
	}
	c.sess.wrote = c.sess.wrote || g.log > 0
	b.Reset()
	if cap(b.Requests) > keptSteps {
		g.batch = nil
	}
}

// await submits b and tells whether it ended; if not, the connection gave up
// waiting and must not touch b or the memory of its arguments again.
func (c *client) await(b *command.Batch) bool {
	c.life.waits.Store(c.srv.gate.tick.Load())
	c.srv.cfg.Submit.Submit(b)
	ended := true
	select {
	case <-b.Done():
	case <-c.life.ctx.Done():
		ended = false
	}
	c.life.waits.Store(0)
	return ended
}

// giveUp answers a batch whose end did not come: nobody knows what became of it.
// The connection ends, and with it the memory that the batch still borrows.
func (c *client) giveUp() {
	for i := range c.seg.steps {
		if s := &c.seg.steps[i]; s.kind != stepAnswered {
			s.reply = errInDoubtReply
		}
	}
	c.seg.batch = nil
	c.sess.lost = true
}

// settleReads confirms once that what this node has is the newest, then runs the
// reads and encodes their replies, those of one view before it asks for the next:
// replies that are long never pile up. A replica, and a node in read-mode local,
// answers from what it has.
func (c *client) settleReads() {
	confirmed := c.sess.role.serves() && !c.srv.cfg.LocalReads
	g := &c.seg
	if confirmed && !c.fresh() {
		c.refuseReads(0, len(g.steps))
		c.encode(0, len(g.steps))
		return
	}
	for g.to = 0; g.to < len(g.steps) && c.sess.failed == nil; {
		g.from, g.to = g.to, g.chunk(g.to)
		c.runChunk(confirmed)
		c.encode(g.from, g.to)
	}
}

// chunk is the end of the steps that share a view with the one at from. A read
// that is not known to be fast has a view of its own.
func (g *segment) chunk(from int) int {
	args := 0
	for i := from; i < len(g.steps); i++ {
		if s := &g.steps[i]; s.entry != nil && !s.entry.spec.Has(command.FlagFast) {
			return max(i, from+1)
		}
		args += len(g.steps[i].args)
		if i > from && (i-from >= viewReads || args > viewArgs) {
			return i
		}
	}
	return len(g.steps)
}

// confirm tells whether this node was the master after the call began.
func (c *client) confirm() bool { return c.ask(c.srv.cfg.Confirm) }

// fresh tells whether the state holds everything that was answered before the call.
func (c *client) fresh() bool { return c.ask(c.srv.cfg.Fresh) }

func (c *client) ask(whom Confirmer) bool {
	c.life.waits.Store(c.srv.gate.tick.Load())
	err := whom.Confirm(c.life.ctx)
	c.life.waits.Store(0)
	return err == nil || c.gaveUp()
}

// gaveUp ends the connection if what failed did so because it had waited too
// long. It returns false.
func (c *client) gaveUp() bool {
	if c.life.ctx.Err() != nil {
		c.sess.ending = true
	}
	return false
}

// refuseReads answers reads that this node has no right to answer.
func (c *client) refuseReads(from, to int) {
	for i := from; i < to; i++ {
		if s := &c.seg.steps[i]; s.kind != stepAnswered {
			s.reply = errMasterDownReply
			s.kind = stepAnswered
		}
	}
}

// runChunk runs steps[from:to] under one view. A confirmed read that meets a due
// key has its removal committed first and is run again: no reply shows a key as
// expired that a later master could still show.
func (c *client) runChunk(confirmed bool) {
	g := &c.seg
	db := g.steps[g.from].db
	victims := c.srv.cfg.Data.View(db, g.viewFn)
	for round := 0; confirmed && len(victims) > 0; round++ {
		if round == expireRounds || !c.expire(victims) {
			c.refuseReads(g.from, g.to)
			return
		}
		victims = c.srv.cfg.Data.View(db, g.viewFn)
	}
	for i := g.from; i < g.to; i++ {
		if s := &g.steps[i]; s.kind == stepFrozen {
			s.reply = c.readFrozen(s)
		}
	}
}

func (c *client) expire(victims []store.Victim) bool {
	c.life.waits.Store(c.srv.gate.tick.Load())
	err := c.srv.cfg.Data.Expire(c.life.ctx, victims)
	c.life.waits.Store(0)
	return err == nil || c.gaveUp()
}

// warm reads ahead what steps[from:to] will look up, as long as they are for the
// database that r has selected.
func (g *segment) warm(r *store.Reader) {
	keys := g.keys[:0]
	for i := g.from; i < g.to; i++ {
		if s := &g.steps[i]; s.kind == stepRead && s.db == r.DB() {
			if key := s.entry.spec.FirstKey(s.args); key != nil {
				keys = append(keys, key)
			}
		}
	}
	r.Warm(keys)
	clear(keys)
	g.keys = keys
}

// readSteps runs steps[from:to]; it is called under the store's shared lock,
// perhaps more than once.
func (c *client) readSteps(r *store.Reader) {
	g := &c.seg
	if g.to-g.from >= warmFrom {
		g.warm(r)
	}
	for i := g.from; i < g.to; i++ {
		s := &g.steps[i]
		if s.kind == stepAnswered {
			continue
		}
		if r.DB() != s.db {
			r.Use(s.db)
		}
		switch {
		case s.kind == stepExec:
			s.reply = s.tx.run(r)
		case s.entry.spec.Do.Frozen != nil && r.Len() > frozenFrom:
			s.kind = stepFrozen
		default:
			s.reply = s.entry.spec.Do.Read(r, s.args)
		}
	}
}

func (c *client) readFrozen(s *step) resp.Value {
	f := c.srv.cfg.Data.Freeze()
	defer f.Release()
	return s.entry.spec.Do.Frozen(f, s.db, s.args)
}

// encode writes the replies of steps[from:to] and counts what was carried out. A
// part of the segment is let go of, the whole is by clear. They share the time since the last ones were encoded.
func (c *client) encode(from, to int) {
	g := &c.seg
	var share time.Duration
	if n := min(g.log+g.reads, to-from); n > 0 {
		ended := now()
		share, g.began = (ended-g.began)/time.Duration(n), ended
	}
	for i := from; i < to; i++ {
		s := &g.steps[i]
		if s.tx != nil {
			s.reply = c.finishExec(s.tx, s.reply)
		}
		if s.entry != nil {
			c.count(s.entry, s.reply, share)
		}
		if !s.muted {
			c.put(s.reply, s.entry != nil)
		}
		if s.tx != nil {
			c.writeLate()
		}
	}
	if to-from < len(g.steps) {
		clear(g.steps[from:to])
	}
}

// count accounts for one command that was carried out.
func (c *client) count(e *entry, reply resp.Value, took time.Duration) {
	c.sess.ran++
	failed := reply.IsError()
	e.done(took, failed)
	if failed {
		c.srv.errors.count(resp.Error(reply.Bytes()))
		return
	}
	c.srv.counters.lookup(e.lookups, reply)
}
