package quiet

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// end is one end of a connection.
type end struct {
	*net.TCPConn
	socket *Socket
}

// pair is both ends of a connection.
func pair(t *testing.T) (one, other end) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialled, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return endOf(t, dialled), endOf(t, accepted)
}

func endOf(t *testing.T, conn net.Conn) end {
	t.Helper()
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("%T", conn)
	}
	t.Cleanup(func() { _ = tcp.Close() }) // some tests have
	s, err := NewSocket(tcp)
	if err != nil {
		t.Fatal(err)
	}
	return end{tcp, s}
}

// Property: everything arrives, in order, of writes that are many times what the kernel
// buffers, both ways at once; then the end does.
func TestSocketCarriesEverything(t *testing.T) {
	one, other := pair(t)
	sent := make([]byte, 20<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(sent) // never fails
	send := func(e end) {
		if n, err := e.socket.Write(sent); n != len(sent) || err != nil {
			t.Errorf("wrote %d bytes: %v", n, err)
		}
		if err := e.CloseWrite(); err != nil {
			t.Error(err)
		}
	}
	go send(one)
	go send(other)
	for _, e := range []end{one, other} {
		if got, err := io.ReadAll(e.socket); err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes of %d arrived, or others: %v", len(got), len(sent), err)
		}
	}
}

// Property: writes at the same time do not mix.
func TestSocketKeepsWritesApart(t *testing.T) {
	one, other := pair(t)
	const writers, size = 8, 300 << 10
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			if n, err := one.socket.Write(bytes.Repeat([]byte{byte(i)}, size)); n != size || err != nil {
				t.Errorf("wrote %d bytes: %v", n, err)
			}
		})
	}
	var seen []byte
	for range writers {
		piece := make([]byte, size)
		if _, err := io.ReadFull(other.socket, piece); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(piece, bytes.Repeat(piece[:1], size)) {
			t.Fatal("two writes are mixed")
		}
		seen = append(seen, piece[0])
	}
	wg.Wait()
	slices.Sort(seen)
	if want := []byte{0, 1, 2, 3, 4, 5, 6, 7}; !bytes.Equal(seen, want) {
		t.Errorf("of the writes came %v", seen)
	}
}

// Property: TryWrite writes what there is room for, and does not wait for more.
func TestSocketTriesToWrite(t *testing.T) {
	one, other := pair(t)
	large := make([]byte, 64<<20)
	n, err := one.socket.TryWrite(large)
	if n == 0 || n == len(large) || err != nil {
		t.Fatalf("wrote %d bytes: %v", n, err)
	}
	for more := -1; more != 0; n += more {
		if more, err = one.socket.TryWrite(large); err != nil {
			t.Fatal(err)
		}
	}
	if err := one.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.Copy(io.Discard, other.socket); got != int64(n) || err != nil {
		t.Errorf("%d bytes of %d arrived: %v", got, n, err)
	}
	if n, err := one.socket.TryWrite(nil); n != 0 || err != nil {
		t.Errorf("wrote nothing: %d, %v", n, err)
	}
}

// Property: deadlines and Close end reads and writes that wait, and a peer that is gone
// ends writes.
func TestSocketEnds(t *testing.T) {
	one, _ := pair(t)
	soon := func() {
		if err := one.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
	}
	soon()
	if n, err := one.socket.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read %d bytes: %v", n, err)
	}
	soon()
	if n, err := one.socket.Write(make([]byte, 20<<20)); n == 20<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("wrote %d bytes: %v", n, err)
	}
	if n, err := one.socket.Read(nil); n != 0 || err != nil {
		t.Errorf("read nothing: %d, %v", n, err)
	}

	ended := make(chan error)
	one, other := pair(t)
	go func() {
		_, err := one.socket.Read(make([]byte, 1))
		ended <- err
	}()
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("a read of a connection that is closed: %v", err)
	}
	if _, err := other.socket.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a read of a connection whose peer has closed: %v", err)
	}
	var err error
	for err == nil { // the first may still be taken
		_, err = other.socket.Write([]byte("x"))
	}
	if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("a write to a peer that is gone: %v", err)
	}
}

// Property: a call allocates nothing.
func TestSocketAllocatesNothing(t *testing.T) {
	one, other := pair(t)
	b := make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := one.socket.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(other.socket, b); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
