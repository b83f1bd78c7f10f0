package respserver_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// twoReplicas are replicas of which one has acknowledged everything up to acked.
func (n *fakeNode) twoReplicas(acked uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.replicas = []respserver.ReplicaState{
		{Host: "10.0.0.2", Port: 6379, Acked: acked, Up: true},
		{Host: "10.0.0.3", Port: 6380, Acked: 0, Lag: 1, Up: true},
		{Host: "10.0.0.4", Port: 6381, Acked: acked, Up: false},
	}
}

// A node calls itself master only if that was confirmed after the question:
// in ROLE, INFO and HELLO alike.
func TestMasterIsConfirmed(t *testing.T) {
	r := start(t)
	r.node.twoReplicas(5)
	r.node.index.Store(7)
	p := r.dial(t)
	hello := func(role string) string {
		return "[server redis version 7.2.4 proto :2 id :1 mode standalone role " + role + " modules []]"
	}
	const master = "role:master\r\nconnected_slaves:2\r\nslave0:ip=10.0.0.2,port=6379,state=online,offset=5,lag=0\r\n" +
		"slave1:ip=10.0.0.3,port=6380,state=online,offset=0,lag=1\r\n"
	p.want("ROLE", "[master :7 [[10.0.0.2 6379 5] [10.0.0.3 6380 0]]]")
	p.want("HELLO", hello("master"))
	if got := p.do("INFO replication"); !strings.Contains(got, master) {
		t.Errorf("INFO replication: %s", got)
	}
	if n := r.node.confirms.Load(); n != 3 {
		t.Errorf("%d confirmations for three answers", n)
	}

	r.node.loseTerm(errNotMaster)
	p.want("ROLE", "[slave  :0 connect :7]")
	p.want("HELLO", hello("replica"))
	if got := p.do("INFO replication"); !strings.Contains(got, "role:slave\r\nmaster_host:\r\nmaster_port:0\r\nmaster_link_status:down\r\n") {
		t.Errorf("INFO replication: %s", got)
	}

	r.node.setRole(respserver.Role{MasterHost: "10.0.0.1", MasterPort: 6380, LinkUp: true})
	p.want("ROLE", "[slave 10.0.0.1 :6380 connected :7]")
	p.want("HELLO", hello("replica"))
	if got := p.do("INFO replication"); !strings.Contains(got, "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6380\r\nmaster_link_status:up\r\n") {
		t.Errorf("INFO replication: %s", got)
	}
	r.node.setRole(respserver.Role{MasterHost: "10.0.0.1", MasterPort: 6380, LinkUp: true, Loading: true})
	p.want("ROLE", "[slave 10.0.0.1 :6380 sync :7]")
	r.node.setRole(respserver.Role{MasterHost: "10.0.0.1", MasterPort: 6380, LinkUp: true, NamedUntil: time.Nanosecond})
	p.want("ROLE", "[slave  :0 connect :7]") // known once, but too long ago to be named
	if got := p.do("INFO replication"); !strings.Contains(got, "master_host:\r\nmaster_port:0\r\nmaster_link_status:down\r\n") {
		t.Errorf("INFO replication: %s", got)
	}
}

// INFO shows the sections that are asked for.
func TestInfoSections(t *testing.T) {
	p := start(t).dial(t)
	p.want("SET a 1", "OK")
	titles := func(text string) (list []string) {
		for line := range strings.Lines(text) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "# "); ok {
				list = append(list, name)
			} else if l := strings.TrimSuffix(line, "\r\n"); l != "" && !strings.Contains(l, ":") {
				t.Errorf("line %q", line)
			}
		}
		return list
	}
	all := []string{"Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Modules", "Commandstats", "Errorstats", "Cluster", "Keyspace", "Raft"}
	usual := slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == "Commandstats" })
	for line, want := range map[string][]string{
		"INFO": usual, "INFO default": usual, "INFO all": all, "INFO EVERYTHING": all, "INFO default commandstats": all,
		"INFO raft": {"Raft"}, "INFO keyspace CPU nosuch": {"CPU", "Keyspace"}, "INFO nosuch": nil,
	} {
		if got := titles(p.do(line)); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
	text := p.do("INFO everything")
	for _, line := range []string{
		"redis_version:7.2.4", "holdfast_version:0.1.0", "redis_mode:standalone", "run_id:" + strings.Repeat("a", 40), "tcp_port:6379",
		"connected_clients:1", "loading:0", "role:master", "cluster_enabled:0", "raft_term:7", "db0:keys=1,expires=0,avg_ttl=0",
		"maxmemory_policy:noeviction", "aof_enabled:1", "rdb_last_save_time:1000", "keyspace_hits:0",
	} {
		if !strings.Contains(text, line+"\r\n") {
			t.Errorf("INFO lacks %s", line)
		}
	}
	if !strings.Contains(text, "cmdstat_set:calls=1,usec=") || !strings.Contains(text, "rejected_calls=0,failed_calls=0\r\n") {
		t.Errorf("commandstats: %s", text)
	}
	p.do("HELLO 3")
	p.send("INFO raft")
	if v := p.read(); v.Kind() != resp.KindVerbatim {
		t.Errorf("INFO is of kind %v in RESP3", v.Kind())
	}
}

// WAIT counts the replicas that have everything this connection wrote.
func TestWait(t *testing.T) {
	r := start(t)
	r.node.twoReplicas(0)
	p := r.dial(t)
	play(t, p, []exchange{
		{"WAIT 2 0", ":2"}, // nothing written: everybody has it
		{"SET a 1", "OK"},
		{"WAIT 0 0", ":0"},
		{"WAIT 1 20", ":0"},
		{"WAITAOF 1 1 20", "[:1 :0]"},
		{"WAIT x 0", "!ERR value is not an integer or out of range"},
		{"WAIT 1 x", "!ERR timeout is not an integer or out of range"},
		{"WAIT 1 -1", "!ERR timeout is negative"},
		{"WAITAOF 2 1 0", "!ERR value is out of range, value must between 0 and 1"},
		{"WAITAOF 0 -1 0", "!ERR value is out of range, must be positive"},
		{"MULTI", "OK"},
		{"WAIT 1 0", "QUEUED"},
		{"EXEC", "[:0]"}, // inside EXEC nothing waits
	})
	p.send("WAIT 1 0", "PING")
	eventually(t, "the connection is blocked", func() bool { return r.Stats().Blocked == 1 })
	r.node.twoReplicas(r.node.Index())
	p.wantAll(":1", "PONG")
	r.node.setRole(respserver.Role{LinkUp: true})
	if got := p.do("WAIT 1 0"); !strings.HasPrefix(got, "!ERR WAIT cannot be used with replica instances.") {
		t.Error(got)
	}
	if got := p.do("WAITAOF 1 1 0"); !strings.HasPrefix(got, "!ERR WAITAOF cannot be used with replica instances.") {
		t.Error(got)
	}
}

// What was answered before a command that blocks is sent before it blocks.
func TestRepliesDoNotWaitForWait(t *testing.T) {
	r := start(t)
	r.node.twoReplicas(0)
	p := r.dial(t)
	p.send("SET a 1", "GET a", "WAIT 1 0")
	p.wantAll("OK", "1")
	r.node.twoReplicas(r.node.Index())
	p.wantAll(":1")
}

// A blocked connection can be woken by others, and is when the master steps down.
func TestBlockedConnectionsCanBeWoken(t *testing.T) {
	r := start(t)
	r.node.twoReplicas(0)
	p, other := r.dial(t), r.dial(t)
	p.want("SET a 1", "OK")
	block := func() {
		p.send("WAIT 1 0")
		eventually(t, "the connection is blocked", func() bool { return r.Stats().Blocked == 1 })
	}
	block()
	if list := other.do("CLIENT LIST ID 1"); !strings.Contains(list, " flags=b ") {
		t.Errorf("CLIENT LIST: %s", list)
	}
	other.want("CLIENT UNBLOCK 1", ":1")
	p.wantAll(":0")
	block()
	other.want("CLIENT UNBLOCK 1 ERROR", ":1")
	p.wantAll("!UNBLOCKED client unblocked via CLIENT UNBLOCK")
	other.want("CLIENT UNBLOCK 1", ":0")
	block()
	r.CloseClients()
	p.wantAll("!UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)")
	p.wantClosed()
	other.wantClosed()
}

// A client that goes away while it is blocked leaves nothing behind, and what it
// sends meanwhile is carried out afterwards.
func TestBlockedClientMayGoAway(t *testing.T) {
	r := start(t)
	r.node.twoReplicas(0)
	gone, p := r.dial(t), r.dial(t)
	gone.want("SET a 1", "OK")
	gone.send("WAIT 1 0")
	eventually(t, "the connection is blocked", func() bool { return r.Stats().Blocked == 1 })
	gone.send("SET a 2")
	_ = gone.conn.Close()
	eventually(t, "it is gone", func() bool { return r.Stats().Connected <= 1 })

	p.want("SET b 1", "OK")
	p.send("WAIT 1 0")
	eventually(t, "the connection is blocked", func() bool { return r.Stats().Blocked == 1 })
	var long []byte
	for range 1000 {
		long = append(long, encode("INCR b")...) // more than is read ahead
	}
	p.sendBytes(long)
	r.node.twoReplicas(r.node.Index())
	p.wantAll(":1")
	for i := range 1000 {
		p.wantAll(":" + strconv.Itoa(i+2))
	}
}

// SHUTDOWN hands what was asked for to the node and says nothing more.
func TestShutdown(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	play(t, p, []exchange{
		{"SHUTDOWN WHAT", "!ERR syntax error"},
		{"SHUTDOWN SAVE NOSAVE", "!ERR syntax error"},
		{"SHUTDOWN ABORT NOW", "!ERR syntax error"},
		{"SHUTDOWN ABORT", "!ERR No shutdown in progress."},
	})
	p.send("SET a 1", "SHUTDOWN nosave now force", "SET a 2")
	p.wantAll("OK")
	p.wantClosed()
	r.node.mu.Lock()
	defer r.node.mu.Unlock()
	want := []respserver.ShutdownMode{{Abort: true}, {NoSave: true, Now: true, Force: true}}
	if !slices.Equal(r.node.mu.shutdown, want) {
		t.Errorf("the node was told %+v", r.node.mu.shutdown)
	}
}

// CONFIG reads and changes settings of the node, all of them or none.
func TestConfig(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	play(t, p, []exchange{
		{"CONFIG GET timeout", "[timeout 0]"},
		{"CONFIG GET TIMEOUT nosuch timeout", "[TIMEOUT 0]"},
		{"CONFIG GET *", "[databases 16 maxclients 10000 timeout 0]"},
		{"CONFIG SET timeout 5 MAXCLIENTS 7", "OK"},
		{"CONFIG GET timeout maxclients", "[timeout 5 maxclients 7]"},
		{"CONFIG SET timeout 6 nosuch 7", "!ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"},
		{"CONFIG GET timeout", "[timeout 5]"},
		{"CONFIG SET timeout 6 maxclients", "!ERR syntax error"},
		{"GET none", "null"},
		{"NOSUCH", "!ERR unknown command 'NOSUCH', with args beginning with: "},
	})
	if st := r.Stats(); st.Misses != 1 || st.Errors != 3 || st.Commands == 0 {
		t.Errorf("%+v", st)
	}
	p.want("CONFIG RESETSTAT", "OK")
	if st := r.Stats(); st.Misses != 0 || st.Errors != 0 || st.Commands > 1 {
		t.Errorf("%+v after RESETSTAT", st)
	}
	if got := p.do("INFO commandstats"); strings.Contains(got, "cmdstat_get:") {
		t.Errorf("after RESETSTAT: %s", got)
	}
}

// SAVE waits for the snapshot, BGSAVE does not, and both tell of errors.
func TestSaves(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.want("SAVE", "OK")
	p.want("BGSAVE", "Background saving started")
	saves := func() int {
		r.node.mu.Lock()
		defer r.node.mu.Unlock()
		return r.node.mu.saves
	}
	eventually(t, "the snapshot is made", func() bool { return saves() == 2 })
	p.want("BGSAVE NOW", "!ERR syntax error")
	p.want("LASTSAVE", ":1000")
	r.node.mu.Lock()
	r.node.mu.saveErr = errors.New("disk full")
	r.node.mu.Unlock()
	eventually(t, "SAVE fails", func() bool { return p.do("SAVE") == "!ERR the snapshot failed, see the log of the node" })
}

// TIME is the time of the cluster; DEBUG is refused unless allowed; the commands
// of Redis Cluster say that this is none.
func TestSmallServerCommands(t *testing.T) {
	r := start(t)
	r.node.clock.SetWall(1_234_567)
	p := r.dial(t)
	play(t, p, []exchange{
		{"TIME", "[1234 567000]"},
		{"READONLY", "!ERR This instance has cluster support disabled"},
		{"READWRITE", "!ERR This instance has cluster support disabled"},
	})
	if got := p.do("DEBUG SLEEP 0"); !strings.HasPrefix(got, "!ERR DEBUG command not allowed.") {
		t.Error(got)
	}
	for _, allowed := range []string{"yes", "local"} {
		r.Tune(respserver.Tuning{DebugCommand: allowed})
		p.want("DEBUG SLEEP 0.001", "OK")
		p.want("DEBUG SLEEP x", "!ERR value is not a valid float")
		p.want("DEBUG WHAT", "!ERR unknown subcommand or wrong number of arguments for 'WHAT'. Try DEBUG HELP.")
	}
	p.send("DEBUG SLEEP 1000")
	eventually(t, "the connection sleeps", func() bool { return r.Stats().Blocked == 1 })
	r.CloseClients()
	p.wantAll("OK")
	p.wantClosed()
}

// COMMAND describes this table.
func TestCommandDescribesTheTable(t *testing.T) {
	p := start(t).dial(t)
	names := slices.DeleteFunc(strings.Fields(strings.Trim(p.do("COMMAND LIST"), "[]")), func(n string) bool { return strings.Contains(n, "|") })
	p.want("COMMAND COUNT", ":"+strconv.Itoa(len(names)))
	if got := p.do("CLIENT HELP"); !strings.HasPrefix(got, "[CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:") || !strings.Contains(got, "KILL ") {
		t.Error(got)
	}
	if got := p.do("CONFIG HELP"); !strings.Contains(got, "RESETSTAT") {
		t.Error(got)
	}
}

// The figures of a moment look back a second or two.
func TestInstantaneousFigures(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	eventually(t, "INFO shows commands per second", func() bool {
		for range 50 {
			p.want("PING", "PONG")
		}
		return !strings.Contains(p.do("INFO stats"), "instantaneous_ops_per_sec:0\r\n")
	})
}
