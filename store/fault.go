//go:build faults

package store

import "slices"

// Flip changes one bit of the value of a key behind the back of all bookkeeping,
// as a broken memory would, and tells whether it found one to change. Values
// handed out before stay as they are. Only in builds with the tag "faults".
func (s *Store) Flip(db int, key []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.dbs[db].keys.find(s.seeds.hash(key), key)
	if e == nil || len(e.value.str) == 0 {
		return false
	}
	e.value.str = slices.Clone(e.value.str)
	e.value.str[len(e.value.str)/2] ^= 1
	return true
}
