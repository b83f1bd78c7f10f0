package integration_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast/holdfast/internal/testkit"
)

// P8: a cluster that knows nothing but IPv6 addresses serves like any other. A failover
// client finds the master and follows it when it is killed, and every address that
// clients are told can be dialed.
func TestClusterOnIPv6(t *testing.T) {
	if !hasIPv6(t) {
		t.Skip("this machine has no ::1")
	}
	c := start(t, testkit.ClusterOptions{Host: "::1"})
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: testkit.MasterName, SentinelAddrs: c.Sentinels()})
	t.Cleanup(func() { _ = client.Close() })
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	at := c.WaitMaster(formLimit)
	for _, n := range c.Nodes {
		sentinel := testkit.MustDial(t, n.SentinelAddr())
		addr := sentinel.MustDo(t, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", testkit.MasterName).Strings()
		if want := []string{"::1", strconv.Itoa(c.Nodes[at].Port)}; strings.Join(addr, " ") != strings.Join(want, " ") {
			t.Errorf("%s names %q, want %q", n.ID, addr, want)
		}
		for _, r := range sentinel.MustDo(t, "SENTINEL", "REPLICAS", testkit.MasterName).Elems {
			m := r.Map()
			want := net.JoinHostPort("::1", string(m["port"].Text))
			if string(m["name"].Text) != want || string(m["ip"].Text) != "::1" || string(m["master-host"].Text) != "::1" {
				t.Errorf("%s shows a replica as %v", n.ID, r)
			}
			testkit.MustDial(t, want).MustDo(t, "PING")
		}
	}
	m := testkit.MustDial(t, c.Nodes[at].Addr())
	if role := m.MustDo(t, "ROLE"); string(role.Elems[2].Elems[0].Elems[0].Text) != "::1" {
		t.Errorf("ROLE answers %v", role)
	}
	if info := string(m.MustDo(t, "INFO", "replication").Text); !strings.Contains(info, "slave0:ip=::1,port=") {
		t.Errorf("INFO says %s", info)
	}
	page(t, c.Nodes[at].MetricsURL()+"/leader")

	c.Nodes[at].Kill9()
	testkit.Eventually(t, formLimit, "a write after the kill", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return client.Set(ctx, "k", "w", 0).Err()
	})
	if got := client.Get(t.Context(), "k").Val(); got != "w" {
		t.Errorf("GET answers %q", got)
	}
	c.Nodes[at].Start()
	c.WaitWhole(formLimit)
}

func hasIPv6(t testing.TB) bool {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp6", "[::1]:0")
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}

// page fetches an HTTP page that must be there.
func page(t testing.TB, url string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		t.Errorf("%s answers %s: %s", url, resp.Status, text)
	}
}

// A unix socket serves redis-cli and go-redis, without any port. It is taken over after
// a kill, never from a node that lives, and gone when the node has stopped.
func TestUnixSocket(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	path := filepath.Join(t.TempDir(), "s")
	args := []string{"--port", "0", "--unixsocket", path, "--unixsocketperm", "700"}
	c := testkit.NewCluster(t, testkit.ClusterOptions{Size: 1, Args: args})
	n := c.Nodes[0]
	client := redis.NewClient(&redis.Options{Network: "unix", Addr: path})
	t.Cleanup(func() { _ = client.Close() })
	for value := range 3 {
		n.Start()
		testkit.Eventually(t, formLimit, "writes", func() error { return client.Set(t.Context(), "k", value, 0).Err() })
		out, err := exec.CommandContext(t.Context(), "redis-cli", "-s", path, "GET", "k").CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != strconv.Itoa(value) {
			t.Errorf("redis-cli -s: %q, %v", out, err)
		}
		if value < 2 {
			n.Kill9() // leaves the socket behind
		}
	}
	rival := testkit.NewCluster(t, testkit.ClusterOptions{Size: 1, Args: args}).Nodes[0]
	rival.Start()
	if code := rival.WaitExit(formLimit); code != 1 || !rival.LogContains("another process listens", path) {
		t.Errorf("another node on the same socket ends with %d: %s", code, rival.Tail(1000))
	}
	if err := client.Ping(t.Context()).Err(); err != nil {
		t.Errorf("the first node has lost its socket: %v", err)
	}
	if code := n.Term(formLimit); code != 0 {
		t.Errorf("it ends with %d", code)
	}
	var gone *net.OpError
	if err := client.Ping(t.Context()).Err(); !errors.As(err, &gone) {
		t.Errorf("after the end: %v", err)
	}
}
