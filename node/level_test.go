package node

import (
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// A cluster whose nodes all speak the newest level soon has it, on every node.
func TestLevelIsRaisedWhenAllSpeakIt(t *testing.T) {
	all := trio(t, nil)
	testkit.Eventually(t, soon, "the newest level", func() error {
		for _, m := range all {
			if got := m.info()["raft_apply_level"]; got != fmt.Sprint(raftfsm.Level) {
				return fmt.Errorf("%s has level %s", m.cfg.NodeID, got)
			}
		}
		return nil
	})
}

// The level every node speaks is known only while all voters are here, tell a record
// and have it in the log; one that speaks less holds it down, be it a voter or not.
func TestSpokenLevel(t *testing.T) {
	record := func(id string, level int) store.Member {
		return store.Member{ID: id, RunID: fmt.Sprintf("%040d", 1), Level: level}
	}
	const self, a, b, c = "self", "a", "b", "c"
	for name, x := range map[string]struct {
		told, recorded map[string]int
		away           string
		voters         []string
		want           int
	}{
		"alone":                {nil, map[string]int{self: 3}, "", []string{self}, 3},
		"alone, not recorded":  {nil, nil, "", []string{self}, 0},
		"all speak it":         {map[string]int{a: 3, b: 3}, map[string]int{self: 3, a: 3, b: 3}, "", []string{self, a, b}, 3},
		"one speaks less":      {map[string]int{a: 3, b: 2}, map[string]int{self: 3, a: 3, b: 2}, "", []string{self, a, b}, 2},
		"one is away":          {map[string]int{a: 3, b: 3}, map[string]int{self: 3, a: 3, b: 3}, a, []string{self, a, b}, 0},
		"one tells nothing":    {map[string]int{a: 3}, map[string]int{self: 3, a: 3, b: 3}, "", []string{self, a, b}, 0},
		"not in the log yet":   {map[string]int{a: 3, b: 3}, map[string]int{self: 3, a: 3, b: 2}, "", []string{self, a, b}, 0},
		"a downgrade":          {map[string]int{a: 3, b: 2}, map[string]int{self: 3, a: 3, b: 3}, "", []string{self, a, b}, 0},
		"no voter speaks less": {map[string]int{a: 3, b: 3, c: 1}, map[string]int{self: 3, a: 3, b: 3}, "", []string{self, a, b}, 1},
		"no voter, away":       {map[string]int{a: 3, b: 3, c: 1}, map[string]int{self: 3, a: 3, b: 3}, c, []string{self, a, b}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			n := &Node{self: record(self, 3)}
			sys := store.System{Members: map[string]store.Member{}}
			for id, level := range x.recorded {
				sys.Members[id] = record(id, level)
			}
			n.system.Store(&sys)
			v := cluster.View{Self: self, Voters: slices.Clone(x.voters)}
			for _, id := range []string{a, b, c} {
				level, tells := x.told[id]
				p := cluster.PeerView{ID: id, Contact: id != x.away}
				if tells {
					p.Info = source{&Node{self: record(id, level), settings: config.NewSettings(config.Default())}}.Info()
				}
				v.Peers = append(v.Peers, p)
			}
			if got := n.spoken(&v); got != x.want {
				t.Errorf("%d, want %d", got, x.want)
			}
		})
	}
}
