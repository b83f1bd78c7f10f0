package script

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/resp"
)

// Render shows a reply in the notation of scripts.
func Render(r testkit.Reply) string {
	if r.Null {
		if r.Type == '*' {
			return "nullarray"
		}
		return "null"
	}
	switch r.Type {
	case 0:
		return ""
	case '$':
		return strconv.Quote(string(r.Text))
	case '=':
		return string(r.Text[:min(3, len(r.Text))]) + strconv.Quote(string(r.Text[min(4, len(r.Text)):]))
	case '*':
		return "[" + renderAll(r.Elems) + "]"
	case '~':
		return "set[" + renderAll(r.Elems) + "]"
	case '>':
		return "push[" + renderAll(r.Elems) + "]"
	case '%':
		pairs := make([]string, 0, len(r.Elems)/2)
		for i := 0; i+1 < len(r.Elems); i += 2 {
			pairs = append(pairs, Render(r.Elems[i])+": "+Render(r.Elems[i+1]))
		}
		return "map{" + strings.Join(pairs, ", ") + "}"
	}
	return string(r.Type) + string(r.Text)
}

func renderAll(elems []testkit.Reply) string {
	parts := make([]string, len(elems))
	for i, e := range elems {
		parts[i] = Render(e)
	}
	return strings.Join(parts, " ")
}

// Sorted is r with the elements of every array of bulk strings only in order.
func Sorted(r testkit.Reply) testkit.Reply {
	r.Elems = slices.Clone(r.Elems)
	for i := range r.Elems {
		r.Elems[i] = Sorted(r.Elems[i])
	}
	bulk := func(e testkit.Reply) bool { return e.Type == '$' && !e.Null }
	if r.Type != '%' && !slices.ContainsFunc(r.Elems, func(e testkit.Reply) bool { return !bulk(e) }) {
		slices.SortFunc(r.Elems, func(a, b testkit.Reply) int { return bytes.Compare(a.Text, b.Text) })
	}
	return r
}

// FromValue is a reply as a client reads it off the wire in the given version of
// the protocol.
func FromValue(v resp.Value, proto int) (testkit.Reply, error) {
	return Decode(v.Append(nil, proto))
}

// Decode reads the only reply that b holds; nothing for no reply.
func Decode(b []byte) (testkit.Reply, error) {
	if len(b) == 0 {
		return testkit.Reply{}, nil
	}
	r, rest, err := decode(b)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes after the reply", len(rest))
	}
	return r, err
}

func decode(b []byte) (r testkit.Reply, rest []byte, err error) {
	line, rest, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok || len(line) == 0 {
		return r, nil, errors.New("no line in the reply")
	}
	r.Type = line[0]
	switch r.Type {
	case '+', '-', ':', ',', '#', '(':
		r.Text = line[1:]
		return r, rest, nil
	case '_':
		r.Null = true
		return r, rest, nil
	}
	n, err := strconv.Atoi(string(line[1:]))
	if err != nil || n < -1 {
		return r, nil, fmt.Errorf("length in reply: %q", line)
	}
	if n < 0 {
		r.Null = true
		return r, rest, nil
	}
	return decodeBody(r, n, rest)
}

// decodeBody reads what follows the line of a string or an aggregate of length n.
func decodeBody(r testkit.Reply, n int, rest []byte) (testkit.Reply, []byte, error) {
	if r.Type == '$' || r.Type == '=' {
		if len(rest) < n+2 || string(rest[n:n+2]) != "\r\n" {
			return r, nil, errors.New("string shorter or longer than announced")
		}
		r.Text = rest[:n:n]
		return r, rest[n+2:], nil
	}
	if r.Type == '%' {
		n *= 2
	}
	for range n {
		e, after, err := decode(rest)
		if err != nil {
			return r, nil, err
		}
		r.Elems, rest = append(r.Elems, e), after
	}
	return r, rest, nil
}
