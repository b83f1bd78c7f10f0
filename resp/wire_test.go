package resp_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/resp"
)

// wireValues are values of every kind.
func wireValues() []resp.Value {
	return []resp.Value{
		resp.None, resp.Null, resp.NullArray, resp.OK, resp.Empty,
		resp.Err(resp.ErrInDoubt),
		resp.Int(0), resp.Int(-1), resp.Int(math.MinInt64), resp.Int(math.MaxInt64),
		resp.Double(math.Inf(-1)), resp.Double(0.1), resp.Bool(true), resp.Bool(false),
		resp.BulkString(""), resp.BulkString("a\r\n\x00b"), resp.BulkString(strings.Repeat("x", 70_000)),
		resp.Verbatim("text"),
		resp.Map(resp.BulkString("k"), resp.Array(resp.Null, resp.NullArray, resp.Int(300))),
		resp.Set(resp.One), resp.Push(resp.BulkString("message")),
	}
}

// A value that travels between nodes looks the same to a client of either protocol
// as one that did not, and its size is known beforehand.
func TestWireKeepsEveryKindApart(t *testing.T) {
	for _, v := range wireValues() {
		wire := v.AppendWire([]byte("before"))[len("before"):]
		got, n, err := resp.ParseWire(append(bytes.Clone(wire), "behind"...))
		if err != nil || n != len(wire) || v.WireSize() != len(wire) {
			t.Errorf("%q: read %d of %d bytes, size %d, %v", wire[:min(len(wire), 20)], n, len(wire), v.WireSize(), err)
		}
		if got.Kind() != v.Kind() {
			t.Errorf("kind %d came back as %d", v.Kind(), got.Kind())
		}
		for _, proto := range []int{2, 3} {
			if want, have := v.Append(nil, proto), got.Append(nil, proto); !bytes.Equal(want, have) {
				t.Errorf("RESP%d: %q came back as %q", proto, want, have)
			}
		}
	}
}

// What was cut short, and what nobody has written, is refused.
func TestWireRefusesWhatIsNoValue(t *testing.T) {
	for _, v := range wireValues() {
		wire := v.AppendWire(nil)
		for cut := range min(len(wire), 200) {
			if _, _, err := resp.ParseWire(wire[:cut]); !errors.Is(err, resp.ErrMalformed) {
				t.Fatalf("%d of %d bytes: %v", cut, len(wire), err)
			}
		}
	}
	deep := bytes.Repeat([]byte{byte(resp.KindArray), 1}, 1000)
	for name, b := range map[string][]byte{
		"deep nesting":   append(deep, byte(resp.KindNull)),
		"unknown kind":   {200},
		"odd map":        {byte(resp.KindMap), 1, byte(resp.KindNull)},
		"strange truth":  {byte(resp.KindBool), 8},
		"huge count":     {byte(resp.KindArray), 0xff, 0xff, 0xff, 0xff, 0x7f},
		"endless number": bytes.Repeat([]byte{byte(resp.KindInt) | 0x80}, 20),
	} {
		if _, _, err := resp.ParseWire(b); !errors.Is(err, resp.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseWire: no bytes make the parser fail, and what it accepts it writes again
// as it was understood.
func FuzzParseWire(f *testing.F) {
	for _, v := range wireValues() {
		f.Add(v.AppendWire(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, n, err := resp.ParseWire(b)
		if err != nil {
			return
		}
		if n > len(b) {
			t.Fatalf("%d bytes of %d", n, len(b))
		}
		wire := v.AppendWire(nil)
		again, _, err := resp.ParseWire(wire)
		if err != nil || !bytes.Equal(again.AppendWire(nil), wire) || v.WireSize() != len(wire) {
			t.Fatalf("%q is not understood twice the same way: %v", b, err)
		}
	})
}
