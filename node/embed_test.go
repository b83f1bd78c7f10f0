package node

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/internal/testkit"
)

// local is the directives of a node in a directory of the test's, on loopback.
func local(t *testing.T, directives ...string) *config.Config {
	t.Helper()
	args := append([]string{"dir", testkit.MemoryDir(t), "bind", "127.0.0.1"}, directives...)
	var src config.Sources
	for i := 0; i < len(args); i += 2 {
		src.Flags = append(src.Flags, config.Setting{Name: args[i], Value: args[i+1]})
	}
	c, err := config.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// opened is a ready node that ends with the test.
func opened(t *testing.T, cfg Config) *Instance {
	t.Helper()
	i, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	if err := i.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return i
}

// listenTCP is a listener of the program's own.
func listenTCP(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// closed tells whether a listener takes no more connections.
func closed(l net.Listener) bool {
	_, err := l.Accept()
	return errors.Is(err, net.ErrClosed)
}

// A node without any listener serves the program it runs in, which counts as a client
// of this machine, and nobody else.
func TestNodeServesItsProgramWithoutListeners(t *testing.T) {
	i := opened(t, Config{Directives: local(t), Data: Nowhere(), Sentinel: Nowhere(), Metrics: Nowhere()})
	for name, addr := range map[string]net.Addr{"data": i.DataAddr(), "sentinel": i.SentinelAddr(), "metrics": i.MetricsAddr(), "raft": i.RaftAddr()} {
		if addr != nil {
			t.Errorf("%s: listens at %v", name, addr)
		}
	}
	conn, err := i.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := testkit.NewClient(conn, soon)
	value := strings.Repeat("x", 4<<20) // more than the kernel keeps
	c.MustDo(t, "SET", "k", value)
	if got := c.MustDo(t, "GET", "k"); string(got.Text) != value {
		t.Errorf("GET answers %d bytes", len(got.Text))
	}
	if err := i.Leader(t.Context()); err != nil || !i.Majority() {
		t.Errorf("it is not the master: %v, majority %t", err, i.Majority())
	}
	if err := i.Alive(soon); err != nil {
		t.Errorf("it is not alive: %v", err)
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Closed(soon); err != nil {
		t.Error(err)
	}
	if _, err := i.Dial(t.Context()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Dial after Close: %v", err)
	}
	if err := i.Ready(t.Context()); err == nil {
		t.Error("it is ready after Close")
	}
}

// With ports of the kernel's choice, the same on IPv4 and IPv6, everybody is told the
// ports that are really listened on.
func TestAnyPort(t *testing.T) {
	i := opened(t, Config{Directives: local(t, "bind", "127.0.0.1 -::1"), Data: AnyPort(), Sentinel: AnyPort(), Metrics: AnyPort()})
	data := i.DataAddr().String()
	_, port, _ := net.SplitHostPort(data)
	c := testkit.MustDial(t, data)
	if got := c.MustDo(t, "CONFIG", "GET", "port").Map()["port"]; string(got.Text) != port {
		t.Errorf("CONFIG GET port answers %v, want %s", got, port)
	}
	if info := testkit.ParseInfo(string(c.MustDo(t, "INFO").Text)); info["tcp_port"] != port {
		t.Errorf("INFO says tcp_port:%s, want %s", info["tcp_port"], port)
	}
	if addr, err := masterOf(i.SentinelAddr().String()); err != nil || addr != data {
		t.Errorf("the Sentinel port names %q, %v; want %s", addr, err, data)
	}
	if len(i.node.sockets.data) == 2 {
		testkit.MustDial(t, net.JoinHostPort("::1", port)).MustDo(t, "PING")
	}
	testkit.Eventually(t, soon, "/readyz", func() error {
		resp, err := http.Get("http://" + i.MetricsAddr().String() + "/readyz")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
		return testkit.Check(resp.StatusCode == http.StatusOK, "it answers %s", resp.Status)
	})
}

// Listeners of the program are used, announced, and closed with the node.
func TestOwnListeners(t *testing.T) {
	data, sentinel, metrics, raft := listenTCP(t, "127.0.0.2:0"), listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0"), listenTCP(t, "127.0.0.1:0")
	i := opened(t, Config{Directives: local(t), Data: On(data), Sentinel: On(sentinel), Metrics: On(metrics), Raft: []net.Listener{raft}})
	if i.DataAddr() != data.Addr() || i.SentinelAddr() != sentinel.Addr() || i.MetricsAddr() != metrics.Addr() {
		t.Errorf("it listens at %v, %v, %v", i.DataAddr(), i.SentinelAddr(), i.MetricsAddr())
	}
	if addr, err := masterOf(sentinel.Addr().String()); err != nil || addr != data.Addr().String() {
		t.Errorf("the Sentinel port names %q, %v; want %v", addr, err, data.Addr())
	}
	if err := i.Close(); err != nil {
		t.Error(err)
	}
	for _, l := range []net.Listener{data, sentinel, metrics, raft} {
		if !closed(l) {
			t.Errorf("%v is still open", l.Addr())
		}
	}
}

// What is announced by directive goes before where the program listens.
func TestAnnouncedAddressesGoFirst(t *testing.T) {
	i := opened(t, Config{
		Directives: local(t, "replica-announce-ip", "2001:db8::7", "replica-announce-port", "7"),
		Data:       AnyPort(), Sentinel: On(listenTCP(t, "127.0.0.1:0")), Metrics: Nowhere(),
	})
	if addr, err := masterOf(i.SentinelAddr().String()); err != nil || addr != "[2001:db8::7]:7" {
		t.Errorf("the Sentinel port names %q, %v", addr, err)
	}
}

// Open leaves nothing behind when it fails: listeners are closed, the directory is free.
func TestFailedOpenLeavesNothing(t *testing.T) {
	taken := listenTCP(t, "127.0.0.1:0")
	defer taken.Close()
	free := local(t)
	for want, cfg := range map[string]Config{
		"election-timeout: ":  {Directives: &config.Config{}},
		"data port: ":         {Directives: local(t, "port", itoa(taken.Addr().(*net.TCPAddr).Port)), Data: Endpoint{}},
		"unixsocket: ":        {Directives: local(t, "unixsocket", filepath.Join(t.TempDir(), "none", "s")), Data: AnyPort(), Sentinel: AnyPort()},
		"open cluster node: ": {Directives: local(t, "dir", "/dev/null/x")},
	} {
		own := listenTCP(t, "127.0.0.1:0")
		cfg.Metrics = On(own)
		if i, err := Open(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, %v; want %q", i, err, want)
		}
		if !closed(own) {
			t.Errorf("%s: a listener stays open", want)
		}
	}
	failing := *free
	failing.Port = taken.Addr().(*net.TCPAddr).Port
	if _, err := Open(Config{Directives: &failing}); err == nil {
		t.Error("a port that is taken is no error")
	}
	opened(t, Config{Directives: free, Data: AnyPort(), Sentinel: AnyPort(), Metrics: Nowhere()})
}

// A node is opened and closed over the same directory again and again, and each time
// everything it took is given back, descriptors included.
func TestOpenAndCloseLeakNothing(t *testing.T) {
	cfg := Config{Directives: local(t, "unixsocket", filepath.Join(t.TempDir(), "s")), Data: AnyPort(), Sentinel: AnyPort(), Metrics: AnyPort()}
	files := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	var before int
	for round := range 4 {
		i, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		err = i.WaitReady(ctx)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(i.Close(), i.Close()); err != nil {
			t.Errorf("Close: %v", err)
		}
		if round == 0 {
			before = files() // the first round opens what stays: epoll, the clock
		}
	}
	testkit.Eventually(t, soon, "descriptors are given back", func() error {
		now := files()
		return testkit.Check(now <= before, "%d descriptors, %d before", now, before)
	})
}

// SHUTDOWN ends the node and not the program, which is told.
func TestShutdownEndsTheInstance(t *testing.T) {
	i := opened(t, Config{Directives: local(t), Data: Nowhere(), Sentinel: Nowhere(), Metrics: Nowhere()})
	conn, err := i.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := testkit.NewClient(conn, soon)
	if err := c.Send("SHUTDOWN"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-i.Done():
	case <-time.After(soon):
		t.Fatal("it is still running")
	}
	if err := i.WaitReady(t.Context()); !errors.Is(err, errEnded) {
		t.Errorf("WaitReady: %v", err)
	}
	if err := c.Closed(soon); err != nil {
		t.Error(err)
	}
}

// WaitReady says what was missing when its time is over.
func TestWaitReadySaysWhatIsMissing(t *testing.T) {
	cfg := local(t, "node-id", "a", "peers", "a=127.0.0.1:1,b=127.0.0.1:2,c=127.0.0.1:3", "cluster-secret", "s")
	i, err := Open(Config{Directives: cfg, Data: Nowhere(), Sentinel: Nowhere(), Metrics: Nowhere(), Raft: []net.Listener{listenTCP(t, "127.0.0.1:0")}})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := i.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, errNotReady) {
		t.Errorf("got %v", err)
	}
	if i.Majority() {
		t.Error("one of three is a majority")
	}
}

// A node that does not look at its cluster any more is not alive.
func TestStuckNodeIsNotAlive(t *testing.T) {
	n := still(t)
	if err := n.alive(time.Millisecond); !errors.Is(err, errStuck) {
		t.Errorf("got %v", err)
	}
	n.roles.looked.Store(int64(n.clock.Boot()))
	if err := n.alive(soon); err != nil {
		t.Errorf("got %v", err)
	}
}

// The HTTP pages can be part of the program's own server.
func TestHTTPHandler(t *testing.T) {
	i := opened(t, Config{Directives: local(t), Data: Nowhere(), Sentinel: Nowhere(), Metrics: Nowhere()})
	for path, want := range map[string]string{"/metrics": "holdfast_leader 1", "/leader": "ok"} {
		testkit.Eventually(t, soon, path, func() error {
			w := httptest.NewRecorder()
			i.HTTPHandler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
			text, err := io.ReadAll(w.Body)
			return errors.Join(err, testkit.Check(w.Code == http.StatusOK && strings.Contains(string(text), want), "it answers %d without %q", w.Code, want))
		})
	}
}
