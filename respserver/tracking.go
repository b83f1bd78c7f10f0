package respserver

import (
	"slices"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
	"github.com/holdfast/holdfast/tracking"
)

// invalidateChannel is where clients in RESP2 hear of changed keys.
const invalidateChannel = "__redis__:invalidate"

// tracks is how a client tracks keys. It belongs to the connection's goroutine.
type tracks struct {
	on, broadcast, optIn, optOut, noLoop bool
	caching                              bool // CLIENT CACHING was given, for the next command or transaction
	redirect                             int64
}

// reads tells whether the keys of a command that reads are to be remembered.
func (t *tracks) reads() bool {
	switch {
	case !t.on || t.broadcast:
		return false
	case t.optIn:
		return t.caching
	case t.optOut:
		return !t.caching
	}
	return true
}

// covers tells whether the client is told when what it reads now changes.
func (t *tracks) covers() bool { return t.on && (t.broadcast || t.reads()) }

// remember notes the keys of a command that is about to read. What changes them from
// here on is told behind the replies of this pipeline.
func (c *client) remember(s *command.Spec, args [][]byte) {
	if keys := keysRead(s, args); len(keys) > 0 {
		c.srv.tracking.Read(c.id, keys)
	}
}

// rememberQueue is remember for the commands of a transaction.
func (c *client) rememberQueue(t *transaction) {
	t.covered = c.sess.track.covers()
	if !c.sess.track.reads() {
		return
	}
	for i := range t.queue {
		c.remember(t.queue[i].entry.spec, t.queue[i].args)
	}
}

// takeBack has the client forget what a command of a transaction has read, if it began
// to track within that transaction: the command ran before that.
func (c *client) takeBack(t *transaction, q *queued) {
	if t.covered || !c.sess.track.covers() {
		return
	}
	var names []string
	for _, k := range keysRead(q.entry.spec, q.args) {
		names = append(names, string(k))
	}
	c.srv.tracking.Stale(c.id, names)
}

// keysRead are the keys of a call of a command that only reads.
func keysRead(s *command.Spec, args [][]byte) [][]byte {
	if !s.IsReadOnly() {
		return nil
	}
	var keys [][]byte
	for _, at := range s.KeysOf(nil, args) {
		keys = append(keys, args[at.Pos])
	}
	return keys
}

// endCaching ends what CLIENT CACHING asked for when the command after it has been
// planned, or the transaction; further commands of CLIENT may stand between.
func (c *client) endCaching(name []byte) {
	if c.tx == nil && !word(name, "CLIENT") {
		c.sess.track.caching = false
	}
}

// hears gives the connection, which may be another's, an inbox and a goroutine that
// empties it. It reports false if the connection has ended.
func (c *client) hears() bool {
	in, opened := c.srv.tracking.Open(c.id, c.overflown)
	if !opened {
		return true
	}
	c.inbox.Store(in)
	c.srv.conns.Go(func() { c.pumpChanges(in) })
	if c.life.bits.Load()&lifeClosed != 0 { // finish may have found no inbox
		c.srv.tracking.Forget(c.id)
		return false
	}
	return true
}

// pumpChanges tells of changes between the pipelines until the inbox is closed.
func (c *client) pumpChanges(in *tracking.Inbox) {
	defer func() { c.contain(recover()) }()
	for range in.Ready() {
		c.turn.Lock()
		c.tellChanges()
		err := c.flush()
		c.turn.Unlock()
		if err != nil {
			c.life.close()
			return
		}
	}
}

// tellChanges encodes what the client is to be told. The caller holds the turn, and no
// read waits for its reply: a change that a reply does not show is told behind it.
func (c *client) tellChanges() {
	in := c.inbox.Load()
	if in == nil {
		return
	}
	c.heard = in.Take(c.heard)
	for i := range c.heard {
		c.tellChange(&c.heard[i])
	}
}

// tellChange encodes one message. Without RESP3 only a connection in subscribed mode
// that hears for another can be told anything. As in Redis it is told whatever channel
// it is subscribed to, and whether replies are off or not.
func (c *client) tellChange(m *tracking.Message) {
	if m.Lost != 0 {
		if c.sess.proto >= 3 {
			c.write(resp.Push(resp.BulkString("tracking-redir-broken"), resp.Int(m.Lost)), false)
		}
		return
	}
	keys := resp.Null
	if !m.All {
		names := make([]resp.Value, len(m.Keys))
		for i, k := range m.Keys {
			names[i] = resp.BulkString(k)
		}
		keys = resp.Array(names...)
	}
	switch {
	case c.sess.proto >= 3:
		c.write(resp.Push(resp.BulkString("invalidate"), keys), false)
	case m.Redirected && c.isPubSub():
		c.write(resp.Push(resp.BulkString("message"), resp.BulkString(invalidateChannel), keys), false)
	}
}

// tellMeanwhile tells of changes while a command waits, in whose place no read is.
func (c *client) tellMeanwhile() {
	c.tellChanges()
	if c.sess.failed == nil {
		c.sess.failed = c.flush()
	}
}

// stopTracking ends tracking.
func (c *client) stopTracking() {
	if c.sess.track.on {
		c.srv.tracking.Untrack(c.id)
		c.sess.track = tracks{}
		c.card.tracks.Store(false)
	}
}

// CloseTracking closes the connections that track or are subscribed, or hear for one
// that tracks, as CloseClients does: something happened that they cannot be told of.
func (s *Server) CloseTracking() {
	s.each(func(c *client) {
		if c.inbox.Load() != nil || c.isPubSub() {
			c.life.doom()
		}
	})
}

// Changes tells a table of tracked keys of what the log has changed. It is for one
// goroutine, but for Watching.
type Changes struct {
	table   *tracking.Table
	pending []tracking.Change // reused
}

// NewChanges returns the way from the log to table.
func NewChanges(table *tracking.Table) *Changes { return &Changes{table: table} }

// Watching tells whether anybody wants to know of changes. It is one atomic load.
func (w *Changes) Watching() bool { return w.table.Watching() }

// Changed tells of the events of one unit, after it was applied and before it is
// answered. origin is the connection that submitted it here, 0 if it came from
// elsewhere.
func (w *Changes) Changed(origin int64, events []store.Event) {
	flushed := false
	for i := range events {
		switch e := &events[i]; e.Class {
		case store.ClassFlushed:
			if !flushed {
				w.send()
				w.table.Flushed()
			}
			flushed = true
			continue
		case store.ClassExpired: // it ended by itself, whoever came across it
			w.pending = append(w.pending, tracking.Change{Key: e.Key})
		default:
			w.pending = append(w.pending, tracking.Change{Key: e.Key, Origin: origin})
		}
		flushed = false
	}
	w.send()
}

// keptChanges is the room for changes that is kept.
const keptChanges = 1024

func (w *Changes) send() {
	if len(w.pending) > 0 {
		w.table.Changed(w.pending)
	}
	clear(w.pending)
	if w.pending = w.pending[:0]; cap(w.pending) > keptChanges {
		w.pending = nil
	}
}

// overlapping is the first of the prefixes that begins as p does, or the other way
// round.
func overlapping(p string, prefixes []string) (other string, found bool) {
	at := slices.IndexFunc(prefixes, func(q string) bool {
		n := min(len(p), len(q))
		return p[:n] == q[:n]
	})
	if at < 0 {
		return "", false
	}
	return prefixes[at], true
}
