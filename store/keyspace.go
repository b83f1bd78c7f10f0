package store

import (
	"math/bits"

	"github.com/holdfast/holdfast/ttl"
)

// A keyspace is cut into shards by the top bits of the keyed hash. A shard is a
// chained hash table of its own, so that growing one is a short job, and the
// unit that a freeze copies.
const (
	shardBits  = 12
	shardCount = 1 << shardBits
	shardShift = 64 - shardBits
	groupSize  = 64 // shards per word of the occupancy bitmap, and per count for Random
)

// keyspace holds the keys of one database, wherever SWAPDB has put it. It knows
// neither the number of its database nor the store.
type keyspace struct {
	table    *table // nil until there is a key
	deadline *ttl.Index[*Entry]
	len      int
	bytes    int64  // the sum of the entries' sizes
	digest   uint64 // the sum of the entries' digests

	// removals has by shard the operation that last removed a key of it; nil
	// until there was one. A freeze may hold it: then it is shared, and copied
	// before it is changed.
	removals       []uint64
	removalsShared bool
	removalsDigest uint64 // the sum over the shards

	// parts are the freezes that have not let go of this keyspace; frozenAt is
	// the youngest one's number.
	parts    []*frozenPart
	frozenAt uint64
}

// table is what a keyspace with keys needs: 170 KB, so it is not there before.
type table struct {
	shards   [shardCount]shard
	occupied [shardCount / groupSize]uint64 // a bit for every shard that has keys
	groupLen [shardCount / groupSize]int    // the number of keys in groupSize shards
}

// shard is a chained hash table. Its buckets stand in the order of the hash:
// each covers an equal range of the hashes of the shard.
type shard struct {
	buckets []*Entry // a power of two of them, about as many as there are keys; nil without
	len     int
	// copiedAt is the number of the youngest freeze that needs no copy any more:
	// the shard was changed after it, and copied for those that wanted it.
	copiedAt uint64
}

// newKeyspace returns an empty keyspace. It costs next to nothing.
func newKeyspace() *keyspace { return &keyspace{} }

// shardOf is the number of the shard that holds the keys of this hash.
func shardOf(hash uint64) int { return int(hash >> shardShift) }

// bucketBits is the number of hash bits, after those of the shard, that choose a bucket.
func (sh *shard) bucketBits() int { return bits.TrailingZeros(uint(len(sh.buckets))) }

// bucketOf is the number of the bucket for a hash; the shard must have buckets.
func (sh *shard) bucketOf(hash uint64) int {
	return int(hash << shardBits >> (64 - sh.bucketBits()))
}

// find is the entry of a key, or nil.
func (ks *keyspace) find(hash uint64, key []byte) *Entry {
	if ks.len == 0 {
		return nil
	}
	sh := &ks.table.shards[shardOf(hash)]
	if sh.len == 0 {
		return nil
	}
	e := sh.buckets[sh.bucketOf(hash)]
	for e != nil && (e.hash != hash || e.key != string(key)) {
		e = e.next
	}
	return e
}

// link puts an entry in that stands nowhere; its key must be absent.
func (ks *keyspace) link(e *Entry) {
	if ks.table == nil {
		ks.table = new(table)
	}
	i := shardOf(e.hash)
	sh := &ks.table.shards[i]
	ks.beforeChange(sh, i)
	sh.insert(e)
	e.home = ks
	ks.table.occupied[i/groupSize] |= 1 << (i % groupSize)
	ks.table.groupLen[i/groupSize]++
	ks.len++
	ks.count(e)
}

// unlink takes an entry out that stands here.
func (ks *keyspace) unlink(e *Entry) {
	i := shardOf(e.hash)
	sh := &ks.table.shards[i]
	ks.beforeChange(sh, i)
	ks.uncount(e)
	if e.timer != nil {
		ks.deadline.Disarm(e.timer)
	}
	sh.remove(e)
	e.home = nil
	if sh.len == 0 {
		ks.table.occupied[i/groupSize] &^= 1 << (i % groupSize)
	}
	ks.table.groupLen[i/groupSize]--
	ks.len--
}

// assign gives an entry that stands here another state.
func (ks *keyspace) assign(e *Entry, st state) {
	i := shardOf(e.hash)
	ks.beforeChange(&ks.table.shards[i], i)
	ks.uncount(e)
	e.state = st
	ks.count(e)
}

// arm makes the timer of an entry agree with its deadline. now is where the
// index may start if nothing else is armed, ms.
func (ks *keyspace) arm(e *Entry, now int64) {
	if e.deadline == 0 {
		if e.timer != nil {
			ks.deadline.Disarm(e.timer)
		}
		return
	}
	if ks.deadline == nil {
		ks.deadline = ttl.New[*Entry]()
	}
	if ks.deadline.Len() == 0 {
		ks.deadline.Advance(now, 1) // an empty index moves at once
	}
	if e.timer == nil {
		e.timer = &entryTimer{Item: e}
	}
	ks.deadline.Arm(e.timer, max(e.deadline, 1))
}

// expiring is the number of keys with a deadline.
func (ks *keyspace) expiring() int {
	if ks.deadline == nil {
		return 0
	}
	return ks.deadline.Len()
}

func (ks *keyspace) count(e *Entry) {
	ks.bytes += e.Size()
	ks.digest += e.digest()
}

func (ks *keyspace) uncount(e *Entry) {
	ks.bytes -= e.Size()
	ks.digest -= e.digest()
}

// removal is the operation that last removed a key of the shard.
func (ks *keyspace) removal(shard int) uint64 {
	if ks.removals == nil {
		return 0
	}
	return ks.removals[shard]
}

// setRemoval notes a removal, or takes it back.
func (ks *keyspace) setRemoval(shard int, op uint64) {
	switch {
	case ks.removals == nil:
		ks.removals = make([]uint64, shardCount)
	case ks.removalsShared:
		ks.removals = append([]uint64(nil), ks.removals...)
	}
	ks.removalsShared = false
	ks.removalsDigest += removalDigest(shard, op) - removalDigest(shard, ks.removals[shard])
	ks.removals[shard] = op
}

// nextOccupied is the first shard from i on that has keys, or shardCount.
func (ks *keyspace) nextOccupied(i int) int {
	for i < shardCount {
		word := ks.table.occupied[i/groupSize] >> (i % groupSize)
		if word != 0 {
			return i + bits.TrailingZeros64(word)
		}
		i = (i/groupSize + 1) * groupSize
	}
	return shardCount
}

// insert links an absent entry and grows the table at a load above 1.
func (sh *shard) insert(e *Entry) {
	sh.len++
	if sh.len > len(sh.buckets) {
		sh.resize(max(1, 2*len(sh.buckets)))
	}
	head := &sh.buckets[sh.bucketOf(e.hash)]
	e.next, *head = *head, e
}

// remove unlinks an entry and shrinks the table at a load below a quarter.
func (sh *shard) remove(e *Entry) {
	at := &sh.buckets[sh.bucketOf(e.hash)]
	for *at != e {
		at = &(*at).next
	}
	*at, e.next = e.next, nil
	sh.len--
	switch {
	case sh.len == 0:
		sh.buckets = nil
	case sh.len < len(sh.buckets)/4:
		sh.resize(len(sh.buckets) / 2)
	}
}

// resize moves the entries to n buckets.
func (sh *shard) resize(n int) {
	old := sh.buckets
	sh.buckets = make([]*Entry, n)
	for _, e := range old {
		for e != nil {
			next := e.next
			head := &sh.buckets[sh.bucketOf(e.hash)]
			e.next, *head = *head, e
			e = next
		}
	}
}
