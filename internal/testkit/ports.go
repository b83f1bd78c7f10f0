package testkit

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
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
// this machine that use this function, whoever runs them, so that packages may test in
// parallel, and stay reserved while the processes that listen on them are down.
func Ports(tb testing.TB) int {
	tb.Helper()
	blocks := (lastPort - firstPort) / blockSize
	start := rand.IntN(blocks) //nolint:gosec // only spreads the callers
	var reason error
	for i := range blocks {
		first := firstPort + (start+i)%blocks*blockSize
		release, err := reserve(first)
		if err != nil {
			reason = cmp.Or(reason, err)
			continue
		}
		tb.Cleanup(release)
		return first
	}
	tb.Fatalf("no block of %d free ports between %d and %d: %v", blockSize, firstPort, lastPort, reason)
	return 0
}

// reserve locks the block that begins at first and makes sure that nobody listens
// on it. The lock ends with release or with this process. It is a name that only one
// socket can have: names that begin with @ are no files, belong to no user, and are those
// of one network, as ports are.
func reserve(first int) (release func(), err error) {
	var cfg net.ListenConfig
	lock, err := cfg.Listen(context.Background(), "unix", fmt.Sprintf("@holdfast-ports-%d", first))
	if err != nil {
		return nil, err
	}
	release = func() { _ = lock.Close() }
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
