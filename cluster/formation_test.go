package cluster

import (
	"slices"
	"strings"
	"testing"
)

var three = []Peer{{"n1", "a:1"}, {"n2", "b:1"}, {"n3", "c:1"}}

// The rule of formation, case by case.
func TestDecide(t *testing.T) {
	empty := state{stage: stageEmpty, peers: three}
	ready := state{stage: stageReady, cluster: "C", peers: three}
	formed := state{stage: stageFormed, cluster: "C", peers: three}
	other := state{stage: stageReady, cluster: "D", peers: three}
	otherFormed := state{stage: stageFormed, cluster: "D", peers: three}
	list := state{stage: stageEmpty, peers: three[:2]}
	for name, tc := range map[string]struct {
		own     state
		self    string
		n2, n3  *state // answers; nil for none
		next    stage
		cluster string
		wait    string // part of what is waited for
	}{
		"the smallest names the cluster":                    {empty, "n1", &empty, &empty, stageReady, "", ""},
		"the smallest takes over a name that is there":      {empty, "n1", &ready, &empty, stageReady, "C", ""},
		"another waits for the name":                        {empty, "n0x", &empty, &empty, "", "", "n1 to name"},
		"another takes it from a mark":                      {empty, "n0x", &ready, &empty, stageReady, "C", ""},
		"nobody gets ready while one is silent":             {empty, "n1", &empty, nil, "", "", "waiting for n3"},
		"nor with a mark of one and the other silent":       {empty, "n0x", &ready, nil, "", "", "waiting for n3"},
		"an empty node never joins a formed cluster":        {empty, "n1", &formed, &ready, "", "", "takes no part until"},
		"not even if only one answers":                      {empty, "n1", nil, &formed, "", "", "takes no part until"},
		"two names at once are told":                        {empty, "n1", &ready, &other, "", "", "another cluster"},
		"another list is told":                              {empty, "n1", &empty, &list, "", "", "another list"},
		"a ready node forms when all are ready":             {ready, "n1", &ready, &ready, stageFormed, "C", ""},
		"or formed":                                         {ready, "n1", &formed, &ready, stageFormed, "C", ""},
		"a ready node waits for an empty one":               {ready, "n1", &empty, &ready, "", "", "n2 to get ready"},
		"and for a silent one":                              {ready, "n1", nil, &formed, "", "", "waiting for n2"},
		"a ready node does not join another cluster":        {ready, "n1", &ready, &otherFormed, "", "", "another cluster"},
		"a ready node whose peers are ready for another":    {ready, "n1", &other, &other, "", "", "another cluster"},
		"an empty node is told of the formed one above all": {empty, "n1", &formed, &other, "", "", "takes no part until"},
	} {
		t.Run(name, func(t *testing.T) {
			heard, missing := map[string]state{}, []string(nil)
			for id, s := range map[string]*state{"n2": tc.n2, "n3": tc.n3} {
				if s == nil {
					missing = append(missing, id)
				} else {
					heard[id] = *s
				}
			}
			next, cluster, wait := decide(&tc.own, tc.self, heard, missing)
			if next != tc.next || cluster != tc.cluster || !strings.Contains(wait, tc.wait) || (wait == "") != (tc.wait == "") {
				t.Errorf("got %q %q, waiting %q", next, cluster, wait)
			}
		})
	}
}

// formationModel is three nodes that form a cluster in an order of events that is
// given, with crashes (which lose nothing) and wiped disks.
type formationModel struct {
	nodes [3]state
	// Two nodes were formed at the same instant. A vote or an entry counts for a
	// majority only while both the asking and the answering node are formed, so before
	// that instant no node has promised anything.
	promised bool
}

func (m *formationModel) tick(i int, reach func(j int) bool, name func() string) {
	own := m.nodes[i]
	if own.stage == stageFormed {
		return
	}
	heard, missing := map[string]state{}, []string(nil)
	for j := range m.nodes {
		switch {
		case j == i:
		case reach(j):
			heard[three[j].ID] = m.nodes[j]
		default:
			missing = append(missing, three[j].ID)
		}
	}
	next, cluster, _ := decide(&own, three[i].ID, heard, missing)
	switch next {
	case stageReady:
		if cluster == "" {
			cluster = name()
		}
		m.nodes[i].stage, m.nodes[i].cluster = stageReady, cluster
	case stageFormed:
		m.nodes[i].stage = stageFormed
		m.promised = m.promised || m.formed() >= 2
	default:
	}
}

func (m *formationModel) formed() (count int) {
	for i := range m.nodes {
		if m.nodes[i].stage == stageFormed {
			count++
		}
	}
	return count
}

// In every order of events, including wiped disks: once two nodes were formed
// together, and so may have committed something, a node that is wiped is never formed
// again; and all formed nodes are in one cluster.
func FuzzFormationIsSafe(f *testing.F) {
	f.Add([]byte{0, 1, 2, 0, 1, 2, 0, 1, 2})
	f.Add([]byte{0, 1, 2, 0, 9, 1, 2, 0})
	f.Add([]byte{48, 50, 49, 48, 21, 48, 50, 215, 50, 50}) // a node formed alone is wiped, then another
	f.Fuzz(func(t *testing.T, events []byte) {
		var m formationModel
		names := 0
		for i := range m.nodes {
			m.nodes[i] = state{stage: stageEmpty, peers: three}
		}
		var wipedAfter [3]bool // wiped when something may have been promised
		for _, e := range events {
			i := int(e) % 3
			switch op := int(e) / 3 % 8; op {
			case 7: // the disk is lost
				m.nodes[i] = state{stage: stageEmpty, peers: three}
				wipedAfter[i] = wipedAfter[i] || m.promised
			default: // it asks the others, some of which may not answer
				m.tick(i, func(j int) bool { return op < 4 || op-4 == j }, func() string {
					names++
					return strings.Repeat("c", names)
				})
			}
			lost := 0
			for j := range m.nodes {
				if wipedAfter[j] {
					lost++
				}
			}
			if lost > 1 {
				return // a majority of disks is gone: nothing is promised
			}
			var clusters []string
			for j, n := range m.nodes {
				if n.stage == stageFormed {
					clusters = append(clusters, n.cluster)
					if wipedAfter[j] {
						t.Fatalf("n%d was wiped and formed again: %v", j+1, events)
					}
				}
			}
			if len(slices.Compact(clusters)) > 1 {
				t.Fatalf("two clusters: %v", clusters)
			}
		}
	})
}
