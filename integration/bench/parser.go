package main

import (
	"bytes"
	"fmt"
	"strconv"
)

// maxLine bounds the first line of a reply: an error's text, a length.
const maxLine = 4096

// parser counts the replies in a stream without keeping them. It knows the types
// that the measured commands answer with, and takes any error for a failure of
// the measurement.
type parser struct {
	complete int    // replies seen whole
	line     []byte // the beginning of a line whose end has not come
	skip     int    // bytes of a bulk string still to come, its CR LF included
}

// feed takes the next bytes.
func (p *parser) feed(b []byte) error {
	for len(b) > 0 {
		if p.skip > 0 {
			n := min(p.skip, len(b))
			p.skip -= n
			b = b[n:]
			if p.skip == 0 {
				p.complete++
			}
			continue
		}
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			p.line = append(p.line, b...)
			if len(p.line) > maxLine {
				return fmt.Errorf("endless line in a reply")
			}
			return nil
		}
		line := b[:end]
		if len(p.line) > 0 {
			line = append(p.line, line...)
		}
		b = b[end+1:]
		if err := p.head(bytes.TrimSuffix(line, []byte("\r"))); err != nil {
			return err
		}
		p.line = p.line[:0]
	}
	return nil
}

// head takes the first line of a reply.
func (p *parser) head(line []byte) error {
	if len(line) == 0 {
		return fmt.Errorf("empty line in a reply")
	}
	switch line[0] {
	case '+', ':':
		p.complete++
		return nil
	case '$':
		n, err := strconv.Atoi(string(line[1:]))
		if err != nil {
			return fmt.Errorf("length in a reply: %w", err)
		}
		if n < 0 {
			return fmt.Errorf("a key that was written is missing")
		}
		p.skip = n + 2
		return nil
	default:
		return fmt.Errorf("the server answered %q", line)
	}
}
