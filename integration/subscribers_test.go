package integration_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// subscriber is how a library listens to a Sentinel, and how it knows from a message
// that the master has moved, and where to if the message tells it.
type subscriber struct {
	client  string
	hello   string // the command before, with P for the password
	listens string
	reads   func(channel, payload string) (moved bool, to string)
}

// subscribers are the libraries that listen and cannot be run here.
var subscribers = []subscriber{
	{"Jedis", "AUTH P", "SUBSCRIBE +switch-master", func(_, payload string) (bool, string) {
		words := strings.Split(payload, " ")
		if len(words) <= 3 || words[0] != testkit.MasterName {
			return false, ""
		}
		return true, net.JoinHostPort(words[3], words[4])
	}},
	{"Lettuce", "HELLO 3 AUTH default P", "PSUBSCRIBE *", func(channel, payload string) (bool, string) {
		switch channel {
		case "+switch-master":
			return strings.HasPrefix(payload, testkit.MasterName+" "), ""
		case "+slave", "+sdown", "-sdown", "+convert-to-slave", "+role-change":
			return strings.Contains(payload, "@ "+testkit.MasterName+" "), ""
		}
		return false, ""
	}},
	{"StackExchange.Redis", "AUTH P", "SUBSCRIBE +switch-master", func(_, payload string) (bool, string) {
		words := strings.Split(payload, " ")
		return len(words) >= 3 && words[0] == testkit.MasterName, ""
	}},
}

// P3, P8: libraries that listen to a Sentinel and cannot be run here hear of a move on
// every node in a form that they understand, and when they then ask they are told of
// the new master.
func TestSubscribersUnderstandAMove(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	// A master that moves once more by itself is not the one that was heard of.
	testkit.Tries(t, 3, func(t testing.TB) { hearOfAMove(t, startHoldfast(t)) })
}

// hearOfAMove has every library listen on every node while the master moves.
func hearOfAMove(t testing.TB, s *liveSystem) {
	t.Helper()
	old := s.waitWhole(t)
	type listener struct {
		subscriber

		machine *machine
		conn    *testkit.Client
	}
	var all []listener
	for _, m := range s.machines {
		for _, sub := range subscribers {
			c := testkit.MustDial(t, m.sentinel)
			c.MustDo(t, transcript{port: "sentinel"}.words(step{send: sub.hello})...)
			c.MustDo(t, strings.Fields(sub.listens)...)
			all = append(all, listener{sub, m, c})
		}
	}
	s.failover(t)
	at := s.waitMaster(t, old)
	for _, l := range all {
		to, err := l.hear(l.conn)
		if err != nil {
			t.Errorf("%s on %s: %v", l.client, l.machine.sentinel, err)
			continue
		}
		if to != "" && to != s.machines[at].data {
			t.Errorf("%s on %s reads %s, want %s", l.client, l.machine.sentinel, to, s.machines[at].data)
		}
		r, err := l.machine.askSentinel("GET-MASTER-ADDR-BY-NAME")
		if got := strings.Join(r.Strings(), ":"); err != nil || got != s.machines[at].data {
			t.Errorf("%s asks %s after that and is told %v, %v", l.client, l.machine.sentinel, r, err)
		}
	}
}

// hear reads messages until the library understands that the master has moved.
func (s subscriber) hear(c *testkit.Client) (to string, err error) {
	for {
		r, err := c.ReadWithin(5 * time.Second)
		if err != nil {
			return "", fmt.Errorf("no message that it understands: %w", err)
		}
		if len(r.Elems) < 3 {
			return "", fmt.Errorf("message %v", r)
		}
		last := r.Elems[len(r.Elems)-2:]
		if moved, to := s.reads(string(last[0].Text), string(last[1].Text)); moved {
			return to, nil
		}
	}
}

// P3, P8: without a majority no question of a client is answered with null, with an
// error or for long with an address: connections are closed and refused, which sends
// every library to the next Sentinel. When the majority is back all are answered.
func TestQuestionsWithoutAMaster(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	s := startHoldfast(t)
	at := s.waitWhole(t)
	alone := s.machines[(at+2)%3]
	for _, m := range s.machines {
		if m != alone {
			m.kill()
		}
	}
	questions := []string{"GET-MASTER-ADDR-BY-NAME", "MASTER", "REPLICAS", "SENTINELS"}
	testkit.Eventually(t, wholeLimit, "the last node turns clients away", func() error {
		for _, q := range questions {
			r, err := alone.askSentinel(q)
			var refusal testkit.ReplyError
			if errors.As(err, &refusal) || err == nil && r.Null {
				t.Errorf("without a majority SENTINEL %s is answered %v, %v", q, r, err)
			}
			if err == nil {
				return fmt.Errorf("SENTINEL %s is answered %v", q, r)
			}
		}
		return nil
	})
	for _, q := range questions {
		if r, err := alone.askSentinel(q); err == nil {
			t.Errorf("a node that has turned clients away answers SENTINEL %s with %v", q, r)
		}
	}
	for _, m := range s.machines {
		if m != alone {
			m.start()
		}
	}
	s.waitWhole(t)
}

// P3, P8: while a new master is elected every question for it is answered, late rather than
// never: with the old master, as long as that may be named, and then with the new one. A
// node that stands still when votes are counted makes an election take longer than the
// questions may wait, so one kill of four is enough in the short form.
func TestQuestionsDuringAnElection(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	s := startHoldfast(t)
	testkit.Tries(t, pick(4, 1), func(t testing.TB) { questionsDuringAnElection(t, s) })
}

func questionsDuringAnElection(t testing.TB, s *liveSystem) {
	at := s.wholeAgain(t)
	s.machines[at].kill()
	const patience = time.Second // four election timeouts
	limit := testkit.Now() + wholeLimit
	var asking sync.WaitGroup
	for i, m := range s.machines {
		if i == at {
			continue
		}
		asking.Go(func() {
			for testkit.Now() < limit {
				began := testkit.Now()
				r, err := ask(m.sentinel, sentinelPassword, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", testkit.MasterName)
				took := testkit.Now() - began
				if err != nil && took < patience/2 {
					t.Errorf("%s: %v after %v", m.sentinel, err, took)
					return
				}
				if addr := strings.Join(r.Strings(), ":"); err == nil && addr != s.machines[at].data {
					t.Logf("%s names %s, after %v", m.sentinel, addr, took)
					return
				}
				testkit.Pause(t.Context(), 10*time.Millisecond)
			}
			t.Errorf("%s names no new master", m.sentinel)
		})
	}
	asking.Wait()
}

// wholeAgain has the machines run that do not, and waits until all is well with them.
func (s *liveSystem) wholeAgain(t testing.TB) int {
	t.Helper()
	for _, m := range s.machines {
		if !m.running() {
			m.start()
		}
	}
	return s.waitWhole(t)
}

// P8: a killed replica is shown as disconnected at once, on every other Sentinel port:
// node-redis looks anew when its connection to it ends, and if it then is still shown
// in good health tries to connect to it until it is back, with all commands waiting. As a
// machine that stands still at that moment shows nothing at once, one kill of several is
// enough in the short form.
func TestKilledReplicaIsDisconnectedAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	s := startHoldfast(t)
	testkit.Tries(t, pick(6, 1), func(t testing.TB) {
		at := s.wholeAgain(t)
		victim := s.machines[(at+1)%3]
		victim.kill()
		const soon = 100 * time.Millisecond // far below the election timeout of 250 ms
		ctx, cancel := withLimit(t, soon)
		defer cancel()
		for _, m := range []*machine{s.machines[at], s.machines[(at+2)%3]} {
			if err := testkit.Poll(ctx, func() error { return m.showsDisconnected(victim) }); err != nil {
				t.Errorf("%v after the kill: %v", soon, err)
			}
		}
	})
}

// showsDisconnected tells whether the Sentinel shows a replica so.
func (m *machine) showsDisconnected(replica *machine) error {
	r, err := m.askSentinel("REPLICAS")
	if err != nil {
		return err
	}
	for _, one := range r.Elems {
		fields := one.Map()
		if string(fields["name"].Text) == replica.data {
			return testkit.Check(strings.Contains(string(fields["flags"].Text), "disconnected"), "%s shows %v", m.sentinel, fields["flags"])
		}
	}
	return fmt.Errorf("%s does not show %s", m.sentinel, replica.data)
}
