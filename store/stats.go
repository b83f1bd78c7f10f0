package store

// Stats are figures for INFO and metrics.
type Stats struct {
	Databases []DBStats // by index
	UsedBytes int64     // of keys and values, by our accounting: the sum of Entry.Size
}

// DBStats are the figures of one database.
type DBStats struct {
	Keys, Expiring int
	// AverageLife is the mean time to the deadline of a sample of the expiring keys, ms.
	AverageLife int64
}

// lifeSample is how many keys AverageLife looks at, at most.
const lifeSample = 64

// Stats returns the figures at the instant now (ms). It takes the shared lock
// for a time that does not depend on the number of keys.
func (s *Store) Stats(now int64) Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{Databases: make([]DBStats, len(s.dbs))}
	for i := range s.dbs {
		keys := s.dbs[i].keys
		st.UsedBytes += keys.bytes
		st.Databases[i] = DBStats{Keys: keys.len, Expiring: keys.expiring(), AverageLife: keys.averageLife(now)}
	}
	return st
}

// averageLife looks at the keys in the order of the hash from a place that
// changes with now.
func (ks *keyspace) averageLife(now int64) int64 {
	if ks.expiring() == 0 {
		return 0
	}
	var mean, expiring int64
	var sample []*Entry
	for pos := mix(uint64(now)) >> (64 - cursorBits); pos < cursorEnd && len(sample) < lifeSample; {
		sample, pos = ks.bucketAt(sample, pos)
	}
	for _, e := range sample {
		if e.deadline > now {
			expiring++
			mean += (e.deadline - now - mean) / expiring // a sum could be too large
		}
	}
	return mean
}
