package store

// The digest is a multiset hash: every key has a hash of all its state, and
// those are added up modulo 2^64, so that it can be kept up to date with each
// change and does not depend on the order of the changes.

// digest is the hash of one key with its state. The key is in it through its
// keyed hash, the value through its keyed sum.
func (e *Entry) digest() uint64 {
	return mixAll(e.hash, e.sum, uint64(e.value.typ), uint64(e.deadline), e.version)
}

// removalDigest is the hash of the last removal in a shard; 0 if there was none.
func removalDigest(shard int, op uint64) uint64 {
	if op == 0 {
		return 0
	}
	return mixAll(uint64(shard), op)
}

// digest is the hash of a database at its place.
func (d *database) digest(db int) uint64 {
	return mixAll(uint64(db), d.epoch, d.keys.digest, d.keys.removalsDigest, uint64(d.keys.len))
}

// Digest is a keyed multiset hash over the logical state: databases and system
// state, access times left out. Replicas with equal state have equal digests. It
// takes the shared lock; its cost does not depend on the number of keys.
func (s *Store) Digest() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.digestLocked()
}

func (s *Store) digestLocked() uint64 {
	sum := s.sys.digest(s.seeds.value)
	for i := range s.dbs {
		sum += s.dbs[i].digest(i)
	}
	return sum
}
