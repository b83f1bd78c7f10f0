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

// recomputeStep is how many keys Recompute sums before it asks whether to go on.
const recomputeStep = 4096

// Recompute is the digest of the view computed from all its contents, none of the
// sums kept beside them: it differs from Digest if memory has changed by itself, or
// if the bookkeeping is wrong. It asks goOn now and then and ends with its error.
// It reads the keys as Each does, so a view can be used for one of the two once.
func (f *Frozen) Recompute(goOn func() error) (uint64, error) {
	sum := f.system.digest(f.seeds.value)
	done := 0
	for db, part := range f.parts {
		var keys, removals uint64
		count := 0
		err := f.Each(db, func(rec Record) error {
			keys += f.seeds.digest(&rec)
			count++
			if done++; done%recomputeStep == 0 {
				return goOn()
			}
			return nil
		})
		if err != nil {
			return 0, err
		}
		for shard, op := range part.removals {
			removals += removalDigest(shard, op)
		}
		sum += mixAll(uint64(db), part.epoch, keys, removals, uint64(count))
	}
	return sum, nil
}

// digest is the hash of a key by its contents alone: what Entry.digest is while
// nothing is damaged.
func (s *seeds) digest(rec *Record) uint64 {
	return mixAll(s.hash([]byte(rec.Key)), rec.Value.sum(s.value), uint64(rec.Value.typ), uint64(rec.Deadline), rec.Version)
}
