package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/testkit"
)

// A node that is started to join is taken in without a vote, catches up, gets a vote by
// itself, and counts: with it two of the old nodes can fail one after another.
func TestJoinerIsTakenInAndGetsAVote(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	n4 := c.join("n4", "n2")
	c.start("n4")
	c.votes("n1", "n2", "n3", "n4")
	c.sees(n4, "k", "v")
	c.join("n5", "n4")
	c.start("n5")
	c.votes("n1", "n2", "n3", "n4", "n5")
	l := c.leader()
	rest := c.others(l)
	c.kill(l.id)
	c.kill(rest[0].id)
	c.put("k2", "v")
	for _, m := range c.live() {
		c.sees(m, "k2", "v")
		c.eventually("three of five are a majority", func() bool { return m.node.View().Quorum })
	}
}

// A node that was taken in finds the others again after a restart, from what its own
// directory says: the nodes it joined through may be gone.
func TestJoinerRestartsWithoutThoseItJoinedThrough(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	n4 := c.join("n4", "n1")
	c.start("n4")
	c.votes("n1", "n2", "n3", "n4")
	c.kill("n4")
	c.kill("n1")
	c.start("n4") // three of four are a majority
	c.put("k2", "v")
	c.sees(n4, "k2", "v")
}

// Three nodes are replaced one after another by nodes with other ids and addresses;
// nothing is lost, the old ones say that they were removed and stop, and the new ones
// are a cluster without them.
func TestEveryNodeIsReplaced(t *testing.T) {
	c := started(t, nil)
	c.put("first", "v")
	for i := 1; i <= 3; i++ {
		old, with := fmt.Sprintf("n%d", i), fmt.Sprintf("n%d", i+3)
		c.join(with, fmt.Sprintf("n%d", i+1), fmt.Sprintf("n%d", i+2))
		c.start(with)
		c.eventually(with+" is known", func() bool {
			return strings.Contains(fmt.Sprint(c.leader().node.Members()), with)
		})
		gone := c.members[old]
		c.change("replace "+old, "is not another member", func(ctx context.Context, n *cluster.Node) error {
			err := n.Replace(ctx, old, with)
			if err != nil && !hasMember(n, old) {
				return nil // the removed leader could not see the end of it
			}
			return err
		})
		c.put(with, "v")
		gone.stopsWith(t, cluster.ErrRemoved, 10*time.Second)
		c.kill(old)
	}
	c.votes("n4", "n5", "n6")
	for _, m := range c.live() {
		for _, k := range []string{"first", "n4", "n5", "n6"} {
			c.sees(m, k, "v")
		}
	}
	c.kill("n5")
	c.put("last", "v")
}

func hasMember(n *cluster.Node, id string) bool {
	for _, m := range n.Members() {
		if m.ID == id {
			return true
		}
	}
	return false
}

// A node that was down when it was removed learns of it when it comes back, stops, and
// stops again at every start. With an empty directory it waits, says what an operator
// can do, and comes in when that is done.
func TestNodeRemovedWhileDownStops(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	gone := c.others(c.leader())[0]
	c.kill(gone.id)
	c.change("remove", "no member", func(ctx context.Context, n *cluster.Node) error { return n.Remove(ctx, gone.id) })
	c.put("k2", "v")
	for range 2 {
		c.start(gone.id)
		gone.stopsWith(t, cluster.ErrRemoved, 10*time.Second)
		c.kill(gone.id)
	}
	if err := os.RemoveAll(gone.cfg.Dir); err != nil {
		t.Fatal(err)
	}
	c.start(gone.id)
	c.eventually("it says what to do", func() bool { return strings.Contains(gone.node.View().Waiting, "RAFT ADD "+gone.id) })
	pause(4 * testElection)
	if gone.node.Formed() {
		t.Fatal("it came in although it was removed")
	}
	c.change("add", "member already", func(ctx context.Context, n *cluster.Node) error { return n.Add(ctx, gone.id, gone.cfg.Bind) })
	c.votes("n1", "n2", "n3")
	c.sees(gone, "k2", "v")
}

// The old directory of a node whose place was taken by one with an empty disk is
// refused: it lacks what its successor has acknowledged.
func TestDirectoryOfAnEarlierMemberStops(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	m := c.others(c.leader())[0]
	c.kill(m.id)
	old := m.cfg.Dir
	m.cfg.Dir = filepath.Join(testkit.MemoryDir(t), "new")
	c.start(m.id)
	c.votes("n1", "n2", "n3")
	c.sees(m, "k", "v")
	c.kill(m.id)
	m.cfg.Dir = old
	c.start(m.id)
	m.stopsWith(t, cluster.ErrRemoved, 10*time.Second)
	c.put("k2", "v")
}

// No change takes the cluster below what a majority needs, and one that is not made
// says why.
func TestChangesKeepAMajority(t *testing.T) {
	told(t, nil, func(t testing.TB, c *trio) {
		c.put("k", "v")
		l := c.leader()
		rest := c.others(l)
		refused := func(part string, err error) {
			t.Helper()
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("got %v, want %q", err, part)
			}
		}
		ctx := t.Context()
		if err := rest[0].node.Remove(ctx, "n1"); !errors.Is(err, cluster.ErrNotMaster) {
			t.Errorf("a follower: %v", err)
		}
		refused("no member", l.node.Remove(ctx, "n9"))
		refused("no member", l.node.Promote(ctx, "n9"))
		refused("vote already", l.node.Promote(ctx, rest[0].id))
		refused("member already", l.node.Add(ctx, rest[0].id, freeAddr(t)))
		refused("is the address of", l.node.Add(ctx, "n9", rest[0].cfg.Bind))
		refused("not host:port", l.node.Add(ctx, "n9", "nowhere"))
		refused("not valid", l.node.Add(ctx, "-", freeAddr(t)))
		refused("not another member", l.node.Replace(ctx, "n9", rest[0].id))
		c.kill(rest[1].id)
		c.eventually("the loss is seen", func() bool {
			for _, p := range l.node.View().Peers {
				if p.ID == rest[1].id {
					return !p.Contact
				}
			}
			return false
		})
		refused("majority", l.node.Remove(ctx, rest[0].id))
		refused("majority", l.node.Demote(ctx, rest[0].id))
		if err := l.node.Remove(ctx, rest[1].id); err != nil {
			t.Errorf("the one that is down cannot be removed: %v", err)
		}
		c.put("k2", "v")
	})
}

// A node whose vote was taken away follows and does not count, does not ask for its
// vote again, and gets it back when it is told to.
func TestDemotedNodeFollowsWithoutAVote(t *testing.T) {
	c := started(t, nil)
	n4 := c.join("n4", "n1")
	c.start("n4")
	c.votes("n1", "n2", "n3", "n4")
	c.eventually("its directory knows", func() bool { return !n4.node.Seeking() })
	c.change("demote", "no vote", func(ctx context.Context, n *cluster.Node) error { return n.Demote(ctx, "n4") })
	c.put("k", "v")
	c.sees(n4, "k", "v")
	pause(20 * testElection)
	v := c.leaderAmong("n1", "n2", "n3").node.View()
	if got := strings.Join(v.Voters, " "); got != "n1 n2 n3" || len(v.Members) != 4 {
		t.Errorf("voters %s of %v", got, v.Members)
	}
	if !n4.node.View().Ready || n4.node.View().RaftLeader {
		t.Errorf("n4: %+v", n4.node.View())
	}
	c.change("promote", "vote already", func(ctx context.Context, n *cluster.Node) error { return n.Promote(ctx, "n4") })
	c.votes("n1", "n2", "n3", "n4")
}

// A node that is not gone does not lose its place to another one with its id.
func TestLiveNodeKeepsItsPlace(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	m := c.others(c.leader())[0]
	c.eventually("it is ready", func() bool { return m.node.View().Ready })
	twin := &member{id: m.id, cfg: m.cfg}
	twin.cfg.Dir, twin.cfg.Bind = filepath.Join(testkit.MemoryDir(t), "twin"), freeAddr(t)
	twin.cfg.Announce = twin.cfg.Bind
	if err := twin.start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		twin.stop()
		<-twin.ended
		_ = twin.node.Close()
	}()
	pause(20 * testElection)
	if twin.node.Formed() {
		t.Fatal("the twin was taken in")
	}
	c.put("k2", "v")
	c.sees(m, "k2", "v")
}

// Whoever lacks the secret is not taken in.
func TestJoinerWithoutTheSecretStaysOutside(t *testing.T) {
	c := started(t, nil)
	c.put("k", "v")
	n4 := c.join("n4", "n1")
	n4.cfg.Secret = "guess"
	c.start("n4")
	c.eventually("it says why it waits", func() bool { return strings.Contains(n4.node.View().Waiting, "secrets differ") })
	if hasMember(c.leader().node, "n4") || n4.node.Formed() {
		t.Error("it was taken in")
	}
}
