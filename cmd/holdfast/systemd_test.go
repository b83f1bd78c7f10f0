package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/config"
)

// manager is systemd as a service sees it: a socket that takes notices.
type manager struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func newManager(t *testing.T, path string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &manager{t, conn, path}
}

// next is the next notice, "" if none comes within limit.
func (m *manager) next(limit time.Duration) string {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), limit)
	defer cancel()
	_ = m.conn.SetReadDeadline(time.Time{})
	stop := context.AfterFunc(ctx, func() { _ = m.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	buf := make([]byte, 4096)
	n, err := m.conn.Read(buf)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Error(err)
	}
	return string(buf[:n])
}

// until reads notices up to one that begins with want.
func (m *manager) until(want string) {
	m.t.Helper()
	var got []string
	for {
		text := m.next(20 * time.Second)
		if strings.HasPrefix(text, want) {
			return
		}
		if got = append(got, text); text == "" {
			m.t.Fatalf("got notices %q, want %s", got, want)
		}
	}
}

// A service of Type=notify tells that it reads its data, that it is ready, that it is
// alive as often as the watchdog wants it, and that it stops.
func TestSystemdIsToldOfANode(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--dir", t.TempDir(), "--port", "0", "--sentinel-port", "0", "--metrics-port", "0")
	cmd.Env = append(os.Environ(), asProgram+"=1", "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=200000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	m.until("EXTEND_TIMEOUT_USEC=900000000\nSTATUS=reads its data directory")
	m.until("READY=1\nSTATUS=")
	for range 3 {
		m.until("WATCHDOG=1")
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	m.until("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// fake is a node as the test wants it.
type fake struct {
	mu              sync.Mutex
	ready, alive    error
	majority        bool
	asked, patience time.Duration
}

func (f *fake) set(change func(f *fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *fake) Ready(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ready
}

func (f *fake) Majority() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.majority
}

func (f *fake) Alive(within time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = within
	return f.alive
}

// following is a fake node that is told of, in milliseconds instead of seconds.
func following(t *testing.T, f *fake, environ ...string) *manager {
	t.Helper()
	m := newManager(t, "@holdfast-test-"+strconv.Itoa(os.Getpid())+"-"+t.Name())
	s, err := newSystemd(append(environ, "NOTIFY_SOCKET="+m.path), config.SupervisedAuto, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.lookEvery, s.stayEvery, s.missingFor = time.Millisecond, 10*time.Millisecond, 200*time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.follow(ctx, f)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		s.close()
	})
	return m
}

// While a node catches up it asks for more time; it counts as started once it serves,
// however long that takes.
func TestStartLastsUntilTheNodeServes(t *testing.T) {
	f := &fake{ready: errors.New("not yet"), majority: true}
	m := following(t, f)
	for range 30 { // longer than without a majority
		if text := m.next(20 * time.Second); text != "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=waits: not yet" {
			t.Fatalf("got %q", text)
		}
	}
	f.set(func(f *fake) { f.ready = nil })
	m.until("READY=1")
}

// A majority that is not there is not waited for: the other nodes may be started only
// after this one.
func TestStartEndsWithoutAMajority(t *testing.T) {
	m := following(t, &fake{ready: errors.New("not yet")})
	m.until("READY=1\nSTATUS=waits for a majority")
}

// The watchdog hears nothing from a node that is stuck, and hears again from one that
// recovers.
func TestWatchdogOfAStuckNode(t *testing.T) {
	f := &fake{}
	m := following(t, f, "WATCHDOG_USEC=20000", "WATCHDOG_PID="+strconv.Itoa(os.Getpid()))
	m.until("WATCHDOG=1")
	f.set(func(f *fake) { f.alive = errors.New("stuck") })
	for m.next(200*time.Millisecond) != "" { // those under way
	}
	f.set(func(f *fake) { f.alive = nil })
	m.until("WATCHDOG=1")
	if f.set(func(f *fake) { f.patience = f.asked }); f.patience != 20*time.Millisecond {
		t.Errorf("asked for %v", f.patience)
	}
}

// Who is told, and who is not.
func TestSupervised(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	here, nowhere := "NOTIFY_SOCKET="+m.path, "NOTIFY_SOCKET="+filepath.Join(t.TempDir(), "none")
	for _, c := range []struct {
		environ, supervised string
		told                bool
		err                 string
	}{
		{"", config.SupervisedAuto, false, ""},
		{"", config.SupervisedNo, false, ""},
		{"", config.SupervisedSystemd, false, "NOTIFY_SOCKET is not set"},
		{here, config.SupervisedAuto, true, ""},
		{here, config.SupervisedSystemd, true, ""},
		{here, config.SupervisedNo, false, ""},
		{nowhere, config.SupervisedAuto, false, "NOTIFY_SOCKET: "},
	} {
		s, err := newSystemd([]string{c.environ}, c.supervised, slog.New(slog.DiscardHandler))
		if (s != nil) != c.told || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%+v: got %v, %v", c, s, err)
		}
		s.opening() // a nil one tells nobody
		s.stopping()
		s.follow(t.Context(), &fake{})
		s.close()
	}
}

// The watchdog's patience is in microseconds, and another process's is none of ours.
func TestWatchdogVariables(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"WATCHDOG_USEC=30000000":                30 * time.Second,
		"WATCHDOG_USEC=30000000 WATCHDOG_PID=1": 0,
		"WATCHDOG_USEC=0":                       0,
		"WATCHDOG_USEC=x":                       0,
		"WATCHDOG_USEC=18446744073709551615":    0,
		"":                                      0,
	} {
		if got := watchdogOf(strings.Fields(text)); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}
