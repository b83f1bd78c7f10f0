package testkit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// Ports are handed out in blocks below the range from which the kernel takes the
// local ports of outgoing connections: a port of ours that is free while its
// node is down cannot be taken by somebody's connection.
const (
	firstPort = 20000
	lastPort  = 32000
	blockSize = 16
)

// Ports reserves a block of 16 consecutive TCP ports on loopback for the length of
// the test and returns the first. Blocks are reserved across all processes of
// this machine that use this function, so that packages may test in parallel,
// and stay reserved while the processes that listen on them are down.
func Ports(tb testing.TB) int {
	tb.Helper()
	dir := filepath.Join(os.TempDir(), "holdfast-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil { //nolint:gosec // shared by the users of this machine on purpose
		tb.Fatal(err)
	}
	blocks := (lastPort - firstPort) / blockSize
	start := rand.IntN(blocks) //nolint:gosec // only spreads the callers
	for i := range blocks {
		first := firstPort + (start+i)%blocks*blockSize
		release, err := reserve(dir, first)
		if err != nil {
			continue
		}
		tb.Cleanup(release)
		return first
	}
	tb.Fatalf("no block of %d free ports between %d and %d", blockSize, firstPort, lastPort)
	return 0
}

// reserve locks the block that begins at first and makes sure that nobody listens
// on it. The lock ends with release or with this process.
func reserve(dir string, first int) (release func(), err error) {
	name := filepath.Join(dir, strconv.Itoa(first)+".lock")
	file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666) //nolint:gosec // dir is the caller's, the name a number
	if err != nil {
		return nil, err
	}
	release = func() { _ = file.Close() }
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		release()
		return nil, err
	}
	for port := first; port < first+blockSize; port++ {
		if err := canListen(port); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

func canListen(port int) error {
	var cfg net.ListenConfig
	l, err := cfg.Listen(context.Background(), "tcp", Loopback(port))
	if err != nil {
		return err
	}
	return l.Close()
}

// Loopback is the address of a port on 127.0.0.1.
func Loopback(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
