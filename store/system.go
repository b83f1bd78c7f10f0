package store

import (
	"encoding/binary"
	"maps"

	"github.com/zeebo/xxh3"
)

// System is the replicated state that is not keys. Its maps are replaced, never
// changed in place: a copy of the struct stays as it is, and whoever holds one
// must not write to them.
type System struct {
	ClusterID string            // chosen at formation
	HashSeed  [2]uint64         // of the keyed hash; set once, while there are no keys
	Stamp     int64             // largest applied stamp, ms
	Ops       uint64            // operation counter: the last version given out
	Settings  Settings          // replicated settings
	Members   map[string]Member // by node id
	// Level is the apply level of the cluster; 0, which counts as 1, until it was raised.
	Level int
	// Health is what Sentinel clients are told of the nodes, by id of those they are told
	// of; empty until a master has recorded it.
	Health map[string]Health
}

// Health is how a node is, as a master has recorded it.
type Health struct {
	Down bool // it does not answer
	// Deposed: it was the master when it was found to be Down, and has been Down since.
	Deposed bool
	Process uint64 // drawn by each process of the node at its start; 0 if it was never heard of
}

// Settings are the settings that change what apply does; equal on all nodes.
type Settings struct {
	Databases     int
	MaxEntryBytes int64 // a value may not grow above it
	MaxBulkBytes  int64 // proto-max-bulk-len, at most MaxEntryBytes
}

// Member is what the cluster knows of a node for its clients.
type Member struct {
	ID           string
	RunID        string // 40 hex digits, made at the first start
	DataHost     string
	DataPort     int
	SentinelHost string
	SentinelPort int
	Version      string
	Level        int // the highest apply level it speaks
}

// forChange is a copy of s whose maps may be written to, and are never nil.
func (s System) forChange() System {
	members := make(map[string]Member, len(s.Members)+1)
	maps.Copy(members, s.Members)
	health := make(map[string]Health, len(s.Health)+1)
	maps.Copy(health, s.Health)
	s.Members, s.Health = members, health
	return s
}

// digest is a hash of all fields.
func (s *System) digest(seed uint64) uint64 {
	b := appendString(nil, s.ClusterID)
	for _, n := range []uint64{
		s.HashSeed[0], s.HashSeed[1], uint64(s.Stamp), s.Ops, uint64(s.Settings.Databases),
		uint64(s.Settings.MaxEntryBytes), uint64(s.Settings.MaxBulkBytes),
	} {
		b = binary.LittleEndian.AppendUint64(b, n)
	}
	if s.Level != 0 { // the first release knew of none
		b = binary.LittleEndian.AppendUint64(b, uint64(s.Level))
	}
	sum := xxh3.HashSeed(b, seed)
	for id, m := range s.Members {
		b = appendString(b[:0], id)
		for _, text := range []string{m.ID, m.RunID, m.DataHost, m.SentinelHost, m.Version} {
			b = appendString(b, text)
		}
		for _, n := range []int{m.DataPort, m.SentinelPort, m.Level} {
			b = binary.LittleEndian.AppendUint64(b, uint64(n))
		}
		sum += mix(xxh3.HashSeed(b, seed)) // a sum, because the order of a map is none
	}
	for id, h := range s.Health {
		b = appendString(append(b[:0], "health"...), id)
		b = append(b, flag(h.Down), flag(h.Deposed))
		b = binary.LittleEndian.AppendUint64(b, h.Process)
		sum += mix(xxh3.HashSeed(b, seed))
	}
	return sum
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func appendString(b []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(s))), s...)
}
