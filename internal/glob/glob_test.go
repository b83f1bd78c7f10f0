package glob_test

import (
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/glob"
)

// Each row was asked of redis-server 7.0.15 (KEYS with the subject as the only
// key, PSUBSCRIBE for the pattern *).
func TestMatchAnswersAsRedis(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"*", "", false},
		{"**", "", false},
		{"", "a", false},
		{"*", "a", true},
		{"**", "a", true},
		{"a", "a", true},
		{"a", "b", false},
		{"a", "ab", false},
		{"ab", "a", false},
		{"a*", "a", true},
		{"a**", "a", true},
		{"*a", "a", true},
		{"*a", "ba", true},
		{"*a", "ab", false},
		{"h?llo", "hello", true},
		{"h?llo", "hllo", false},
		{"?", "", false},
		{"?*", "a", true},
		{"*?", "ab", true},
		{"*?c", "abc", true},
		{"h[ae]llo", "hallo", true},
		{"h[ae]llo", "hillo", false},
		{"h[^e]llo", "hallo", true},
		{"h[^e]llo", "hello", false},
		{"h[a-b]llo", "hbllo", true},
		{"h[b-a]llo", "hbllo", true},
		{"h[a-b]llo", "hcllo", false},
		{"[a-]", "a", true},
		{"[a-]", "]", true},
		{"[a-]", "-", false},
		{"[-a]", "-", true},
		{"[]", "a", false},
		{"[]a", "a", false},
		{"[^]", "a", true},
		{"[^]a", "ba", true},
		{"[", "[", false},
		{"[^", "x", true},
		{"[abc", "b", true},
		{"[abc", "bc", false},
		{`[\]]`, "]", true},
		{`[\^a]`, "^", true},
		{`[a\-z]`, "-", true},
		{`[a\-z]`, "m", false},
		{`[\a-c]`, "b", false},
		{`[\`, `\`, true},
		{`\`, `\`, true},
		{`\\`, `\`, true},
		{`\*`, "*", true},
		{`\*`, "a", false},
		{`\?\[`, "?[", true},
		{`a\`, `a\`, true},
		{"[-+]sdown", "+sdown", true},
		{"[-+]sdown", "-sdown", true},
		{"[-+]sdown", "sdown", false},
		{"*.*.*", "a.b", false},
		{"*.*.*", "a.b.c", true},
		{"a*b*c", "abcbc", true},
		{"a*[bc]*d", "axxcd", true},
		{"A", "a", false},
		{"\xff?", "\xff\x00", true},
	}
	for _, tt := range tests {
		if got := glob.Match(tt.pattern, tt.s); got != tt.want {
			t.Errorf("Match(%q, %q) = %t, want %t", tt.pattern, tt.s, got, tt.want)
		}
		if got := glob.Match([]byte(tt.pattern), []byte(tt.s)); got != tt.want {
			t.Errorf("Match of bytes (%q, %q) = %t, want %t", tt.pattern, tt.s, got, tt.want)
		}
	}
}

// Only ASCII letters fold, in literals and classes alike.
func TestMatchFoldIgnoresCase(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"MaxMemory", "maxmemory", true},
		{"max*Y", "MAXmemory", true},
		{"[A-Z]x", "mX", true},
		{"[^a]", "A", false},
		{"a", "b", false},
		{"\xc4", "\xe4", false},
	}
	for _, tt := range tests {
		if got := glob.MatchFold(tt.pattern, tt.s); got != tt.want {
			t.Errorf("MatchFold(%q, %q) = %t, want %t", tt.pattern, tt.s, got, tt.want)
		}
	}
}

// A pattern that is exponential for a matcher that backtracks over every star
// ends at once: the test would not return otherwise.
func TestMatchWorkIsBounded(t *testing.T) {
	pattern := strings.Repeat("a*", 2000) + "b"
	if glob.Match(pattern, strings.Repeat("a", 20_000)) {
		t.Error("matched a string without b")
	}
}

// Matching allocates nothing: KEYS and PUBLISH do it for every key and pattern.
func TestMatchDoesNotAllocate(t *testing.T) {
	pattern, s := []byte("sess:[a-f]*:?"), "sess:deadbeef:1"
	if n := testing.AllocsPerRun(100, func() {
		if !glob.Match(pattern, s) {
			t.Error("no match")
		}
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

// element is one part of a pattern in the model below: a star, or the set of
// bytes it accepts.
type element struct {
	star bool
	set  [256]bool
}

// elements reads a pattern as the package comment describes it.
func elements(p string) []element {
	var list []element
	for p != "" {
		var e element
		c := p[0]
		p = p[1:]
		switch {
		case c == '*':
			e.star = true
		case c == '?':
			for i := range e.set {
				e.set[i] = true
			}
		case c == '[':
			p = e.readClass(p)
		case c == '\\' && p != "":
			e.set[p[0]] = true
			p = p[1:]
		default:
			e.set[c] = true
		}
		list = append(list, e)
	}
	return list
}

func (e *element) readClass(p string) (rest string) {
	p, negated := strings.CutPrefix(p, "^")
	for p != "" && p[0] != ']' {
		switch {
		case p[0] == '\\' && len(p) > 1:
			e.set[p[1]] = true
			p = p[2:]
		case len(p) > 2 && p[1] == '-':
			for c := int(min(p[0], p[2])); c <= int(max(p[0], p[2])); c++ {
				e.set[c] = true
			}
			p = p[3:]
		default:
			e.set[p[0]] = true
			p = p[1:]
		}
	}
	for i := range e.set {
		e.set[i] = e.set[i] != negated
	}
	return strings.TrimPrefix(p, "]")
}

// modelMatch runs the pattern as a set of possible positions, one byte of s
// after the other: slow, and without any backtracking to get wrong.
func modelMatch(pattern, s string) bool {
	if s == "" {
		return pattern == ""
	}
	list := elements(pattern)
	at := make([]bool, len(list)+1)
	at[0] = true
	for i := range len(s) {
		next := make([]bool, len(list)+1)
		for j, e := range list {
			if at[j] && e.star {
				at[j+1] = true
				next[j] = true
			}
			if at[j] && !e.star && e.set[s[i]] {
				next[j+1] = true
			}
		}
		at = next
	}
	for j, e := range list {
		if at[j] && e.star {
			at[j+1] = true
		}
	}
	return at[len(list)]
}

// Match agrees with a matcher of another construction on any input.
func FuzzMatchAgreesWithModel(f *testing.F) {
	for _, seed := range [][2]string{
		{"a*b?[c-e]", "axxbyd"},
		{`[^\]a]*\*`, "b*"},
		{"[a-", "-"},
		{"**?*", "ab"},
		{"*a*a*b", "aaaaaab"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern)*len(s) > 1<<16 {
			t.Skip("the model is slow")
		}
		if got, want := glob.Match(pattern, s), modelMatch(pattern, s); got != want {
			t.Errorf("Match(%q, %q) = %t, the model says %t", pattern, s, got, want)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	for b.Loop() {
		glob.Match("sess:*:[0-9]?", "sess:0123456789abcdef0123456789abcdef:42")
	}
}

// Work is used up by what is looked at, retries included, and once it is used up
// nothing matches; with enough of it the answer is that of Match.
func TestWorkBoundsMatching(t *testing.T) {
	long := strings.Repeat("a", 1000)
	for _, test := range []struct {
		pattern, s string
		least      glob.Work // that it takes
	}{
		{"*" + long[:500] + "b", long, 200_000},
		{"*[" + strings.Repeat("b", 500) + "]", long, 500_000},
		{"a*", long, 2},
		{"**************b", "b", 15},
		{"[" + long, "a", 1000},
	} {
		enough := 4 * test.least
		if got, want := glob.MatchWithin(&enough, test.pattern, test.s), glob.Match(test.pattern, test.s); got != want || enough <= 0 {
			t.Errorf("%.20s: %v with enough work, want %v; %d is left", test.pattern, got, want, enough)
		}
		if used := 4*test.least - enough; used < test.least {
			t.Errorf("%.20s: took %d, want %d at least", test.pattern, used, test.least)
		}
		little := test.least - 1
		if glob.MatchFoldWithin(&little, test.pattern, test.s) || little > 0 {
			t.Errorf("%.20s: matched with too little work, %d is left", test.pattern, little)
		}
	}
}
