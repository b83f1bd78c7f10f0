package respserver

import (
	"bytes"
	"slices"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// watched is a key of WATCH.
type watched = command.Watched

// transaction is what has been queued since MULTI. It is run in one of two ways.
// With a command that goes through the log it is one entry, its reads included.
// Otherwise it is a read: one confirmation, then everything under one lock.
//
// Local commands never enter the log or the lock: they run when the others have
// been answered, in their own order, and their replies take their places among
// the others. SELECT decides already when it is queued which database the
// commands after it find. If the transaction is not carried out they do not run.
type transaction struct {
	queue   []queued
	exec    command.Exec // what goes through the log; filled by EXEC
	db      int          // the database the next command will find selected
	size    int          // memory of the queue, in bytes
	broken  bool         // EXEC will refuse; the queue is not kept
	log     bool         // a command goes through the log
	reads   bool         // a command reads the state
	locals  bool         // a command is Local
	covered bool         // what it reads is tracked
	silent  bool         // EXEC is not answered
}

type queued struct {
	entry *entry
	db    int
	args  [][]byte // copies
}

// The memory a queued command takes beside its bytes, about.
const (
	queuedOverhead = 64
	argOverhead    = 24
	// queueMax bounds a queue where no entry size does.
	queueMax = 64 << 20
)

// spoil makes EXEC refuse, and lets go of the queue.
func (t *transaction) spoil() {
	t.broken = true
	t.queue, t.size = nil, 0
}

// body is what goes through the log; nil for a command that is no EXEC.
func (t *transaction) body() *command.Exec {
	if t == nil {
		return nil
	}
	return &t.exec
}

// queue keeps a command for EXEC. Arguments are copied: the reader overwrites
// them. They are not checked before EXEC, as in Redis.
func (c *client) queue(e *entry, args [][]byte, muted bool) {
	t := c.tx
	if t.broken {
		c.answer(resp.Queued, muted)
		return
	}
	size := queuedOverhead
	for _, a := range args {
		size += len(a) + argOverhead
	}
	if t.size+size > c.queueLimit() {
		c.reject(e, resp.ErrEntryTooBig, muted)
		return
	}
	t.size += size
	c.card.queued.Store(int64(t.size))
	t.queue = append(t.queue, queued{entry: e, db: t.db, args: copyArgs(args, size)})
	c.card.multi.Store(int32(len(t.queue)))
	switch e.spec.Do.Route {
	case command.RouteRead:
		t.reads = true
	case command.RouteLocal:
		t.locals = true
		t.follow(e, args, c.srv.tuning().Databases)
	default:
		t.log = true
	}
	c.answer(resp.Queued, muted)
}

// follow notes the database that a queued SELECT will choose.
func (t *transaction) follow(e *entry, args [][]byte, databases int) {
	if !e.selects {
		return
	}
	if db, err := parseDB(args[1], databases); err == nil {
		t.db = db
	}
}

func (c *client) queueLimit() int {
	if n := c.srv.tuning().MaxEntryBytes; n > 0 {
		return n
	}
	return queueMax
}

// copyArgs copies args into one allocation of at most size bytes.
func copyArgs(args [][]byte, size int) [][]byte {
	all := make([]byte, 0, size)
	copies := make([][]byte, len(args))
	for i, a := range args {
		at := len(all)
		all = append(all, a...)
		copies[i] = all[at:len(all):len(all)]
	}
	return copies
}

// multi begins a transaction.
func multi(conn command.Conn, _ [][]byte) resp.Value {
	c := conn.(*client)
	if c.tx != nil {
		return resp.Err(resp.ErrNestedMulti)
	}
	c.tx = &transaction{db: c.sess.db}
	c.card.multi.Store(0)
	return resp.OK
}

// endTransaction forgets the transaction and the watched keys.
func (c *client) endTransaction() {
	c.tx = nil
	c.card.multi.Store(-1)
	c.card.queued.Store(0)
	c.unwatchAll()
}

func (c *client) unwatchAll() {
	c.seen, c.sess.watching = nil, 0
	c.card.watching.Store(false)
}

func discard(conn command.Conn, _ [][]byte) resp.Value {
	c := conn.(*client)
	if c.tx == nil {
		return resp.Err(resp.ErrDiscardNoTx)
	}
	c.endTransaction()
	return resp.OK
}

// exec makes a step of the transaction; it answers itself only if there is
// nothing to carry out.
func exec(conn command.Conn, _ [][]byte) resp.Value {
	c := conn.(*client)
	t := c.tx
	if t == nil {
		return resp.Err(resp.ErrExecNoMulti)
	}
	t.exec.Watch, t.silent = c.seen, c.now.muted
	c.endTransaction()
	c.rememberQueue(t)
	switch {
	case t.broken:
		return resp.Err(resp.ErrExecAbort)
	case t.log, c.passesReads() && (t.reads || len(t.exec.Watch) > 0):
		t.log = true
		return c.execLog(t)
	case t.reads || len(t.exec.Watch) > 0:
		c.planRead(c.now.asStep(t, stepExec), true)
	default:
		c.settle()
		return c.finishExec(t, resp.Array(make([]resp.Value, len(t.queue))...))
	}
	return c.afterExec(t)
}

func (c *client) execLog(t *transaction) resp.Value {
	for _, q := range t.queue {
		if q.entry.spec.Do.Route != command.RouteLocal {
			t.exec.Queue = append(t.exec.Queue, command.Queued{Spec: q.entry.spec, DB: q.db, Args: q.args})
		}
	}
	if c.sess.role.DiskShort { // since it was queued
		return resp.Err(resp.ExecAborted(resp.ErrDisk))
	}
	s := c.now.asStep(t, stepLog)
	if err := c.refuseSize(&s); err != nil {
		return resp.Err(err)
	}
	c.planWrite(s)
	return c.afterExec(t)
}

// afterExec settles at once if Local commands of the transaction may change what
// the commands after it mean.
func (c *client) afterExec(t *transaction) resp.Value {
	if t.locals {
		c.settle()
	}
	return resp.None
}

// run carries out a transaction of reads under the store's lock; it may be
// called more than once.
func (t *transaction) run(r *store.Reader) resp.Value {
	for _, w := range t.exec.Watch {
		r.Use(w.DB)
		r.Peek(w.Key) // a key that has become due counts as changed, once its removal is committed
		if r.Version(w.Key) != w.Version {
			return resp.NullArray
		}
	}
	replies := make([]resp.Value, len(t.queue))
	for i, q := range t.queue {
		if q.entry.spec.Do.Route == command.RouteLocal {
			continue
		}
		r.Use(q.db)
		replies[i] = q.read(r)
	}
	return resp.Array(replies...)
}

func (q *queued) read(r *store.Reader) resp.Value {
	if check := q.entry.spec.Do.Check; check != nil {
		if err := check(q.args); err != nil {
			return resp.Err(err)
		}
	}
	return q.entry.spec.Do.Read(r, q.args)
}

// finishExec runs the Local commands of a transaction that was carried out and
// puts the replies in order. reply has one element per queued command, or, if it
// came from the log, one per command that went there.
func (c *client) finishExec(t *transaction, reply resp.Value) resp.Value {
	if reply.Kind() != resp.KindArray {
		return reply
	}
	replies := reply.Elems()
	if t.locals {
		replies = c.spliceLocals(t, replies)
	}
	for i, q := range t.queue {
		if i < len(replies) && q.entry.spec.Do.Route != command.RouteLocal {
			c.count(q.entry, replies[i], 0)
		}
	}
	return resp.Array(replies...)
}

func (c *client) spliceLocals(t *transaction, replies []resp.Value) []resp.Value {
	all := make([]resp.Value, len(t.queue))
	next := 0
	nested := c.seg.settling
	c.seg.settling = true // a Local command that would settle is in its place already
	for i, q := range t.queue {
		switch {
		case q.entry.spec.Do.Route == command.RouteLocal:
			all[i] = c.localInExec(q, t.silent)
			continue
		case t.log:
			if next < len(replies) {
				all[i] = replies[next]
			}
			next++
		default:
			all[i] = replies[i]
		}
		c.takeBack(t, &t.queue[i])
	}
	c.seg.settling = nested
	return all
}

// inExec tells whether the command that runs now is one of a transaction.
func (c *client) inExec() bool { return c.seg.settling }

// localInExec runs a Local command of a transaction. Of several replies, which
// SUBSCRIBE gives, the first one takes the command's place, unless EXEC is not
// answered: SUBSCRIBE always is.
func (c *client) localInExec(q queued, silent bool) resp.Value {
	if check := q.entry.spec.Do.Check; check != nil {
		if err := check(q.args); err != nil {
			return resp.Err(err)
		}
	}
	first := len(c.sess.late)
	reply := c.local(q.entry, q.args, false)
	if !silent && reply.Kind() == resp.KindNone && len(c.sess.late) > first {
		reply = c.sess.late[first]
		c.sess.late = slices.Delete(c.sess.late, first, first+1)
	}
	return reply
}

// writeLate sends what has to follow the reply of an EXEC.
func (c *client) writeLate() {
	for _, v := range c.sess.late {
		c.write(v, false)
	}
	c.sess.late = nil
}

// watch remembers the versions of keys, by a confirmed read.
func watch(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	if c.tx != nil {
		return resp.Err(resp.ErrWatchInMulti)
	}
	c.settle()
	names, size := c.unwatched(args[1:])
	if len(c.seen)+len(names) > maxWatched || c.sess.watching+size > c.queueLimit() {
		return resp.Err(resp.ErrTooManyWatched)
	}
	keys := copyArgs(names, size)
	if c.passesReads() {
		return c.watchThere(keys, size)
	}
	first := len(c.seen)
	reply := c.read(c.sess.db, func(r *store.Reader) resp.Value {
		c.seen = c.seen[:first]
		for _, k := range keys {
			r.Peek(k)
			c.seen = append(c.seen, watched{DB: c.sess.db, Key: k, Version: r.Version(k)})
		}
		return resp.OK
	})
	if reply.IsError() {
		c.seen = c.seen[:first]
		return reply
	}
	c.sess.watching += size
	c.card.watching.Store(true)
	return reply
}

// watchThere remembers the versions that the master tells; they are the same on all
// nodes.
func (c *client) watchThere(keys [][]byte, size int) resp.Value {
	c.life.waits.Store(c.srv.gate.tick.Load())
	versions, err := c.srv.cfg.Passed.Versions(c.life.ctx, c.sess.db, keys)
	c.life.waits.Store(0)
	if err != nil || len(versions) != len(keys) {
		c.gaveUp()
		return errMasterDownReply
	}
	for i, k := range keys {
		c.seen = append(c.seen, watched{DB: c.sess.db, Key: k, Version: versions[i]})
	}
	c.sess.watching += size
	c.card.watching.Store(true)
	return resp.OK
}

// unwatched are those keys that are not watched yet, as far as a short look
// tells, and the memory that watching them takes, in bytes. What WATCH saw first
// is what counts: a key is not looked at again.
func (c *client) unwatched(keys [][]byte) (names [][]byte, size int) {
	for _, k := range keys {
		known := slices.ContainsFunc(c.seen[:min(len(c.seen), dedupeWatched)], func(w watched) bool {
			return w.DB == c.sess.db && bytes.Equal(w.Key, k)
		})
		if !known {
			names = append(names, k)
			size += queuedOverhead + len(k)
		}
	}
	return names, size
}

const (
	execName    = "exec"
	cachingName = "client|caching"
)

const (
	// maxWatched bounds the number of watched keys; their size is bounded as that
	// of a queue is, since EXEC takes them to the log.
	maxWatched = 100_000
	// dedupeWatched is among how many watched keys one is looked for before it is
	// watched again.
	dedupeWatched = 64
)

// read runs fn as a read of its own: confirmed, and with due keys removed before
// it is believed. fn may be called more than once.
func (c *client) read(db int, fn func(r *store.Reader) resp.Value) resp.Value {
	confirmed := c.sess.role.serves() && !c.srv.cfg.LocalReads
	if confirmed && !c.fresh() {
		return errMasterDownReply
	}
	var reply resp.Value
	run := func(r *store.Reader) { reply = fn(r) }
	victims := c.srv.cfg.Data.View(db, run)
	for round := 0; confirmed && len(victims) > 0; round++ {
		if round == expireRounds || !c.expire(victims) {
			return errMasterDownReply
		}
		victims = c.srv.cfg.Data.View(db, run)
	}
	return reply
}

func unwatch(conn command.Conn, _ [][]byte) resp.Value {
	conn.(*client).unwatchAll()
	return resp.OK
}

// TransactionSpecs are MULTI, EXEC, DISCARD, WATCH and UNWATCH.
func TransactionSpecs() []*command.Spec {
	const common = command.FlagNoScript | command.FlagLoading | command.FlagStale
	const fast = common | command.FlagFast | command.FlagAllowBusy
	spec := func(name string, arity int, flags command.Flags, do func(command.Conn, [][]byte) resp.Value) *command.Spec {
		return &command.Spec{
			Name: name, Arity: arity, Flags: flags, Group: "transactions",
			Categories: command.CatTransaction, Complexity: "O(1)", Do: command.Locally(do),
		}
	}
	multi := spec("multi", 1, fast|command.FlagQueueless, multi)
	multi.Since, multi.Summary = "1.2.0", "Begins a transaction: the commands that follow are kept for EXEC."
	exec := spec(execName, 1, common|command.FlagSkipSlowlog|command.FlagQueueless, exec)
	exec.Since, exec.Summary = "1.2.0", "Carries out the queued commands as one unit, unless a watched key has changed."
	exec.Complexity = "Depends on commands in the transaction"
	discard := spec("discard", 1, fast|command.FlagQueueless, discard)
	discard.Since, discard.Summary = "2.0.0", "Drops the queued commands and the watched keys."
	discard.Complexity = "O(N), when N is the number of queued commands"
	watch := spec("watch", -2, fast|command.FlagQueueless, watch)
	watch.Since, watch.Summary = "2.2.0", "Has the next EXEC refuse if one of the keys changes before it."
	watch.Complexity, watch.Syntax = "O(1) for every key.", "key [key ...]"
	watch.Keys = []command.Keys{{Flags: command.KeyRO, First: 1, Last: -1, Step: 1}}
	unwatch := spec("unwatch", 1, fast, unwatch)
	unwatch.Since, unwatch.Summary = "2.2.0", "Forgets the watched keys."
	return []*command.Spec{multi, exec, discard, watch, unwatch}
}
