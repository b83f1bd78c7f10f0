package resp

import (
	"bytes"
	"errors"
	"io"
	"math"
	"strconv"
)

// ErrMalformed says that bytes are no reply.
var ErrMalformed = errors.New("resp: malformed reply")

// maxDepth is how deep aggregates may be nested in a reply that is decoded. No
// command answers with more than a few levels.
const maxDepth = 32

// Decode reads the reply at the beginning of b, in either protocol version, and
// tells how many bytes it took. Strings of the value alias b. If b holds only the
// beginning of a reply the error is io.ErrUnexpectedEOF, and ErrMalformed if it
// can never become one. Decode is meant for replies of other nodes and for tests:
// its memory is bounded by a multiple of len(b).
//
// What RESP2 imitates comes back as what it is on the wire: a map as an array, a
// double as a bulk string. RESP3's one null comes back as Null.
func Decode(b []byte) (v Value, n int, err error) {
	d := decoder{b: b}
	v, err = d.value(0)
	return v, d.at, err
}

type decoder struct {
	b  []byte
	at int
}

func (d *decoder) value(depth int) (Value, error) {
	if d.at == len(d.b) {
		return None, io.ErrUnexpectedEOF
	}
	mark := d.b[d.at]
	line, err := d.line()
	if err != nil {
		return None, err
	}
	switch mark {
	case '+':
		return Value{kind: KindSimple, str: line}, nil
	case '-':
		return Value{kind: KindError, str: line}, nil
	case '_', '#', ',':
		return scalar3(mark, line)
	}
	n, ok := parseInt(line)
	if !ok {
		return None, ErrMalformed
	}
	switch mark {
	case ':':
		return Int(n), nil
	case '$', '=':
		return d.bulk(mark, n)
	case '*', '%', '~', '>':
		return d.aggregate(mark, n, depth)
	}
	return None, ErrMalformed
}

// line is the rest of the line after its mark. Neither CR nor LF may stand in it.
func (d *decoder) line() ([]byte, error) {
	rest := d.b[d.at+1:]
	lf := bytes.IndexByte(rest, '\n')
	if lf < 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if lf == 0 || bytes.IndexByte(rest[:lf], '\r') != lf-1 {
		return nil, ErrMalformed
	}
	d.at += lf + 2
	return rest[: lf-1 : lf-1], nil
}

// scalar3 is a null, a boolean or a double.
func scalar3(mark byte, line []byte) (Value, error) {
	text := string(line)
	switch {
	case mark == '_' && text == "":
		return Null, nil
	case mark == '#' && (text == "t" || text == "f"):
		return Bool(text == "t"), nil
	case mark == ',' && text == "nan":
		return Double(math.NaN()), nil
	case mark == ',':
		f, err := strconv.ParseFloat(text, 64)
		if err == nil {
			return Double(f), nil
		}
	}
	return None, ErrMalformed
}

func (d *decoder) bulk(mark byte, size int64) (Value, error) {
	if size == -1 && mark == '$' {
		return Null, nil
	}
	if size < 0 {
		return None, ErrMalformed
	}
	rest := d.b[d.at:]
	if size > int64(len(rest)-2) {
		return None, io.ErrUnexpectedEOF
	}
	text := rest[:size:size]
	if string(rest[size:size+2]) != "\r\n" {
		return None, ErrMalformed
	}
	d.at += int(size) + 2
	if mark == '$' {
		return Bulk(text), nil
	}
	text, found := bytes.CutPrefix(text, []byte("txt:"))
	if !found {
		return None, ErrMalformed
	}
	return Value{kind: KindVerbatim, str: text}, nil
}

func (d *decoder) aggregate(mark byte, n int64, depth int) (Value, error) {
	if n == -1 && mark == '*' {
		return NullArray, nil
	}
	if n < 0 || n > math.MaxInt32 || depth == maxDepth {
		return None, ErrMalformed
	}
	kind := KindArray
	switch mark {
	case '%':
		kind, n = KindMap, 2*n
	case '~':
		kind = KindSet
	case '>':
		kind = KindPush
	}
	const shortest = 3 // bytes of an element
	list := make([]Value, 0, min(int(n), (len(d.b)-d.at)/shortest))
	for range n {
		e, err := d.value(depth + 1)
		if err != nil {
			return None, err
		}
		list = append(list, e)
	}
	return Value{kind: kind, list: list}, nil
}
