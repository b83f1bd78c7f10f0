package integration_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// names are the field names of an instance in the order of the reply.
func names(r testkit.Reply) []string {
	var list []string
	for i := 0; i < len(r.Elems); i += 2 {
		list = append(list, string(r.Elems[i].Text))
	}
	return list
}

// plain leaves out fields that a healthy instance shows only at times: while the
// real Sentinel has not yet seen its first PING answered.
func plain(list []string) []string {
	return slices.DeleteFunc(list, func(n string) bool { return n == "s-down-time" || n == "o-down-time" || n == "failover-state" })
}

// P8: MASTER, MASTERS, REPLICAS, SLAVES and SENTINELS have the fields of a real
// redis-sentinel, in its order, in both protocols, as flat arrays or as maps.
func TestSentinelFieldsEqualRealOnes(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	primary := testkit.StartRedis(t)
	testkit.StartReplica(t, primary)
	real1 := testkit.StartSentinel(t, primary, testkit.MasterName)
	testkit.StartSentinel(t, primary, testkit.MasterName)
	for _, protocol := range []string{"2", "3"} {
		want, got := testkit.MustDial(t, real1.Addr()), testkit.MustDial(t, c.Nodes[0].SentinelAddr())
		want.MustDo(t, "HELLO", protocol)
		got.MustDo(t, "HELLO", protocol)
		for _, command := range []string{"MASTER", "MASTERS", "REPLICAS", "SLAVES", "SENTINELS"} {
			args := []string{"SENTINEL", command, testkit.MasterName}
			if command == "MASTERS" {
				args = args[:2]
			}
			testkit.Eventually(t, 20*time.Second, "the real Sentinels know each other and the replica", func() error {
				r, err := want.Do(args...)
				return errors.Join(err, testkit.Check(len(r.Elems) > 0, "empty"))
			})
			theirs, ours := want.MustDo(t, args...), got.MustDo(t, args...)
			if command != "MASTER" {
				if ours.Type != theirs.Type || len(ours.Elems) == 0 {
					t.Errorf("%s, RESP%s: got %v, want a list like %v", command, protocol, ours, theirs)
					continue
				}
				theirs, ours = theirs.Elems[0], ours.Elems[0]
			}
			if ours.Type != theirs.Type {
				t.Errorf("%s, RESP%s: an instance is %q, want %q", command, protocol, ours.Type, theirs.Type)
			}
			if g, w := plain(names(ours)), plain(names(theirs)); !slices.Equal(g, w) {
				t.Errorf("%s, RESP%s: fields are\n%v, want\n%v", command, protocol, g, w)
			}
			for _, e := range ours.Elems {
				if e.Type != '$' {
					t.Errorf("%s, RESP%s: %v is no bulk string", command, protocol, e)
				}
			}
		}
	}
}

// P3, P8: every Sentinel port tells the same: the master's address, two healthy
// replicas that follow it, two other Sentinels, and a usable quorum.
func TestSentinelViewOfHealthyCluster(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	at := c.WaitMaster(formLimit)
	ids := map[string]bool{}
	for _, n := range c.Nodes {
		if addr, err := testkit.AskSentinel(n.SentinelAddr()); err != nil || addr != c.Nodes[at].Addr() {
			t.Errorf("%s names %s, %v, want %s", n.ID, addr, err, c.Nodes[at].Addr())
		}
		s := testkit.MustDial(t, n.SentinelAddr())
		m := s.MustDo(t, "sentinel", "master", testkit.MasterName).Map()
		wantFields(t, n.ID+" master", m, map[string]string{
			"name": testkit.MasterName, "ip": "127.0.0.1", "port": strconv.Itoa(c.Nodes[at].Port), "flags": "master",
			"role-reported": "master", "num-slaves": "2", "num-other-sentinels": "2", "quorum": "2",
		})
		for _, r := range s.MustDo(t, "SENTINEL", "REPLICAS", testkit.MasterName).Elems {
			wantFields(t, n.ID+" replica", r.Map(), map[string]string{
				"flags": "slave", "master-link-status": "ok", "role-reported": "slave", "replica-announced": "1",
				"master-host": "127.0.0.1", "master-port": strconv.Itoa(c.Nodes[at].Port),
			})
		}
		if got := len(s.MustDo(t, "SENTINEL", "REPLICAS", testkit.MasterName).Elems); got != 2 {
			t.Errorf("%s shows %d replicas", n.ID, got)
		}
		others := s.MustDo(t, "SENTINEL", "SENTINELS", testkit.MasterName).Elems
		for _, o := range others {
			if f := string(o.Map()["flags"].Text); f != "sentinel" {
				t.Errorf("%s shows a Sentinel with flags %q", n.ID, f)
			}
		}
		if len(others) != 2 {
			t.Errorf("%s shows %d other Sentinels", n.ID, len(others))
		}
		if got := s.MustDo(t, "SENTINEL", "CKQUORUM", testkit.MasterName).String(); !strings.HasPrefix(got, "+OK 3 usable Sentinels.") {
			t.Errorf("%s: CKQUORUM answers %s", n.ID, got)
		}
		if got := s.MustDo(t, "ROLE").String(); got != `*[$"sentinel" *[$"mymaster"]]` {
			t.Errorf("%s: ROLE answers %s", n.ID, got)
		}
		id := string(s.MustDo(t, "SENTINEL", "MYID").Text)
		if len(id) != 40 || ids[id] {
			t.Errorf("%s: MYID answers %q", n.ID, id)
		}
		ids[id] = true
	}
}

func wantFields(t testing.TB, what string, got map[string]testkit.Reply, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if text := string(got[name].Text); text != value {
			t.Errorf("%s: %s is %q, want %q", what, name, text, value)
		}
	}
}

// P8: what a Sentinel does not know it refuses as the real one does, and what
// clients send at their handshake is answered as the real one answers.
func TestSentinelRepliesEqualRealOnes(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	primary := testkit.StartRedis(t)
	real1 := testkit.StartSentinel(t, primary, testkit.MasterName)
	want, got := testkit.MustDial(t, real1.Addr()), testkit.MustDial(t, c.Nodes[0].SentinelAddr())
	for _, line := range []string{
		"PING", "PING hello", "SENTINEL GET-MASTER-ADDR-BY-NAME nobody", "SENTINEL MASTER nobody",
		"SENTINEL REPLICAS nobody", "SENTINEL SLAVES nobody", "SENTINEL SENTINELS nobody", "SENTINEL CKQUORUM nobody",
		"SENTINEL", "SENTINEL NOSUCH", "SENTINEL MASTER", "SENTINEL MASTERS too many",
		"SELECT 0", "GET a", "SET a b", "CONFIG GET port", "ECHO a", "CLUSTER SLOTS", "MULTI", "TIME", "nosuch",
		"CLIENT SETNAME me", "CLIENT GETNAME", "CLIENT MAINT_NOTIFICATIONS ON", "AUTH secret",
		"SUBSCRIBE +switch-master", "PING", "PSUBSCRIBE [-+]sdown *", "UNSUBSCRIBE +switch-master never", "PUNSUBSCRIBE [-+]sdown * never", "PING",
	} {
		args := strings.Fields(line)
		if err := errors.Join(want.Send(args...), got.Send(args...)); err != nil {
			t.Fatal(err)
		}
		for range repliesTo(args) {
			theirs, err := want.Read()
			if err != nil {
				t.Fatal(err)
			}
			ours, err := got.Read()
			if err != nil {
				t.Fatalf("%s: %v, want %v", line, err, theirs)
			}
			if ours.String() != theirs.String() {
				t.Errorf("%s: got %v, want %v", line, ours, theirs)
			}
		}
	}
}

// repliesTo is how many replies a command has: one, or one per channel.
func repliesTo(args []string) int {
	switch args[0] {
	case "SUBSCRIBE", "PSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE":
		return len(args) - 1
	}
	return 1
}

// P8: after a failover every remaining Sentinel port first shows the new master in
// its replies and then publishes +switch-master with both addresses, followed by
// +slave for each replica.
func TestSwitchMasterIsPublished(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	at := c.WaitMaster(formLimit)
	subscribers := map[int]*testkit.Client{}
	for i, n := range c.Nodes {
		if i == at {
			continue
		}
		s := testkit.MustDial(t, n.SentinelAddr())
		s.MustDo(t, "SUBSCRIBE", "+switch-master")
		if _, err := s.Do("PSUBSCRIBE", "+slave"); err != nil {
			t.Fatal(err)
		}
		subscribers[i] = s
	}
	old := c.Nodes[at]
	old.Kill9()
	for i, s := range subscribers {
		n := c.Nodes[i]
		message, err := s.ReadWithin(5 * time.Second)
		if err != nil {
			t.Fatalf("%s: %v", n.ID, err)
		}
		addr, err := testkit.AskSentinel(n.SentinelAddr())
		if err != nil {
			t.Fatalf("%s names no master when it has published %v: %v", n.ID, message, err)
		}
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`*[$"message" $"+switch-master" $"mymaster 127.0.0.1 %d 127.0.0.1 %s"]`, old.Port, port)
		if message.String() != want {
			t.Errorf("%s published %v, want %s", n.ID, message, want)
		}
		if role, err := testkit.Role(addr); err != nil || role != "master" {
			t.Errorf("the announced master says it is %q, %v", role, err)
		}
		for range 2 {
			slave, err := s.ReadWithin(2 * time.Second)
			tail := fmt.Sprintf("@ mymaster 127.0.0.1 %s", port)
			if err != nil || len(slave.Elems) != 4 || string(slave.Elems[2].Text) != "+slave" || !strings.HasSuffix(string(slave.Elems[3].Text), tail) {
				t.Errorf("%s published %v, %v after the switch, want a +slave … %s", n.ID, slave, err, tail)
			}
		}
	}
}

// P3, P8: as soon as the connections to a killed master have ended, the other
// nodes show it as disconnected, as the real Sentinel does. A library that asks
// once its own connection has ended must not be sent to the dead node again: some
// would wait there for good.
func TestKilledMasterIsDisconnectedAtOnce(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	at := c.WaitMaster(formLimit)
	old := c.Nodes[at]
	others := map[string]*testkit.Client{}
	for i, n := range c.Nodes {
		if i != at {
			others[n.ID] = testkit.MustDial(t, n.SentinelAddr())
		}
	}
	old.Kill9()
	killed := testkit.Now()
	time.Sleep(50 * time.Millisecond) // for the news to be read, with both processors busy
	moved := map[string]bool{}
	for len(moved) < len(others) && testkit.Now()-killed < 3*time.Second {
		for id, s := range others {
			r, err := s.Do("SENTINEL", "MASTER", testkit.MasterName)
			if err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			m := r.Map()
			if string(m["port"].Text) != strconv.Itoa(old.Port) {
				moved[id] = true
			} else if !strings.Contains(string(m["flags"].Text), "disconnected") {
				t.Fatalf("%s shows the dead master with flags %q %v after it was killed", id, m["flags"].Text, testkit.Now()-killed)
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	if len(moved) < len(others) {
		t.Error("the others never showed another master")
	}
}
