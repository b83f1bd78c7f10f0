package resp_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/resp"
)

// Each kind has one form in each protocol version; those RESP2 lacks have the
// form of the nearest it has (redis.io/docs/reference/protocol-spec).
func TestAppendEncodesBothProtocols(t *testing.T) {
	tests := []struct {
		name         string
		value        resp.Value
		resp2, resp3 string
	}{
		{"none", resp.None, "", ""},
		{"simple", resp.OK, "+OK\r\n", "+OK\r\n"},
		{"error", resp.Err(resp.ErrSyntax), "-ERR syntax error\r\n", "-ERR syntax error\r\n"},
		{"int", resp.Int(-42), ":-42\r\n", ":-42\r\n"},
		{"large int", resp.Int(math.MinInt64), ":-9223372036854775808\r\n", ":-9223372036854775808\r\n"},
		{"bulk", resp.BulkString("a\r\nb"), "$4\r\na\r\nb\r\n", "$4\r\na\r\nb\r\n"},
		{"empty bulk", resp.Bulk([]byte{}), "$0\r\n\r\n", "$0\r\n\r\n"},
		{"nil bulk", resp.Bulk(nil), "$-1\r\n", "_\r\n"},
		{"number as bulk", resp.BulkInt(-7), "$2\r\n-7\r\n", "$2\r\n-7\r\n"},
		{"null array", resp.NullArray, "*-1\r\n", "_\r\n"},
		{"array", resp.Array(resp.One, resp.Null), "*2\r\n:1\r\n$-1\r\n", "*2\r\n:1\r\n_\r\n"},
		{"map", resp.Map(resp.BulkString("k"), resp.Bool(true)), "*2\r\n$1\r\nk\r\n:1\r\n", "%1\r\n$1\r\nk\r\n#t\r\n"},
		{"set", resp.Set(resp.Zero), "*1\r\n:0\r\n", "~1\r\n:0\r\n"},
		{"push", resp.Push(resp.BulkString("m")), "*1\r\n$1\r\nm\r\n", ">1\r\n$1\r\nm\r\n"},
		{"double", resp.Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"},
		{"false", resp.Bool(false), ":0\r\n", "#f\r\n"},
		{"verbatim", resp.Verbatim("hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n"},
		{"nested", resp.Array(resp.Map(resp.One, resp.Empty)), "*1\r\n*2\r\n:1\r\n*0\r\n", "*1\r\n%1\r\n:1\r\n*0\r\n"},
	}
	for _, tt := range tests {
		if got := string(tt.value.Append([]byte("x"), 2)); got != "x"+tt.resp2 {
			t.Errorf("%s in RESP2: %q, want %q after x", tt.name, got, tt.resp2)
		}
		if got := string(tt.value.Append([]byte("x"), 3)); got != "x"+tt.resp3 {
			t.Errorf("%s in RESP3: %q, want %q after x", tt.name, got, tt.resp3)
		}
	}
}

// An error without a code of its own gets ERR, and no error text can break the
// line it stands on.
func TestErrHasCodeAndOneLine(t *testing.T) {
	tests := []struct {
		err  error
		want string
	}{
		{resp.ErrReadOnly, "READONLY You can't write against a read only replica."},
		{resp.ErrDisk, "MISCONF Too little disk space is left for the log. Commands that may modify the data set are refused until there is more. See the log of the nodes."},
		{errors.New("plain"), "ERR plain"},
		{resp.Error("ERR a\r\n+OK"), "ERR a  +OK"},
	}
	for _, tt := range tests {
		if got := string(resp.Err(tt.err).Bytes()); got != tt.want || !resp.Err(tt.err).IsError() {
			t.Errorf("Err(%v) = %q, want %q", tt.err, got, tt.want)
		}
	}
}

// Doubles look as in Redis 7.2: integers with all digits below 2^62, the
// shortest digits otherwise, an exponent only where many zeros would stand.
func TestDoublesLookAsInRedis(t *testing.T) {
	tests := []struct {
		f    float64
		want string
	}{
		{0, "0"},
		{math.Copysign(0, -1), "-0"},
		{1, "1"},
		{-17, "-17"},
		{3.14, "3.14"},
		{-0.1, "-0.1"},
		{0.30000000000000004, "0.30000000000000004"},
		{1 << 53, "9007199254740992"},
		{1e17, "100000000000000000"},
		{1e18, "1000000000000000000"},
		{1 << 62, "4611686018427388000"},
		{-9223372036854775808, "-9223372036854776000"},
		{1e19, "1e+19"},
		{1.5e20, "1.5e+20"},
		{1.2345678901234567e21, "1234567890123456800000"},
		{1e100, "1e+100"},
		{1.7976931348623157e308, "1.7976931348623157e+308"},
		{1e-6, "0.000001"},
		{1.5e-5, "0.000015"},
		{1e-7, "1e-7"},
		{-1.5e-7, "-1.5e-7"},
		{5e-324, "5e-324"},
		{0.000123456789, "1.23456789e-4"},
		{0.00123456789, "0.00123456789"},
		{12345.123456789, "1.2345123456789e+4"},
		{1234.123456789, "1234.123456789"},
		{math.Inf(1), "inf"},
		{math.Inf(-1), "-inf"},
		{math.NaN(), "nan"},
	}
	for _, tt := range tests {
		if got := string(resp.Double(tt.f).Append(nil, 3)); got != ","+tt.want+"\r\n" {
			t.Errorf("%g is written %q, want %s", tt.f, got, tt.want)
		}
	}
}

// Whatever a double is, it reads back as the same one.
func FuzzDoubleReadsBack(f *testing.F) {
	for _, seed := range []float64{0, -1.5, 1e300, 5e-324, 1 << 62, math.Inf(-1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, want float64) {
		text := resp.Double(want).Append(nil, 3)
		v, n, err := resp.Decode(text)
		if err != nil || n != len(text) {
			t.Fatalf("%q: %d bytes, %v", text, n, err)
		}
		if got := v.Float64(); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("%q reads back as %g, want %g", text, got, want)
		}
	})
}

// What cannot be a reply is told apart from what is not one yet.
func TestDecodeRefuses(t *testing.T) {
	tests := []struct {
		text string
		want error
	}{
		{"", io.ErrUnexpectedEOF},
		{"+OK", io.ErrUnexpectedEOF},
		{"+OK\r", io.ErrUnexpectedEOF},
		{"$3\r\nab", io.ErrUnexpectedEOF},
		{"*2\r\n:1\r\n", io.ErrUnexpectedEOF},
		{"*2147483647\r\n", io.ErrUnexpectedEOF},
		{"$9223372036854775807\r\n", io.ErrUnexpectedEOF},
		{"+a\rb\r\n", resp.ErrMalformed},
		{"+a\n", resp.ErrMalformed},
		{"\n\n", resp.ErrMalformed},
		{"?1\r\n", resp.ErrMalformed},
		{":x\r\n", resp.ErrMalformed},
		{":01\r\n", resp.ErrMalformed},
		{"$-2\r\n", resp.ErrMalformed},
		{"$1\r\nabc", resp.ErrMalformed},
		{"=-1\r\n", resp.ErrMalformed},
		{"=3\r\nabc\r\n", resp.ErrMalformed},
		{"*-2\r\n", resp.ErrMalformed},
		{"%9223372036854775807\r\n", resp.ErrMalformed},
		{"#x\r\n", resp.ErrMalformed},
		{"_x\r\n", resp.ErrMalformed},
		{",x\r\n", resp.ErrMalformed},
		{strings.Repeat("*1\r\n", 100) + ":1\r\n", resp.ErrMalformed},
	}
	for _, tt := range tests {
		if v, _, err := resp.Decode([]byte(tt.text)); !errors.Is(err, tt.want) {
			t.Errorf("Decode(%.40q) = %v, %v, want %v", tt.text, v, err, tt.want)
		}
	}
}

// What decodes is encoded to what decodes to the same again, and the decoder
// never panics nor reads past what it says it read.
func FuzzDecodeRoundTrip(f *testing.F) {
	for _, seed := range []string{
		"+OK\r\n", "-ERR x\r\n", ":-1\r\n", "$-1\r\n", "$3\r\na\r\n\r\n", "*-1\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", ",nan\r\n",
		"*2\r\n%1\r\n+k\r\n=7\r\ntxt:abc\r\n>1\r\n~0\r\n", "*100000000\r\n", "$9223372036854775807\r\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, n, err := resp.Decode(text)
		if err != nil {
			return
		}
		if _, again, err := resp.Decode(text[:n:n]); err != nil || again != n {
			t.Fatalf("%q needs more than the %d bytes it took: %d, %v", text, n, again, err)
		}
		for _, proto := range []int{2, 3} {
			first := v.Append(nil, proto)
			w, n, err := resp.Decode(first)
			if err != nil || n != len(first) {
				t.Fatalf("%q encoded as %q: %d bytes, %v", text, first, n, err)
			}
			if second := w.Append(nil, proto); !bytes.Equal(first, second) {
				t.Errorf("%q encoded as %q, then as %q", text, first, second)
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	fields := make([]resp.Value, 0, 40)
	for range 20 {
		fields = append(fields, resp.BulkString("field"), resp.BulkString("some value"))
	}
	for _, bb := range []struct {
		name  string
		value resp.Value
	}{
		{"simple", resp.OK},
		{"int", resp.Int(1234567)},
		{"bulk512", resp.Bulk(make([]byte, 512))},
		{"null", resp.Null},
		{"map20", resp.Map(fields...)},
		{"double", resp.Double(3.25)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			buf := make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				buf = bb.value.Append(buf[:0], 3)
			}
		})
	}
}
