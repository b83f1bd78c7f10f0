package respserver_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/store"
)

// A client that goes away while it is blocked leaves nothing behind, however much
// it has sent meanwhile: more than is read ahead hides the end of the connection.
func TestBlockedClientMayGoAwayAfterSendingMuch(t *testing.T) {
	for name, leave := range map[string]func(p *peer){
		"closing":      func(p *peer) { _ = p.conn.Close() },
		"half closing": func(p *peer) { _ = p.conn.(interface{ CloseWrite() error }).CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			r.node.twoReplicas(0)
			p := r.dial(t)
			p.want("SET a 1", "OK")
			p.send("WAIT 1 0")
			eventually(t, "the connection is blocked", func() bool { return r.Stats().Blocked == 1 })
			p.sendBytes(bytes.Repeat(encode("INCR a"), 5000))
			leave(p)
			eventually(t, "it is gone", func() bool { return r.Stats().Connected == 0 })
			r.dial(t).want("GET a", "1")
		})
	}
}

// What a connection watches is bounded in number and size, and a key watched
// again costs nothing more.
func TestWatchedKeysAreBounded(t *testing.T) {
	r := start(t, func(c *respserver.Config) { c.Tuning.MaxEntryBytes = 10_000 })
	p := r.dial(t)
	for range 300 {
		p.want("WATCH a b a", "OK")
	}
	p.want("WATCH "+strings.Repeat("x", 6000), "OK")
	p.want("WATCH "+strings.Repeat("y", 6000), "!ERR too many watched keys")
	p.want("SELECT 1", "OK")
	p.want("WATCH a", "OK")
	r.dial(t).want("SET b 1", "OK")
	p.send("MULTI", "SET c 1", "EXEC")
	p.wantAll("OK", "QUEUED", "null[]")
	p.want("WATCH "+strings.Repeat("y", 6000), "OK")
}

// A key that was watched, changed, and watched again has changed, and so has one
// that was watched in another database.
func TestWatchingAgainForgetsNothing(t *testing.T) {
	r := start(t)
	p, other := r.dial(t), r.dial(t)
	p.want("WATCH a", "OK")
	other.want("SET a 1", "OK")
	p.want("WATCH a", "OK")
	p.send("MULTI", "SET b 1", "EXEC")
	p.wantAll("OK", "QUEUED", "null[]")
	p.send("WATCH a", "SELECT 1", "WATCH a")
	p.wantAll("OK", "OK", "OK")
	other.send("SELECT 1", "SET a 1")
	other.wantAll("OK", "OK")
	p.send("MULTI", "GET b", "EXEC")
	p.wantAll("OK", "QUEUED", "null[]")
}

// Long replies of one pipeline are not gathered: each is encoded and let go before
// the next read runs, so that asking again and again takes no more memory.
func TestLongRepliesAreNotGathered(t *testing.T) {
	const keys, times = 10_000, 40
	var live []int // replies not yet collected when a further read ran
	var mu sync.Mutex
	alive := 0
	remaining := func() int {
		mu.Lock()
		defer mu.Unlock()
		return alive
	}
	list := &command.Spec{
		Name: "list", Arity: 1, Group: "generic",
		Do: command.Reads(func([][]byte) (int, error) { return 0, nil }, func(*store.Reader, int) resp.Value {
			values := make([]resp.Value, keys)
			for i := range values {
				values[i] = resp.BulkString("0123456789012345678901234567890123456789")
			}
			runtime.GC()
			// A cleanup runs in a goroutine of its own, some time after the collection.
			for began := time.Now(); remaining() > times/4 && time.Since(began) < time.Second; runtime.GC() {
				runtime.Gosched()
			}
			mu.Lock()
			defer mu.Unlock()
			live = append(live, alive)
			alive++
			runtime.AddCleanup(&values[0], func(int) {
				mu.Lock()
				alive--
				mu.Unlock()
			}, 0)
			return resp.Array(values...)
		}),
	}
	r := start(t, func(c *respserver.Config) {
		var err error
		if c.Table, err = command.Join(dataSpecs(), respserver.ConnectionSpecs(), []*command.Spec{list}); err != nil {
			t.Fatal(err)
		}
	})
	p := r.dial(t)
	p.sendBytes(bytes.Repeat(encode("LIST"), times))
	for range times {
		if got := len(p.read().Elems()); got != keys {
			t.Fatalf("%d elements", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, n := range live {
		if n > times/2 {
			t.Fatalf("at read %d there were %d earlier replies", i, n)
		}
	}
}

// When the password is taken away nobody is locked out any more, as in Redis.
func TestTakingThePasswordAwayLetsEverybodyIn(t *testing.T) {
	r := start(t, withPassword)
	p := r.dial(t)
	p.want("GET a", "!NOAUTH Authentication required.")
	r.Tune(respserver.Tuning{Databases: 16})
	p.want("GET a", "null")
	p.want("RESET", "RESET")
	p.want("GET a", "null")
}

// logBuffer collects what is logged.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Neither keys nor values nor passwords are logged, shown to others or counted by
// name, whatever goes wrong.
func TestNoContentsInLogsListsAndMetrics(t *testing.T) {
	const secret = "swordfish"
	fault := &command.Spec{
		Name: "fault", Arity: -1, Group: "server",
		Do: command.Locally(func(_ command.Conn, args [][]byte) resp.Value { panic("cannot store " + string(args[1])) }),
	}
	var log logBuffer
	r := start(t, withPassword, func(c *respserver.Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		c.CommandBound = 500 * time.Millisecond
		c.Tuning.Requests.MaxQuery = 1 << 20
		var err error
		if c.Table, err = command.Join(dataSpecs(), respserver.ConnectionSpecs(), respserver.TransactionSpecs(), respserver.ServerSpecs(),
			[]*command.Spec{fault}); err != nil {
			t.Fatal(err)
		}
	})
	watcher := r.dial(t)
	watcher.want("AUTH sesame", "OK")
	for _, lines := range [][]string{
		{"AUTH " + secret, "AUTH " + secret + " " + secret, "HELLO 3 AUTH default " + secret, secret + " " + secret},
		{"AUTH sesame", "SET " + secret + " " + secret, secret, "GET " + secret + " " + secret, "INCR " + secret, "CONFIG SET " + secret + " " + secret},
		{"AUTH sesame", "MULTI", "SET " + secret + " " + secret, "WATCH " + secret},
		{"AUTH sesame", "FAULT " + secret},
	} {
		p := r.dial(t)
		p.send(lines...)
		if strings.HasPrefix(lines[len(lines)-1], "FAULT") {
			p.wantAll("OK")
			p.wantClosed()
		} else {
			for range lines {
				p.read()
			}
		}
		for _, line := range []string{"CLIENT LIST", "INFO everything"} {
			if got := watcher.do(line); strings.Contains(got, secret) || strings.Contains(got, "sesame") {
				t.Errorf("%s shows contents: %s", line, got)
			}
		}
	}
	r.node.setHold(true)
	stuck := r.dial(t)
	stuck.send("AUTH sesame", "SET "+secret+" "+secret)
	stuck.wantAll("OK", inDoubt)
	stuck.wantClosed()
	post := r.dial(t)
	post.sendBytes([]byte("POST /" + secret + "\r\n"))
	post.wantClosed()
	broken := r.dial(t)
	broken.sendBytes([]byte("*1\r\n$x" + secret + "\r\n"))
	broken.wantAll("!ERR Protocol error: invalid bulk length")
	large := r.dial(t)
	large.want("AUTH sesame", "OK")
	large.sendBytes([]byte("*2\r\n$9\r\n" + secret + "\r\n$1048570\r\n"))
	large.wantClosed()
	if text := log.text(); strings.Contains(text, secret) || strings.Contains(text, "sesame") || !strings.Contains(text, "panic") {
		t.Errorf("log: %s", text)
	}
	for name := range gather(t, r) {
		if strings.Contains(name, secret) {
			t.Errorf("metric %s", name)
		}
	}
}

// An unknown outcome of CONFIG SET ends the connection like that of any write:
// nothing later is carried out.
func TestConfigSetInDoubt(t *testing.T) {
	for name, answer := range map[string]func(context.Context) error{
		"the setting is in doubt":    func(context.Context) error { return resp.ErrInDoubt },
		"the answer does not come":   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"the doubt is wrapped in it": func(context.Context) error { return fmt.Errorf("databases: %w", resp.ErrInDoubt) },
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, func(c *respserver.Config) {
				c.CommandBound = 500 * time.Millisecond
				c.Settings = doubtful{c.Settings, answer}
			})
			p := r.dial(t)
			p.send("SET a 1", "CONFIG SET timeout 5", "SET a 2", "GET a")
			p.wantAll("OK", inDoubt, readOnly, readOnly)
			p.wantClosed()
			r.dial(t).want("GET a", "1")
		})
	}
}

type doubtful struct {
	respserver.Settings
	answer func(context.Context) error
}

func (d doubtful) Set(ctx context.Context, _ []respserver.Pair) error { return d.answer(ctx) }

// RESET does not make WAIT forget what the connection has written.
func TestWaitAfterReset(t *testing.T) {
	r := start(t)
	r.node.twoReplicas(0)
	p := r.dial(t)
	p.send("SET a 1", "RESET", "WAIT 1 10")
	p.wantAll("OK", "RESET", ":0")
}
