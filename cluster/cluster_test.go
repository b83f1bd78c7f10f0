package cluster_test

import (
	"testing"
)

// Three empty nodes form a cluster, elect a leader that can be confirmed, name it on
// every node, and what is written is on all of them.
func TestThreeNodesFormElectAndReplicate(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	c.put("k", "v")
	for _, m := range c.live() {
		c.sees(m, "k", "v")
		c.eventually("all name "+l.id+", as "+m.id+" does", func() bool {
			v := m.node.View()
			return v.Leader == l.id && v.Ready && v.Quorum && len(v.Voters) == 3 && v.IsLeader == (m == l)
		})
	}
}
