package cluster

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// tunedPair is both ends of a connection between nodes.
func tunedPair(t *testing.T) (one, other net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	one, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	one, other = tuned(one), tuned(other)
	for _, c := range []net.Conn{one, other} {
		if _, ok := c.(*directConn); !ok {
			t.Fatalf("%T is not direct", c)
		}
		t.Cleanup(func() { closeConn(c) })
	}
	return one, other
}

// Everything arrives, in order, of writes that are many times what the kernel buffers, both
// ways at once; then the end does.
func TestDirectConnCarriesEverything(t *testing.T) {
	one, other := tunedPair(t)
	sent := make([]byte, 20<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(sent) // never fails
	send := func(c net.Conn) {
		if n, err := c.Write(sent); n != len(sent) || err != nil {
			t.Errorf("wrote %d bytes: %v", n, err)
		}
		if err := c.(*directConn).Conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	go send(one)
	go send(other)
	for _, c := range []net.Conn{one, other} {
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d arrived, or others: %v", len(got), len(sent), err)
		}
	}
}

// Deadlines and Close end reads and writes that wait, and a peer that is gone ends writes.
func TestDirectConnEnds(t *testing.T) {
	one, _ := tunedPair(t)
	soon := func() {
		if err := one.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	soon()
	if n, err := one.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes: %v", n, err)
	}
	soon()
	if n, err := one.Write(make([]byte, 20<<20)); n == 20<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d bytes: %v", n, err)
	}
	if n, err := one.Read(nil); n != 0 || err != nil {
		t.Errorf("read nothing: %d, %v", n, err)
	}

	ended := make(chan error)
	one, other := tunedPair(t)
	go func() {
		_, err := one.Read(make([]byte, 1))
		ended <- err
	}()
	closeConn(one)
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read of a connection that is closed: %v", err)
	}
	if _, err := other.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a read of a connection whose peer has closed: %v", err)
	}
	var err error
	for err == nil { // the first may still be taken
		_, err = other.Write([]byte("x"))
	}
	if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a write to a peer that is gone: %v", err)
	}
}
