package cluster

import (
	"sync"

	"github.com/hashicorp/raft"
)

// logCache keeps the newest entries of the log in memory, so that followers that
// keep up cost no reads. It is bounded by bytes as well as by entries.
type logCache struct {
	mu       sync.RWMutex
	slots    []*raft.Log // by index modulo length
	oldest   uint64      // the lowest index that may be in a slot
	next     uint64      // the index after the newest, 0 while empty
	bytes    int64
	maxBytes int64
}

const (
	cacheEntries = 512
	cacheBytes   = 48 << 20
)

func newLogCache(entries int, maxBytes int64) *logCache {
	return &logCache{slots: make([]*raft.Log, entries), maxBytes: maxBytes}
}

func (c *logCache) slot(index uint64) **raft.Log { return &c.slots[index%uint64(len(c.slots))] }

// get copies the entry at index into into, if it is here.
func (c *logCache) get(index uint64, into *raft.Log) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	e := *c.slot(index)
	if e == nil || e.Index != index {
		return false
	}
	*into = *e
	return true
}

// add takes entries that are in the log. They must not be changed afterwards.
func (c *logCache) add(entries []*raft.Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range entries {
		if e.Index != c.next {
			c.drop()
			c.oldest = e.Index
		}
		c.next = e.Index + 1
		for c.oldest < c.next && (c.bytes+int64(len(e.Data)) > c.maxBytes || c.next-c.oldest > uint64(len(c.slots))) {
			c.evict()
		}
		if c.oldest == c.next {
			continue // bigger than everything that may be kept
		}
		*c.slot(e.Index) = e
		c.bytes += int64(len(e.Data))
	}
}

// evict lets go of the oldest index.
func (c *logCache) evict() {
	if p := c.slot(c.oldest); *p != nil {
		c.bytes -= int64(len((*p).Data))
		*p = nil
	}
	c.oldest++
}

// clear lets go of everything.
func (c *logCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drop()
}

func (c *logCache) drop() {
	clear(c.slots)
	c.bytes, c.oldest, c.next = 0, 0, 0
}
