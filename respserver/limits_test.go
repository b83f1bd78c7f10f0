package respserver_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// memoryListener hands out connections that exist in memory only.
type memoryListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	faults chan error // delivered by Accept before anything else
}

func newMemoryListener() *memoryListener {
	return &memoryListener{conns: make(chan net.Conn), closed: make(chan struct{}), faults: make(chan error, 10)}
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case err := <-l.faults:
		return nil, err
	default:
	}
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memoryListener) Addr() net.Addr { return &net.TCPAddr{} }

// from is a connection with a peer's address of the test's choice.
type from struct {
	net.Conn
	addr net.Addr
}

func (f from) RemoteAddr() net.Addr { return f.addr }

// serveMemory serves in-memory connections; dial makes one that comes from addr.
func serveMemory(t *testing.T, changes ...func(*respserver.Config)) (l *memoryListener, srv *respserver.Server, dial func(addr string) *peer) {
	t.Helper()
	n := newFakeNode()
	cfg := baseConfig(n)
	cfg.Table = dataTable(t)
	for _, change := range changes {
		change(&cfg)
	}
	srv = respserver.New(cfg)
	l = newMemoryListener()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return l, srv, func(addr string) *peer {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = ours.Close() })
		l.conns <- from{theirs, net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))}
		return &peer{tb: t, conn: ours}
	}
}

// Without a password and explicit addresses only this machine is served.
func TestProtectedMode(t *testing.T) {
	protected := func(c *respserver.Config) { c.Tuning.Protected = true }
	_, srv, dial := serveMemory(t, protected)
	p := dial("10.0.0.9:1234")
	if got := show(p.read()); !strings.HasPrefix(got, "!DENIED ") {
		t.Errorf("a stranger got %s", got)
	}
	p.wantClosed()
	dial("127.0.0.1:1234").want("PING", "PONG")
	dial("[::1]:1234").want("PING", "PONG")
	if st := srv.Stats(); st.Refused != 1 || st.Received != 3 {
		t.Errorf("%+v", st)
	}
	srv.Tune(respserver.Tuning{Protected: true, Password: "sesame"})
	dial("10.0.0.9:1234").want("AUTH sesame", "OK")
}

// A listener that fails for a moment is not given up.
func TestAcceptErrorsPass(t *testing.T) {
	l, _, dial := serveMemory(t)
	dial("127.0.0.1:1").want("PING", "PONG")
	l.faults <- errors.New("too many open files")
	l.faults <- errors.New("too many open files")
	dial("127.0.0.1:1").want("PING", "PONG")
	dial("127.0.0.1:1").want("PING", "PONG")
}

// Connections beyond maxclients are told so, and counted.
func TestMaxClients(t *testing.T) {
	r := start(t, func(c *respserver.Config) { c.Tuning.MaxClients = 2 })
	a, b := r.dial(t), r.dial(t)
	a.want("PING", "PONG")
	b.want("PING", "PONG")
	over := r.dial(t)
	over.wantAll("!ERR max number of clients reached")
	over.wantClosed()
	a.want("QUIT", "OK")
	a.wantClosed()
	eventually(t, "a place is free", func() bool { return r.Stats().Connected == 1 })
	r.dial(t).want("PING", "PONG")
	if st := r.Stats(); st.Refused != 1 || st.Received != 4 {
		t.Errorf("%+v", st)
	}
}

// Connections that stay idle are closed, except those with subscriptions.
func TestIdleTimeout(t *testing.T) {
	r := start(t)
	p, sub := r.dial(t), r.dial(t)
	sub.want("SUBSCRIBE a", "[subscribe a :1]")
	p.want("PING", "PONG")
	r.Tune(respserver.Tuning{Timeout: 200 * time.Millisecond}) // not before both have said what they are
	p.wantClosed()
	r.dial(t).wantClosed() // and the other one is idle for longer than that
	sub.want("PING", "[pong ]")
}

// Whoever sends byte by byte is served like anybody else, and disturbs nobody.
func TestSlowSender(t *testing.T) {
	r := start(t)
	slow, quick := r.dial(t), r.dial(t)
	for _, b := range append(encode("SET a 1"), encode("GET a")...) {
		slow.sendBytes([]byte{b})
		quick.want("PING", "PONG")
	}
	slow.wantAll("OK", "1")
}

// A pipeline may be sent in full before its first reply is read.
func TestPipelineBeforeTheFirstRead(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	value := strings.Repeat("v", 64<<10)
	p.want("SET a "+value, "OK")
	const n = 600 // 38 MiB of replies
	p.sendBytes(bytes.Repeat(encode("GET a"), n))
	p.send("PING")
	for range n {
		if got := p.read(); len(got.Bytes()) != len(value) {
			t.Fatalf("got %d bytes", len(got.Bytes()))
		}
	}
	p.wantAll("PONG")
	eventually(t, "nothing is pending", func() bool { return r.Stats().Pending == 0 }) // counted behind the write
}

// slowReader asks for far more than it reads, which is nothing.
func slowReader(t *testing.T, r *rig, request []byte) {
	t.Helper()
	p := r.dial(t)
	p.want("SET a "+strings.Repeat("v", 1<<20), "OK")
	p.sendBytes(request)
}

// A client that does not read is closed when its limit is exceeded, or when it
// has not read for too long; until then what waits for it is bounded.
func TestSlowReaders(t *testing.T) {
	for name, limit := range map[string]func(*respserver.Config){
		"hard limit": func(c *respserver.Config) { c.Tuning.NormalOutput.Hard = 8 << 20 },
		"soft limit": func(c *respserver.Config) {
			c.Tuning.NormalOutput = respserver.OutputLimit{Soft: 4 << 20, SoftFor: 100 * time.Millisecond}
		},
		"no progress":  func(c *respserver.Config) { c.WriteBound = 300 * time.Millisecond },
		"one reply":    func(c *respserver.Config) { c.WriteBound = 300 * time.Millisecond },
		"small budget": func(c *respserver.Config) { c.WriteBound, c.PendingBudget = 300*time.Millisecond, 4<<20 },
	} {
		request := bytes.Repeat(encode("GET a"), 1000)
		if name == "one reply" {
			request = encode("MGET" + strings.Repeat(" a", 1000))
		}
		t.Run(name, func(t *testing.T) {
			r := start(t, limit)
			slowReader(t, r, request)
			most := int64(0)
			eventually(t, "the slow reader is closed", func() bool {
				st := r.Stats()
				most = max(most, st.Pending)
				return st.Connected == 0
			})
			if most > 140<<20 {
				t.Errorf("%d MiB were pending", most>>20)
			}
			if name == "small budget" && most > 8<<20 {
				t.Errorf("%d MiB were pending beyond a budget of 4", most>>20)
			}
			st := r.Stats()
			if st.TooSlow != 1 || st.Pending != 0 {
				t.Errorf("%+v", st)
			}
			r.dial(t).want("PING", "PONG")
		})
	}
}

// Somebody who has not authenticated cannot make replies pile up.
func TestUnauthenticatedOutputIsBounded(t *testing.T) {
	r := start(t, withPassword, func(c *respserver.Config) { c.WriteBound = 600 * time.Millisecond })
	_, dial := serveUnix(t, r) // over TCP a client whose kernel is full of replies may be unable to send, too
	p := dial()
	go func() { // blocks as soon as the server reads no more
		_ = p.conn.SetWriteDeadline(time.Now().Add(testBound))
		_, _ = p.conn.Write(bytes.Repeat(encode("PING"), 2_000_000))
	}()
	most := int64(0)
	eventually(t, "the slow reader is closed", func() bool {
		st := r.Stats()
		most = max(most, st.Pending)
		return st.TooSlow == 1
	})
	if most > 256<<10 {
		t.Errorf("%d bytes were pending", most)
	}
}

// Broken requests are answered, and their connection closed; others go on.
func TestBrokenRequests(t *testing.T) {
	r := start(t)
	other := r.dial(t)
	for _, test := range []struct{ bytes, reply string }{
		{"*1048577\r\n", "!ERR Protocol error: invalid multibulk length"},
		{"*9223372036854775807\r\n", "!ERR Protocol error: invalid multibulk length"},
		{"*1\r\n$9223372036854775807\r\n", "!ERR Protocol error: invalid bulk length"},
		{"*1\r\n$-5\r\n", "!ERR Protocol error: invalid bulk length"},
		{"*1\r\n:5\r\n", "!ERR Protocol error: expected '$', got ':'"},
		{"SET \"a\r\n", "!ERR Protocol error: unbalanced quotes in request"},
		{"*1\r\n$4\r\nPING\r\n*1\r\nx", "PONG"},
	} {
		p := r.dial(t)
		p.sendBytes([]byte(test.bytes))
		p.wantAll(test.reply)
		if test.reply == "PONG" {
			_ = p.conn.(*net.TCPConn).CloseWrite() // half open
		}
		p.wantClosed()
		other.want("PING", "PONG")
	}
	if st := r.Stats(); st.Panics != 0 {
		t.Errorf("%+v", st)
	}
}

// Commands on one line, as typed by a person, are commands.
func TestInlineCommands(t *testing.T) {
	p := start(t).dial(t)
	p.sendBytes([]byte("\r\nset a \"two words\"\r\nGET a\r\n"))
	p.wantAll("OK", "two words")
}

// No bytes whatever bring the server down.
func TestNoiseHarmsOnlyItsSender(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 2))
	r := start(t)
	pieces := []string{
		"*", "$", "\r\n", "3", "1", "0", "-1", "GET", "SET", "MULTI", "EXEC", "a", "*1\r\n$4\r\nEXEC\r\n", "*1\r\n$5\r\nMULTI\r\n",
		"*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n", "*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n", "\x00", "\xff", "\"", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
	}
	for range 200 {
		p := r.dial(t)
		var noise []byte
		for range rnd.IntN(40) {
			noise = append(noise, pieces[rnd.IntN(len(pieces))]...)
		}
		p.sendBytes(noise)
		_ = p.conn.Close()
	}
	r.dial(t).want("PING", "PONG")
	eventually(t, "all are gone", func() bool { return r.Stats().Connected <= 1 })
	if st := r.Stats(); st.Panics != 0 {
		t.Errorf("seed %d: %+v", seed, st)
	}
}

// A connection that does nothing costs little.
func TestIdleConnectionsAreCheap(t *testing.T) {
	const n, most = 2000, 24 << 10
	_, srv, dial := serveMemory(t)
	measure := func() int64 {
		var m runtime.MemStats
		for range 3 { // what earlier tests have left may go in the second round only
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	before := measure()
	for range n {
		p := dial("127.0.0.1:1")
		p.want("GET a", "null")
	}
	if got := (measure() - before) / n; got > most {
		t.Errorf("%d bytes for each idle connection, both ends included", got)
	}
	if st := srv.Stats(); st.Connected != n {
		t.Errorf("%d connections", st.Connected)
	}
}

// Serve ends with its context: connections are closed, what is under way is answered.
func TestServeEndsWithItsContext(t *testing.T) {
	r := start(t)
	p, idle := r.dial(t), r.dial(t)
	idle.want("PING", "PONG")
	r.node.setHold(true)
	p.send("SET a 1")
	r.node.awaitHeld(t)
	r.cancel()
	idle.wantClosed()
	r.node.release(0)
	p.wantAll("OK")
	p.wantClosed()
	r.stop(t)
	if _, err := net.DialTimeout("tcp", r.addr, time.Second); err == nil {
		t.Error("the port is still open")
	}
}

// The limits of requests that are left open are Redis's.
func TestRequestLimits(t *testing.T) {
	r := start(t, func(c *respserver.Config) { c.Tuning.Requests = resp.Limits{MaxBulk: 100, MaxArgs: 5} })
	p := r.dial(t)
	p.want("SET a "+strings.Repeat("v", 100), "OK")
	p.send("SET a " + strings.Repeat("v", 101))
	p.wantAll("!ERR Protocol error: invalid bulk length")
	r = start(t, func(c *respserver.Config) { c.Tuning.Requests = resp.Limits{MaxQuery: 1000} })
	p = r.dial(t)
	p.send("SET a " + strings.Repeat("v", 1000))
	p.wantClosed()
}
