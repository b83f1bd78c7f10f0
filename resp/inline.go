package resp

// splitWords cuts an inline command into its words and calls word with the place
// of each, in order. Words in quotes may hold spaces; between double quotes \n,
// \r, \t, \b, \a and \xhh stand for bytes and a backslash takes the next byte as
// it is, between single quotes only \' is special. The words are decoded where
// they stand: word is told places in line, whose bytes have changed. It reports
// false if a quote is not closed, or is followed by anything but a space.
func splitWords(line []byte, word func(at, size int)) (ok bool) {
	for in := 0; ; {
		for in < len(line) && isSpace(line[in]) {
			in++
		}
		if in == len(line) {
			return true
		}
		w := wordReader{line: line, in: in, out: in}
		if !w.read() {
			return false
		}
		word(in, w.out-in)
		in = w.in
	}
}

// wordReader decodes one word in place; out never overtakes in.
type wordReader struct {
	line    []byte
	in, out int
}

// read decodes until the word ends. A quote may begin anywhere in a word and
// ends it.
func (w *wordReader) read() (ok bool) {
	for w.in < len(w.line) {
		c := w.line[w.in]
		switch c {
		case ' ', '\n', '\r', '\t':
			return true
		case '"', '\'':
			w.in++
			return w.quoted(c) && (w.in == len(w.line) || isSpace(w.line[w.in]))
		}
		w.put(c, 1)
	}
	return true
}

// quoted decodes up to the closing quote and goes past it.
func (w *wordReader) quoted(quote byte) (closed bool) {
	for w.in < len(w.line) {
		rest := w.line[w.in:]
		switch {
		case rest[0] == quote:
			w.in++
			return true
		case rest[0] != '\\' || len(rest) == 1:
			w.put(rest[0], 1)
		case quote == '"':
			c, n := unescape(rest)
			w.put(c, n)
		case rest[1] == '\'':
			w.put('\'', 2)
		default:
			w.put('\\', 1)
		}
	}
	return false
}

// put writes c for the next n bytes of input.
func (w *wordReader) put(c byte, n int) {
	w.line[w.out] = c
	w.out++
	w.in += n
}

// unescape is the byte that the escape at the beginning of b stands for, and the
// length of the escape. b is a backslash and at least one byte more.
func unescape(b []byte) (c byte, n int) {
	switch b[1] {
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case 'b':
		return '\b', 2
	case 'a':
		return '\a', 2
	case 'x':
		if len(b) >= 4 && isHex(b[2]) && isHex(b[3]) {
			return hexValue(b[2])<<4 | hexValue(b[3]), 4
		}
	}
	return b[1], 2
}

func isSpace(c byte) bool { return c == ' ' || ('\t' <= c && c <= '\r') }

func isHex(c byte) bool {
	return ('0' <= c && c <= '9') || ('a' <= c|0x20 && c|0x20 <= 'f')
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
