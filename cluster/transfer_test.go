package cluster_test

import (
	"context"
	"errors"
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
