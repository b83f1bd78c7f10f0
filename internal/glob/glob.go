// Package glob matches byte strings against the glob patterns of the Redis
// commands KEYS, SCAN and PSUBSCRIBE (redis.io/commands/keys). It knows neither
// keys nor channels.
//
// In a pattern * stands for any bytes, ? for one byte, [abc], [a-z] and [^a] for
// one byte of a class, and \x for x itself; any other byte stands for itself.
// The corners are those of Redis: a class without its closing bracket ends with
// the pattern, ranges may be written backwards, a backslash at the end of the
// pattern is itself, and an empty string is matched by the empty pattern only,
// not by *. Bytes above 127 are compared as unsigned.
package glob

import "math"

// Text is what can be matched: patterns and subjects come as either.
type Text interface{ ~string | ~[]byte }

// Match tells whether the whole of s matches pattern. It allocates nothing,
// reads its arguments only, and its work is at most len(pattern) × len(s),
// whatever the pattern. Where either comes from somebody who may mean harm and
// others wait, use MatchWithin.
func Match[P, S Text](pattern P, s S) bool {
	work := Work(math.MaxInt)
	return match(pattern, s, identity, &work)
}

// MatchFold is Match with ASCII letters compared without regard to case.
func MatchFold[P, S Text](pattern P, s S) bool {
	work := Work(math.MaxInt)
	return match(pattern, s, lower, &work)
}

// Work is how much may still be spent on matching: about the number of bytes of
// patterns and subjects looked at. It is above 0 until it is used up; then
// nothing matches any more.
type Work int

// MatchWithin is Match at the expense of work.
func MatchWithin[P, S Text](work *Work, pattern P, s S) bool {
	return match(pattern, s, identity, work)
}

// MatchFoldWithin is MatchFold at the expense of work.
func MatchFoldWithin[P, S Text](work *Work, pattern P, s S) bool {
	return match(pattern, s, lower, work)
}

// match walks pattern and s together. Only the last * passed can need another
// try: whatever an earlier one would take in addition, the last one can take as
// well. So one place to go back to is enough.
func match[P, S Text](pattern P, s S, fold func(byte) byte, work *Work) bool {
	if len(s) == 0 {
		return len(pattern) == 0
	}
	at, i := 0, 0          // positions in pattern and s
	retryAt, retry := 0, 0 // after the last *: what follows it, and where in s that was tried; 0 for none
	for i < len(s) && *work > 0 {
		if at < len(pattern) && pattern[at] == '*' {
			from := at
			at = skipStars(pattern, at)
			*work -= Work(at - from)
			if at == len(pattern) {
				return true
			}
			retryAt, retry = at, i
			continue
		}
		next, ok := one(pattern, at, s[i], fold)
		*work -= Work(1 + next - at)
		if ok {
			at, i = next, i+1
			continue
		}
		if retryAt == 0 {
			return false
		}
		retry++
		at, i = retryAt, retry
	}
	return *work > 0 && skipStars(pattern, at) == len(pattern)
}

func skipStars[P Text](pattern P, at int) int {
	for at < len(pattern) && pattern[at] == '*' {
		at++
	}
	return at
}

// one matches c with the single-byte element of pattern that begins at at, and
// returns where the next element begins. No element is left at the pattern's end.
func one[P Text](pattern P, at int, c byte, fold func(byte) byte) (next int, ok bool) {
	if at == len(pattern) {
		return at, false
	}
	switch pattern[at] {
	case '?':
		return at + 1, true
	case '[':
		return class(pattern, at+1, c, fold)
	case '\\':
		if at+1 < len(pattern) {
			at++
		}
	}
	return at + 1, fold(pattern[at]) == fold(c)
}

// class matches c with the class whose first byte after the bracket is at at.
func class[P Text](pattern P, at int, c byte, fold func(byte) byte) (next int, ok bool) {
	negated := at < len(pattern) && pattern[at] == '^'
	if negated {
		at++
	}
	c = fold(c)
	found := false
	for at < len(pattern) && pattern[at] != ']' {
		left := len(pattern) - at
		switch {
		case left >= 2 && pattern[at] == '\\':
			found = found || fold(pattern[at+1]) == c
			at += 2
		case left >= 3 && pattern[at+1] == '-':
			low, high := fold(min(pattern[at], pattern[at+2])), fold(max(pattern[at], pattern[at+2]))
			found = found || (low <= c && c <= high)
			at += 3
		default:
			found = found || fold(pattern[at]) == c
			at++
		}
	}
	return min(at+1, len(pattern)), found != negated
}

func identity(c byte) byte { return c }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
