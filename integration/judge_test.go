package integration_test

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"
)

// span is a time by testkit.Now, both ends included.
type span struct{ from, to time.Duration }

func (s span) String() string {
	return fmt.Sprintf("%.3f…%.3f s", s.from.Seconds(), s.to.Seconds())
}

// claim is something said about who is master, and the time in which it was asked for and
// read. An event is not asked for: from is when it was read.
type claim struct {
	by, says string // node ids
	how      string
	span
}

// ack is a counted write that succeeded.
type ack struct {
	node  string
	value int64
	span
}

// sightings are what was seen from outside.
type sightings struct {
	claims []claim
	acks   []ack
	// silent are times in which a node was stopped, or cut off from both others.
	silent map[string][]span
	// leaving are times in which a node was asked to hand over: it passes on what
	// clients still send to it, so what it acknowledges does not prove that it is master.
	leaving map[string][]span
}

// runGap is how far two writes that follow each other may lie apart to prove that nobody
// else was master in between: an election takes longer.
const runGap = 100 * time.Millisecond

// reigns are times in which a node was known to be master: from a write it had
// acknowledged to one it was still to be asked for and acknowledged too, with no other
// node's between them, none of them far from the next, and none while it was to hand over.
func (h *sightings) reigns() map[string][]span {
	acks := slices.Clone(h.acks)
	slices.SortFunc(acks, func(a, b ack) int { return cmp.Compare(a.value, b.value) })
	known := map[string][]span{}
	for first := 0; first < len(acks); {
		last := first
		for next := last + 1; next < len(acks); next++ {
			a, b := &acks[last], &acks[next]
			if a.node != b.node || b.value != a.value+1 || b.from-a.to > runGap || overlaps(h.leaving[b.node], b.span) {
				break
			}
			last = next
		}
		if run := (span{acks[first].to, acks[last].from}); run.from < run.to {
			known[acks[first].node] = append(known[acks[first].node], run)
		}
		first = last + 1
	}
	return known
}

// joined are the spans without overlaps, in order.
func joined(list []span) []span {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	var out []span
	for _, s := range list {
		if n := len(out); n > 0 && s.from <= out[n-1].to {
			out[n-1].to = max(out[n-1].to, s.to)
			continue
		}
		out = append(out, s)
	}
	return out
}

// overlaps tells whether a part of s lies in one of the spans.
func overlaps(list []span, s span) bool {
	return slices.ContainsFunc(list, func(k span) bool { return k.from <= s.to && s.from <= k.to })
}

// within tells whether s lies in one of the spans as a whole.
func within(list []span, s span) bool {
	return slices.ContainsFunc(list, func(k span) bool { return k.from < s.from && s.to < k.to })
}

// judge returns what P3 forbids: writes of two masters, and claims that were true at no
// instant at which they had to be. bound is the age that claims about others may have. It
// returns also how many claims could have been found wrong.
func (h *sightings) judge(bound time.Duration) (wrong []string, judged int) {
	wrong = h.split()
	known := h.reigns()
	ids := map[string]bool{}
	for _, c := range h.claims {
		ids[c.by], ids[c.says] = true, true
	}
	never := map[string][]span{} // when a node was certainly not master
	var all []span
	for id := range ids {
		list := slices.Clone(h.silent[id])
		for other, spans := range known {
			if other != id {
				list = append(list, spans...)
			}
		}
		never[id] = joined(list)
		all = append(all, never[id]...)
	}
	all = joined(all)
	for _, c := range h.claims {
		must := c.span
		if c.by != c.says || c.how == "event" {
			must.from -= bound
		}
		if within(all, must) {
			judged++
		}
		if within(never[c.says], must) {
			wrong = append(wrong, fmt.Sprintf("%s said at %v by %s that %s is master, which it was at no time in %v", c.by, c.span, c.how, c.says, must))
		}
	}
	return wrong, judged
}

// split returns signs of two masters that accept writes: the values of one counter that
// are told twice, or not in the order of time.
func (h *sightings) split() (wrong []string) {
	acks := slices.Clone(h.acks)
	slices.SortFunc(acks, func(a, b ack) int { return cmp.Compare(a.value, b.value) })
	latest := span{from: -1}
	for i, a := range acks {
		if i > 0 && a.value == acks[i-1].value {
			wrong = append(wrong, fmt.Sprintf("%s and %s have both counted to %d", acks[i-1].node, a.node, a.value))
		}
		if a.to < latest.from {
			wrong = append(wrong, fmt.Sprintf("%s counted to %d before a lower number was asked for", a.node, a.value))
		}
		latest.from = max(latest.from, a.from)
	}
	return wrong
}

// P3. The judge of histories finds what is wrong and nothing else.
func TestJudgeOfMasters(t *testing.T) {
	const ms = time.Millisecond
	at := func(from, to int) span { return span{time.Duration(from) * ms, time.Duration(to) * ms} }
	var acks []ack
	value := int64(0)
	write := func(node string, from, to int) { // one write of 4 ms every 10 ms
		for ; from < to; from += 10 {
			value++
			acks = append(acks, ack{node, value, at(from, from+4)})
		}
	}
	write("a", 0, 1000)
	write("b", 2000, 4000)
	for name, tt := range map[string]struct {
		claims  []claim
		extra   []ack
		silent  map[string][]span
		leaving map[string][]span
		wrong   bool
	}{
		"itself while it is":              {claims: []claim{{"a", "a", "ROLE", at(500, 501)}}},
		"itself when nobody is known":     {claims: []claim{{"c", "c", "ROLE", at(1500, 1501)}}},
		"itself, asked before, read late": {claims: []claim{{"a", "a", "ROLE", at(900, 3000)}}},
		"itself while another is":         {claims: []claim{{"a", "a", "ROLE", at(2100, 2101)}}, wrong: true},
		"while the last one passes on": {
			claims: []claim{{"b", "b", "ROLE", at(900, 901)}}, leaving: map[string][]span{"a": {at(800, 1000)}},
		},
		"before the last one was to hand over": {
			claims: []claim{{"b", "b", "ROLE", at(700, 701)}}, leaving: map[string][]span{"a": {at(800, 1000)}}, wrong: true,
		},
		"another, just in time": {claims: []claim{{"c", "a", "ROLE", at(2400, 2401)}}},
		"another, too old":      {claims: []claim{{"c", "a", "ROLE", at(2600, 2601)}}, wrong: true},
		"an event about itself": {claims: []claim{{"a", "a", "event", at(2400, 2400)}}},
		"an event, too old":     {claims: []claim{{"c", "a", "event", at(2600, 2600)}}, wrong: true},
		"one that was stopped": {
			claims: []claim{{"c", "a", "ROLE", at(1700, 1701)}, {"c", "a", "ROLE", at(1300, 1301)}},
			silent: map[string][]span{"a": {at(1000, 1950)}}, wrong: true,
		},
		"silent and then replaced": {
			claims: []claim{{"c", "a", "ROLE", at(2300, 2301)}}, silent: map[string][]span{"a": {at(1000, 2100)}}, wrong: true,
		},
		"two count to the same":     {extra: []ack{{"c", 150, at(2500, 2501)}}, wrong: true},
		"an old master goes on":     {extra: []ack{{"a", 101, at(2200, 2204)}}, wrong: true},
		"a number from the future":  {extra: []ack{{"a", 400, at(10, 14)}}, wrong: true},
		"an unknown one in between": {extra: []ack{{"b", 302, at(4100, 4104)}}},
	} {
		h := sightings{claims: tt.claims, acks: append(slices.Clone(acks), tt.extra...), silent: tt.silent, leaving: tt.leaving}
		if wrong, _ := h.judge(500 * ms); (len(wrong) > 0) != tt.wrong {
			t.Errorf("%s: wrong is %q, want any: %t", name, wrong, tt.wrong)
		}
	}
}
