package sentinelapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/sentinelapi"
)

// logged is the cluster as the log has it, with a change.
func logged(change func(v *sentinelapi.View)) sentinelapi.View {
	v := setup()
	v.Recorded, v.Term, v.Quorum = true, 4, 2
	for i := range v.Nodes {
		v.Nodes[i].Process = uint64(10 + i)
	}
	if change != nil {
		change(&v)
	}
	return v
}

// elect makes n2 the master in the next term.
func elect(v *sentinelapi.View) { v.Master, v.Term = "n2", 5 }

// The names of instances while n1, or n2, is master.
func named(kind string, node, master int) string {
	tail := fmt.Sprintf(" @ mymaster 127.0.0.1 %d", 17100+master)
	if kind == "slave" {
		return fmt.Sprintf("slave 127.0.0.1:%d 127.0.0.1 %d", 17100+node, 17100+node) + tail
	}
	return fmt.Sprintf("sentinel %s 127.0.0.1 %d", strings.Repeat(fmt.Sprint(node), 40), 17200+node) + tail
}

// P8. What becomes of the nodes is told in the words of Sentinel; a failover with the
// story that led to it, +switch-master with all replicas right behind it.
func TestDiffTellsWhatBecomesOfNodes(t *testing.T) {
	down := func(v *sentinelapi.View) { v.Nodes[2].Down = true }
	crashed := func(v *sentinelapi.View) {
		elect(v)
		v.Nodes[0].Down, v.Nodes[0].Deposed = true, true
	}
	handed := []string{
		"+new-epoch 5", "+try-failover master mymaster 127.0.0.1 17101", "+elected-leader master mymaster 127.0.0.1 17101",
		"+selected-slave " + named("slave", 2, 1), "-role-change " + named("slave", 2, 1) + " new reported role is master",
		"+promoted-slave " + named("slave", 2, 1), "+slave-reconf-done " + named("slave", 3, 1),
		"+failover-end master mymaster 127.0.0.1 17101", "+switch-master mymaster 127.0.0.1 17101 127.0.0.1 17102",
		"+slave " + named("slave", 1, 2), "+slave " + named("slave", 3, 2),
		"switch-master mymaster 127.0.0.1 17101 127.0.0.1 17102", "failover-end master mymaster 127.0.0.1 17101", "selected-slave " + named("slave", 2, 1),
	}
	converted := []string{"+convert-to-slave " + named("slave", 1, 2), "+role-change " + named("slave", 1, 2) + " new reported role is slave"}
	crash := slices.Concat([]string{"+sdown master mymaster 127.0.0.1 17101", "+odown master mymaster 127.0.0.1 17101 #quorum 2/2"},
		handed[:7], []string{"-odown master mymaster 127.0.0.1 17101"}, handed[7:], []string{"+sdown " + named("slave", 1, 2), "+sdown " + named("sentinel", 1, 2)})
	for name, tt := range map[string]struct {
		prev, next sentinelapi.View
		want       []string
	}{
		"nothing":              {logged(nil), logged(nil), nil},
		"another term":         {logged(nil), logged(func(v *sentinelapi.View) { v.Term = 9 }), nil},
		"a replica goes":       {logged(nil), logged(down), []string{"+sdown " + named("slave", 3, 1), "+sdown " + named("sentinel", 3, 1)}},
		"it stays away":        {logged(down), logged(down), nil},
		"it comes back":        {logged(down), logged(nil), []string{"-sdown " + named("slave", 3, 1), "-sdown " + named("sentinel", 3, 1)}},
		"the master is marked": {logged(nil), logged(func(v *sentinelapi.View) { v.Nodes[0].Down = true }), nil},
		"it comes back another process": {logged(down), logged(func(v *sentinelapi.View) { v.Nodes[2].Process = 99 }), []string{
			"+reboot " + named("slave", 3, 1), "-sdown " + named("slave", 3, 1), "-sdown " + named("sentinel", 3, 1),
		}},
		"first heard of":         {logged(func(v *sentinelapi.View) { v.Nodes[2].Process = 0 }), logged(nil), nil},
		"the master is rebooted": {logged(nil), logged(func(v *sentinelapi.View) { v.Nodes[0].Process = 99 }), []string{"+reboot master mymaster 127.0.0.1 17101"}},
		"a handover":             {logged(nil), logged(elect), slices.Concat(handed, converted)},
		"a crash":                {logged(nil), logged(crashed), crash},
		"the old one is back": {logged(crashed), logged(elect), slices.Concat(
			[]string{"-sdown " + named("slave", 1, 2), "-sdown " + named("sentinel", 1, 2)}, converted)},
		"a Sentinel port moves": {logged(nil), logged(func(v *sentinelapi.View) { v.Nodes[2].Sentinel.Port = 5 }), []string{
			"+sentinel-address-switch master mymaster 127.0.0.1 17101 ip 127.0.0.1 port 5 for " + strings.Repeat("3", 40),
			"+sentinel sentinel " + strings.Repeat("3", 40) + " 127.0.0.1 5 @ mymaster 127.0.0.1 17101",
		}},
		"a node leaves": {logged(nil), logged(func(v *sentinelapi.View) { v.Nodes = v.Nodes[:2] }), []string{
			"+sdown " + named("slave", 3, 1), "+sdown " + named("sentinel", 3, 1), "+reset-master master mymaster 127.0.0.1 17101",
			"+slave " + named("slave", 2, 1), "+sentinel " + named("sentinel", 1, 1), "+sentinel " + named("sentinel", 2, 1),
		}},
		"one that was down leaves": {logged(down), logged(func(v *sentinelapi.View) { v.Nodes = v.Nodes[:2] }), []string{
			"+reset-master master mymaster 127.0.0.1 17101",
			"+slave " + named("slave", 2, 1), "+sentinel " + named("sentinel", 1, 1), "+sentinel " + named("sentinel", 2, 1),
		}},
	} {
		var got []string
		for _, m := range sentinelapi.Diff(tt.prev, tt.next) {
			got = append(got, m.Channel+" "+m.Payload)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
		}
	}
}

// P8. However views follow each other, every +switch-master is followed at once by one
// +slave for each replica, and what is down was said to be.
func TestDiffsAddUp(t *testing.T) {
	prev, told := logged(nil), map[string]bool{}
	for i := range 200 {
		next := logged(func(v *sentinelapi.View) {
			v.Term = uint64(5 + i)
			v.Master = fmt.Sprint("n", 1+i*i%3)
			for k := range v.Nodes {
				v.Nodes[k].Down = i>>k&1 == 1
				v.Nodes[k].Process = uint64(i / (k + 3))
			}
		})
		list := sentinelapi.Diff(prev, next)
		for k, m := range list {
			words := strings.Fields(m.Payload)
			switch {
			case m.Channel == "+switch-master":
				for _, s := range list[k+1 : k+3] {
					if s.Channel != "+slave" || !strings.HasSuffix(s.Payload, words[3]+" "+words[4]) {
						t.Fatalf("%d: %v follows %v", i, s, m)
					}
				}
			case m.Channel == "+sdown" && words[0] == "sentinel", m.Channel == "-sdown" && words[0] == "sentinel":
				if told[words[1]] == (m.Channel == "+sdown") {
					t.Fatalf("%d: %v is said twice", i, m)
				}
				told[words[1]] = m.Channel == "+sdown"
			}
		}
		for _, n := range next.Nodes {
			if want := n.Down && n.ID != next.Master; told[n.RunID] != want {
				t.Fatalf("%d: %s down is %t, told %t", i, n.ID, want, told[n.RunID])
			}
		}
		prev = next
	}
}
