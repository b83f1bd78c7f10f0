package sentinelapi_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/sentinelapi"
)

// memory keeps what it is told, and is a source that shows it.
type memory struct {
	options map[string]sentinelapi.Options
	params  []sentinelapi.Param
	told    []sentinelapi.Message
	refuse  error
}

func newMemory() *memory {
	return &memory{
		options: map[string]sentinelapi.Options{},
		params: []sentinelapi.Param{
			{Name: "resolve-hostnames", Value: "no"},
			{Name: "announce-hostnames", Value: "no"},
			{Name: "announce-ip", Value: ""},
			{Name: "announce-port", Value: "0"},
			{Name: "loglevel", Value: "notice"},
		},
	}
}

func (m *memory) View() sentinelapi.View {
	v := setup()
	v.Names, v.Options = []string{"mymaster", "sessions"}, m.options
	return v
}

func (m *memory) Failover() error { return nil }

func (m *memory) Keep(name string, change func(o *sentinelapi.Options), told []sentinelapi.Message) {
	o := m.options[name]
	change(&o)
	m.options[name], m.told = o, append(m.told, told...)
}

func (m *memory) Params() []sentinelapi.Param { return slices.Clone(m.params) }

func (m *memory) SetParams(params []sentinelapi.Param) error {
	if m.refuse != nil {
		return m.refuse
	}
	for _, p := range params {
		i := slices.IndexFunc(m.params, func(k sentinelapi.Param) bool { return k.Name == p.Name })
		m.params[i].Value = p.Value
	}
	return nil
}

// text shows a reply on one line.
func text(v resp.Value) string {
	switch v.Kind() {
	case resp.KindArray, resp.KindMap:
		parts := make([]string, len(v.Elems()))
		for i, e := range v.Elems() {
			parts[i] = text(e)
		}
		return "[" + strings.Join(parts, " ") + "]"
	case resp.KindError:
		return "-" + string(v.Bytes())
	case resp.KindBulk:
		return "'" + string(v.Bytes()) + "'"
	default:
	}
	return strings.TrimRight(string(v.Append(nil, 3)), "\r\n")
}

// Arguments are found fault with in the words and the order of redis-sentinel 7.0.15;
// of 7.2 where it takes more arguments. What cannot be done is refused only then.
func TestChangesRefuseAsSentinelDoes(t *testing.T) {
	const fixed = "-ERR a node watches its own cluster only; the directive master-name holds the names of its master"
	const config = "-ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET <param> <value> [<param> <value> ...] are supported."
	const denied = "-ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig configuration directive in your Sentinel configuration"
	for line, want := range map[string]string{
		"MONITOR mymaster 127.0.0.1 27101 2":         "-ERR Duplicate master name.",
		"MONITOR other 127.0.0.1 x y":                "-ERR Invalid quorum",
		"MONITOR other nohost x 0":                   "-ERR Invalid port",
		"MONITOR other nohost 99999 0":               "-ERR Quorum must be 1 or greater.",
		"MONITOR other nohost 99999 1":               "-ERR Invalid IP address or hostname specified",
		"MONITOR other 127.0.0.1 99999 1":            "-ERR Invalid port number.",
		"MONITOR mymaster 127.0.0.1 -1 1":            "-ERR Invalid port number.",
		"MONITOR other 127.0.0.1 6379 2":             fixed,
		"MONITOR other ::1 6379 2":                   fixed,
		"REMOVE nobody":                              "-ERR No such master with that name",
		"REMOVE sessions":                            fixed,
		"SET nobody quorum 2":                        "-ERR No such master with that name",
		"SET mymaster quorum":                        "-ERR wrong number of arguments for 'sentinel|set' command",
		"SET mymaster a b":                           "-ERR Unknown option or number of arguments for SENTINEL SET 'a'",
		"SET mymaster parallel-syncs 1 quorum":       "-ERR Unknown option or number of arguments for SENTINEL SET 'quorum'",
		"SET mymaster rename-command CONFIG":         "-ERR Unknown option or number of arguments for SENTINEL SET 'rename-command'",
		"SET mymaster quorum 0":                      "-ERR Invalid argument '0' for SENTINEL SET 'quorum'",
		"SET mymaster QUORUM 9999999999":             "-ERR Invalid argument '9999999999' for SENTINEL SET 'QUORUM'",
		"SET mymaster failover-timeout 1x":           "-ERR Invalid argument '1x' for SENTINEL SET 'failover-timeout'",
		"SET mymaster rename-command CONFIG \"\"":    "-ERR Invalid argument '' for SENTINEL SET 'rename-command'",
		"SET mymaster notification-script /x":        denied,
		"SET mymaster client-reconfig-script /x":     denied,
		"CONFIG GET":                                 config,
		"CONFIG SET a":                               config,
		"CONFIG FOO a b":                             config,
		"CONFIG SET a b":                             "-ERR Invalid argument 'a' to SENTINEL CONFIG SET",
		"CONFIG SET announce-port 70000":             "-ERR Invalid value '70000' to SENTINEL CONFIG SET 'announce-port'",
		"CONFIG SET announce-port 1 ANNOUNCE-PORT 1": "-ERR Duplicate argument 'ANNOUNCE-PORT' to SENTINEL CONFIG SET",
		"CONFIG SET announce-port 1 announce-ip":     "-ERR Missing argument 'announce-ip' value",
		"CONFIG SET resolve-hostnames maybe":         "-ERR Invalid value 'maybe' to SENTINEL CONFIG SET 'resolve-hostnames'",
		"CONFIG SET loglevel loud":                   "-ERR Invalid value 'loud' to SENTINEL CONFIG SET 'loglevel'",
		"CONFIG SET sentinel-pass x":                 "-ERR sentinel-user and sentinel-pass are not used here: nodes prove cluster-secret to each other",
		"DEBUG foo":                                  "-ERR Unknown option or number of arguments for SENTINEL DEBUG 'foo'",
		"DEBUG ping-period":                          "-ERR Unknown option or number of arguments for SENTINEL DEBUG 'ping-period'",
		"DEBUG ping-period -1":                       "-ERR Invalid argument '-1' for SENTINEL DEBUG 'ping-period'",
		"DEBUG PING-PERIOD 900":                      "-ERR the times of the cluster cannot be changed here; they follow from the directive election-timeout",
		"SIMULATE-FAILURE foo":                       "-ERR Unknown failure simulation specified",
		"SIMULATE-FAILURE crash-after-election":      "-ERR failures are not simulated: no node is crashed on request",
		"SIMULATE-FAILURE HELP":                      "['crash-after-election' 'crash-after-promotion']",
		"IS-MASTER-DOWN-BY-ADDR 127.0.0.1 x 0 *":     "-ERR value is not an integer or out of range",
		"IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 x *":     "-ERR value is not an integer or out of range",
		"FLUSHCONFIG":                                "+OK",
		"PENDING-SCRIPTS":                            "[]",
		"RESET m*":                                   ":1",
		"RESET *s*":                                  ":2",
		"RESET nobody":                               ":0",
	} {
		m := newMemory()
		if got := text(run(t, m, m, &conn{}, "SENTINEL "+line)); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
		if len(m.options) > 0 || len(m.told) > 0 || m.params[3].Value != "0" {
			t.Errorf("%s has changed something", line)
		}
	}
}

// What SENTINEL SET gives a master is shown under this name, and under no other, and
// subscribers hear of it; passwords stay out of it.
func TestSetIsReportedBack(t *testing.T) {
	m := newMemory()
	line := "SENTINEL SET sessions down-after-milliseconds 5000 Failover-Timeout 60000 parallel-syncs 2 quorum 3 " +
		"auth-user u auth-pass secret rename-command CONFIG hidden master-reboot-down-after-period 0"
	if got := text(run(t, m, m, &conn{}, line)); got != "+OK" {
		t.Fatal(got)
	}
	expect(t, run(t, m, m, &conn{}, "SENTINEL MASTER sessions"), map[string]string{
		"name": "sessions", "down-after-milliseconds": "5000", "failover-timeout": "60000", "parallel-syncs": "2", "quorum": "3",
	})
	masters := run(t, m, m, &conn{}, "SENTINEL MASTERS").Elems()
	expect(t, masters[0], map[string]string{"name": "mymaster", "down-after-milliseconds": "1000", "parallel-syncs": "1", "quorum": "1"})
	expect(t, masters[1], map[string]string{"name": "sessions", "down-after-milliseconds": "5000", "parallel-syncs": "2", "quorum": "3"})
	expect(t, run(t, m, m, &conn{}, "SENTINEL REPLICAS sessions").Elems()[0], map[string]string{"down-after-milliseconds": "5000"})
	if got := text(run(t, m, m, &conn{}, "SENTINEL SET sessions quorum 4")); got != "+OK" {
		t.Fatal(got)
	}
	if got := text(run(t, m, m, &conn{}, "SENTINEL CKQUORUM sessions")); !strings.HasPrefix(got, "-NOQUORUM 3 usable Sentinels. Not enough available Sentinels to reach the specified quorum") {
		t.Errorf("CKQUORUM answers %s", got)
	}
	want := sentinelapi.Message{Channel: "+set", Payload: "master sessions 127.0.0.1 17101 down-after-milliseconds 5000"}
	if len(m.told) != 9 || m.told[0] != want {
		t.Errorf("told %q, want first %q", m.told, want)
	}
	for _, told := range m.told {
		if strings.Contains(told.Payload, "secret") {
			t.Errorf("a password is published: %q", told)
		}
	}
}

// CONFIG GET shows all parameters in the order of Redis 7.2, whatever the case of the
// pattern, each once; what is set is shown; what the node refuses is told.
func TestConfigShowsWhatIsSet(t *testing.T) {
	m := newMemory()
	ask := func(line string) string { return text(run(t, m, m, &conn{}, "SENTINEL CONFIG "+line)) }
	all := "['resolve-hostnames' 'no' 'announce-hostnames' 'no' 'announce-ip' '' 'announce-port' '0' 'sentinel-user' '' 'sentinel-pass' '' 'loglevel' 'notice']"
	for line, want := range map[string]string{
		"GET *":                         all,
		"GET * *":                       all,
		"GET nosuch":                    "[]",
		"GET ANNOUNCE-IP":               "['announce-ip' '']",
		"GET announce-port sentinel-u*": "['announce-port' '0' 'sentinel-user' '']",
		"SET sentinel-pass \"\"":        "+OK",
		"SET announce-ip h announce-port 7 ANNOUNCE-hostnames YES": "+OK",
	} {
		if m = newMemory(); ask(line) != want {
			got := ask(line)
			t.Errorf("CONFIG %s: %s, want %s", line, got, want)
		}
	}
	m = newMemory()
	_ = ask("SET announce-ip h announce-port 7 ANNOUNCE-hostnames YES")
	if got, want := ask("GET announce-*"), "['announce-hostnames' 'YES' 'announce-ip' 'h' 'announce-port' '7']"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	m.refuse = errors.New("must be a host")
	if got := ask("SET announce-ip h"); got != "-ERR must be a host" {
		t.Errorf("a refused parameter is answered %s", got)
	}
}

// A client that has proved nothing changes nothing.
func TestStrangersChangeNothing(t *testing.T) {
	for _, line := range []string{"SENTINEL SET mymaster quorum 3", "SENTINEL CONFIG SET announce-ip 192.0.2.1"} {
		m := newMemory()
		got := text(run(t, m, m, &conn{distrusted: true}, line))
		if !strings.HasPrefix(got, "-NOPERM ") || len(m.options) > 0 || m.params[2].Value != "" {
			t.Errorf("%s: %s, and %v is kept", line, got, m.params)
		}
	}
}

// Another Sentinel is told that the master is down only if it is down here, only for
// its address, and gets no vote.
func TestIsMasterDownByAddr(t *testing.T) {
	down := setup()
	down.Nodes[0].Down, down.Self = true, "n2"
	gone := setup()
	gone.MasterKnown = false
	for _, tt := range []struct {
		view sentinelapi.View
		args string
		want string
	}{
		{setup(), "127.0.0.1 17101 5 *", "[:0 '*' :0]"},
		{down, "127.0.0.1 17101 5 " + strings.Repeat("a", 40), "[:1 '*' :0]"},
		{gone, "127.0.0.1 17101 5 *", "[:1 '*' :0]"},
		{gone, "127.0.0.1 17102 5 *", "[:0 '*' :0]"},
		{gone, "127.0.0.2 17101 5 *", "[:0 '*' :0]"},
		{sentinelapi.View{}, "? 0 5 *", "[:0 '*' :0]"},
	} {
		if reply, _ := ask(t, tt.view, "SENTINEL IS-MASTER-DOWN-BY-ADDR "+tt.args); text(reply) != tt.want {
			t.Errorf("%s: %q, want %q", tt.args, text(reply), tt.want)
		}
	}
}

// INFO-CACHE has, for each known name once, the master and then the replicas, with
// what pings tell of them.
func TestInfoCacheShowsWhatIsKnown(t *testing.T) {
	v := setup()
	v.Names = []string{"mymaster", "sessions"}
	v.Nodes[1].Contact, v.Nodes[1].Offset, v.Nodes[2].Down = 40, 77, true
	v.Nodes[1].Priority, v.Nodes[2].Priority = 7, 0
	reply, _ := ask(t, v, "SENTINEL INFO-CACHE nobody sessions sessions")
	if len(reply.Elems()) != 2 || string(reply.Elems()[0].Bytes()) != "sessions" {
		t.Fatalf("%s", text(reply))
	}
	entries := reply.Elems()[1].Elems()
	if len(entries) != 3 || entries[1].Elems()[0].Int64() != 40 {
		t.Fatalf("%s", text(reply))
	}
	for i, want := range [][]string{
		{"run_id:" + v.Nodes[0].RunID, "role:master", "connected_slaves:1", "slave0:ip=127.0.0.1,port=17102,state=online,offset=77,lag=0"},
		{"tcp_port:17102", "role:slave", "master_host:127.0.0.1", "master_port:17101", "master_link_status:up", "slave_repl_offset:77", "slave_priority:7"},
		{"tcp_port:17103", "role:slave", "slave_priority:0"},
	} {
		for _, line := range want {
			if got := string(entries[i].Elems()[1].Bytes()); !strings.Contains(got, line+"\r\n") {
				t.Errorf("entry %d lacks %s:\n%s", i, line, got)
			}
		}
	}
	v.MasterKnown = false
	reply, _ = ask(t, v, "SENTINEL INFO-CACHE mymaster")
	if got := text(reply); !strings.Contains(got, "master_host:?") || !strings.Contains(got, "master_link_status:down") {
		t.Errorf("without a master: %s", got)
	}
	v.Master = ""
	if reply, _ = ask(t, v, "SENTINEL INFO-CACHE mymaster"); text(reply.Elems()[1].Elems()[0]) != "[:0 _]" {
		t.Errorf("no master ever: %s", text(reply))
	}
}

// DEBUG shows the times of a Sentinel by name, those of the cluster where there are any.
func TestDebugShowsTheTimes(t *testing.T) {
	v := setup()
	v.Election = 250
	reply, _ := ask(t, v, "SENTINEL DEBUG")
	if len(reply.Elems()) != 26 || reply.Kind() != resp.KindMap {
		t.Fatalf("%s", text(reply))
	}
	expect(t, reply, map[string]string{
		"PING-PERIOD": "62", "DEFAULT-DOWN-AFTER": "1000", "DEFAULT-FAILOVER-TIMEOUT": "10000", "ELECTION-TIMEOUT": "250", "TILT-PERIOD": "0",
	})
}

// Greetings of Sentinels are taken, and nothing else is published by clients.
func TestPublishTakesGreetingsOnly(t *testing.T) {
	for line, want := range map[string]string{
		"PUBLISH __sentinel__:hello 10.0.0.9,26379,x,0,mymaster,10.0.0.9,6379,0": ":1",
		"PUBLISH +switch-master x": "-ERR Only HELLO messages are accepted by Sentinel instances.",
	} {
		if reply, _ := ask(t, setup(), line); text(reply) != want {
			t.Errorf("%s: %s, want %s", line, text(reply), want)
		}
	}
}

// Every name of the master leads to the same cluster, in all replies that show names
// and in events; any other name is unknown.
func TestEveryNameStandsForTheCluster(t *testing.T) {
	v := setup()
	v.Names = []string{"mymaster", "sessions"}
	for _, name := range v.Names {
		if reply, _ := ask(t, v, "SENTINEL GET-MASTER-ADDR-BY-NAME "+name); text(reply) != "['127.0.0.1' '17101']" {
			t.Errorf("%s: %s", name, text(reply))
		}
		reply, _ := ask(t, v, "SENTINEL MASTER "+name)
		expect(t, reply, map[string]string{"name": name, "port": "17101"})
	}
	if reply, _ := ask(t, v, "SENTINEL GET-MASTER-ADDR-BY-NAME SESSIONS"); reply.Kind() != resp.KindNullArray {
		t.Errorf("names differ by case: %s", text(reply))
	}
	if reply, _ := ask(t, v, "ROLE"); text(reply) != "['sentinel' ['mymaster' 'sessions']]" {
		t.Errorf("ROLE: %s", text(reply))
	}
	if info := sentinelapi.InfoSection(v); !strings.Contains(info, "sentinel_masters:2\r\n") ||
		!strings.Contains(info, "\r\nmaster1:name=sessions,status=ok,address=127.0.0.1:17101,slaves=2,sentinels=3\r\n") {
		t.Errorf("INFO: %s", info)
	}
	next := moved("n2")
	messages := sentinelapi.Diff(v.For("sessions"), next.For("sessions"))
	if len(messages) == 0 || messages[0] != (sentinelapi.Message{Channel: "+switch-master", Payload: "sessions 127.0.0.1 17101 127.0.0.1 17102"}) {
		t.Errorf("%q", messages)
	}
}
