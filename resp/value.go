// Package resp holds reply values, their RESP2 and RESP3 encodings, the bounded
// reader of commands, and every error text a client can see. It knows no
// command and no connection.
package resp

import (
	"math"
	"strconv"

	"github.com/tidwall/redcon"
)

// Kind is the type of a reply, in the words of the Redis serialization protocol.
type Kind uint8

// The kinds of reply. Those RESP2 lacks are encoded as the nearest it has:
// a map as a flat array, a double and a verbatim string as bulk strings, a
// boolean as an integer, a set and a push as arrays.
const (
	KindNone      Kind = iota // no bytes at all: the command has answered already, or never will
	KindSimple                // +text
	KindError                 // -CODE text
	KindInt                   // :n
	KindBulk                  // $len
	KindNull                  // $-1, in RESP3 _
	KindNullArray             // *-1, in RESP3 _
	KindArray                 // *n
	KindMap                   // %n, in RESP2 *2n
	KindSet                   // ~n, in RESP2 *n
	KindPush                  // >n, in RESP2 *n
	KindDouble                // ,f, in RESP2 a bulk string
	KindBool                  // #t or #f, in RESP2 :1 or :0
	KindVerbatim              // =len txt:, in RESP2 a bulk string
)

// Value is one reply. It is immutable once built, cheap to copy, and safe for
// concurrent reading. The bytes of a bulk string alias what the builder gave;
// nobody may change them afterwards.
type Value struct {
	kind Kind
	num  int64   // KindInt; KindBool as 0 or 1; KindDouble as its bits
	str  []byte  // KindSimple, KindError, KindBulk, KindVerbatim
	list []Value // KindArray, KindSet, KindPush; KindMap as key, value, key, value …
}

// Replies that never change.
var (
	None      = Value{kind: KindNone}
	OK        = Simple("OK")
	Pong      = Simple("PONG")
	Queued    = Simple("QUEUED")
	Null      = Value{kind: KindNull}
	NullArray = Value{kind: KindNullArray}
	Zero      = Int(0)
	One       = Int(1)
	Empty     = Array()
)

// Simple is a simple string; text must hold neither CR nor LF.
func Simple(text string) Value { return Value{kind: KindSimple, str: []byte(text)} }

// Int is an integer reply.
func Int(n int64) Value { return Value{kind: KindInt, num: n} }

// Flag is an integer reply of 1 or 0.
func Flag(b bool) Value {
	if b {
		return One
	}
	return Zero
}

// Bulk is a bulk string that aliases b, or Null if b is nil.
func Bulk(b []byte) Value {
	if b == nil {
		return Null
	}
	return Value{kind: KindBulk, str: b}
}

// BulkString is a bulk string.
func BulkString(s string) Value { return Value{kind: KindBulk, str: []byte(s)} }

// BulkInt is a number as a bulk string, as Sentinel and CONFIG GET send numbers.
func BulkInt(n int64) Value { return Value{kind: KindBulk, str: strconv.AppendInt(nil, n, 10)} }

// Array is an array that owns values.
func Array(values ...Value) Value { return Value{kind: KindArray, list: values} }

// Map is a map that owns values: key, value, key, value … in the order to send.
func Map(pairs ...Value) Value { return Value{kind: KindMap, list: pairs} }

// Set is a set that owns values.
func Set(values ...Value) Value { return Value{kind: KindSet, list: values} }

// Push is an out-of-band message that owns values.
func Push(values ...Value) Value { return Value{kind: KindPush, list: values} }

// Double is a floating-point reply.
func Double(f float64) Value { return Value{kind: KindDouble, num: int64(math.Float64bits(f))} }

// Bool is a boolean reply.
func Bool(b bool) Value {
	v := Value{kind: KindBool}
	if b {
		v.num = 1
	}
	return v
}

// Verbatim is a text that RESP3 clients may show as it is.
func Verbatim(text string) Value { return Value{kind: KindVerbatim, str: []byte(text)} }

// Kind tells the type of the reply.
func (v Value) Kind() Kind { return v.kind }

// IsError tells whether the reply is an error.
func (v Value) IsError() bool { return v.kind == KindError }

// Int64 is the number of an integer or boolean reply, and 0 of any other but a double.
func (v Value) Int64() int64 { return v.num }

// Float64 is the number of a double reply, otherwise meaningless.
func (v Value) Float64() float64 { return math.Float64frombits(uint64(v.num)) }

// Bytes are the bytes of a string or error reply; they alias the value.
func (v Value) Bytes() []byte { return v.str }

// Elems are the elements of an aggregate reply, a map's as key, value, key,
// value …; they alias the value.
func (v Value) Elems() []Value { return v.list }

// Append appends v to dst in the given protocol version, 2 or 3, and returns
// the extended slice. It uses redcon's append helpers where RESP2 has the form.
func (v Value) Append(dst []byte, proto int) []byte {
	switch v.kind {
	case KindNone:
		return dst
	case KindSimple:
		dst = append(dst, '+')
		dst = append(dst, v.str...)
		return append(dst, '\r', '\n')
	case KindError:
		dst = append(dst, '-')
		dst = append(dst, v.str...)
		return append(dst, '\r', '\n')
	case KindInt:
		return redcon.AppendInt(dst, v.num)
	case KindBulk:
		return redcon.AppendBulk(dst, v.str)
	default:
		if proto >= 3 {
			return v.append3(dst)
		}
		return v.append2(dst)
	}
}

// append2 encodes the kinds that RESP2 has to imitate.
func (v Value) append2(dst []byte) []byte {
	switch v.kind {
	case KindNull:
		return redcon.AppendNull(dst)
	case KindNullArray:
		return append(dst, "*-1\r\n"...)
	case KindBool:
		return redcon.AppendInt(dst, v.num)
	case KindDouble:
		return redcon.AppendBulk(dst, appendDouble(nil, math.Float64frombits(uint64(v.num))))
	case KindVerbatim:
		return redcon.AppendBulk(dst, v.str)
	default:
		dst = redcon.AppendArray(dst, len(v.list))
		return v.appendElems(dst, 2)
	}
}

// append3 encodes the kinds that RESP3 added.
func (v Value) append3(dst []byte) []byte {
	switch v.kind {
	case KindNull, KindNullArray:
		return append(dst, "_\r\n"...)
	case KindBool:
		if v.num != 0 {
			return append(dst, "#t\r\n"...)
		}
		return append(dst, "#f\r\n"...)
	case KindDouble:
		dst = append(dst, ',')
		dst = appendDouble(dst, math.Float64frombits(uint64(v.num)))
		return append(dst, '\r', '\n')
	case KindVerbatim:
		dst = append(dst, '=')
		dst = strconv.AppendInt(dst, int64(len(v.str)+4), 10)
		dst = append(dst, "\r\ntxt:"...)
		dst = append(dst, v.str...)
		return append(dst, '\r', '\n')
	default:
		return v.appendAggregate3(dst)
	}
}

// appendAggregate3 encodes what has elements.
func (v Value) appendAggregate3(dst []byte) []byte {
	mark, n := byte('*'), len(v.list)
	switch v.kind {
	case KindMap:
		mark, n = '%', n/2
	case KindSet:
		mark = '~'
	case KindPush:
		mark = '>'
	default: // an array
	}
	dst = append(dst, mark)
	dst = strconv.AppendInt(dst, int64(n), 10)
	dst = append(dst, '\r', '\n')
	return v.appendElems(dst, 3)
}

func (v Value) appendElems(dst []byte, proto int) []byte {
	for _, e := range v.list {
		dst = e.Append(dst, proto)
	}
	return dst
}
