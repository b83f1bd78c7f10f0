package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/resp"
)

// P8: a master that is told to stop hands over first: when it has ended another node is
// master already, and the log has told of it.
func TestStoppingMasterHandsOver(t *testing.T) {
	always := t
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
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
			always.Errorf("a is %v", got)
		}
	})
}

// The old master stays as a replica, with clients that come later; ABORT has nothing to
// give up then. A second handover brings it back.
func TestFailoverToACertainNode(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
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
	})
}

// P8: a client that a handover sends away asks a Sentinel, any of them, and is not sent back to
// the old master, not even while others are still served there: it is kept waiting until
// it can be told of the new one.
func TestSentAwayClientsAreNotSentBack(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		old := waitMaster(t, all...)
		to := others(all, old)[0]
		idle, stays := old.dial(), old.dial()
		idle.MustDo(t, "PING")
		stays.MustDo(t, "WATCH", "a")
		began := testkit.Now()
		moved := make(chan error, 1)
		go func() { moved <- old.node.handOver(t.Context(), to.node.self.ID, false, nil) }()
		if r, err := idle.Read(); err == nil {
			t.Fatalf("it was told %v", r)
		}
		var asked sync.WaitGroup
		for _, m := range all {
			asked.Go(func() {
				if addr, err := masterOf(m.sentinel()); err != nil || addr != to.data() {
					t.Errorf("%s: %v: it names %s, want %s", m.node.self.ID, err, addr, to.data())
				}
				if took := testkit.Now() - began; took < old.node.masterBound()/4 {
					t.Errorf("%s has answered after %v: nothing was held back", m.node.self.ID, took)
				}
			})
		}
		asked.Wait()
		stays.MustDo(t, "UNWATCH")
		if err := <-moved; err != nil {
			t.Error(err)
		}
	})
}

// Nobody is kept waiting for a master that is never known, nor by an old news.
func TestHushEnds(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		old := waitMaster(t, all...)
		m := others(all, old)[0]
		term, long := m.node.raft.View().LeaderTerm, m.node.masterBound()*3/4
		ask := func(hushed uint64) (waited time.Duration) {
			began := testkit.Now()
			m.node.hush(hushed)
			if addr, err := masterOf(m.sentinel()); err != nil || addr != old.data() {
				t.Errorf("hushed for term %d, %v: it names %s, want %s", hushed, err, addr, old.data())
			}
			return testkit.Now() - began
		}
		if waited := ask(term); waited < long {
			t.Errorf("hushed for term %d: waited %v", term, waited)
		}
		waited := ask(term - 1)
		for n := 1; n < 5 && waited >= long; n++ { // the machine may have stood still
			waited = ask(term - 1)
		}
		if waited >= long {
			t.Errorf("hushed for term %d, master of %d: waited %v", term-1, term, waited)
		}
	})
}

// A node without others has nobody to hand over to, and stops without delay.
func TestLoneNodeHandsOverToNobody(t *testing.T) {
	testkit.Tries(t, 3, func(t testing.TB) {
		m := single(t)
		if _, err := m.do("FAILOVER"); err == nil || err.Error() != string(resp.ErrFailoverAlone) {
			t.Errorf("FAILOVER: %v", err)
		}
		if _, err := ask(m.sentinel(), "SENTINEL", "FAILOVER", "mymaster"); err == nil || err.Error() != string(resp.ErrNoGoodReplica) {
			t.Errorf("SENTINEL FAILOVER: %v", err)
		}
		testkit.Within(t, time.Second, "to stop", m.halt)
	})
}

// P5: a handover that is given up when commands are parked already leaves the master
// serving, and what was parked is carried out once.
func TestFailedHandoverGoesOn(t *testing.T) {
	always := t
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		old := waitMaster(t, all...)
		n, to := old.node, others(all, old)[0].node.self.ID
		c := old.dial()
		c.MustDo(t, "INCR", "count")
		if n.relay.connect(t.Context(), to) == nil {
			t.Fatal("the successor is out of reach")
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		done := make(chan error, 1)
		var handing sync.WaitGroup
		t.Cleanup(handing.Wait) // before the nodes are stopped
		handing.Go(func() {
			for range 5 {
				h := &handover{node: n, to: to, hold: time.Second, over: make(chan struct{})}
				n.handovers.present.Store(h)
				if err := h.carryOut(gone, false); err == nil {
					done <- errors.New("the leadership was handed over")
					return
				}
			}
			done <- nil
		})
		count := int64(1)
		for over := false; !over; count++ {
			select {
			case err := <-done:
				if over = true; err != nil {
					t.Error(err)
				}
			default:
			}
			if got := c.MustDo(t, "INCR", "count"); got.Int() != count+1 {
				always.Fatalf("INCR answers %v, want %d", got, count+1)
			}
		}
		old.waitRole("master")
		if got := n.handovers.count.failed.Load(); got != 5 {
			t.Errorf("%d handovers have failed", got)
		}
	})
}

// A node that is gone is waited for without clients noticing, and for no longer than
// asked.
func TestHandoverWaitsForItsSuccessor(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		old := waitMaster(t, all...)
		gone := others(all, old)[0]
		gone.halt()
		old.dial().MustDo(t, "SET", "a", "1") // which that node lacks
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if err := old.node.handOver(ctx, gone.node.self.ID, false, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a handover to a node that is gone: %v", err)
		}
		if got := old.node.handovers.count.failed.Load(); got != 0 {
			t.Errorf("%d handovers were begun", got)
		}
		old.dial().MustDo(t, "SET", "a", "2")
	})
}

// While one handover goes on another is refused, and FAILOVER ABORT gives it up as long
// as nobody was told to stand.
func TestOneHandoverAtATime(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		old := waitMaster(t, all...)
		h := &handover{node: old.node, over: make(chan struct{})}
		old.node.handovers.begun.Store(true)
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
		old.node.handovers.begun.Store(false)
		old.waitRole("master")
	})
}

// RAFT TRANSFER goes to the voter it names, or to any, and answers when that one is
// master. What cannot be is refused with the reason, on a replica with the master's name.
func TestRaftTransfer(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
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
	})
}

// Of the nodes that are up to date the one with the lowest replica-priority is handed to,
// and never one with 0; told to be one of those, the master hands over by itself.
func TestReplicaPriority(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, map[string][]string{"n3": {"replica-priority", "50"}}, times...)
		byID := map[string]*member{}
		for _, m := range all {
			byID[m.node.self.ID] = m
		}
		lead := waitMaster(t, all...)
		if lead != byID["n3"] {
			if _, err := lead.do("RAFT", "TRANSFER"); err != nil {
				t.Fatal(err)
			}
			byID["n3"].waitRole("master")
			waitWhole(t, all)
		}
		if _, err := byID["n1"].do("CONFIG", "SET", "replica-priority", "0"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, soon, "the others know", func() error {
			r, err := ask(byID["n3"].sentinel(), "SENTINEL", "REPLICAS", "mymaster")
			told := false
			for _, replica := range r.Elems {
				told = told || string(replica.Map()["slave-priority"].Text) == "0"
			}
			return errors.Join(err, testkit.Check(told, "they do not"))
		})
		if _, err := byID["n3"].do("RAFT", "TRANSFER", "n1"); err == nil || err.Error() != "ERR n1 has replica-priority 0" {
			t.Errorf("RAFT TRANSFER to a node that is not to be master: %v", err)
		}
		if _, err := byID["n3"].do("CONFIG", "SET", "replica-priority", "0"); err != nil {
			t.Fatal(err)
		}
		byID["n2"].waitRole("master")
		testkit.Eventually(t, soon, "n3 has handed over", func() error {
			got := byID["n3"].node.handovers.count.done.Load()
			return testkit.Check(got == 1, "%d times", got)
		})
		if _, err := byID["n2"].do("FAILOVER"); err == nil || err.Error() != string(resp.ErrFailoverAlone) {
			t.Errorf("FAILOVER with nobody to take over: %v", err)
		}
	})
}

// A master that is to lose its vote hands over before, and the new master takes it; the
// command is answered when both are done. With nobody to hand over to nothing changes.
func TestMasterHandsOverBeforeItsVoteIsTaken(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		old := waitMaster(t, all...)
		id := old.node.self.ID
		if r, err := old.do("RAFT", "DEMOTE", id); err != nil || string(r.Text) != "OK" {
			t.Fatalf("RAFT DEMOTE: %v, %v", r, err)
		}
		next := waitMaster(t, others(all, old)...)
		if got := old.node.handovers.count.done.Load(); got != 1 {
			t.Errorf("the old master has handed over %d times", got)
		}
		if v := next.node.raft.View(); len(v.Voters) != 2 || slices.Contains(v.Voters, id) {
			t.Errorf("voters: %v", v.Voters)
		}
		if _, err := next.do("RAFT", "TRANSFER", id); err == nil || err.Error() != "ERR "+id+" has no vote" {
			t.Errorf("RAFT TRANSFER to a node without a vote: %v", err)
		}
		rest := others(others(all, old), next)[0]
		if _, err := next.do("CONFIG", "SET", "replica-priority", "100"); err != nil {
			t.Fatal(err)
		}
		if _, err := rest.do("CONFIG", "SET", "replica-priority", "0"); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, soon, "nobody can succeed", func() error {
			_, err := next.node.successor("")
			return testkit.Check(errors.Is(err, errNoSuccessor), "%v", err)
		})
		if r, err := next.do("SET", "a", "1"); err != nil || string(r.Text) != "OK" {
			t.Errorf("SET: %v, %v", r, err)
		}
	})
}

// Orders of other nodes are taken by a master only, and only those it knows.
func TestOrdersAreChecked(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		m := waitMaster(t, all...)
		for _, words := range [][]string{nil, {"reboot"}, {orderRemove}, {orderSettings}, {orderSettings, "proto-max-bulk-len"}, {orderSettings, "requirepass", "x"}, {orderReplace, "n1"}} {
			if _, err := m.node.order(t.Context(), words); err == nil || err.Error() != "ERR "+errOrder.Error() {
				t.Errorf("%q: %v", words, err)
			}
		}
		if _, err := m.node.order(t.Context(), []string{orderRemove, "nobody"}); err == nil || err.Error() != "ERR nobody is no member" {
			t.Errorf("the removal of a stranger: %v", err)
		}
		if _, err := others(all, m)[0].node.order(t.Context(), []string{orderRemove, "nobody"}); !errors.Is(err, errNotMaster) {
			t.Errorf("an order to a replica: %v", err)
		}
	})
}
