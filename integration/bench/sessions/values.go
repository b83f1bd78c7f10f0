package sessions

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
)

// values makes keys and values out of a session's number and version, so that
// neither has to be kept. It is not changed after newValues.
type values struct {
	seed   uint64
	filler []byte
}

// band is a range of value sizes and how many of 100 values fall into it.
type band struct {
	percent  int
	from, to int // bytes
}

// bands are the sizes of session data that common libraries write; within a band
// they are spread evenly over the logarithm.
var bands = [...]band{{10, 150, 250}, {40, 250, 700}, {35, 700, 2000}, {12, 2000, 4000}, {3, 4000, 8000}}

const (
	fillerBytes = 64 << 10
	maxValue    = 8000
)

func newValues(seed uint64) *values {
	v := &values{seed: seed, filler: make([]byte, fillerBytes)}
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable on purpose
	for i := range v.filler {
		v.filler[i] = byte(random.Uint32())
	}
	return v
}

// mix is a well spread number made of others (the finalizer of splitmix64).
func mix(parts ...uint64) uint64 {
	var x uint64
	for _, p := range parts {
		x += p + 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x
}

// keyStyles are how common libraries name sessions: a prefix, and so many
// characters of a random identifier.
var keyStyles = [...]struct {
	prefix string
	length int
}{{"sess:", 32}, {"PHPREDIS_SESSION:", 26}, {"spring:session:sessions:", 36}, {"2::", 64}}

// key is the name of a session.
func (v *values) key(id int) string {
	style := keyStyles[id%len(keyStyles)]
	b := make([]byte, 0, len(style.prefix)+style.length+16)
	b = append(b, style.prefix...)
	for i := uint64(0); len(b) < len(style.prefix)+style.length; i++ {
		b = fmt.Appendf(b, "%016x", mix(v.seed, uint64(id), i))
	}
	return string(b[:len(style.prefix)+style.length])
}

// size is the length of a version of a session.
func (v *values) size(id, version int) int {
	x := mix(v.seed, uint64(id), uint64(version), 1)
	place := float64(x>>11) / (1 << 53)
	percent := int(mix(x) % 100)
	for _, b := range bands {
		if percent < b.percent {
			return int(float64(b.from) * math.Pow(float64(b.to)/float64(b.from), place))
		}
		percent -= b.percent
	}
	return maxValue
}

// value is a version of a session: a line that names it, and a filler that is
// different for each.
func (v *values) value(id, version int) string {
	b := appendHeader(make([]byte, 0, maxValue), id, version)
	return string(append(b, v.rest(id, version, len(b))...))
}

func appendHeader(b []byte, id, version int) []byte {
	b = append(b, "session "...)
	b = strconv.AppendInt(b, int64(id), 10)
	b = append(b, " version "...)
	b = strconv.AppendInt(b, int64(version), 10)
	return append(b, '\n')
}

// rest is what follows the first line of a value.
func (v *values) rest(id, version, header int) []byte {
	size := v.size(id, version)
	from := mix(v.seed, uint64(id), uint64(version), 2) % uint64(len(v.filler)-maxValue)
	return v.filler[from : from+uint64(size-header)]
}

// is tells whether text is exactly that version of that session.
func (v *values) is(text []byte, id, version int) bool {
	var room [64]byte
	header := appendHeader(room[:0], id, version)
	rest, ok := bytes.CutPrefix(text, header)
	return ok && bytes.Equal(rest, v.rest(id, version, len(header)))
}

// describe says for a message what a value is that was not expected.
func (v *values) describe(text []byte) string {
	var id, version int
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if _, err := fmt.Sscanf(string(line), "session %d version %d", &id, &version); err != nil {
		return fmt.Sprintf("%d bytes that nobody wrote", len(text))
	}
	if !v.is(text, id, version) {
		return fmt.Sprintf("a damaged version %d of session %d", version, id)
	}
	return fmt.Sprintf("version %d of session %d", version, id)
}
