package store

import (
	"fmt"
	"math/bits"
)

// CheckInvariants looks at what the tables, the index of deadlines and the sums
// promise to each other.
func (s *Store) CheckInvariants() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for db := range s.dbs {
		if err := s.dbs[db].keys.check(&s.seeds); err != nil {
			return fmt.Errorf("database %d: %w", db, err)
		}
	}
	return nil
}

func (ks *keyspace) check(sd *seeds) error {
	if ks.table == nil {
		if ks.len != 0 || ks.bytes != 0 || ks.digest != 0 {
			return fmt.Errorf("%d keys without a table", ks.len)
		}
		return nil
	}
	var n, expiring int
	var digest uint64
	var groups [shardCount / groupSize]int
	for i := range ks.table.shards {
		sh := &ks.table.shards[i]
		if err := sh.checkSize(); err != nil {
			return fmt.Errorf("shard %d: %w", i, err)
		}
		if occupied := ks.table.occupied[i/groupSize]>>(i%groupSize)&1 == 1; occupied != (sh.len > 0) {
			return fmt.Errorf("shard %d has %d keys, its bit says %v", i, sh.len, occupied)
		}
		found := 0
		for b := range sh.buckets {
			for e := sh.buckets[b]; e != nil; e = e.next {
				found++
				digest += e.digest()
				if e.deadline != 0 {
					expiring++
				}
				if err := ks.checkEntry(sd, e, i, b); err != nil {
					return fmt.Errorf("shard %d, bucket %d, key %q: %w", i, b, e.key, err)
				}
			}
		}
		if found != sh.len {
			return fmt.Errorf("shard %d has %d keys, says %d", i, found, sh.len)
		}
		groups[i/groupSize] += found
		n += found
	}
	if n != ks.len || expiring != ks.expiring() || digest != ks.digest || groups != ks.table.groupLen {
		return fmt.Errorf("%d keys, %d expiring, digest %x; said to be %d, %d, %x",
			n, expiring, digest, ks.len, ks.expiring(), ks.digest)
	}
	return nil
}

func (sh *shard) checkSize() error {
	n := len(sh.buckets)
	if sh.len > n || n > 0 && (bits.OnesCount(uint(n)) != 1 || sh.len < n/4 || sh.len == 0) {
		return fmt.Errorf("%d keys in %d buckets", sh.len, n)
	}
	return nil
}

func (ks *keyspace) checkEntry(sd *seeds, e *Entry, shard, bucket int) error {
	armed := e.timer != nil && e.timer.Deadline() == e.deadline
	switch {
	case e.hash != sd.hash([]byte(e.key)) || shardOf(e.hash) != shard || ks.table.shards[shard].bucketOf(e.hash) != bucket:
		return fmt.Errorf("stands at the wrong place for hash %x", e.hash)
	case e.home != ks:
		return fmt.Errorf("is not at home")
	case e.sum != e.value.sum(sd.value):
		return fmt.Errorf("sum %x does not belong to the value", e.sum)
	case e.deadline != 0 && !armed, e.deadline == 0 && e.timer != nil && e.timer.Deadline() != 0:
		return fmt.Errorf("deadline %d is not the timer's", e.deadline)
	}
	return nil
}
