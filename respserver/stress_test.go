package respserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// countReplies sends pipelines of INCR until the connection is closed, and
// returns how many were answered.
func countReplies(p *peer, key string, depth int) (answered int) {
	request := bytes.Repeat(encode("INCR "+key), depth)
	for {
		_ = p.conn.SetWriteDeadline(time.Now().Add(testBound))
		if _, err := p.conn.Write(request); err != nil {
			break
		}
		for range depth {
			if _, err := p.tryRead(testBound); err != nil {
				return answered
			}
			answered++
		}
	}
	for { // what was answered before the end
		if _, err := p.tryRead(testBound); err != nil {
			return answered
		}
		answered++
	}
}

// Closing all clients loses no answer: whatever was carried out was answered,
// and nothing that came later was carried out.
func TestCloseClientsLosesNoAnswer(t *testing.T) {
	r := start(t)
	const clients = 8
	for round := range 5 {
		answered := make([]int, clients)
		var wg sync.WaitGroup
		for i := range clients {
			p := r.dial(t)
			p.want("PING", "PONG")
			wg.Go(func() { answered[i] = countReplies(p, key(round, i), 1+i) })
		}
		eventually(t, "all have written", func() bool { return r.node.batches.Load() > int64(200*(round+1)) })
		r.CloseClients()
		wg.Wait()
		p := r.dial(t)
		for i, n := range answered {
			if got := p.do("GET " + key(round, i)); got != strconv.Itoa(n) && (n > 0 || got != "null") {
				t.Errorf("round %d client %d: %s carried out, %d answered", round, i, got, n)
			}
		}
		p.want("QUIT", "OK")
	}
}

func key(round, i int) string { return fmt.Sprintf("k%d-%d", round, i) }

// Connections come and go while others list and kill them.
func TestComingAndGoing(t *testing.T) {
	r := start(t)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				p := r.dial(t)
				p.send("CLIENT SETNAME x", "SUBSCRIBE a", "UNSUBSCRIBE a", "MULTI", "SET a 1", "EXEC")
				_, _ = p.tryRead(testBound) // it may have been killed
				_ = p.conn.Close()
			}
		})
	}
	admin := r.dial(t)
	for range 100 {
		if list := admin.do("CLIENT LIST"); !strings.HasPrefix(list, "id=") {
			t.Errorf("CLIENT LIST: %s", list)
		}
		if n := admin.do("CLIENT KILL TYPE normal SKIPME yes"); !strings.HasPrefix(n, ":") {
			t.Errorf("CLIENT KILL: %s", n)
		}
		_ = r.Stats()
	}
	close(stop)
	wg.Wait()
	admin.want("PING", "PONG")
}

// A connection without a descriptor of its own gets large replies too.
func TestConnectionWithoutDescriptor(t *testing.T) {
	_, srv, dial := serveMemory(t)
	p := dial("127.0.0.1:1")
	value := strings.Repeat("v", 300<<10)
	for range 3 {
		p.want("SET a "+value, "OK")
		p.want("GET a", value)
		p.send("GET a", "PING", "GET a")
		p.wantAll(value, "PONG", value)
	}
	eventually(t, "nothing waits", func() bool { return srv.Stats().Pending == 0 })
}

// Limits that change hold for connections that are there.
func TestTuneChangesRequestLimits(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.want("SET a "+strings.Repeat("v", 200), "OK")
	r.Tune(respserver.Tuning{Requests: resp.Limits{MaxBulk: 100}})
	p.want("PING", "PONG") // the limits of the next command
	p.send("SET a " + strings.Repeat("v", 200))
	p.wantAll("!ERR Protocol error: invalid bulk length")
	p.wantClosed()
}

// One server serves several listeners; connections live as long as one of them.
func TestSeveralListeners(t *testing.T) {
	l, srv, dial := serveMemory(t)
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	second := make(chan error, 1)
	go func() { second <- srv.Serve(t.Context(), ln) }()
	p := (&rig{addr: ln.Addr().String()}).dial(t)
	p.want("SET a 1", "OK")
	dial("127.0.0.1:1").want("GET a", "1")
	_ = ln.Close()
	if err := <-second; err == nil {
		t.Error("a listener that failed was no error")
	}
	p.want("GET a", "1")
	if srv.Stats().Connected != 2 {
		t.Errorf("%+v", srv.Stats())
	}
	_ = l
}

// A real unix socket serves like any other, and counts as local.
func TestUnixSocket(t *testing.T) {
	n := newFakeNode()
	cfg := baseConfig(n)
	cfg.Table = dataTable(t)
	cfg.Tuning.Protected = true
	var lc net.ListenConfig
	path := t.TempDir() + "/s"
	ln, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := respserver.New(cfg)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(t.Context(), ln) }()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{tb: t, conn: conn}
	p.want("SET a 1", "OK")
	if list := p.do("CLIENT LIST"); !strings.Contains(list, " laddr="+path+":0 ") {
		t.Errorf("CLIENT LIST: %s", list)
	}
	_ = conn.Close()
	_ = ln.Close()
	<-done
}

// FuzzConnection: no bytes whatever make a connection panic, hang, or stay.
func FuzzConnection(f *testing.F) {
	n := newFakeNode()
	cfg := baseConfig(n)
	table, err := command.Join(dataSpecs(), respserver.ConnectionSpecs(), respserver.TransactionSpecs(), respserver.ServerSpecs(), respserver.SubscribeSpecs())
	if err != nil {
		f.Fatal(err)
	}
	cfg.Table = table
	srv := respserver.New(cfg)
	l := newMemoryListener()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(context.Background(), l) }()
	f.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	for s := range table.Each() {
		f.Add(encode(strings.ReplaceAll(s.FullName(), "|", " ") + " 1 0"))
	}
	f.Add([]byte("*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*1\r\n$4\r\nEXEC\r\n"))
	f.Add([]byte("SUBSCRIBE a\r\nHELLO 3\r\nRESET\r\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		l.conns <- theirs
		p := &peer{tb: t, conn: ours}
		go func() {
			_ = ours.SetWriteDeadline(time.Now().Add(time.Second))
			_, _ = ours.Write(data)
			_, _ = ours.Write([]byte("\r\nQUIT\r\n"))
			_, _ = ours.Write(encode("CLIENT KILL TYPE normal SKIPME no"))
			_ = ours.Close()
		}()
		for {
			_, err := p.tryRead(testBound)
			if slow, ok := errors.AsType[net.Error](err); ok && slow.Timeout() {
				t.Fatal("the connection hangs")
			}
			if err != nil {
				break
			}
		}
		if st := srv.Stats(); st.Panics != 0 {
			t.Fatal("a panic")
		}
	})
}

// Calls of Serve may begin while the last of those before ends, as those of a node do that
// is told to stop right after its start.
func TestServersMayEndWhileTheyBegin(t *testing.T) {
	cfg := baseConfig(newFakeNode())
	cfg.Table = dataTable(t)
	srv := respserver.New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var wg sync.WaitGroup
	for range 50 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := srv.Serve(ctx, ln); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
