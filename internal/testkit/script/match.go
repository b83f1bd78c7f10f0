package script

import (
	"regexp"
	"strconv"
	"strings"
)

var maskText = regexp.MustCompile(`<any>|<int>|<int -?\d+\.\.-?\d+>|<float>`)

// matches tells whether a reply is what a script wants, masks included.
func matches(want, got string) bool {
	if want == got {
		return true
	}
	masks := maskText.FindAllStringIndex(want, -1)
	if masks == nil {
		return false
	}
	var pattern strings.Builder
	var ranges []string // of each group, empty for no range
	pattern.WriteString(`(?s)^`)
	at := 0
	for _, m := range masks {
		pattern.WriteString(regexp.QuoteMeta(want[at:m[0]]))
		switch mask := want[m[0]:m[1]]; mask {
		case "<any>":
			pattern.WriteString(`(.*)`)
			ranges = append(ranges, "")
		case "<float>":
			pattern.WriteString(`(-?[0-9.]+)`)
			ranges = append(ranges, "")
		default:
			pattern.WriteString(`(-?[0-9]+)`)
			ranges = append(ranges, strings.TrimSpace(strings.Trim(mask, "<int>")))
		}
		at = m[1]
	}
	pattern.WriteString(regexp.QuoteMeta(want[at:]) + `$`)
	found := regexp.MustCompile(pattern.String()).FindStringSubmatch(got)
	if found == nil {
		return false
	}
	for i, r := range ranges {
		if !within(r, found[i+1]) {
			return false
		}
	}
	return true
}

// within tells whether number lies in a range low..high; an empty range holds all.
func within(bounds, number string) bool {
	low, high, ok := strings.Cut(bounds, "..")
	if !ok {
		return true
	}
	n, err := strconv.ParseInt(number, 10, 64)
	a, errLow := strconv.ParseInt(low, 10, 64)
	b, errHigh := strconv.ParseInt(high, 10, 64)
	return err == nil && errLow == nil && errHigh == nil && a <= n && n <= b
}
