package command

import (
	"math"
	"strconv"
)

// is tells whether arg is the given word, which is in lower case, in any case.
func is(arg []byte, word string) bool {
	if len(arg) != len(word) {
		return false
	}
	for i, c := range arg {
		if lower(c) != word[i] {
			return false
		}
	}
	return true
}

// equalFold tells whether arg and word are the same but for the case of ASCII letters.
func equalFold(arg []byte, word string) bool {
	if len(arg) != len(word) {
		return false
	}
	for i, c := range arg {
		if lower(c) != lower(word[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// parseInt reads a number as Redis does everywhere in arguments and values: an
// optional minus and digits, neither leading zeros nor "-0", within 64 bits.
func parseInt(b []byte) (n int64, ok bool) {
	digits := b
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		digits = b[1:]
	}
	if len(digits) == 0 || len(digits) > 19 || (digits[0] == '0' && len(b) > 1) {
		return 0, false
	}
	var u uint64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		u = u*10 + uint64(c-'0') // 19 digits always fit
	}
	switch {
	case negative && u <= -math.MinInt64:
		return -int64(u), true
	case negative || u > math.MaxInt64:
		return 0, false
	}
	return int64(u), true
}

// intText is n as the bytes of a value.
func intText(n int64) []byte { return strconv.AppendInt(make([]byte, 0, 20), n, 10) }

// own is a copy of b that a value can keep: never nil, no larger than needed.
func own(b []byte) []byte { return append(make([]byte, 0, len(b)), b...) }
