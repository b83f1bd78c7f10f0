package store

import "github.com/dchest/siphash"

// seeds are the keys of the hashes, derived from System.HashSeed.
type seeds struct {
	key   [2]uint64 // of the hash of keys
	value uint64    // of the sums of values
}

func newSeeds(hashSeed [2]uint64) seeds {
	return seeds{key: hashSeed, value: mix(mix(hashSeed[0]) + hashSeed[1])}
}

// hash is the keyed hash of a key: its place in every keyspace.
func (s *seeds) hash(key []byte) uint64 { return siphash.Hash(s.key[0], s.key[1], key) }

// golden is 2^64 divided by the golden ratio, the usual odd increment of a Weyl sequence.
const golden = 0x9e3779b97f4a7c15

// mix is a bijection in which every bit of x moves about half the bits of the
// result: the finalizer of splitmix64 (Steele, Lea and Flood, "Fast splittable
// pseudorandom number generators", 2014) in Stafford's variant 13.
func mix(x uint64) uint64 {
	x += golden
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// mixAll is a hash of a few words, their order counts.
func mixAll(words ...uint64) uint64 {
	h := uint64(len(words))
	for _, w := range words {
		h = mix(h ^ w)
	}
	return h
}
