package resp

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// The wire form of a Value is for nodes that pass replies on to each other. Unlike
// the protocol of clients it keeps every kind apart, so that the node a client is
// connected to encodes the reply as the client's protocol wants it:
//
//	kind                         None Null NullArray
//	kind zigzag-varint           Int Bool
//	kind 8 bytes                 Double
//	kind length bytes            Simple Error Bulk Verbatim
//	kind count elements          Array Map Set Push

// AppendWire appends the wire form.
func (v Value) AppendWire(dst []byte) []byte {
	dst = append(dst, byte(v.kind))
	switch v.kind {
	case KindInt, KindBool:
		return binary.AppendVarint(dst, v.num)
	case KindDouble:
		return binary.BigEndian.AppendUint64(dst, uint64(v.num)) // its bits
	case KindSimple, KindError, KindBulk, KindVerbatim:
		return append(binary.AppendUvarint(dst, uint64(len(v.str))), v.str...)
	case KindArray, KindMap, KindSet, KindPush:
		dst = binary.AppendUvarint(dst, uint64(len(v.list)))
		for _, e := range v.list {
			dst = e.AppendWire(dst)
		}
	default: // the kind says it all
	}
	return dst
}

// WireSize is the size of the wire form in bytes.
func (v Value) WireSize() int {
	switch v.kind {
	case KindInt, KindBool:
		return 1 + uvarintSize(uint64(v.num<<1)^uint64(v.num>>63)) // zigzag
	case KindDouble:
		return 1 + 8
	case KindSimple, KindError, KindBulk, KindVerbatim:
		return 1 + uvarintSize(uint64(len(v.str))) + len(v.str)
	case KindArray, KindMap, KindSet, KindPush:
		size := 1 + uvarintSize(uint64(len(v.list)))
		for _, e := range v.list {
			size += e.WireSize()
		}
		return size
	default:
		return 1
	}
}

func uvarintSize(n uint64) int { return (bits.Len64(n|1) + 6) / 7 }

// ParseWire reads the wire form at the beginning of b and tells how many bytes it
// took. Strings of the value alias b. The error is ErrMalformed. Its memory is
// bounded by a multiple of len(b).
func ParseWire(b []byte) (v Value, n int, err error) {
	w := wireReader{b: b}
	v = w.value(0)
	if w.bad {
		return None, 0, ErrMalformed
	}
	return v, len(b) - len(w.b), nil
}

// wireReader takes values from b; after a mistake it is bad for good.
type wireReader struct {
	b   []byte
	bad bool
}

func (w *wireReader) fail() Value {
	w.b, w.bad = nil, true
	return None
}

func (w *wireReader) value(depth int) Value {
	if len(w.b) == 0 || depth > maxDepth {
		return w.fail()
	}
	v := Value{kind: Kind(w.b[0])}
	w.b = w.b[1:]
	switch v.kind {
	case KindNone, KindNull, KindNullArray:
	case KindInt, KindBool:
		v.num = w.varint()
		if v.kind == KindBool && v.num&^1 != 0 {
			return w.fail()
		}
	case KindDouble:
		if len(w.b) < 8 {
			return w.fail()
		}
		v.num = int64(binary.BigEndian.Uint64(w.b)) // its bits
		w.b = w.b[8:]
	case KindSimple, KindError, KindBulk, KindVerbatim:
		v.str = w.text()
	case KindArray, KindMap, KindSet, KindPush:
		v.list = w.elements(depth)
	default:
		return w.fail()
	}
	if w.bad || v.kind == KindMap && len(v.list)%2 != 0 {
		return w.fail()
	}
	return v
}

func (w *wireReader) varint() int64 {
	n, size := binary.Varint(w.b)
	if size <= 0 {
		w.fail()
		return 0
	}
	w.b = w.b[size:]
	return n
}

// count is a length, of which each unit takes a byte at least.
func (w *wireReader) count() int {
	n, size := binary.Uvarint(w.b)
	if size <= 0 || n > math.MaxInt32 || n > uint64(len(w.b)-size) {
		w.fail()
		return 0
	}
	w.b = w.b[size:]
	return int(n)
}

func (w *wireReader) text() []byte {
	n := w.count()
	s := w.b[:n:n]
	w.b = w.b[n:]
	return s
}

func (w *wireReader) elements(depth int) []Value {
	n := w.count()
	list := make([]Value, 0, min(n, keptElements))
	for range n {
		e := w.value(depth + 1)
		if w.bad {
			return nil
		}
		list = append(list, e)
	}
	return list
}

// keptElements is for how many elements room is made before they have been read: a
// value in memory is many times as large as the smallest one on the wire.
const keptElements = 1024
