package node

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/resp"
)

// P8: a master that is told to stop hands over first: when it has ended another node is
// master already, and the log has told of it.
func TestStoppingMasterHandsOver(t *testing.T) {
	all := trio(t, nil)
	old := waitMaster(t, all...)
	c := old.dial()
	c.MustDo(t, "SET", "a", "1")
	c.MustDo(t, "WATCH", "a") // it stays for as long as it may
	old.halt()
	rest := others(all, old)
	next, err := (&testkit.Client{}), errors.New("nobody is master")
	for _, m := range rest {
		if role, _ := testkit.Role(m.data()); role == "master" {
			next, err = m.dial(), nil
		}
	}
	if err != nil || !strings.Contains(old.log.String(), "handed over") {
		t.Fatalf("%v, or there was no handover", err)
	}
	if got := next.MustDo(t, "GET", "a"); string(got.Text) != "1" {
		t.Errorf("a is %v", got)
	}
}

// The old master stays as a replica, with clients that come later; ABORT has nothing to
// give up then. A second handover brings it back.
func TestFailoverToACertainNode(t *testing.T) {
	all := trio(t, nil)
	old := waitMaster(t, all...)
	to := others(all, old)[0]
	if _, err := old.do("FAILOVER", "TO", "127.0.0.1", itoa(to.cfg.Port)); err != nil {
		t.Fatal(err)
	}
	to.waitRole("master")
	old.waitRole("slave")
	waitWhole(t, all)
	testkit.Eventually(t, soon, "it is over", func() error {
		r, err := old.do("INFO", "replication")
		return errors.Join(err, testkit.Check(strings.Contains(string(r.Text), "master_failover_state:no-failover"), "it is not"))
	})
	if _, err := old.do("SET", "a", "1"); err == nil || !strings.HasPrefix(err.Error(), "READONLY") {
		t.Errorf("a write on the old master: %v", err)
	}
	for args, want := range map[string]resp.Error{
		"ABORT":                    resp.ErrNoFailover,
		"TO 127.0.0.1 1":           resp.ErrFailoverTarget,
		"TO 127.0.0.1 1 TIMEOUT 5": resp.ErrFailoverTarget,
	} {
		if _, err := to.do(append([]string{"FAILOVER"}, strings.Fields(args)...)...); err == nil || err.Error() != string(want) {
			t.Errorf("FAILOVER %s: %v", args, err)
		}
	}
	if _, err := old.do("FAILOVER"); err == nil || err.Error() != string(resp.ErrFailoverReplica) {
		t.Errorf("FAILOVER of a replica: %v", err)
	}
	if _, err := ask(old.sentinel(), "SENTINEL", "FAILOVER", "mymaster"); err != nil {
		t.Errorf("SENTINEL FAILOVER on a replica: %v", err)
	}
	testkit.Eventually(t, soon, "another master", func() error {
		role, err := testkit.Role(to.data())
		return errors.Join(err, testkit.Check(role == "slave", "it says %s", role))
	})
	waitWhole(t, all)
}

// A node without others has nobody to hand over to, and stops without delay.
func TestLoneNodeHandsOverToNobody(t *testing.T) {
	m := single(t)
	if _, err := m.do("FAILOVER"); err == nil || err.Error() != string(resp.ErrFailoverAlone) {
		t.Errorf("FAILOVER: %v", err)
	}
	if _, err := ask(m.sentinel(), "SENTINEL", "FAILOVER", "mymaster"); err == nil || err.Error() != string(resp.ErrNoGoodReplica) {
		t.Errorf("SENTINEL FAILOVER: %v", err)
	}
	began := testkit.Now()
	m.halt()
	if took := testkit.Now() - began; took > time.Second {
		t.Errorf("it took %v to stop", took)
	}
}

// P5: a handover that cannot end is given up; the master goes on, and what was parked
// is carried out once.
func TestFailedHandoverGoesOn(t *testing.T) {
	all := trio(t, nil)
	old := waitMaster(t, all...)
	rest := others(all, old)
	c := old.dial()
	c.MustDo(t, "INCR", "count")
	rest[0].halt()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- old.node.handOver(ctx, rest[0].node.self.ID, false) }()
	for want := int64(2); want < 20; want++ {
		if got := c.MustDo(t, "INCR", "count"); got.Int() != want {
			t.Errorf("INCR answers %v, want %d", got, want)
		}
	}
	if err := <-done; err == nil {
		t.Error("the leadership was handed to a node that is gone")
	}
	old.waitRole("master")
	c.MustDo(t, "SET", "after", "1")
	if got := old.node.handovers.count.failed.Load() + old.node.handovers.count.done.Load(); got > 1 {
		t.Errorf("%d handovers", got)
	}
}

// While one handover goes on another is refused, and FAILOVER ABORT gives it up as long
// as nobody was told to stand.
func TestOneHandoverAtATime(t *testing.T) {
	all := trio(t, nil)
	old := waitMaster(t, all...)
	h := &handover{node: old.node, over: make(chan struct{})}
	old.node.handovers.present.Store(h)
	if _, err := old.node.beginHandover("", time.Second); !errors.Is(err, errHandingOver) {
		t.Errorf("a second one: %v", err)
	}
	if _, err := old.do("FAILOVER"); err == nil || err.Error() != string(resp.ErrFailoverBusy) {
		t.Errorf("FAILOVER: %v", err)
	}
	if _, err := ask(old.sentinel(), "SENTINEL", "FAILOVER", "mymaster"); err == nil || err.Error() != string(resp.ErrInProgress) {
		t.Errorf("SENTINEL FAILOVER: %v", err)
	}
	if got := old.info()["master_failover_state"]; got != "failover-in-progress" {
		testkit.Eventually(t, soon, "INFO shows it", func() error {
			got := old.info()["master_failover_state"]
			return testkit.Check(got == "failover-in-progress", "it says %s", got)
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	old.node.handovers.allowAbort(cancel)
	if _, err := old.do("FAILOVER", "ABORT"); err != nil || ctx.Err() == nil {
		t.Errorf("FAILOVER ABORT: %v, %v", err, ctx.Err())
	}
	h.end()
	old.waitRole("master")
}

// RAFT TRANSFER goes to the voter it names, or to any, and answers when that one is
// master. What cannot be is refused with the reason, on a replica with the master's name.
func TestRaftTransfer(t *testing.T) {
	all := trio(t, nil)
	old := waitMaster(t, all...)
	to := others(all, old)[0]
	for id, want := range map[string]string{
		"nobody":         "ERR nobody is no member",
		old.node.self.ID: "ERR " + old.node.self.ID + " is the master already",
	} {
		if _, err := old.do("RAFT", "TRANSFER", id); err == nil || err.Error() != want {
			t.Errorf("RAFT TRANSFER %s: %v", id, err)
		}
	}
	want := fmt.Sprintf("ERR only the master can hand over the leadership: it is %s at 127.0.0.1 port %d", old.node.self.ID, old.cfg.Port)
	if _, err := to.do("RAFT", "TRANSFER"); err == nil || err.Error() != want {
		t.Errorf("RAFT TRANSFER on a replica: %v, want %s", err, want)
	}
	if r, err := old.do("RAFT", "TRANSFER", to.node.self.ID); err != nil || string(r.Text) != "OK" {
		t.Fatalf("RAFT TRANSFER: %v, %v", r, err)
	}
	if role, err := testkit.Role(to.data()); err != nil || role != "master" {
		t.Errorf("%v: the node it was transferred to says %s", err, role)
	}
	waitWhole(t, all)
	if _, err := to.do("RAFT", "TRANSFER"); err != nil {
		t.Errorf("to any: %v", err)
	}
	to.waitRole("slave")
	waitWhole(t, all)
}
