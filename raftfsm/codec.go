package raftfsm

import (
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"

	"github.com/holdfast/holdfast/store"
)

// uvarintLen is the number of bytes binary.AppendUvarint uses for n.
func uvarintLen(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

// bytesLen is the number of bytes appendBytes uses for n bytes.
func bytesLen(n int) int { return uvarintLen(uint64(n)) + n }

func appendBytes[T ~[]byte | ~string](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// appendInt writes a number that is almost always small and never negative;
// a negative one survives, in ten bytes.
func appendInt[T ~int | ~int64](dst []byte, n T) []byte {
	return binary.AppendUvarint(dst, uint64(n))
}

// decoder reads what the append functions wrote. It never reads past its input,
// allocates nothing, and after the first malformed field answers zeros with bad
// set. What it returns aliases the input.
type decoder struct {
	in  []byte
	bad bool
}

func (d *decoder) fail() {
	d.bad = true
	d.in = nil
}

// uvarint reads a number in its shortest form; a longer form is malformed, so
// that equal entries are equal bytes.
func (d *decoder) uvarint() uint64 {
	if len(d.in) > 0 && d.in[0] < 0x80 {
		n := uint64(d.in[0])
		d.in = d.in[1:]
		return n
	}
	n, size := binary.Uvarint(d.in)
	if size <= 0 || size != uvarintLen(n) {
		d.fail()
		return 0
	}
	d.in = d.in[size:]
	return n
}

func (d *decoder) int64() int64 { return int64(d.uvarint()) }

func (d *decoder) fixed64() uint64 {
	if len(d.in) < 8 {
		d.fail()
		return 0
	}
	n := binary.LittleEndian.Uint64(d.in)
	d.in = d.in[8:]
	return n
}

func (d *decoder) byte() byte {
	if len(d.in) == 0 {
		d.fail()
		return 0
	}
	b := d.in[0]
	d.in = d.in[1:]
	return b
}

// count reads how many elements of at least one byte each follow; more than
// there are bytes left is malformed, so that a count never leads to a large
// allocation.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.in)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count()
	b := d.in[:n:n]
	d.in = d.in[n:]
	return b
}

func (d *decoder) text() string { return string(d.bytes()) }

// db reads the number of a database; whether the store has it is for the
// applier to find out.
func (d *decoder) db() int {
	n := d.uvarint()
	if n > maxDatabases {
		d.fail()
		return 0
	}
	return int(n)
}

// maxDatabases bounds the number of databases that encoded bytes may speak of.
const maxDatabases = 1 << 16

func appendSettings(dst []byte, s store.Settings) []byte {
	dst = appendInt(dst, s.Databases)
	dst = appendInt(dst, s.MaxEntryBytes)
	return appendInt(dst, s.MaxBulkBytes)
}

func (d *decoder) settings() store.Settings {
	return store.Settings{
		Databases:     d.db(),
		MaxEntryBytes: d.int64(),
		MaxBulkBytes:  d.int64(),
	}
}

func appendMember(dst []byte, m store.Member) []byte {
	dst = appendBytes(dst, m.ID)
	dst = appendBytes(dst, m.RunID)
	dst = appendBytes(dst, m.DataHost)
	dst = appendInt(dst, m.DataPort)
	dst = appendBytes(dst, m.SentinelHost)
	dst = appendInt(dst, m.SentinelPort)
	dst = appendBytes(dst, m.Version)
	return appendInt(dst, m.Level)
}

func (d *decoder) member() store.Member {
	return store.Member{
		ID:           d.text(),
		RunID:        d.text(),
		DataHost:     d.text(),
		DataPort:     int(d.int64()),
		SentinelHost: d.text(),
		SentinelPort: int(d.int64()),
		Version:      d.text(),
		Level:        int(d.int64()),
	}
}

// Flags of a node's health.
const (
	healthDown    = 1
	healthDeposed = 2
)

// appendHealth writes nodes in order of their ids.
func appendHealth(dst []byte, health map[string]store.Health) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(health)))
	for _, id := range slices.Sorted(maps.Keys(health)) {
		h := health[id]
		var flags byte
		if h.Down {
			flags |= healthDown
		}
		if h.Deposed {
			flags |= healthDeposed
		}
		dst = append(appendBytes(dst, id), flags)
		dst = binary.LittleEndian.AppendUint64(dst, h.Process)
	}
	return dst
}

func (d *decoder) health() map[string]store.Health {
	n := d.count()
	if n > maxMembers {
		d.fail()
		return nil
	}
	all := make(map[string]store.Health, n)
	last := ""
	for i := range n {
		id, flags := d.text(), d.byte()
		if i > 0 && id <= last || flags > healthDown|healthDeposed {
			d.fail()
		}
		last = id
		all[id] = store.Health{Down: flags&healthDown != 0, Deposed: flags&healthDeposed != 0, Process: d.fixed64()}
		if d.bad {
			return nil
		}
	}
	return all
}
