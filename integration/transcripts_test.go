package integration_test

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
)

// transcript is what a library that cannot be installed here says on one connection
// from its beginning, in its order and spelling, and what its parser needs of each
// answer. They were taken from the sources of the libraries; docs/clients.md says which
// versions.
type transcript struct {
	client string
	port   string // sentinel, master or replica
	steps  []step
}

// step is one command and what must hold of its reply. In the command, P stands for the
// port's password and M for the master's name.
type step struct {
	send string
	want check
}

// check tells what is wrong with a reply.
type check func(e expectation, r testkit.Reply) error

// expectation is what a check may compare with.
type expectation struct {
	protocol int // 2, or 3 after HELLO 3
	host     string
	port     string // of the master's data port
	replicas []string
}

// transcripts are in the order of docs/clients.md.
var transcripts = []transcript{
	{"Jedis, RESP3", "sentinel", []step{
		{"HELLO 3 AUTH default P", hello("sentinel", "")},
		{"CLIENT SETNAME jedis", ok},
		{"CLIENT SETINFO LIB-NAME jedis", ok},
		{"CLIENT SETINFO LIB-VER 7.0.0", ok},
		{"SENTINEL GET-MASTER-ADDR-BY-NAME M", masterAddress},
		{"SUBSCRIBE +switch-master", subscribed},
	}},
	{"Jedis, RESP2", "sentinel", []step{
		{"AUTH P", ok},
		{"CLIENT SETINFO LIB-NAME jedis", ok},
		{"CLIENT SETINFO LIB-VER 5.2.0", ok},
		{"SENTINEL GET-MASTER-ADDR-BY-NAME M", masterAddress},
		{"SUBSCRIBE +switch-master", subscribed},
	}},
	{"Jedis", "master", []step{
		{"AUTH P", ok},
		{"CLIENT SETINFO LIB-NAME jedis", ok},
		{"CLIENT SETINFO LIB-VER 5.2.0", ok},
		{"SELECT 0", ok},
		{"PING", is("+PONG")},
		{"SET jedis 1", ok},
		{"GET jedis", is(`$"1"`)},
	}},
	{"Lettuce MasterReplica", "sentinel", []step{
		{"HELLO 3 AUTH default P SETNAME app", hello("sentinel", "")},
		{"CLIENT SETINFO lib-name Lettuce", ok},
		{"CLIENT SETINFO lib-ver 7.0.0", ok},
		{"CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type none", refusedOrOK},
		{"SENTINEL MASTER M", isMaster("ip", "port")},
		{"SENTINEL REPLICAS M", replicas("ip", "port", "flags")},
		{"PSUBSCRIBE *", subscribed},
	}},
	{"Lettuce RedisClient", "sentinel", []step{
		{"HELLO 3 AUTH default P", hello("sentinel", "")},
		{"CLIENT SETINFO lib-name Lettuce", ok},
		{"CLIENT SETINFO lib-ver 7.0.0", ok},
		{"SENTINEL GET-MASTER-ADDR-BY-NAME M", masterAddress},
	}},
	{"Lettuce", "master", []step{
		{"HELLO 3 AUTH default P", hello("standalone", "master")},
		{"CLIENT SETINFO lib-name Lettuce", ok},
		{"CLIENT SETINFO lib-ver 7.0.0", ok},
		{"CLIENT SETNAME lettuce#MasterReplicaTopologyRefresh", ok},
		{"PING NODES", is(`$"NODES"`)},
	}},
	{"Lettuce", "replica", []step{
		{"HELLO 3 AUTH default P", hello("standalone", "replica")},
		{"CLIENT SETNAME lettuce#MasterReplicaTopologyRefresh", ok},
		{"PING NODES", is(`$"NODES"`)},
	}},
	{"Redisson, looking whether a password is needed", "sentinel", []step{{"PING", isError("NOAUTH ")}}},
	{"Redisson", "sentinel", []step{
		{"AUTH P", ok},
		{"PING", is("+PONG")},
		{"SENTINEL GET-MASTER-ADDR-BY-NAME M", masterAddress},
		{"SENTINEL SLAVES M", replicas("ip", "port", "flags", "master-link-status", "master-host", "master-port")},
		{"SENTINEL SENTINELS M", sentinels("ip", "port", "flags")},
	}},
	{"Redisson", "master", []step{
		{"AUTH P", ok},
		{"SELECT 0", ok},
		{"CLIENT SETNAME redisson", ok},
		{"PING", is("+PONG")},
		{"INFO ALL", info("connected_slaves:2", "aof_enabled:")},
		{"WAIT 0 0", is(":2")},
		{"WAITAOF 0 0 0", refusedOrArray},
	}},
	{"Redisson", "replica", []step{{"AUTH P", ok}, {"PING", is("+PONG")}, {"GET nothing", isNull}}},
	{"StackExchange.Redis", "sentinel", []step{
		{"AUTH P", ok},
		{"HELLO 3", hello("sentinel", "")},
		{"SENTINEL MASTERS", masters("name", "ip", "port")},
		{"INFO replication", isText},
		{"INFO server", info("redis_version:", "redis_mode:sentinel", "run_id:")},
		{"PING", is("+PONG")},
		{"SENTINEL GET-MASTER-ADDR-BY-NAME M", masterAddress},
		{"SENTINEL REPLICAS M", replicas("ip", "port")},
		{"SENTINEL SENTINELS M", sentinels("ip", "port")},
	}},
	{"StackExchange.Redis, subscriptions", "sentinel", []step{
		{"AUTH P", ok},
		{"PING", is("+PONG")},
		{"SUBSCRIBE +switch-master", subscribed},
		{"SUBSCRIBE +sentinel", subscribed},
		{"SUBSCRIBE __Booksleeve_MasterChanged", subscribed},
		{"PING", is(`*[$"pong" $""]`)},
	}},
	{"StackExchange.Redis", "master", []step{
		{"AUTH P", ok},
		{"HELLO 3", hello("standalone", "master")},
		{"CLIENT SETNAME app", ok},
		{"CLIENT SETINFO lib-name SE.Redis", ok},
		{"CLIENT SETINFO lib-ver 2.8.0", ok},
		{"CLIENT ID", isInteger},
		{"CONFIG GET timeout", setting("timeout")},
		{"CONFIG GET slave-read-only", setting("slave-read-only")},
		{"CONFIG GET replica-read-only", setting("replica-read-only")},
		{"CONFIG GET databases", setting("databases")},
		{"SENTINEL MASTERS", isError("ERR unknown command")}, // whatever answers this is a Sentinel to it
		{"INFO replication", info("role:master", "master_repl_offset:")},
		{"INFO server", info("redis_version:", "redis_mode:standalone", "run_id:")},
		{"CLUSTER NODES", isError("ERR ")},
		{"ECHO 0123456789abcdef", is(`$"0123456789abcdef"`)},
		{"ROLE", role("master")},
	}},
	{"StackExchange.Redis", "replica", []step{
		{"AUTH P", ok},
		{"INFO replication", info("role:slave", "master_host:", "master_port:", "master_link_status:up")},
		{"ROLE", role("slave")},
		{"SET written 1", is("-READONLY You can't write against a read only replica.")},
	}},
	{"redis-rs, RESP3", "sentinel", []step{
		{"HELLO 3 AUTH default P", hello("sentinel", "")},
		{"CLIENT SETINFO LIB-NAME redis-rs", ok},
		{"CLIENT SETINFO LIB-VER 1.0.0", ok},
		{"ROLE", role("sentinel")},
		{"SENTINEL MASTERS", masters("name", "ip", "port", "flags")},
		{"SENTINEL SLAVES M", replicas("ip", "port", "flags")},
	}},
	{"redis-rs, RESP2", "sentinel", []step{
		{"AUTH P", ok},
		{"ROLE", role("sentinel")},
		{"SENTINEL MASTERS", masters("name", "ip", "port", "flags")},
		{"SENTINEL SLAVES M", replicas("ip", "port", "flags")},
	}},
	{"redis-rs", "master", []step{{"AUTH P", ok}, {"ROLE", role("master")}}},
	{"redis-rs", "replica", []step{{"AUTH P", ok}, {"ROLE", role("slave")}}},
	{"fred", "sentinel", []step{
		{"AUTH P", ok}, {"SENTINEL GET-MASTER-ADDR-BY-NAME M", masterAddress}, {"SENTINEL SENTINELS M", sentinels("ip", "port")},
	}},
	{"fred", "master", []step{
		{"HELLO 3 AUTH default P", hello("standalone", "master")},
		{"SELECT 0", ok},
		{"CLIENT ID", isInteger},
		{"INFO server", info("redis_version:")},
		{"ROLE", role("master")},
	}},
	{"redis-py 8", "sentinel", []step{
		{"HELLO 3 AUTH default P", hello("sentinel", "")},
		{"CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip", refusedOrOK},
		{"CLIENT SETNAME app", ok},
		{"CLIENT SETINFO LIB-NAME redis-py", ok},
		{"CLIENT SETINFO LIB-VER 8.0.0", ok},
		{"SENTINEL MASTERS", masters("name", "ip", "port", "flags", "num-other-sentinels")},
		{"SENTINEL SLAVES M", replicas("ip", "port", "flags")},
	}},
	{"redis-py 8", "master", []step{
		{"HELLO 3 AUTH default P", hello("standalone", "master")},
		{"CLIENT MAINT_NOTIFICATIONS ON moving-endpoint-type internal-ip", refusedOrOK},
		{"CLIENT SETINFO LIB-NAME redis-py", ok},
		{"CLIENT SETINFO LIB-VER 8.0.0", ok},
		{"SELECT 0", ok},
	}},
	{"redis-client", "sentinel", []step{
		{"HELLO 3 AUTH default P", hello("sentinel", "")},
		{"CLIENT SETINFO LIB-NAME redis-client", ok},
		{"CLIENT SETINFO LIB-VER 0.30.0", ok},
		{"SENTINEL get-master-addr-by-name M", masterAddress},
		{"SENTINEL sentinels M", sentinels("ip", "port")},
		{"SENTINEL replicas M", replicas("ip", "port", "flags")},
	}},
	{"redis-client", "master", []step{
		{"HELLO 3 AUTH default P", hello("standalone", "master")},
		{"SELECT 0", ok},
		{"CLIENT SETINFO LIB-NAME redis-client", ok},
		{"CLIENT SETINFO LIB-VER 0.30.0", ok},
		{"CLIENT SETNAME app", ok},
		{"ROLE", role("master")},
	}},
	{"redis-client", "replica", []step{{"HELLO 3 AUTH default P", hello("standalone", "replica")}, {"ROLE", role("slave")}}},
}

// P8: libraries that cannot be run here get the answers that their sources show them
// to need, whether they send their commands one by one or all at once.
func TestTranscriptsOfClients(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	s := startHoldfast(t)
	at := s.waitWhole(t)
	host, port, _ := net.SplitHostPort(s.machines[at].data)
	e := expectation{host: host, port: port}
	for i, m := range s.machines {
		if i != at {
			e.replicas = append(e.replicas, m.data)
		}
	}
	for _, tr := range transcripts {
		for _, addr := range s.ports(tr.port, at) {
			t.Run(tr.client+"/"+tr.port, func(t *testing.T) {
				tr.play(t, addr, e, false)
				tr.play(t, addr, e, true)
			})
		}
	}
}

// ports are the addresses of one kind.
func (s *liveSystem) ports(kind string, master int) (list []string) {
	for i, m := range s.machines {
		switch {
		case kind == "sentinel":
			list = append(list, m.sentinel)
		case (kind == "master") == (i == master):
			list = append(list, m.data)
		}
	}
	return list
}

// words are the words of a command with what stands for others replaced.
func (tr transcript) words(s step) []string {
	words := strings.Fields(s.send)
	for i, w := range words {
		switch w {
		case "P":
			words[i] = dataPassword
			if tr.port == "sentinel" {
				words[i] = sentinelPassword
			}
		case "M":
			words[i] = testkit.MasterName
		}
	}
	return words
}

// play says the transcript on a new connection, step by step or all at once.
func (tr transcript) play(t testing.TB, addr string, e expectation, atOnce bool) {
	t.Helper()
	c := testkit.MustDial(t, addr)
	defer c.Close()
	e.protocol = 2
	if atOnce {
		var all []byte
		for _, s := range tr.steps {
			all = testkit.AppendCommand(all, tr.words(s)...)
		}
		if err := c.SendBytes(all); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range tr.steps {
		if !atOnce {
			if err := c.Send(tr.words(s)...); err != nil {
				t.Fatal(err)
			}
		}
		if strings.HasPrefix(s.send, "HELLO 3") {
			e.protocol = 3
		}
		r, err := c.Read()
		if err != nil {
			t.Fatalf("%s, all at once %v: %v", s.send, atOnce, err)
		}
		if err := s.want(e, r); err != nil {
			t.Errorf("%s, all at once %v: %v in %v", s.send, atOnce, err, r)
		}
	}
}

// is wants exactly this reply, as testkit.Reply shows it.
func is(want string) check {
	return func(_ expectation, r testkit.Reply) error { return testkit.Check(r.String() == want, "want %s", want) }
}

var ok = is("+OK")

// isError wants an error whose text begins so.
func isError(prefix string) check {
	return func(_ expectation, r testkit.Reply) error {
		return testkit.Check(r.Type == '-' && strings.HasPrefix(string(r.Text), prefix), "want an error that begins with %s", prefix)
	}
}

// refusedOrOK is for what clients try and can do without.
func refusedOrOK(_ expectation, r testkit.Reply) error {
	return testkit.Check(r.Type == '-' || r.String() == "+OK", "want OK or an error")
}

func refusedOrArray(_ expectation, r testkit.Reply) error {
	return testkit.Check(r.Type == '-' || r.Type == '*', "want an array or an error")
}

func isInteger(_ expectation, r testkit.Reply) error {
	return testkit.Check(r.Type == ':' && r.Int() > 0, "want a number")
}

func isNull(e expectation, r testkit.Reply) error {
	return testkit.Check(r.Null && (r.Type == '$' || e.protocol == 3), "want null")
}

// isText wants a text: a bulk string, or as the data port has it in RESP3 a verbatim one.
func isText(e expectation, r testkit.Reply) error {
	return testkit.Check(!r.Null && (r.Type == '$' || r.Type == '=' && e.protocol == 3), "want a text")
}

// info wants lines that end as Redis's do and begin with each of these.
func info(lines ...string) check {
	return func(e expectation, r testkit.Reply) error {
		if err := isText(e, r); err != nil {
			return err
		}
		for _, l := range lines {
			if !strings.Contains("\n"+strings.TrimPrefix(string(r.Text), "txt:"), "\n"+l) || !strings.Contains(string(r.Text), "\r\n") {
				return fmt.Errorf("no line %s", l)
			}
		}
		return nil
	}
}

// mapped is the type of a reply with named fields.
func (e expectation) mapped() byte {
	if e.protocol == 3 {
		return '%'
	}
	return '*'
}

// hello wants the fields that every client may look at; a Sentinel has no role.
func hello(mode, role string) check {
	return func(e expectation, r testkit.Reply) error {
		fields := r.Map()
		major, _, _ := strings.Cut(string(fields["version"].Text), ".")
		version, _ := strconv.Atoi(major)
		_, hasRole := fields["role"]
		return errors.Join(
			testkit.Check(r.Type == e.mapped(), "type %c, want %c", r.Type, e.mapped()),
			testkit.Check(fields["proto"].String() == ":"+strconv.Itoa(e.protocol), "proto is %v", fields["proto"]),
			testkit.Check(fields["id"].Type == ':' && fields["modules"].Type == '*', "id or modules is of another type"),
			testkit.Check(version >= 5, "version %v", fields["version"]),
			testkit.Check(string(fields["mode"].Text) == mode, "mode is %v, want %s", fields["mode"], mode),
			testkit.Check(string(fields["role"].Text) == role && hasRole == (role != ""), "role is %v, want %q", fields["role"], role),
		)
	}
}

func role(want string) check {
	return func(_ expectation, r testkit.Reply) error {
		if len(r.Elems) < 2 || r.Type != '*' || r.Elems[0].Type != '$' {
			return errors.New("want an array that begins with a bulk string")
		}
		return testkit.Check(string(r.Elems[0].Text) == want, "want %s", want)
	}
}

// setting wants one pair with that name and a value.
func setting(name string) check {
	return func(e expectation, r testkit.Reply) error {
		return testkit.Check(r.Type == e.mapped() && len(r.Elems) == 2 && string(r.Elems[0].Text) == name && r.Elems[1].Type == '$', "want %s with its value", name)
	}
}

// subscribed wants the confirmation of one channel, as a push in RESP3.
func subscribed(e expectation, r testkit.Reply) error {
	want := byte('*')
	if e.protocol == 3 {
		want = '>'
	}
	return testkit.Check(r.Type == want && len(r.Elems) == 3 && strings.HasSuffix(string(r.Elems[0].Text), "subscribe") && r.Elems[2].Type == ':', "want a confirmation")
}

func masterAddress(e expectation, r testkit.Reply) error {
	return is(fmt.Sprintf("*[$%q $%q]", e.host, e.port))(e, r)
}

// instance wants the given fields, in the protocol's form, every value a bulk string.
func (e expectation) instance(r testkit.Reply, fields []string) error {
	if r.Type != e.mapped() || len(r.Elems)%2 != 0 {
		return fmt.Errorf("an instance is of type %c", r.Type)
	}
	if i := slices.IndexFunc(r.Elems, func(v testkit.Reply) bool { return v.Type != '$' }); i >= 0 {
		return fmt.Errorf("%v is no bulk string", r.Elems[i])
	}
	known := r.Map()
	for _, f := range fields {
		if len(known[f].Text) == 0 {
			return fmt.Errorf("no %s", f)
		}
	}
	return nil
}

// isMaster wants the master in good health.
func isMaster(fields ...string) check {
	return func(e expectation, r testkit.Reply) error {
		m := r.Map()
		return cmp.Or(e.instance(r, append(fields, "flags")),
			testkit.Check(string(m["ip"].Text) == e.host && string(m["port"].Text) == e.port, "another address"),
			testkit.Check(string(m["flags"].Text) == "master", "flags %v", m["flags"]))
	}
}

// masters wants a list of one master.
func masters(fields ...string) check {
	return func(e expectation, r testkit.Reply) error {
		if r.Type != '*' || len(r.Elems) != 1 {
			return errors.New("want a list of one")
		}
		return isMaster(fields...)(e, r.Elems[0])
	}
}

// replicas wants the list of both replicas in good health behind the master.
func replicas(fields ...string) check {
	return func(e expectation, r testkit.Reply) error {
		var found []string
		for _, one := range r.Elems {
			m := one.Map()
			found = append(found, net.JoinHostPort(string(m["ip"].Text), string(m["port"].Text)))
			if err := cmp.Or(e.instance(one, fields),
				testkit.Check(string(m["flags"].Text) == "slave" && len(m["s-down-time"].Text) == 0, "flags %v", m["flags"]),
				testkit.Check(string(m["master-link-status"].Text) == "ok", "link %v", m["master-link-status"]),
				testkit.Check(string(m["master-host"].Text) == e.host && string(m["master-port"].Text) == e.port, "another master")); err != nil {
				return err
			}
		}
		slices.Sort(found)
		return testkit.Check(r.Type == '*' && slices.Equal(found, slices.Sorted(slices.Values(e.replicas))), "replicas %v, want %v", found, e.replicas)
	}
}

// sentinels wants the list of the two others, at different addresses.
func sentinels(fields ...string) check {
	return func(e expectation, r testkit.Reply) error {
		found := map[string]bool{}
		for _, one := range r.Elems {
			if err := e.instance(one, fields); err != nil {
				return err
			}
			m := one.Map()
			found[net.JoinHostPort(string(m["ip"].Text), string(m["port"].Text))] = true
			if f, ok := m["flags"]; ok && string(f.Text) != "sentinel" {
				return fmt.Errorf("flags %v", f)
			}
		}
		return testkit.Check(r.Type == '*' && len(found) == 2, "%d Sentinels", len(found))
	}
}
