package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Errors of values, worded as Redis words them where it has the case.
var (
	errCount    = errors.New("wrong number of arguments")
	errInteger  = errors.New("argument couldn't be parsed into an integer")
	errMemory   = errors.New("argument must be a memory value")
	errOctal    = errors.New("argument couldn't be parsed as an octal number")
	errYesNo    = errors.New("argument must be 'yes' or 'no'")
	errDuration = errors.New("argument must be a duration such as 250ms or 1s")
)

// kind is how a directive's words become a field of Config and back.
type kind interface {
	name() string // for documents: what may be written
	// set parses words into c. On an error c is as it was.
	set(c *Config, words []string) error
	// get is the value as CONFIG GET shows it; set accepts it again.
	get(c *Config) string
	// multi tells whether a value may have several words, so that one string has to be split.
	multi() bool
}

// scalar is a directive of one word kept in one field.
type scalar[T any] struct {
	label string
	field func(c *Config) *T
	parse func(word string) (T, error)
	text  func(v T) string
}

func (s scalar[T]) name() string         { return s.label }
func (s scalar[T]) get(c *Config) string { return s.text(*s.field(c)) }
func (s scalar[T]) multi() bool          { return false }

func (s scalar[T]) set(c *Config, words []string) error {
	if len(words) != 1 {
		return errCount
	}
	v, err := s.parse(words[0])
	if err != nil {
		return err
	}
	*s.field(c) = v
	return nil
}

// integers is a whole number from lo to hi.
func integers(field func(c *Config) *int, lo, hi int) kind {
	return scalar[int]{
		label: fmt.Sprintf("number, %d to %d", lo, hi),
		field: field,
		parse: func(word string) (int, error) {
			n, err := parseInteger(word, int64(lo), int64(hi))
			return int(n), err
		},
		text: strconv.Itoa,
	}
}

// octals is an octal number from 0 to hi, written without a prefix.
func octals(field func(c *Config) *int, hi int) kind {
	return scalar[int]{
		label: fmt.Sprintf("octal number, 0 to %o", hi),
		field: field,
		parse: func(word string) (int, error) {
			n, err := strconv.ParseUint(word, 8, 63)
			switch {
			case errors.Is(err, strconv.ErrRange) || err == nil && n > uint64(hi): // hi is a permission mask
				return 0, fmt.Errorf("argument must be between 0 and %o inclusive", hi)
			case err != nil:
				return 0, errOctal
			}
			return int(n), nil
		},
		text: func(v int) string { return strconv.FormatInt(int64(v), 8) },
	}
}

// ports is a TCP port, 0 for none.
func ports(field func(c *Config) *int) kind {
	const highest = 65535
	k, _ := integers(field, 0, highest).(scalar[int])
	k.label = "port"
	return k
}

// seconds is a whole number of seconds, as Redis writes its timeouts.
func seconds(field func(c *Config) *time.Duration) kind {
	return scalar[time.Duration]{
		label: "seconds",
		field: field,
		parse: func(word string) (time.Duration, error) {
			n, err := parseInteger(word, 0, math.MaxInt32)
			return time.Duration(n) * time.Second, err
		},
		text: func(v time.Duration) string { return strconv.FormatInt(int64(v/time.Second), 10) },
	}
}

// durations is a number with its unit, from lo to hi.
func durations(field func(c *Config) *time.Duration, lo, hi time.Duration) kind {
	return scalar[time.Duration]{
		label: fmt.Sprintf("duration, %v to %v", lo, hi),
		field: field,
		parse: func(word string) (time.Duration, error) {
			d, err := time.ParseDuration(word)
			if err != nil {
				return 0, errDuration
			}
			if d < lo || d > hi {
				return 0, fmt.Errorf("argument must be between %v and %v inclusive", lo, hi)
			}
			return d, nil
		},
		text: time.Duration.String,
	}
}

// memories is a number of bytes from lo to hi, with Redis's units.
func memories(field func(c *Config) *int64, lo, hi int64) kind {
	return scalar[int64]{
		label: "memory",
		field: field,
		parse: func(word string) (int64, error) {
			n, err := parseMemory(word)
			if err != nil {
				return 0, err
			}
			return n, within(n, lo, hi)
		},
		text: func(v int64) string { return strconv.FormatInt(v, 10) },
	}
}

// flags is yes or no.
func flags(field func(c *Config) *bool) kind {
	return scalar[bool]{
		label: "yes or no",
		field: field,
		parse: func(word string) (bool, error) {
			switch strings.ToLower(word) {
			case "yes":
				return true, nil
			case "no":
				return false, nil
			}
			return false, errYesNo
		},
		text: func(v bool) string {
			if v {
				return "yes"
			}
			return "no"
		},
	}
}

// choices is one of the given words.
func choices(field func(c *Config) *string, values ...string) kind {
	return scalar[string]{
		label: strings.Join(values, ", "),
		field: field,
		parse: func(word string) (string, error) {
			for _, v := range values {
				if strings.EqualFold(v, word) {
					return v, nil
				}
			}
			return "", errors.New("argument(s) must be one of the following: " + strings.Join(values, ", "))
		},
		text: func(v string) string { return v },
	}
}

// texts is any text that check, if not nil, accepts. Its errors must not repeat
// the text: it may be secret.
func texts(label string, field func(c *Config) *string, check func(string) error) kind {
	return scalar[string]{
		label: label,
		field: field,
		parse: func(word string) (string, error) {
			if check == nil {
				return word, nil
			}
			return word, check(word)
		},
		text: func(v string) string { return v },
	}
}

// parseInteger accepts what Redis accepts: digits, a minus, nothing else.
func parseInteger(word string, lo, hi int64) (int64, error) {
	n, err := strconv.ParseInt(word, 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, errRange(lo, hi)
	}
	if err != nil || strconv.FormatInt(n, 10) != word {
		return 0, errInteger
	}
	return n, within(n, lo, hi)
}

func within(n, lo, hi int64) error {
	if n < lo || n > hi {
		return errRange(lo, hi)
	}
	return nil
}

func errRange(lo, hi int64) error {
	return fmt.Errorf("argument must be between %d and %d inclusive", lo, hi)
}

// parseMemory reads a number of bytes: k, m and g are powers of 1000, kb, mb and
// gb of 1024, as in redis.conf. A value beyond an int64 is the largest one.
func parseMemory(word string) (int64, error) {
	digits := strings.TrimRight(word, "bBkKmMgG")
	unit, ok := memoryUnit(strings.ToLower(word[len(digits):]))
	if !ok || digits == "" || strings.Trim(digits, "0123456789") != "" {
		return 0, errMemory
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/unit {
		return math.MaxInt64, nil //nolint:nilerr // only too many digits are left as a reason
	}
	return n * unit, nil
}

func memoryUnit(suffix string) (int64, bool) {
	switch suffix {
	case "", "b":
		return 1, true
	case "k":
		return 1000, true
	case "kb":
		return 1 << 10, true
	case "m":
		return 1000 * 1000, true
	case "mb":
		return 1 << 20, true
	case "g":
		return 1000 * 1000 * 1000, true
	case "gb":
		return 1 << 30, true
	}
	return 0, false
}
