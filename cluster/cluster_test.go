package cluster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
)

// Three empty nodes form a cluster, elect a leader that can be confirmed, name it on
// every node, and what is written is on all of them; with both log stores.
func TestThreeNodesFormElectAndReplicate(t *testing.T) {
	for _, store := range []string{cluster.LogStoreWAL, cluster.LogStoreBolt} {
		t.Run(store, func(t *testing.T) {
			c := started(t, func(cfg *cluster.Config) { cfg.Log.Store = store })
			c.put("k", "v")
			for _, m := range c.live() {
				c.sees(m, "k", "v")
				c.eventually(m.id+" names the leader, and has records and indexes of the others", func() bool {
					l, v := c.leader(), m.node.View()
					for _, p := range v.Peers {
						if string(p.Info) != "info of "+p.ID || !p.Contact || p.Applied == 0 || m == l && p.Acked == 0 {
							return false
						}
					}
					return v.Leader == l.id && v.Ready && v.Quorum && len(v.Voters) == 3 && v.IsLeader == (m == l)
				})
			}
		})
	}
}

// raft asks before it votes: a node that was away does not depose a leader.
func TestTransportKeepsPreVote(t *testing.T) {
	if !cluster.PreVote() {
		t.Error("the transport hides pre-votes from raft")
	}
}

// A leader knows whether the one before it has handed over to it or was lost.
func TestLeaderKnowsOfAHandover(t *testing.T) {
	told(t, nil, func(t testing.TB, c *trio) {
		old := c.leader()
		if old.node.View().Transferred {
			t.Error("the first leader has it from nobody")
		}
		to := c.others(old)[0]
		if err := old.node.HandOver(to.id); err != nil {
			t.Fatal(err)
		}
		if l := c.leader(); l != to || !l.node.View().Transferred {
			t.Fatalf("%s leads, by a handover: %t", l.id, l.node.View().Transferred)
		}
		c.kill(to.id)
		if l := c.leader(); l.node.View().Transferred {
			t.Errorf("%s leads by a handover although the leader was lost", l.id)
		}
	})
}

// When the leader is gone another one is elected, knows every acknowledged write,
// and the old one comes back as its follower.
func TestFailoverKeepsAcknowledgedWrites(t *testing.T) {
	c := started(t, nil)
	for round := range 3 {
		c.put(fmt.Sprint("k", round), "v")
		old := c.leader()
		c.kill(old.id)
		l := c.leader()
		for i := range round + 1 {
			if got := l.fsm.get(fmt.Sprint("k", i)); got != "v" {
				t.Fatalf("k%d is %q on the new leader", i, got)
			}
		}
		c.put(fmt.Sprint("after", round), "v")
		back := c.start(old.id)
		c.sees(back, fmt.Sprint("after", round), "v")
		c.eventually("the old leader is ready", func() bool { return back.node.View().Ready })
	}
}

// All nodes stopped and started again in another order: everything is there.
func TestRestartOfAllKeepsEverything(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	id := c.leader().node.View().Cluster
	for _, n := range c.ids {
		c.kill(n)
	}
	for _, n := range []string{"n3", "n1", "n2"} {
		c.start(n)
	}
	l := c.leader()
	c.sees(l, "k", "v")
	if got := l.node.View().Cluster; got != id || id == "" {
		t.Errorf("cluster %q became %q", id, got)
	}
}

// A node that was restarted answers LOADING until it has what the master had when
// it came back, and then never again.
func TestNodeIsReadyOnceItHasCaughtUp(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	m := c.others(l)[0]
	c.kill(m.id)
	for i := range 50 {
		c.put(fmt.Sprint("k", i), "v")
	}
	m = c.start(m.id)
	c.eventually("ready", func() bool {
		if !m.node.View().Ready {
			return false
		}
		if got := m.fsm.get("k49"); got != "v" {
			t.Errorf("ready without the last write: %q", got)
		}
		return true
	})
	c.kill(l.id)
	c.leader()
	if !m.node.View().Ready {
		t.Error("not ready any more")
	}
}

// A leader that is cut off stops to claim and to be named, and so does every node
// without a majority; nobody without a majority names a master for longer than two
// election timeouts.
func TestMinorityNamesNoMaster(t *testing.T) {
	c := started(t, nil)
	old := c.leader()
	rest := c.others(old)
	c.wires.isolate(old.id, rest[0].id, rest[1].id)
	c.eventually("the old leader gives up", func() bool {
		v := old.node.View()
		return !v.IsLeader && v.Leader == "" && !v.Quorum
	})
	for _, m := range rest {
		c.eventually(m.id+" names the new one", func() bool {
			return m.node.View().Leader == c.leaderAmong(rest[0].id, rest[1].id).id
		})
	}
	if v := old.node.View(); v.Leader != "" || v.IsLeader {
		t.Errorf("the cut off node says %+v", v)
	}
	c.put("k", "v")
	c.wires.heal()
	c.sees(old, "k", "v")
	c.eventually("the old one names who leads", func() bool { return old.node.View().Leader == c.leader().id })
}

// A leader that hears nobody, while all others hear it, does not stay: it cannot
// commit and is not confirmed.
func TestLeaderThatHearsNobodyStopsClaiming(t *testing.T) {
	c := started(t, nil)
	old := c.leader()
	rest := c.others(old)
	for _, m := range rest {
		c.wires.hold(m.id, old.id)
	}
	c.eventually("the deaf leader gives up", func() bool { return !old.node.View().IsLeader })
	if err := confirm(old, 100*time.Millisecond); err == nil {
		t.Error("a leader that hears nobody was confirmed")
	}
	l := c.leaderAmong(rest[0].id, rest[1].id)
	c.wires.heal()
	c.eventually("all name one master", func() bool {
		for _, m := range c.live() {
			if v := m.node.View(); v.Leader == "" || v.Leader != l.node.View().Leader {
				return false
			}
		}
		return true
	})
}

// Appends resume soon after a follower was away for so long that raft alone would
// wait for seconds.
func TestAppendsResumeAfterOutage(t *testing.T) {
	told(t, nil, func(t testing.TB, c *trio) {
		m := c.others(c.leader())[0]
		c.kill(m.id)
		for i := range 12 { // each failed append doubles raft's wait
			c.put(fmt.Sprint("k", i), "v")
			pause(testElection)
		}
		m = c.start(m.id)
		began := time.NewTimer(2 * time.Second)
		defer began.Stop()
		for m.fsm.get("k11") != "v" {
			select {
			case <-began.C:
				t.Fatal("no entries two seconds after the restart")
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
}

// A node that comes back with another address is reached there, and the leader
// writes the address into the configuration.
func TestNodeIsReachedAtItsNewAddress(t *testing.T) {
	if underRace {
		t.Skip("raft reads a peer's id without the lock under which it changes the address (v1.7.3, updateLastAppended): the id stays the same")
	}
	c := started(t, func(cfg *cluster.Config) { cfg.Dial = nil })
	c.put("k", "v")
	m := c.others(c.leader())[0]
	c.kill(m.id)
	m.cfg.Bind = freeAddr(t)
	m.cfg.Announce = m.cfg.Bind
	c.start(m.id)
	c.put("k2", "v")
	c.sees(m, "k2", "v")
	c.eventually("the configuration has the new address", func() bool {
		return c.leader().node.RaftAddress(m.id) == m.cfg.Announce
	})
	// It can lead from there.
	for _, o := range c.others(m) {
		c.kill(o.id)
		c.start(o.id)
		c.put("k3-"+o.id, "v")
		c.sees(m, "k3-"+o.id, "v")
	}
}
