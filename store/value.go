package store

import (
	"slices"

	"github.com/zeebo/xxh3"
)

// Type is the type of a value, named as TYPE names it.
type Type uint8

// The types.
const (
	TypeNone Type = iota
	TypeString
)

// String is the name of the type as TYPE answers it.
func (t Type) String() string {
	if t == TypeString {
		return "string"
	}
	return "none"
}

// Value is the value of a key. The bytes of a string are immutable: changing a
// string means setting another one. The zero Value is of TypeNone. Copies share
// the bytes and are as good as the original.
type Value struct {
	typ Type
	// str is a string's bytes. Only inside an Entry may its capacity exceed its
	// length: Append grows into that tail, so whatever leaves an Entry is clipped.
	str []byte
}

// StringValue is a string value that owns b: nobody may change b afterwards.
func StringValue(b []byte) Value { return Value{typ: TypeString, str: slices.Clip(b)} }

// Type is the type of the value.
func (v Value) Type() Type { return v.typ }

// Bytes are the bytes of a string value; they alias it and never change.
func (v Value) Bytes() []byte { return v.str }

// clipped is the value without spare capacity, so that nobody can grow into
// memory that another value grows into.
func (v Value) clipped() Value {
	v.str = slices.Clip(v.str)
	return v
}

// size is the length of the value's contents, bytes.
func (v Value) size() int64 { return int64(len(v.str)) }

// sumBlock is how many bytes of a string are summed at once. A sum of blocks is
// extended by summing the last block again, so that Append costs its suffix and
// at most this much; 4 KiB take about 0.2 µs.
const sumBlock = 4096

// sum is a keyed checksum of the contents: the blocks' hashes, each seeded by
// its place, added up. Values of different type may have equal sums.
func (v Value) sum(seed uint64) uint64 { return sumFrom(v.str, 0, seed) }

// extendedSum is the sum of v, given that its first n bytes have the sum old.
func (v Value) extendedSum(old uint64, n int, seed uint64) uint64 {
	last := n - n%sumBlock
	return old - sumFrom(v.str[:n], last, seed) + sumFrom(v.str, last, seed)
}

// sumFrom adds up the blocks of b from the one that starts at from.
func sumFrom(b []byte, from int, seed uint64) uint64 {
	var sum uint64
	for at := from; at < len(b); at += sumBlock {
		sum += xxh3.HashSeed(b[at:min(at+sumBlock, len(b))], seed+uint64(at))
	}
	return sum
}
