package tracking

import (
	"maps"
	"slices"
)

// Change is one key that was changed, in whatever database: clients are told names
// of keys only, as by Redis.
type Change struct {
	Key string
	// Origin is the connection that changed it; 0 if that is none of this table's, or
	// if the key ended by itself.
	Origin int64
}

// Changed tells the readers of the keys, once each, and everybody who has their
// prefixes broadcast. It is called after the changes were made, in their order, by
// one goroutine at a time.
func (t *Table) Changed(changes []Change) {
	var over overflows
	t.mu.Lock()
	for i := range changes {
		t.invalidateLocked(changes[i].Key, changes[i].Origin, &over)
	}
	if len(t.mu.prefixes.members) > 0 {
		t.broadcastLocked(changes, &over)
	}
	t.mu.Unlock()
	over.tell()
}

// Stale tells connection id that what it was last answered about the keys may be old
// already. It is how a reply that was made before the connection tracked is taken back.
func (t *Table) Stale(id int64, keys []string) {
	var over overflows
	t.mu.Lock()
	if c := t.mu.clients[id]; c != nil {
		for i := range keys {
			t.sendLocked(c, Message{Keys: keys[i : i+1]}, &over)
		}
	}
	t.mu.Unlock()
	over.tell()
}

// Flushed tells every connection that tracks that any key may have changed.
func (t *Table) Flushed() {
	var over overflows
	t.mu.Lock()
	for _, c := range t.mu.clients {
		t.sendLocked(c, Message{All: true}, &over)
	}
	t.clearLocked()
	t.mu.Unlock()
	over.tell()
}

// invalidateLocked takes a key out of the table and tells its readers. The one that
// changed it itself and asked not to be told goes on being a reader: what it makes of
// its own change is as old after the next one as what it has read.
func (t *Table) invalidateLocked(key string, origin int64, over *overflows) {
	r := t.mu.keys[key]
	if r == nil {
		return
	}
	keep := false
	m := Message{Keys: []string{key}}
	r.each(func(id int64) bool {
		c := t.mu.clients[id]
		switch {
		case c == nil || c.options.Broadcast:
		case c.options.NoLoop && id == origin:
			keep = true
		default:
			t.sendLocked(c, m, over)
		}
		return true
	})
	t.mu.items -= r.len()
	t.mu.bytes -= keyOverhead + int64(len(key)) + itemOverhead*int64(r.len())
	delete(t.mu.keys, key)
	if keep {
		t.readLocked(origin, []byte(key))
	}
}

// broadcastLocked sends one message per prefix with the keys that changed, in order
// of their names, and each once.
func (t *Table) broadcastLocked(changes []Change, over *overflows) {
	type group struct {
		members map[int64]*tracked
		keys    map[string]int64 // with who changed it first
	}
	groups := map[string]*group{}
	for i := range changes {
		ch := &changes[i]
		t.mu.prefixes.of(ch.Key, func(prefix string, members map[int64]*tracked) {
			g := groups[prefix]
			if g == nil {
				g = &group{members: members, keys: map[string]int64{}}
				groups[prefix] = g
			}
			if first, seen := g.keys[ch.Key]; !seen {
				g.keys[ch.Key] = ch.Origin
			} else if first != ch.Origin {
				g.keys[ch.Key] = 0
			}
		})
	}
	for _, prefix := range slices.Sorted(maps.Keys(groups)) {
		g := groups[prefix]
		all := slices.Sorted(maps.Keys(g.keys))
		for id, c := range g.members {
			keys := all
			if c.options.NoLoop {
				keys = slices.DeleteFunc(slices.Clone(all), func(k string) bool { return g.keys[k] == id })
			}
			if len(keys) > 0 {
				t.sendLocked(c, Message{Keys: keys}, over)
			}
		}
	}
}

// sendLocked queues a message for whoever hears for c. If the connection it is
// redirected to is gone, c itself is told that.
func (t *Table) sendLocked(c *tracked, m Message, over *overflows) {
	to := c.id
	if c.options.Redirect != 0 {
		to, m.Redirected = c.options.Redirect, true
	}
	inbox := t.mu.inboxes[to]
	if inbox == nil && m.Redirected {
		c.broken = true
		m = Message{Lost: c.options.Redirect}
		inbox = t.mu.inboxes[c.id]
	}
	if inbox != nil && !inbox.enqueueLocked(m) {
		over.add(inbox)
	}
}
