// Package tracking knows which connections have read which keys, and tells them
// when such a key changes: the server's part of client-side caching
// (redis.io/docs/latest/develop/reference/client-side-caching). It knows neither
// commands nor the wire: what a connection is to be told stands in a bounded
// queue that somebody empties.
//
// A caller keeps no client stale as long as it does three things. It calls Read
// before it looks at the keys, it sends what Take returns only when the replies to
// all reads before are on their way, and it calls Changed for every change after
// it was made. Then a change that a reply does not show finds the key in the
// table, or is told by a message that the client gets behind that reply.
package tracking

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Limits bound what the table and the queues may take. A number of 0 is no limit,
// but TableBytes always holds.
type Limits struct {
	Keys       int   // that are kept in the table
	QueueBytes int64 // that wait for one connection
	// TotalBytes bounds what waits for all connections, and their prefixes: beyond it
	// those are closed that would add to their own and have more than Share.
	TotalBytes int64
}

// Share is what one connection may have waiting and in prefixes, in bytes, however much
// the others have.
const Share = 16 << 10

// The memory of the table is bounded by its contents, about, in bytes. Names may be
// long and many connections may have read the same key, so a bound on the number of
// keys alone would be none.
const (
	TableBytes    = 256 << 20
	keyOverhead   = 100
	itemOverhead  = 24
	trimBatch     = 1024 // keys dropped under one hold of the lock
	manyReaders   = 8    // from which the readers of a key are kept in a map
	messagesBound = 1 << 20
	prefixBytes   = 200 // what a prefix costs beside its name
)

// Table is what all connections of one server track. It is safe for concurrent use.
type Table struct {
	watching atomic.Int64 // connections that track

	mu struct {
		sync.Mutex // guards what is below, and the fields of inboxes and tracked connections
		limits     Limits
		keys       map[string]*readers
		items      int   // readers of all keys
		bytes      int64 // what keys cost
		clients    map[int64]*tracked
		inboxes    map[int64]*Inbox
		prefixes   prefixes
		total      int64 // what all queues and prefixes cost, in bytes
	}
}

// readers are the connections that have read a key: a few in a list, many in a map.
type readers struct {
	few  []int64
	many map[int64]struct{}
}

// tracked is a connection that tracks.
type tracked struct {
	id      int64
	options Options
	broken  bool  // messages could not be redirected
	bytes   int64 // what its prefixes cost
}

// Options say how a connection tracks.
type Options struct {
	// Redirect is the connection that is told in the place of this one, 0 for none.
	Redirect int64
	// Broadcast has it told of all keys that begin with one of Prefixes, whether it
	// has read them or not.
	Broadcast bool
	// NoLoop leaves out keys that it changed itself.
	NoLoop bool
	// Prefixes are sorted and do not overlap; nil is all keys. Those of earlier calls
	// of Track stay.
	Prefixes []string
}

// New returns a table that tracks nothing.
func New(limits Limits) *Table {
	t := new(Table)
	t.mu.limits = limits
	t.mu.keys = map[string]*readers{}
	t.mu.clients = map[int64]*tracked{}
	t.mu.inboxes = map[int64]*Inbox{}
	t.mu.prefixes.init()
	return t
}

// SetLimits changes the bounds. What is too much for them is dropped before it
// returns, and told.
func (t *Table) SetLimits(limits Limits) {
	t.mu.Lock()
	t.mu.limits = limits
	t.mu.Unlock()
	for more := true; more; {
		var over overflows
		t.mu.Lock()
		more = t.trimLocked(trimBatch, &over)
		t.mu.Unlock()
		over.tell()
	}
}

// Watching tells whether any connection tracks: while none does nobody need call
// Changed. It is one atomic load.
func (t *Table) Watching() bool { return t.watching.Load() > 0 }

// Track makes connection id, which must have opened its inbox, one that tracks, or
// changes how it does. If its prefixes are too much beside what all others have, its
// inbox is closed.
func (t *Table) Track(id int64, o Options) {
	var over overflows
	t.mu.Lock()
	t.trackLocked(id, o, &over)
	t.mu.Unlock()
	over.tell()
}

func (t *Table) trackLocked(id int64, o Options, over *overflows) {
	c := t.mu.clients[id]
	if c == nil {
		c = &tracked{id: id}
		t.mu.clients[id] = c
		t.watching.Add(1)
	}
	old := c.options.Prefixes
	c.options, c.broken = o, false
	c.options.Prefixes = old
	if !o.Broadcast {
		return
	}
	if len(o.Prefixes) == 0 {
		o.Prefixes = []string{""}
	}
	for _, p := range o.Prefixes {
		if !slices.Contains(c.options.Prefixes, p) {
			c.options.Prefixes = append(c.options.Prefixes, p)
			t.mu.prefixes.join(p, c)
			c.bytes += prefixBytes + int64(len(p))
			t.mu.total += prefixBytes + int64(len(p))
		}
	}
	slices.Sort(c.options.Prefixes)
	if in := t.mu.inboxes[id]; in != nil && t.crowdedLocked(in, 0) {
		over.add(in)
	}
}

// crowdedLocked tells whether so much more for a connection would be too much for all
// together.
func (t *Table) crowdedLocked(in *Inbox, more int64) bool {
	own, most := in.bytes+more, t.mu.limits.TotalBytes
	if c := t.mu.clients[in.id]; c != nil {
		own += c.bytes
	}
	return most > 0 && t.mu.total+more > most && own > Share
}

// Untrack ends what Track began. Keys the connection has read stay in the table
// until they change or the last connection ceases to track.
func (t *Table) Untrack(id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.untrackLocked(id)
}

func (t *Table) untrackLocked(id int64) {
	c := t.mu.clients[id]
	if c == nil {
		return
	}
	for _, p := range c.options.Prefixes {
		t.mu.prefixes.leave(p, c)
	}
	t.mu.total -= c.bytes
	delete(t.mu.clients, id)
	t.watching.Add(-1)
	if len(t.mu.clients) == 0 { // nobody tells of changes from now on
		t.clearLocked()
	}
}

func (t *Table) clearLocked() {
	t.mu.keys = map[string]*readers{}
	t.mu.items, t.mu.bytes = 0, 0
}

// Tracking tells how connection id tracks, and whether its messages could not be
// redirected; ok is false if it does not track.
func (t *Table) Tracking(id int64) (o Options, broken, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.mu.clients[id]
	if c == nil {
		return Options{}, false, false
	}
	o = c.options
	o.Prefixes = slices.Clone(o.Prefixes)
	return o, c.broken, true
}

// Read notes that connection id is about to read the keys. The table copies what it
// keeps of them.
func (t *Table) Read(id int64, keys [][]byte) {
	var over overflows
	t.mu.Lock()
	if c := t.mu.clients[id]; c != nil && !c.options.Broadcast {
		for _, k := range keys {
			t.readLocked(id, k)
		}
		t.trimLocked(len(keys)+1, &over)
	}
	t.mu.Unlock()
	over.tell()
}

func (t *Table) readLocked(id int64, key []byte) {
	r := t.mu.keys[string(key)]
	if r == nil {
		r = new(readers)
		t.mu.keys[string(key)] = r
		t.mu.bytes += keyOverhead + int64(len(key))
	}
	if r.add(id) {
		t.mu.items++
		t.mu.bytes += itemOverhead
	}
}

// Stats are figures of a table.
type Stats struct {
	Clients  int // connections that track
	Keys     int // in the table
	Items    int // readers of all keys
	Prefixes int // that are broadcast
}

// Stats returns the present figures.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Stats{
		Clients: len(t.mu.clients), Keys: len(t.mu.keys), Items: t.mu.items, Prefixes: len(t.mu.prefixes.members),
	}
}

// trimLocked drops keys at random while there are too many, at most n, and tells
// whether there still are. Who had read them is told as if they had changed.
func (t *Table) trimLocked(n int, over *overflows) (more bool) {
	for ; t.tooMuchLocked(); n-- {
		if n <= 0 {
			return true
		}
		for key := range t.mu.keys { // the order of a map is the chance
			t.invalidateLocked(key, 0, over)
			break
		}
	}
	return false
}

func (t *Table) tooMuchLocked() bool {
	l := t.mu.limits
	return l.Keys > 0 && len(t.mu.keys) > l.Keys || t.mu.bytes > TableBytes
}

// add makes id a reader and tells whether it was none.
func (r *readers) add(id int64) bool {
	switch {
	case r.has(id):
		return false
	case r.many != nil:
		r.many[id] = struct{}{}
	case len(r.few) < manyReaders:
		r.few = append(r.few, id)
	default:
		r.many = make(map[int64]struct{}, 2*manyReaders)
		for _, other := range append(r.few, id) {
			r.many[other] = struct{}{}
		}
		r.few = nil
	}
	return true
}

func (r *readers) has(id int64) bool {
	if r.many != nil {
		_, ok := r.many[id]
		return ok
	}
	return slices.Contains(r.few, id)
}

func (r *readers) len() int { return len(r.few) + len(r.many) }

// each calls fn for every reader until it returns false.
func (r *readers) each(fn func(id int64) bool) {
	for _, id := range r.few {
		if !fn(id) {
			return
		}
	}
	for id := range r.many {
		if !fn(id) {
			return
		}
	}
}
