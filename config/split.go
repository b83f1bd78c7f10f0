package config

import (
	"errors"
	"strings"
)

var errQuotes = errors.New("unbalanced quotes")

// splitWords splits one line of a configuration file into words, with the
// quoting of redis.conf: blanks separate words; "..." knows \n \r \t \b \a,
// \xHH for any byte, and a backslash before any other character stands for that
// character; '...' knows only \'. A closing quote ends the word, so a blank or
// the end must follow.
func splitWords(line string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeft(line, blanks)
		if line == "" {
			return words, nil
		}
		word, rest, err := nextWord(line)
		if err != nil {
			return nil, err
		}
		words, line = append(words, word), rest
	}
}

// blanks separate words.
const blanks = " \t\r\n\v\f"

// nextWord cuts the first word off a line that begins with one. A quote may
// begin in the middle of a word, but not end there.
func nextWord(line string) (word, rest string, err error) {
	var b strings.Builder
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case strings.IndexByte(blanks, c) >= 0:
			return b.String(), line[i:], nil
		case c == '"' || c == '\'':
			n, ok := quoted(&b, line[i+1:], c)
			if !ok {
				return "", "", errQuotes
			}
			return b.String(), line[i+1+n:], nil
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", nil
}

// quoted appends what stands before the closing quote and returns how many bytes
// it took, the quote included. It is not ok if none is found or if it is glued
// to something.
func quoted(b *strings.Builder, text string, quote byte) (n int, ok bool) {
	for n < len(text) {
		switch c := text[n]; {
		case c == quote:
			n++
			return n, n == len(text) || strings.IndexByte(blanks, text[n]) >= 0
		case c == '\\' && n+1 < len(text):
			n += escape(b, text[n:], quote)
		default:
			b.WriteByte(c)
			n++
		}
	}
	return n, false
}

// escape appends what the backslash at the start of text means and returns how
// many bytes that took; text has at least two.
func escape(b *strings.Builder, text string, quote byte) int {
	if quote == '\'' {
		if text[1] == '\'' {
			b.WriteByte('\'')
			return 2
		}
		b.WriteByte('\\')
		return 1
	}
	if text[1] == 'x' && len(text) >= 4 {
		if hi, lo := hexDigit(text[2]), hexDigit(text[3]); hi >= 0 && lo >= 0 {
			b.WriteByte(byte(hi<<4 | lo))
			return 4
		}
	}
	c := text[1]
	if i := strings.IndexByte("nrtba", c); i >= 0 {
		c = "\n\r\t\b\a"[i]
	}
	b.WriteByte(c)
	return 2
}

// hexDigit is the value of a hexadecimal digit, or -1.
func hexDigit(c byte) int {
	const digits = "0123456789abcdefABCDEF"
	i := strings.IndexByte(digits, c)
	if i >= 16 {
		return i - 6 // an upper-case letter
	}
	return i
}
