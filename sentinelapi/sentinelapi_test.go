package sentinelapi_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/sentinelapi"
)

// field is the value of a field in a description.
func field(t *testing.T, description resp.Value, name string) string {
	t.Helper()
	elems := description.Elems()
	for i := 0; i < len(elems); i += 2 {
		if string(elems[i].Bytes()) == name {
			return string(elems[i+1].Bytes())
		}
	}
	return "<none>"
}

func expect(t *testing.T, description resp.Value, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := field(t, description, name); got != value {
			t.Errorf("%s is %q, want %q", name, got, value)
		}
	}
}

// While no master is known nobody is given an address: the connection is closed
// without an answer, and clients ask the next Sentinel.
func TestGetMasterAddrClosesWithoutMaster(t *testing.T) {
	v := setup()
	v.MasterKnown = false
	reply, c := ask(t, v, "SENTINEL get-master-addr-by-name mymaster")
	if reply.Kind() != resp.KindNone || !c.closed {
		t.Errorf("answered %v, closed %t, want nothing and closed", reply, c.closed)
	}
	if reply, c = ask(t, v, "SENTINEL GET-MASTER-ADDR-BY-NAME other"); reply.Kind() != resp.KindNullArray || c.closed {
		t.Errorf("another name: answered %v, closed %t, want null", reply, c.closed)
	}
	v.MasterKnown, v.Master = true, ""
	if reply, c = ask(t, v, "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster"); reply.Kind() != resp.KindNone || !c.closed {
		t.Errorf("a master that is no member: answered %v, closed %t", reply, c.closed)
	}
}

// MASTER never shows the last master as one to use: it is flagged as down, with
// the times that go with the flags, and replicas are shown without a master.
func TestMasterIsFlaggedWhileUnknown(t *testing.T) {
	v := setup()
	v.MasterKnown, v.MasterGone = false, 700
	reply, _ := ask(t, v, "SENTINEL MASTER mymaster")
	expect(t, reply, map[string]string{
		"ip": "127.0.0.1", "port": "17101",
		"flags": "s_down,o_down,master,disconnected", "s-down-time": "700", "o-down-time": "700",
	})
	reply, _ = ask(t, v, "SENTINEL REPLICAS mymaster")
	if len(reply.Elems()) != 2 {
		t.Fatalf("%d replicas, want 2", len(reply.Elems()))
	}
	expect(t, reply.Elems()[0], map[string]string{
		"flags": "slave", "master-host": "?", "master-port": "0", "master-link-status": "err", "master-link-down-time": "700",
	})

	v.Master = ""
	reply, _ = ask(t, v, "SENTINEL MASTERS")
	expect(t, reply.Elems()[0], map[string]string{
		"name": "mymaster", "ip": "?", "port": "0", "runid": "", "flags": "s_down,o_down,master,disconnected", "num-slaves": "3",
	})
}

// What the view says is shown, unit for unit.
func TestDescriptionsShowTheView(t *testing.T) {
	v := setup()
	v.Term = 42
	v.Master = "n2"
	v.Nodes[1].Contact, v.Nodes[1].RoleFor = 30, 5000
	n := &v.Nodes[2]
	n.Contact, n.Down, n.DownFor, n.RoleFor, n.Offset, n.LinkUp, n.LinkDown = 900, true, 400, 9000, 1234, false, 880
	n.Data.Host, n.Sentinel.Host = "2001:db8::3", "2001:db8::4"

	reply, _ := ask(t, v, "SENTINEL MASTER mymaster")
	expect(t, reply, map[string]string{
		"ip": "127.0.0.1", "port": "17102", "runid": strings.Repeat("2", 40), "flags": "master", "config-epoch": "42",
		"last-ping-sent": "0", "last-ok-ping-reply": "30", "last-ping-reply": "30", "info-refresh": "30",
		"role-reported-time": "5000", "num-slaves": "2", "num-other-sentinels": "2", "s-down-time": "<none>",
	})
	reply, _ = ask(t, v, "SENTINEL SLAVES mymaster")
	expect(t, reply.Elems()[0], map[string]string{"name": "127.0.0.1:17101", "flags": "slave", "master-port": "17102", "master-link-status": "ok"})
	expect(t, reply.Elems()[1], map[string]string{
		"name": "[2001:db8::3]:17103", "ip": "2001:db8::3", "flags": "s_down,slave,disconnected",
		"last-ping-sent": "900", "s-down-time": "400", "role-reported-time": "9000", "slave-repl-offset": "1234",
		"master-link-status": "err", "master-link-down-time": "880",
	})
	reply, _ = ask(t, v, "SENTINEL SENTINELS mymaster")
	if len(reply.Elems()) != 2 {
		t.Fatalf("%d other Sentinels, want 2", len(reply.Elems()))
	}
	expect(t, reply.Elems()[1], map[string]string{
		"name": strings.Repeat("3", 40), "ip": "2001:db8::4", "port": "17203", "flags": "s_down,sentinel,disconnected", "last-hello-message": "900",
	})
}

// A master that this node cannot reach but knows to be confirmed is down to this
// node only.
func TestUnreachableMasterIsSubjectivelyDown(t *testing.T) {
	v := setup()
	v.Self = "n2"
	v.Nodes[0].Down, v.Nodes[0].DownFor = true, 10
	reply, _ := ask(t, v, "SENTINEL MASTER mymaster")
	expect(t, reply, map[string]string{"flags": "s_down,master,disconnected", "s-down-time": "10", "o-down-time": "<none>"})
	if info := sentinelapi.InfoSection(v); !strings.Contains(info, ",status=sdown,") {
		t.Errorf("INFO says %q", info)
	}
}

// CKQUORUM tells quorum and majority apart, with the words of Redis.
func TestCkquorumTellsWhatIsMissing(t *testing.T) {
	tests := []struct {
		down, quorum int
		want         string
	}{
		{0, 2, "OK 3 usable Sentinels. Quorum and failover authorization can be reached"},
		{1, 2, "OK 2 usable Sentinels. Quorum and failover authorization can be reached"},
		{1, 3, "NOQUORUM 2 usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master"},
		{2, 1, "NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the majority and authorize a failover"},
		{2, 2, "NOQUORUM 1 usable Sentinels. Not enough available Sentinels to reach the specified quorum for this master. " +
			"Not enough available Sentinels to reach the majority and authorize a failover"},
	}
	for _, tt := range tests {
		v := setup()
		v.Quorum = tt.quorum
		for i := range tt.down {
			v.Nodes[2-i].Down = true
		}
		reply, _ := ask(t, v, "sentinel ckquorum mymaster")
		if got := string(reply.Bytes()); got != tt.want || reply.IsError() != strings.HasPrefix(tt.want, "NO") {
			t.Errorf("%d down, quorum %d: %q, want %q", tt.down, tt.quorum, got, tt.want)
		}
	}
}

// The node names itself by its own run id, and is not among the others.
func TestMyIDIsTheRunIDOfTheNode(t *testing.T) {
	v := setup()
	v.Self = "n3"
	reply, _ := ask(t, v, "SENTINEL MYID")
	if string(reply.Bytes()) != v.Nodes[2].RunID {
		t.Errorf("%q, want %q", reply.Bytes(), v.Nodes[2].RunID)
	}
	others, _ := ask(t, v, "SENTINEL SENTINELS mymaster")
	for _, other := range others.Elems() {
		if field(t, other, "runid") == v.Nodes[2].RunID {
			t.Error("the node lists itself among the other Sentinels")
		}
	}
}

// HELP names every subcommand there is, and only those.
func TestHelpNamesAllSubcommands(t *testing.T) {
	table, err := command.Join(sentinelapi.Commands(source(setup()), newMemory()))
	if err != nil {
		t.Fatal(err)
	}
	reply, _ := ask(t, setup(), "SENTINEL HELP")
	var text strings.Builder
	for _, line := range reply.Elems()[1:] {
		text.Write(line.Bytes())
		text.WriteByte(' ')
	}
	words := strings.FieldsFunc(text.String(), func(r rune) bool { return r == ' ' || r == '.' })
	for _, sub := range table.ByName("sentinel").Sub {
		if !slices.Contains(words, strings.ToUpper(sub.Name)) {
			t.Errorf("HELP does not name %s", sub.Name)
		}
	}
}

// moved is the view after another node has become the master.
func moved(to string) sentinelapi.View {
	v := setup()
	v.Master, v.Term = to, v.Term+1
	return v
}

// Changes are announced in the order and the words of Sentinel; what is no news
// is not announced.
func TestDiffAnnouncesChanges(t *testing.T) {
	without := setup()
	without.MasterKnown = false
	elsewhere := setup()
	elsewhere.Nodes[0].Data = sentinelapi.Addr{Host: "fd00::1", Port: 7000}
	grown := setup()
	grown.Nodes = append(grown.Nodes, sentinelapi.Node{
		ID: "n4", RunID: "4", Data: sentinelapi.Addr{Host: "127.0.0.1", Port: 17104}, Sentinel: sentinelapi.Addr{Host: "127.0.0.1", Port: 17204},
	})
	aged := setup()
	aged.Term, aged.Nodes[1].DownFor, aged.Nodes[2].Contact = 9, 70, 100

	toN2 := []sentinelapi.Message{
		{"+switch-master", "mymaster 127.0.0.1 17101 127.0.0.1 17102"},
		{"+slave", "slave 127.0.0.1:17101 127.0.0.1 17101 @ mymaster 127.0.0.1 17102"},
		{"+slave", "slave 127.0.0.1:17103 127.0.0.1 17103 @ mymaster 127.0.0.1 17102"},
		{"switch-master", "mymaster 127.0.0.1 17101 127.0.0.1 17102"},
	}
	tests := []struct {
		name       string
		prev, next sentinelapi.View
		want       []sentinelapi.Message
	}{
		{"another master", setup(), moved("n2"), toN2},
		{"another master after none", without, moved("n2"), toN2},
		{"no master any more", setup(), without, nil},
		{"the same master after none", without, setup(), nil},
		{"the first master at all", sentinelapi.View{}, setup(), nil},
		{"nothing but time", setup(), aged, nil},
		{"the master at another address", setup(), elsewhere, []sentinelapi.Message{
			{"+switch-master", "mymaster 127.0.0.1 17101 fd00::1 7000"},
			{"+slave", "slave 127.0.0.1:17102 127.0.0.1 17102 @ mymaster fd00::1 7000"},
			{"+slave", "slave 127.0.0.1:17103 127.0.0.1 17103 @ mymaster fd00::1 7000"},
			{"switch-master", "mymaster 127.0.0.1 17101 fd00::1 7000"},
		}},
		{"a new node", setup(), grown, []sentinelapi.Message{
			{"+slave", "slave 127.0.0.1:17104 127.0.0.1 17104 @ mymaster 127.0.0.1 17101"},
			{"+sentinel", "sentinel 4 127.0.0.1 17204 @ mymaster 127.0.0.1 17101"},
		}},
	}
	for _, tt := range tests {
		if got := sentinelapi.Diff(tt.prev, tt.next); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Whatever becomes of the master, the last switch announced leads to it: a client
// that follows events only is never left behind.
func TestDiffsLeadToTheMaster(t *testing.T) {
	steps := []struct {
		master string
		known  bool
	}{
		{"n1", true},
		{"n1", false},
		{"n2", true},
		{"n3", true},
		{"n3", false},
		{"n3", true},
		{"n1", true},
	}
	prev := sentinelapi.View{}
	last := "127.0.0.1 17101"
	for _, step := range steps {
		next := moved(step.master)
		next.MasterKnown = step.known
		for _, m := range sentinelapi.Diff(prev, next) {
			if m.Channel == "+switch-master" {
				words := strings.Fields(m.Payload)
				if old := strings.Join(words[1:3], " "); old != last {
					t.Errorf("%q leads away from %s, want from %s", m.Payload, old, last)
				}
				last = strings.Join(words[3:5], " ")
			}
		}
		if reply, _ := ask(t, next, "SENTINEL GET-MASTER-ADDR-BY-NAME mymaster"); step.known {
			got := string(reply.Elems()[0].Bytes()) + " " + string(reply.Elems()[1].Bytes())
			if got != last {
				t.Errorf("events lead to %s, the query to %s", last, got)
			}
		}
		prev = next
	}
}
