package store

// LoadSystem sets the system state of a fresh store, and keeps the maps of sys.
// It comes first, then LoadSide and LoadRecord in any order. The three are for
// restore only: the store must not be shared yet.
func (s *Store) LoadSystem(sys System) {
	s.sys = sys
	s.seeds = newSeeds(sys.HashSeed)
}

// LoadSide sets the side state of database db, which must be valid.
func (s *Store) LoadSide(db int, side Side) {
	s.dbs[db].epoch = side.Epoch
	for shard, op := range side.Removals[:min(len(side.Removals), shardCount)] {
		if op != 0 {
			s.dbs[db].keys.setRemoval(shard, op)
		}
	}
}

// LoadRecord puts a key into database rec.DB, which must be valid, in the place
// of an earlier one of the same name. The store owns rec.Value from here on.
func (s *Store) LoadRecord(rec Record) {
	key := []byte(rec.Key)
	hash := s.seeds.hash(key)
	keys := s.dbs[rec.DB].keys
	if e := keys.find(hash, key); e != nil {
		keys.unlink(e)
	}
	e := &Entry{hash: hash, key: rec.Key, state: state{
		value: rec.Value, sum: rec.Value.sum(s.seeds.value), deadline: rec.Deadline, version: rec.Version,
	}}
	e.touch(s.sys.Stamp)
	keys.link(e)
	keys.arm(e, s.sys.Stamp)
}
