package respserver_test

import (
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// withPublish adds a PUBLISH that others would be told of.
func withPublish(t *testing.T) func(*respserver.Config) {
	t.Helper()
	return func(c *respserver.Config) {
		publish := &command.Spec{
			Name: "publish", Arity: 3, Flags: command.FlagMayReplicate, Group: "pubsub",
			Do: command.Locally(func(command.Conn, [][]byte) resp.Value { return resp.One }),
		}
		var err error
		if c.Table, err = command.Join(respserver.SentinelPortSpecs(), []*command.Spec{publish}); err != nil {
			t.Fatal(err)
		}
	}
}

// A pause holds up the commands of all connections until its time is over, the one
// that asked for it included, and what was answered before is not held back.
func TestPauseHoldsUpAllConnections(t *testing.T) {
	r, _ := sentinelRig(t)
	a, b := r.dial(t), r.dial(t)
	const pause = 150 * time.Millisecond
	began := time.Now()
	a.send("CLIENT ID", "CLIENT PAUSE 150", "PING")
	a.wantAll(":1", "OK")
	b.send("PING")
	b.wantAll("PONG")
	a.wantAll("PONG")
	if took := time.Since(began); took < pause {
		t.Errorf("the pause was over after %v", took)
	}
}

// CLIENT PAUSE … WRITE holds up what others would be told of, and UNPAUSE ends it; a
// longer or stronger pause is not cut short by another.
func TestPauseOfWritesEndsByUnpause(t *testing.T) {
	r, _ := sentinelRig(t, withPublish(t))
	a, b := r.dial(t), r.dial(t)
	a.want("CLIENT PAUSE 3600000 WRITE", "OK")
	a.want("CLIENT PAUSE 1 WRITE", "OK")
	b.send("PING", "PUBLISH x y")
	b.wantAll("PONG")
	eventually(t, "the publisher waits", func() bool { return r.Stats().Blocked == 1 })
	id := b.conn.LocalAddr().String()
	a.want("CLIENT UNBLOCK 2", ":1") // which ends no pause
	if list := a.do("CLIENT LIST"); !regexp.MustCompile(`addr=` + regexp.QuoteMeta(id) + ` .* flags=b `).MatchString(list) {
		t.Errorf("the publisher is not blocked:\n%s", list)
	}
	a.want("CLIENT UNPAUSE", "OK")
	b.wantAll(":1")
}

// A paused connection ends when it is closed by somebody, by its client, or with the
// server, and nothing of it is carried out.
func TestPausedConnectionsEnd(t *testing.T) {
	r, _ := sentinelRig(t)
	admin, paused, gone := r.dial(t), r.dial(t), r.dial(t)
	admin.send("CLIENT PAUSE 3600000")
	admin.wantAll("OK")
	paused.send("CLIENT SETNAME x")
	gone.send("CLIENT SETNAME y")
	eventually(t, "both wait", func() bool { return r.Stats().Blocked == 2 })
	_ = gone.conn.Close()
	eventually(t, "the one that left is gone", func() bool { return r.Stats().Connected == 2 })
	r.CloseClients()
	paused.wantClosed()
	eventually(t, "all are gone", func() bool { return r.Stats().Connected == 0 })
}

// stranger is a connection from another machine.
type stranger struct{ net.Conn }

func (stranger) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5}
}

// strangers makes every connection one from another machine.
type strangers struct{ net.Listener }

func (l strangers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return stranger{c}, nil
}

// P7: while the port has no password, a client of another machine can neither stop the
// node nor hold up others; with the password it can.
func TestStrangersNeitherStopNorPause(t *testing.T) {
	n := newFakeNode()
	change := func(c *respserver.Config) { c.Shutdown = baseConfig(n).Shutdown }
	r, _ := sentinelRig(t, change)
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- r.Serve(t.Context(), strangers{ln}) }()
	far := dialPeer(t, ln.Addr().String())
	for _, line := range []string{"SHUTDOWN", "SHUTDOWN ABORT", "CLIENT PAUSE 1000000"} {
		if got := far.do(line); !strings.HasPrefix(got, "!NOPERM ") {
			t.Errorf("%s from another machine: %s", line, got)
		}
	}
	near := r.dial(t)
	near.want("SHUTDOWN ABORT", "!ERR No shutdown in progress.")
	r.Tune(respserver.Tuning{Password: "sesame"})
	far = dialPeer(t, ln.Addr().String())
	far.want("SHUTDOWN", noAuth)
	far.want("AUTH sesame", "OK")
	far.send("SHUTDOWN NOSAVE")
	far.wantClosed()
	n.mu.Lock()
	defer n.mu.Unlock()
	if want := []respserver.ShutdownMode{{Abort: true}, {NoSave: true}}; !slices.Equal(n.mu.shutdown, want) {
		t.Errorf("SHUTDOWN was asked for as %+v, want %+v", n.mu.shutdown, want)
	}
}

// With a password ACL shows its hash, as Redis does, and no longer "nopass"; before it
// is told nothing is shown.
func TestACLShowsTheOnlyUser(t *testing.T) {
	r, _ := sentinelRig(t, withPassword)
	p := r.dial(t)
	p.want("ACL LIST", noAuth)
	p.want("AUTH default sesame", "OK")
	list := p.do("ACL LIST")
	found := regexp.MustCompile(`^\[user default on #([0-9a-f]{64}) ~\* &\* \+@all\]$`).FindStringSubmatch(list)
	if found == nil || strings.Contains(list, "sesame") {
		t.Fatalf("ACL LIST: %s", list)
	}
	p.want("ACL GETUSER default", "[flags [on] passwords ["+found[1]+"] commands +@all keys ~* channels &* selectors []]")
	p.want("ACL SETUSER default on", "!ERR users cannot be changed: there is only 'default', whose password is the port's")
	p.want("ACL DELUSER someone", ":0")
	for line, digits := range map[string]int{"ACL GENPASS": 64, "ACL GENPASS 5": 2, "ACL GENPASS 4096": 1024, "ACL GENPASS 9": 3} {
		if got := p.do(line); len(got) != digits || got == p.do(line) && digits > 8 {
			t.Errorf("%s: %s", line, got)
		}
	}
	if got := p.do("ACL CAT connection"); !strings.Contains(got, " client|setname ") || strings.Contains(got, "client ") {
		t.Errorf("ACL CAT connection: %s", got)
	}
}

// INFO has all fields of a real Sentinel in its order, the compiler's left out, and
// Holdfast's own behind them.
func TestSentinelInfoIsInTheOrderOfSentinel(t *testing.T) {
	r, _ := sentinelRig(t)
	text := r.dial(t).do("INFO")
	var order []string
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok || strings.HasPrefix(line, "#") {
			order = append(order, name)
		}
	}
	index := func(name string) int {
		i := slices.Index(order, name)
		if i < 0 {
			t.Fatalf("INFO has no %s:\n%s", name, text)
		}
		return i
	}
	last := -1
	for _, name := range []string{
		"# Server", "redis_version", "redis_build_id", "run_id", "io_threads_active", "holdfast_version", "# Clients", "connected_clients",
		"clients_in_timeout_table", "# Stats", "total_connections_received", "total_net_repl_input_bytes", "expired_stale_perc",
		"reply_buffer_expands", "# CPU", "used_cpu_sys", "# Sentinel", "sentinel_masters",
	} {
		if i := index(name); i <= last {
			t.Errorf("%s stands too early", name)
		} else {
			last = i
		}
	}
	slices.Sort(order)
	if n := len(order); len(slices.Compact(order)) != n {
		t.Error("a field is there twice")
	}
}
