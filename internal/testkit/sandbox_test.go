package testkit_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast/holdfast/internal/testkit"
)

// listenOn is a socket for datagrams inside a host.
func listenOn(t *testing.T, h *testkit.Host) net.PacketConn {
	t.Helper()
	var conn net.PacketConn
	err := h.Do(func() (err error) {
		var cfg net.ListenConfig
		conn, err = cfg.ListenPacket(t.Context(), "udp4", h.Addr()+":7000")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// arrive is how many of n datagrams from one socket reach another. A cut network is
// not given long to deliver what it must not.
func arrive(t *testing.T, from, to net.PacketConn, n int) int {
	t.Helper()
	for range n {
		if _, err := from.WriteTo([]byte("x"), to.LocalAddr()); err != nil {
			t.Fatal(err)
		}
	}
	got, room := 0, make([]byte, 10)
	for {
		if err := to.SetReadDeadline(time.Now().Add(40 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := to.ReadFrom(room); err != nil {
			return got
		}
		got++
	}
}

// A network passes everything but what was cut, in that direction alone, loses the
// share that it is told to, and reaches a host under its new address.
func TestNetworkIsCutAsToldTo(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	if !testkit.Sandbox(t) {
		return
	}
	n := testkit.NewNetwork(t, 3)
	socks := []net.PacketConn{listenOn(t, n.Host(0)), listenOn(t, n.Host(1)), listenOn(t, n.Host(2))}
	check := func(what string, want ...string) {
		t.Helper()
		var got []string
		for i, from := range socks {
			for j, to := range socks {
				if i != j && arrive(t, from, to, 1) == 1 {
					got = append(got, fmt.Sprint(i, j))
				}
			}
		}
		if strings.Join(got, ",") != strings.Join(want, ",") {
			t.Errorf("%s: what passes is %q, want %q", what, got, want)
		}
	}
	check("whole", "0 1", "0 2", "1 0", "1 2", "2 0", "2 1")
	n.MustSet(testkit.OneWay(0, 1)...)
	check("one way", "0 2", "1 0", "1 2", "2 0", "2 1")
	n.MustSet(n.Alone(2)...)
	check("alone", "0 1", "1 0")
	n.MustSet(n.Deaf(2)...)
	check("deaf", "0 1", "1 0", "2 0", "2 1")
	n.MustSet(n.Mute(2)...)
	check("mute", "0 1", "0 2", "1 0", "1 2")
	n.MustSet(testkit.BothWays(0, 2)...)
	check("bridged by 1", "0 1", "1 0", "1 2", "2 1")
	n.MustSet(n.Lossy(50)...)
	if got := arrive(t, socks[0], socks[1], 200); got < 60 || got > 140 { // more than 5 sigma
		t.Errorf("with a loss of 50 %% %d of 200 arrive", got)
	}
	n.MustSet()
	outside, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp4", "10.83.0.1:7000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = outside.Close() })
	if arrive(t, outside, socks[0], 1) != 1 || arrive(t, socks[0], outside, 1) != 1 {
		t.Error("the test and a host do not reach each other")
	}
	n.MustSet(testkit.OneWay(testkit.Outside, 0)...)
	if arrive(t, outside, socks[0], 1) != 0 || arrive(t, socks[0], outside, 1) != 1 {
		t.Error("the way from the test to a host is not cut, or both ways are")
	}
	n.MustSet()
	old := n.Host(1).Addr()
	n.Move(1)
	moved := listenOn(t, n.Host(1))
	if n.Host(1).Addr() == old || arrive(t, socks[0], moved, 1) != 1 || arrive(t, socks[0], socks[1], 1) != 0 {
		t.Error("a host that moved is not where it should be")
	}
}

// A mounted disk is as small as it was made, can be filled to the last block, and has
// space again when it is given back.
func TestDiskIsFilledToTheLastBlock(t *testing.T) {
	if testing.Short() {
		t.Skip("mounts file systems")
	}
	if !testkit.Sandbox(t) {
		return
	}
	const size, some = 64 << 20, 8 << 20
	dir := filepath.Join(t.TempDir(), "disk")
	d := testkit.Mount(t, dir, size)
	if free := d.Free(); free > size || free < size/2 {
		t.Errorf("a disk of %d bytes has %d free", size, free)
	}
	write := func() error { return os.WriteFile(filepath.Join(dir, "f"), bytes.Repeat([]byte("x"), some/2), 0o600) }
	d.Leave(some)
	if free := d.Free(); free < some-1<<20 || free > some+1<<20 {
		t.Errorf("%d bytes are left, not %d", free, some)
	}
	if err := write(); err != nil {
		t.Errorf("half of what is left: %v", err)
	}
	d.Fill()
	if err := os.WriteFile(filepath.Join(dir, "g"), make([]byte, 64<<10), 0o600); err == nil {
		t.Errorf("a full disk (%s) takes another file; %d bytes free", d.Kind, d.Free())
	}
	d.Leave(some)
	if err := write(); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// Not a test: what TestSandboxEndsWithItsTest kills. It writes down the processes
// inside its sandbox and waits.
func TestSandboxSleeper(t *testing.T) {
	path := os.Getenv("HOLDFAST_TEST_SLEEPER")
	if path == "" {
		t.Skip("for another test")
	}
	if !testkit.Sandbox(t) {
		return
	}
	n := testkit.NewNetwork(t, 1)
	p := testkit.NewProcess(t, testkit.Command{Name: "sleep", Path: "sleep", Args: []string{"600"}, Dir: t.TempDir(), Host: n.Host(0)})
	p.Start()
	if err := os.WriteFile(path, fmt.Appendf(nil, "%d %d .", os.Getpid(), p.Pid()), 0o600); err != nil {
		t.Fatal(err)
	}
	p.WaitExit(10 * time.Minute)
}

// A test that is killed from outside leaves no process of its sandbox behind, and so
// neither a network nor a mount.
func TestSandboxEndsWithItsTest(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	if !testkit.Sandbox(t) { // for its check that namespaces can be made at all
		return
	}
	path := filepath.Join(t.TempDir(), "pids")
	cmd := exec.CommandContext(context.Background(), os.Args[0], "-test.run", "^TestSandboxSleeper$")
	cmd.Env = []string{"HOLDFAST_TEST_SLEEPER=" + path, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir()}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var inner, child int
	testkit.Eventually(t, 20*time.Second, "the processes inside", func() error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = fmt.Sscanf(string(text), "%d %d .", &inner, &child)
		return err
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range []int{inner, child} {
		testkit.Eventually(t, 20*time.Second, "the end of a process inside", func() error {
			return testkit.Check(gone(pid), "%d runs", pid)
		})
	}
}

// gone tells whether a process has ended; nobody may have waited for it yet.
func gone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return unix.Kill(pid, 0) == unix.ESRCH
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}
