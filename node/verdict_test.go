package node

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// at is what a node found at index 7, its own record being right.
func at7(found uint64) digests { return digests{index: 7, kept: found, found: found} }

// A node has to stop exactly if most voters have one digest and it another one.
// Anything else that differs is an alarm, and never a reason for most nodes to stop.
func TestVerdicts(t *testing.T) {
	three, five := []string{"a", "b", "c"}, []string{"a", "b", "c", "d", "e"}
	for name, c := range map[string]struct {
		own    digests
		told   map[string]digests
		voters []string
		want   string
	}{
		"alone":                  {at7(1), nil, []string{"a"}, "majority"},
		"nobody told":            {at7(1), nil, three, ""},
		"another index":          {at7(1), map[string]digests{"b": {index: 8, found: 2}}, three, ""},
		"one agrees":             {at7(1), map[string]digests{"b": at7(1)}, three, "majority agree b"},
		"all agree":              {at7(1), map[string]digests{"b": at7(1), "c": at7(1)}, three, "majority agree b,c"},
		"the odd one is another": {at7(1), map[string]digests{"b": at7(1), "c": at7(2)}, three, "majority agree b differ c"},
		"the odd one is this":    {at7(1), map[string]digests{"b": at7(2), "c": at7(2)}, three, "outvoted differ b,c"},
		"three opinions":         {at7(1), map[string]digests{"b": at7(2), "c": at7(3)}, three, "differ b,c"},
		"two differ":             {at7(1), map[string]digests{"b": at7(2)}, three, "differ b"},
		"two voters differ":      {at7(1), map[string]digests{"b": at7(2)}, []string{"a", "b"}, "differ b"},
		"two of five differ":     {at7(1), map[string]digests{"b": at7(2), "c": at7(2)}, five, "differ b,c"},
		"three of five":          {at7(1), map[string]digests{"b": at7(2), "c": at7(2), "d": at7(2)}, five, "outvoted differ b,c,d"},
		"no vote of its own":     {at7(1), map[string]digests{"b": at7(2), "c": at7(2)}, []string{"b", "c", "d"}, "outvoted differ b,c"},
		"no voters yet":          {at7(1), map[string]digests{"b": at7(2)}, nil, "differ b"},
		"only a non-voter":       {at7(1), map[string]digests{"b": at7(1), "x": at7(2), "y": at7(2)}, three, "majority agree b differ x,y"},
		"record damaged":         {digests{7, 9, 1}, map[string]digests{"b": at7(1)}, three, "majority agree b"},
	} {
		t.Run(name, func(t *testing.T) {
			v := judge("a", c.own, c.told, c.voters)
			var got []string
			if v.majority {
				got = append(got, "majority")
			}
			if v.outvoted {
				got = append(got, "outvoted")
			}
			if len(v.agree) > 0 {
				got = append(got, "agree "+strings.Join(v.agree, ","))
			}
			if len(v.differ) > 0 {
				got = append(got, "differ "+strings.Join(v.differ, ","))
			}
			if fmt.Sprint(strings.Join(got, " ")) != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// Whatever the nodes have found, those that stop are fewer than half of the voters.
func TestOnlyAMinorityEverStops(t *testing.T) {
	for size := 1; size <= 5; size++ {
		var voters []string
		for i := range size {
			voters = append(voters, fmt.Sprint("n", i))
		}
		cases := 1
		for range size {
			cases *= 3
		}
		for c := range cases { // every assignment of three digests
			all := map[string]digests{}
			for i, rest := 0, c; i < size; i, rest = i+1, rest/3 {
				all[voters[i]] = at7(uint64(rest % 3))
			}
			stop := 0
			for _, id := range voters {
				if judge(id, all[id], all, voters).outvoted {
					stop++
				}
			}
			if 2*stop >= size {
				t.Fatalf("%d of %d stop with %v", stop, size, all)
			}
		}
	}
}

// The last few checkpoints of a node are kept, in order, each once.
func TestRecentDigests(t *testing.T) {
	var r recent
	for _, index := range []uint64{5, 3, 9, 7, 3, 11, 13, 15, 17, 19, 1} {
		r = r.add(digests{index: index, found: index * 2})
	}
	if len(r) != keptRecent || !slices.IsSortedFunc(r, func(a, b digests) int { return int(a.index) - int(b.index) }) {
		t.Errorf("kept %v", r)
	}
	if d, ok := r.latest(); !ok || d.index != 19 {
		t.Errorf("the latest is %v", d)
	}
	if d, ok := r.at(7); !ok || d.found != 14 {
		t.Errorf("at 7 is %v", d)
	}
	if _, ok := r.at(4); ok {
		t.Error("found what nobody added")
	}
}

// What one node tells, another one hears; anything else is refused and never read
// beyond its limits.
func TestDigestExchange(t *testing.T) {
	var a audit
	a.init()
	for i := range uint64(20) {
		a.mu.own = a.mu.own.add(digests{i, i + 100, i + 200})
	}
	list, err := readDigests(bytes.NewReader(a.tell()))
	if err != nil || !slices.Equal(list, a.mu.own) {
		t.Errorf("heard %v, %v", list, err)
	}
	whole := a.tell()
	for n := range len(whole) {
		if _, err := readDigests(bytes.NewReader(whole[:n])); err == nil {
			t.Errorf("%d of %d bytes were enough", n, len(whole))
		}
	}
	for _, head := range [][]byte{{digestFormat + 1, 1}, {digestFormat, keptRecent + 1}, {0, 0}} {
		if _, err := readDigests(bytes.NewReader(append(head, make([]byte, 1000)...))); err == nil {
			t.Errorf("% x was taken", head)
		}
	}
}

// FuzzReadDigests: no bytes of another node do harm.
func FuzzReadDigests(f *testing.F) {
	f.Add(binary.BigEndian.AppendUint64([]byte{digestFormat, 1}, 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		if list, err := readDigests(bytes.NewReader(text)); err == nil && len(list) > keptRecent {
			t.Errorf("%d digests", len(list))
		}
	})
}
