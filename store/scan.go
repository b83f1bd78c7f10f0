package store

import (
	"cmp"
	"math/bits"
	"slices"
)

// Keys have an order: that of their hash, then of their bytes. Scan and Random
// are defined by it alone, not by the sizes of tables, which depend on what was
// inserted before: inside Update all nodes must answer alike.

// A cursor is a position in the space of hashes: the top bits of the least hash
// that is still to come.
const (
	cursorBits = 52
	cursorEnd  = uint64(1) << cursorBits
)

// position is the cursor at which an entry stands.
func (e *Entry) position() uint64 { return e.hash >> (64 - cursorBits) }

// Scan calls fn with the live entries of the selected database from cursor on,
// in the order of the keyed hash, and returns the cursor to go on with, 0 at the
// end. It looks at count entries, due ones included (more if several stand at
// one cursor), unless it reaches the end; so it may meet fewer live ones.
// Cursors are below 2^53, hold no state, and mean the same on every node with
// the same hash seed, whatever has been inserted or removed: a key that is there
// from the first call of an iteration to the last is met exactly once. The cost
// is O(count). Inside Update fn may change anything; it gets no entry that it
// has removed.
func (r *Reader) Scan(cursor uint64, count int, fn func(e *Entry)) uint64 {
	count = max(count, 1)
	bucket := r.scratch[:0]
	r.scratch = nil // fn may scan too
	defer func() {
		clear(bucket[:cap(bucket)]) // hold no entry
		r.scratch = bucket[:0]
	}()
	seen, last := 0, cursorEnd
	for cursor < cursorEnd {
		keys := r.keys()
		if keys.len == 0 {
			break
		}
		from := cursor
		bucket, cursor = keys.bucketAt(bucket[:0], cursor)
		for _, e := range bucket {
			if e.position() < from || e.home == nil { // met before, or removed by fn
				continue
			}
			if seen >= count && e.position() != last {
				return e.position()
			}
			seen, last = seen+1, e.position()
			if e.due(r.now) {
				r.meetDue(e)
			} else {
				fn(e)
			}
		}
	}
	return 0
}

// bucketAt appends to dst the entries, in order, of the bucket that covers the
// position, or if it is in a shard without keys those of the first bucket of the
// next shard with keys, and returns the position where the bucket ends, which is
// cursorEnd for the last. The keyspace must have keys.
func (ks *keyspace) bucketAt(dst []*Entry, pos uint64) ([]*Entry, uint64) {
	at := int(pos >> (cursorBits - shardBits))
	i := ks.nextOccupied(at)
	if i == shardCount {
		return dst, cursorEnd
	}
	if i != at {
		pos = uint64(i) << (cursorBits - shardBits)
	}
	sh := &ks.table.shards[i]
	b := sh.bucketOf(pos << (64 - cursorBits))
	width := cursorBits - shardBits - sh.bucketBits() // of a bucket, in bits of the position
	return sh.inOrder(dst, b, b+1), (pos>>width + 1) << width
}

// inOrder appends the entries of the buckets in [from, to) to dst, in order.
func (sh *shard) inOrder(dst []*Entry, from, to int) []*Entry {
	for _, e := range sh.buckets[from:to] {
		first := len(dst)
		for ; e != nil; e = e.next {
			dst = append(dst, e)
		}
		if len(dst)-first > 1 {
			slices.SortFunc(dst[first:], compareEntries)
		}
	}
	return dst
}

// compareEntries is the order of the keys.
func compareEntries(a, b *Entry) int {
	return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.key, b.key))
}

const (
	randomTries = 100 // due keys that Random passes over before it takes the next live one
	randomScan  = 512 // and the entries it looks at for that
)

// Random is a live entry chosen by rnd, each about as likely as another, and the
// same on every node for the same state and rnd; nil if there is none. O(1)
// expected: where hundreds of due keys wait for their removal it may give up and
// return nil.
func (r *Reader) Random(rnd uint64) *Entry {
	for range randomTries {
		keys := r.keys()
		if keys.len == 0 {
			return nil
		}
		e := keys.random(rnd)
		if !e.due(r.now) {
			return e
		}
		r.meetDue(e)
		rnd = mix(rnd)
	}
	var found *Entry
	keep := func(e *Entry) { found = e }
	if r.Scan(rnd>>(64-cursorBits), randomScan, keep); found == nil {
		r.Scan(0, randomScan, keep)
	}
	return found
}

// random chooses an entry. The keyspace must have keys.
func (ks *keyspace) random(rnd uint64) *Entry {
	rank, _ := bits.Mul64(rnd, uint64(ks.len))
	left, group := int(rank), 0
	for left >= ks.table.groupLen[group] {
		left -= ks.table.groupLen[group]
		group++
	}
	i := group * groupSize
	for left >= ks.table.shards[i].len {
		left -= ks.table.shards[i].len
		i++
	}
	return ks.table.shards[i].random(mix(rnd))
}

// randomDepth is how many entries of a stripe can be chosen: a ninth one is
// there once in a million stripes.
const randomDepth = 8

// random chooses an entry by drawing places until one is taken: a place is a
// stripe of hashes and a number within it. There are as many stripes as keys,
// rounded up to a power of two, so a stripe is one bucket or a few whole ones.
func (sh *shard) random(rnd uint64) *Entry {
	var stripe [2 * randomDepth]*Entry
	perStripe := len(sh.buckets) >> bits.Len(uint(sh.len-1))
	depth := uint64(min(sh.len, randomDepth))
	for ; ; rnd += golden {
		draw := mix(rnd)
		at := int(draw>>32) & (len(sh.buckets)/perStripe - 1) * perStripe
		entries := sh.inOrder(stripe[:0], at, at+perStripe)
		if n, _ := bits.Mul64(draw<<32, depth); int(n) < len(entries) {
			return entries[n]
		}
	}
}
