package cluster_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
)

// P8: the leadership goes to the voter it is handed to, and the one with the most of the
// log is proposed; writes go on there.
func TestTransferMovesTheLeadership(t *testing.T) {
	c := started(t, nil)
	old := c.leader()
	c.put("a", "1")
	to, _ := old.node.Successor(nil)
	if to == "" || to == old.id {
		t.Fatalf("successor is %q", to)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := old.node.Transfer(ctx, to); err != nil {
		t.Fatal(err)
	}
	c.eventually("the successor leads", func() bool { return c.leader().id == to })
	c.put("b", "2")
	c.sees(old, "b", "2")
	if err := old.node.Settle(ctx); err == nil {
		t.Error("the old leader takes entries")
	}
}

// Nobody is told to stand that is no voter, and a voter out of reach is waited for no
// longer than asked: then the leader still leads, and takes entries again.
func TestTransferThatFailsLeavesTheLeader(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	for _, id := range []string{"", l.id, "stranger"} {
		if err := l.node.Transfer(ctx, id); !errors.Is(err, cluster.ErrNoSuccessor) {
			t.Errorf("to %q: %v", id, err)
		}
	}
	down := c.others(l)[0]
	c.kill(down.id)
	c.put("a", "1")
	if err := l.node.Transfer(ctx, down.id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("to a node that is down: %v", err)
	}
	if err := l.node.Settle(t.Context()); err != nil {
		t.Errorf("the leader does not settle: %v", err)
	}
	c.put("b", "2")
	if got := c.leader(); got != l {
		t.Errorf("%s leads", got.id)
	}
}

// The successor is a voter in contact that is up to date, of several the one of the lowest
// rank, and none of rank 0; whoever cannot succeed is told apart by the reason.
func TestSuccessorIsChosen(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	c.put("a", "1")
	rest := c.others(l)
	a, b := rest[0], rest[1]
	rank := map[string]int{a.id: 7, b.id: 3}
	chosen := func() string {
		id, ready := l.node.Successor(func(id string) int { return rank[id] })
		if id != "" && !ready {
			return "not ready: " + id
		}
		return id
	}
	c.eventually("the lower rank is chosen", func() bool { return chosen() == b.id })
	rank[a.id] = 1
	c.eventually("the other one is chosen", func() bool { return chosen() == a.id })
	rank[a.id] = 0
	c.eventually("rank 0 is left out", func() bool { return chosen() == b.id })
	rank[b.id] = 0
	if got := chosen(); got != "" {
		t.Errorf("%s is chosen of none", got)
	}
	if err := l.node.CanSucceed(a.id); err != nil {
		t.Errorf("a voter in contact: %v", err)
	}
	rank = map[string]int{a.id: 1, b.id: 9}
	c.kill(a.id)
	c.put("b", "2")
	c.eventually("who is gone is left out", func() bool { return l.node.CanSucceed(a.id) != nil && chosen() == b.id })
	for id, want := range map[string]string{
		a.id: "is not in contact", l.id: "is the master already", "stranger": "is no member",
	} {
		if err := l.node.CanSucceed(id); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want that it %s", id, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := l.node.AwaitFollower(ctx, b.id); err != nil {
		t.Errorf("a follower that is up to date: %v", err)
	}
	if err := l.node.AwaitFollower(ctx, a.id); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a follower that is gone: %v", err)
	}
	release, err := l.node.HoldMembers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	held, give := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer give()
	if err := l.node.Remove(held, b.id); err == nil || !strings.Contains(err.Error(), "under way") {
		t.Errorf("a change while the membership is held: %v", err)
	}
}

// P3: a new leader that keeps it to itself is named by nobody; meanwhile the old one is,
// but for no longer than a leader that is gone, and not by itself.
func TestVeilKeepsTheOldLeaderNamed(t *testing.T) {
	c := started(t, nil)
	old := c.leader()
	to, _ := old.node.Successor(nil)
	next := c.members[to]
	var third *member
	for _, m := range c.others(old) {
		if m.id != to {
			third = m
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if err := confirm(old, time.Second); err != nil {
		t.Fatal(err)
	}
	next.node.Veil()
	old.node.Part()
	if err := old.node.Transfer(ctx, to); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it leads", func() bool { return confirm(next, time.Second) == nil })
	for _, m := range []*member{third, next} {
		if v := m.node.View(); v.Leader == to {
			t.Errorf("%s names the new leader behind its veil", m.id)
		}
	}
	if v := old.node.View(); v.Leader == old.id {
		t.Error("the old leader names itself")
	}
	next.node.Unveil()
	for _, m := range c.live() {
		eventually(t, m.id+" names the new leader", func() bool { return m.node.View().Leader == to })
	}
	old.node.Parted()
}

// A veil that nobody lifts falls by itself.
func TestVeilFallsByItself(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	l.node.Veil()
	eventually(t, "it is not named", func() bool { return l.node.View().Leader == "" })
	for _, m := range c.live() {
		eventually(t, m.id+" names it", func() bool { return m.node.View().Leader == l.id })
	}
}

// P8: after all its peers were started anew, every connection a node has kept to them is
// stale; it is elected at the first attempt nevertheless.
func TestVotesSurviveStaleConnections(t *testing.T) {
	c := started(t, nil)
	a := c.leader() // it has connections to both
	rest := c.others(a)
	b, d := rest[0], rest[1]
	terms := map[*member]uint64{} // in which they lead
	move := func(from, to *member) {
		t.Helper()
		eventually(t, to.id+" follows", func() bool { return to.node.View().Ready && from.node.View().IsLeader })
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := from.node.Transfer(ctx, to.id); err != nil {
			t.Fatalf("from %s to %s: %v", from.id, to.id, err)
		}
		eventually(t, to.id+" leads", func() bool { return to.node.View().IsLeader })
		if was, is := terms[from], to.node.View().Term; was != 0 && is != was+1 {
			t.Errorf("%s was elected in term %d, after term %d", to.id, is, was)
		}
		terms[to] = to.node.View().Term
	}
	again := func(m *member) *member {
		c.kill(m.id)
		return c.start(m.id)
	}
	move(a, b)
	d = again(d)
	move(b, d)
	b = again(b)
	eventually(t, b.id+" is back", func() bool { return b.node.View().Ready })
	move(d, a)
}
