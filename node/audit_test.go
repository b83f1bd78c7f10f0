package node

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/store"
)

// often makes a checkpoint of every few writes.
var often = []string{"digest-every", "10"}

// disturb changes the state of one node alone, as a defect would.
func disturb(m *member) {
	m.node.state.Update(1, 1, func(tx *store.Tx) {
		tx.Begin(0)
		tx.Set([]byte("only here"), store.StringValue([]byte("x")), 0)
	})
}

// writeSome makes n entries.
func writeSome(t testing.TB, master *member, n int) {
	t.Helper()
	c := master.dial()
	defer c.Close()
	for i := range n {
		c.MustDo(t, "SET", fmt.Sprint("k", i), "v")
	}
}

// digestsOf is RAFT DIGEST of a node.
func (m *member) digests() respserver.DigestStatus { return m.node.Digests() }

// P6: nodes that agree say so, on every node, and nobody raises an alarm.
func TestCheckpointsAgree(t *testing.T) {
	always := t
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, slices.Concat(often, times)...)
		writeSome(t, waitMaster(t, all...), 100)
		testkit.Eventually(t, soon, "a checkpoint all nodes agree on", func() error {
			for _, m := range all {
				s := m.digests()
				if s.Verdict != respserver.VerdictAgree || s.Agreed == 0 || len(s.Nodes) != 3 {
					return fmt.Errorf("%s: %+v", m.cfg.NodeID, s)
				}
				if s.Nodes[0].ID != m.cfg.NodeID || s.Nodes[0].Found != s.Nodes[1].Found || s.Nodes[1].Found != s.Nodes[2].Kept {
					return fmt.Errorf("%s: %+v", m.cfg.NodeID, s.Nodes)
				}
			}
			return nil
		})
		reply := all[0].dial().MustDo(t, "RAFT", "DIGEST")
		if len(reply.Elems) != 8 || string(reply.Elems[3].Text) != respserver.VerdictAgree {
			t.Errorf("RAFT DIGEST answers %v", reply)
		}
		for _, m := range all {
			if m.node.audit.stats.differs.Load() || strings.Contains(m.log.String(), "digests differ") {
				always.Errorf("%s raises an alarm", m.cfg.NodeID)
			}
		}
	})
}

// P6: of three nodes the one whose state differs stops and says why; the others
// serve on. Once it is gone, nobody is alarmed any more by what it had.
func TestOddNodeStops(t *testing.T) {
	for _, role := range []string{"master", "replica"} {
		t.Run(role, func(t *testing.T) {
			steadily(t, func(t testing.TB, times []string) {
				all := trio(t, nil, slices.Concat(often, times)...)
				odd := waitMaster(t, all...)
				if role == "replica" {
					odd = others(all, odd)[0]
				}
				rest := others(all, odd)
				disturb(odd)
				stopped := make(chan error, 1)
				go func() { stopped <- odd.wait(soon) }()
				for range 2000 {
					for _, m := range all {
						_, _ = m.do("SET", "k", "v") // only the master takes it
					}
					if strings.Contains(odd.log.String(), "is damaged") {
						break
					}
				}
				if err := <-stopped; !errors.Is(err, errDigest) || !strings.Contains(err.Error(), "at log index") {
					t.Fatalf("%s ended with %v", odd.cfg.NodeID, err)
				}
				master := waitMaster(t, rest...)
				writeSome(t, master, 100)
				testkit.Eventually(t, soon, "the others agree", func() error {
					for _, m := range rest {
						if s := m.digests(); s.Verdict != respserver.VerdictAgree || m.node.audit.stats.differs.Load() {
							return fmt.Errorf("%s: %+v", m.cfg.NodeID, s)
						}
					}
					return nil
				})
			})
		})
	}
}

// P6: with two digests nobody can say who is right: both go on and raise an alarm.
func TestTwoDigestsRaiseAnAlarm(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, slices.Concat(often, times)...)
		master := waitMaster(t, all...)
		gone := others(all, master)[0]
		gone.halt()
		disturb(master)
		writeSome(t, master, 60)
		for _, m := range others(all, gone) {
			testkit.Eventually(t, soon, m.cfg.NodeID+" raises an alarm", func() error {
				s := m.digests()
				return testkit.Check(s.Verdict == respserver.VerdictDiffer && m.node.audit.stats.differs.Load() &&
					strings.Contains(m.log.String(), "digests differ"), "%+v", s)
			})
		}
		writeSome(t, waitMaster(t, others(all, gone)...), 5)
	})
}

// A node alone compares its contents with its own record, and 0 compares nothing.
func TestLoneNodeChecksItself(t *testing.T) {
	m := single(t, often...)
	writeSome(t, m, 50)
	testkit.Eventually(t, soon, "a checkpoint", func() error {
		s := m.digests()
		return testkit.Check(s.Verdict == respserver.VerdictAgree && len(s.Nodes) == 1, "%+v", s)
	})
	off := single(t, "digest-every", "0")
	writeSome(t, off, 50)
	if s := off.digests(); s.Verdict != respserver.VerdictNone || s.Index != 0 || len(s.Nodes) != 0 {
		t.Errorf("without checkpoints: %+v", s)
	}
}
