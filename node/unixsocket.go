package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// Bounds of what opening a unix socket waits for.
const (
	lockBound  = 2 * time.Second // another node that opens one in the same directory
	lockPause  = 10 * time.Millisecond
	greetBound = time.Second // an answer of whoever may listen there already
)

// listenUnix listens on a unix socket with the given permissions, 0 for those that
// the umask leaves; at no moment it has more. It takes the place of a socket on which
// nobody listens any more, and of nothing else. Two nodes that do this at the same
// time do not take a socket from each other: the directory is locked meanwhile.
func listenUnix(path string, perm fs.FileMode) (net.Listener, error) {
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error { return restrict(c, perm) }}
	l, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	if perm != 0 {
		err = os.Chmod(path, perm) // what the umask took away
	}
	made, statErr := os.Lstat(path)
	if err = errors.Join(err, statErr); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it is the type for this network
	return &unixListener{Listener: l, path: path, made: made}, nil
}

// restrict gives a socket that has no name yet the permissions its file is to have.
func restrict(c syscall.RawConn, perm fs.FileMode) error {
	if perm == 0 {
		return nil
	}
	var err error
	failed := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), uint32(perm)) })
	return errors.Join(failed, err)
}

// lockDir keeps others who call it out of a directory until unlock is called, or the
// process ends.
func lockDir(dir string) (unlock func(), err error) {
	file, err := os.Open(dir) //nolint:gosec // the operator's own path
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), lockBound)
	defer cancel()
	again := time.NewTicker(lockPause)
	defer again.Stop()
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // which unlocks it
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), file.Close())
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
}

// removeStale makes way for a socket at path. It removes one that was left behind by a
// process that is gone.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket", path)
	}
	d := net.Dialer{Timeout: greetBound}
	conn, err := d.DialContext(context.Background(), "unix", path)
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("another process listens on %s", path), conn.Close())
	case errors.Is(err, syscall.ECONNREFUSED):
		return os.Remove(path)
	}
	return fmt.Errorf("whether anybody listens there: %w", err)
}

// unixListener removes its file when it is closed, unless another one has taken its
// place.
type unixListener struct {
	net.Listener
	path string
	made fs.FileInfo
	once sync.Once
}

// Close closes the socket. Nobody else can take the file for stale before it is
// gone: until then somebody listens.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
			_ = os.Remove(l.path) // if it stays, the next node here takes it for stale
		}
	})
	return l.Listener.Close()
}
