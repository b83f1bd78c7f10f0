package node

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
)

// A unix socket serves like the data port, to programs of this machine in protected
// mode too, with the permissions it was given, and is gone after the node.
func TestUnixSocketServes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	m := &member{tb: t, cfg: *conf(t, "n1", testkit.Ports(t), "port", "0", "unixsocket", path, "unixsocketperm", "620", "protected-mode", "yes")}
	m.start()
	testkit.Eventually(t, soon, "it is master", func() error { return m.node.Leader(t.Context()) })
	c := testkit.MustDial(t, path)
	c.MustDo(t, "SET", "k", "v")
	if got := c.MustDo(t, "GET", "k"); string(got.Text) != "v" {
		t.Errorf("GET answers %v", got)
	}
	line := string(c.MustDo(t, "CLIENT", "INFO").Text)
	for _, want := range []string{" addr=" + path + ":0 ", " laddr=" + path + ":0 ", " flags=U "} {
		if !strings.Contains(line, want) {
			t.Errorf("CLIENT INFO says %q, want %q", line, want)
		}
	}
	for name, want := range map[string]string{"unixsocket": path, "unixsocketperm": "620"} {
		if got := c.MustDo(t, "CONFIG", "GET", name).Map()[name]; string(got.Text) != want {
			t.Errorf("CONFIG GET %s answers %v", name, got)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o620 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	m.halt()
	if err := c.Closed(soon); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

// stale leaves a socket behind on which nobody listens.
func stale(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// A socket left behind is replaced. One on which somebody listens, a file, and a link
// are left as they are.
func TestOnlyStaleSocketsAreReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	stale(t, path)
	l, err := listenUnix(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := listenUnix(path, 0); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Errorf("got %v for a socket in use", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket in use is gone: %v", err)
	}
	file, link := filepath.Join(dir, "f"), filepath.Join(dir, "l")
	if err := errors.Join(os.WriteFile(file, []byte("x"), 0o600), os.Symlink(filepath.Join(dir, "none"), link)); err != nil {
		t.Fatal(err)
	}
	for _, other := range []string{file, link, dir} {
		if _, err := listenUnix(other, 0); err == nil || !strings.Contains(err.Error(), "is no socket") {
			t.Errorf("got %v for %s", err, other)
		}
		if _, err := os.Lstat(other); err != nil {
			t.Errorf("%s is gone: %v", other, err)
		}
	}
	if _, err := listenUnix(filepath.Join(dir, "none", "s"), 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v in a directory that is not there", err)
	}
}

// Of many that want one path at the same time one gets it, and keeps it.
func TestOneOfManyGetsTheSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale(t, path)
	const rivals = 8
	got := make(chan net.Listener, rivals)
	var wg sync.WaitGroup
	for range rivals {
		wg.Go(func() {
			if l, err := listenUnix(path, 0o600); err == nil {
				got <- l
			}
		})
	}
	wg.Wait()
	close(got)
	if len(got) != 1 {
		t.Errorf("%d have it", len(got))
	}
	for l := range got {
		conn, err := new(net.Dialer).DialContext(t.Context(), "unix", path)
		if err != nil {
			t.Errorf("nobody is reached: %v", err)
		} else {
			_ = conn.Close()
		}
		_ = l.Close()
	}
}

// A closed listener removes its own file only.
func TestAnotherSocketAtThePathStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenUnix(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := listenUnix(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	_ = l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the other socket is gone: %v", err)
	}
}

// A directory that somebody keeps locked is waited for, but not for ever.
func TestLockedDirectoryIsGivenUp(t *testing.T) {
	dir := t.TempDir()
	unlock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(filepath.Join(dir, "s"), 0); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("got %v", err)
	}
	unlock()
	l, err := listenUnix(filepath.Join(dir, "s"), 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}

// Before it has a name a socket has no more permissions than it is to have: whatever
// the umask, nobody else connects in between.
func TestPermissionsAreThereFromTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return restrict(c, 0o600) }}
	l, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Lstat(path); err != nil || info.Mode().Perm()&^0o600 != 0 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
}
