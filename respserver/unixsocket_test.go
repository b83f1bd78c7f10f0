package respserver_test

import (
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/respserver"
)

// serveUnix lets a server serve a unix socket as well. It returns the path and a
// function that connects to it.
func serveUnix(t *testing.T, r *rig) (path string, dial func() *peer) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	l, err := new(net.ListenConfig).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return path, func() *peer {
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return &peer{tb: t, conn: conn}
	}
}

// Clients on a unix socket are of this machine: they pass protected mode and
// enable-debug-command local. They are shown, and closed, by the socket's path.
func TestUnixSocketClients(t *testing.T) {
	r := start(t, func(c *respserver.Config) { c.Tuning.Protected, c.Tuning.DebugCommand = true, "local" })
	path, dial := serveUnix(t, r)
	p, other := dial(), r.dial(t)
	p.want("SET a 1", "OK")
	p.want("DEBUG SLEEP 0", "OK")
	other.want("GET a", "1")
	other.send("CLIENT LIST TYPE normal")
	list := show(other.read())
	for _, want := range []string{" addr=" + path + ":0 laddr=" + path + ":0 ", " flags=U ", " flags=N "} {
		if !strings.Contains(list, want) {
			t.Errorf("CLIENT LIST says %q, want %q", list, want)
		}
	}
	other.want("CLIENT KILL ADDR "+path+":0", ":1")
	p.wantClosed()
	other.want("PING", "PONG")
}

// A blocked client on a unix socket that goes away is noticed, even if the end of the
// connection stands behind more than is read ahead.
func TestBlockedUnixClientMayGoAway(t *testing.T) {
	r := start(t)
	r.node.twoReplicas(0)
	_, dial := serveUnix(t, r)
	for _, leave := range []func(c *net.UnixConn) error{(*net.UnixConn).Close, (*net.UnixConn).CloseWrite} {
		p := dial()
		p.want("SET a 1", "OK")
		p.send("WAIT 1 0")
		eventually(t, "the connection is blocked", func() bool { return r.Stats().Blocked == 1 })
		p.sendBytes(bytes.Repeat(encode("INCR a"), 1000))
		if err := leave(p.conn.(*net.UnixConn)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is gone", func() bool { return r.Stats().Connected == 0 })
	}
}

// After a long time without any client the time limits of the next one count from its
// arrival.
func TestTimeLimitsAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit = 5 * time.Second
		_, srv, dial := serveMemory(t, func(c *respserver.Config) { c.Tuning.Timeout = limit })
		for range 3 {
			<-time.After(time.Hour)
			p := dial("127.0.0.1:1")
			for range 3 {
				p.want("PING", "PONG")
				<-time.After(limit - time.Second)
			}
			if got := srv.Stats().Connected; got != 1 {
				t.Fatalf("%d clients before the limit", got)
			}
			<-time.After(2 * time.Second)
			synctest.Wait()
			if got := srv.Stats().Connected; got != 0 {
				t.Fatalf("%d clients after the limit", got)
			}
			p.wantClosed()
		}
	})
}
