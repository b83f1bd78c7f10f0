package config

import (
	"fmt"
	"strings"
)

// Unknown is the error for a name that no directive has. It suggests the nearest
// one. It repeats the name only if that looks like one: it may be the start of
// a misplaced secret.
func Unknown(name string) error {
	if !looksLikeName(name) {
		return fmt.Errorf("unknown directive")
	}
	if best := nearest(strings.ToLower(name)); best != "" {
		return fmt.Errorf("unknown directive '%s'; did you mean '%s'?", name, best)
	}
	return fmt.Errorf("unknown directive '%s'", name)
}

func looksLikeName(name string) bool {
	const longest = 40
	ok := name != "" && len(name) <= longest
	for _, r := range name {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_')
	}
	return ok
}

// nearest is the directive whose name takes the fewest edits, or "" if all take
// too many to be meant.
func nearest(name string) string {
	best, least := "", max(2, len(name)/3)+1
	for i := range directives {
		d := &directives[i]
		if n := distance(name, d.Name); n < least {
			best, least = d.Name, n
		}
	}
	return best
}

// distance is how many insertions, deletions, replacements and swaps of
// neighbours turn a into b (the optimal string alignment distance).
func distance(a, b string) int {
	var before, above []int // the last two rows
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := above[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			row[j] = min(above[j]+1, row[j-1]+1, replaced)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
