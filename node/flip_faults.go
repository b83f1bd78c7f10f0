//go:build faults

package node

import "github.com/holdfast/holdfast/store"

// flip damages one value of the state, in builds with the tag "faults".
func flip(s *store.Store) func(db int, key []byte) bool { return s.Flip }
