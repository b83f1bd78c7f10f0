package testkit_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// serve gives every connection the answers in turn, one after each read, and
// closes it. It returns the address.
func serve(t *testing.T, answers ...string) string {
	t.Helper()
	var cfg net.ListenConfig
	l, err := cfg.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			buf := make([]byte, 1024)
			for _, answer := range answers {
				_, _ = conn.Read(buf)
				_, _ = conn.Write([]byte(answer))
			}
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// Every type of reply in both protocols is read, kept and shown without loss.
func TestClientReadsEveryType(t *testing.T) {
	wire := "*2\r\n$1\r\na\r\n:-5\r\n" + "%1\r\n+k\r\n,1.5\r\n" + ">2\r\n$3\r\nmsg\r\n_\r\n" + "~1\r\n#t\r\n" +
		"$-1\r\n*-1\r\n" + "=8\r\ntxt:a\r\nb\r\n" + "-ERR no\r\n" + "$2\r\n\r\n\r\n"
	want := []string{
		`*[$"a" :-5]`, `%[+k ,1.5]`, `>[$"msg" _]`, `~[#t]`, `$null`, `*null`, `="txt:a\r\nb"`, `-ERR no`, `$"\r\n"`,
	}
	c := testkit.MustDial(t, serve(t, wire))
	c.Record()
	if err := c.Send("PING"); err != nil {
		t.Fatal(err)
	}
	for _, w := range want {
		r, err := c.Read()
		if err != nil {
			t.Fatalf("read %s: %v", w, err)
		}
		if got := r.String(); got != w {
			t.Errorf("got %s, want %s", got, w)
		}
	}
	if got := string(c.Recorded()); got != wire {
		t.Errorf("recorded %q, want %q", got, wire)
	}
	if _, err := c.Read(); err == nil {
		t.Error("a closed connection gave a reply")
	}
}

// Replies that are no replies are errors, not panics or endless waits.
func TestClientRefusesGarbage(t *testing.T) {
	for _, wire := range []string{"\r\n", "$x\r\n", "$3\r\nabcXX", "?1\r\n", "+no end", "+bare\n", "*2\r\n:1\r\n"} {
		c := testkit.MustDial(t, serve(t, wire))
		if r, err := c.Do("PING"); err == nil {
			t.Errorf("%q was read as %v", wire, r)
		}
	}
}

// An error reply is told apart from a broken connection.
func TestDoReturnsErrorReplies(t *testing.T) {
	c := testkit.MustDial(t, serve(t, "-READONLY You can't\r\n"))
	_, err := c.Do("SET", "a", "b")
	var answer testkit.ReplyError
	if !errors.As(err, &answer) {
		t.Fatalf("got %v, want a ReplyError", err)
	}
	if got := testkit.OutcomeOf(answer); got != testkit.Refused {
		t.Errorf("READONLY is outcome %v, want Refused", got)
	}
	if got := testkit.OutcomeOf("INDOUBT leadership lost"); got != testkit.Unknown {
		t.Errorf("INDOUBT is outcome %v, want Unknown", got)
	}
	if got := testkit.OutcomeOf("WRONGTYPE x"); got != testkit.Done {
		t.Errorf("WRONGTYPE is outcome %v, want Done", got)
	}
}

// A follower learns the master from a Sentinel that answers, past ones that are
// dead, and calls a connection that breaks after sending an unknown outcome.
func TestFollowerAsksTheNextSentinel(t *testing.T) {
	data := serve(t, "*1\r\n$6\r\nmaster\r\n", "+OK\r\n")
	host, port, err := net.SplitHostPort(data)
	if err != nil {
		t.Fatal(err)
	}
	sentinel := serve(t, string(testkit.AppendCommand(nil, host, port)))
	dead := testkit.Loopback(testkit.Ports(t))
	f := testkit.NewFollower([]string{dead, sentinel}, 20*time.Second)
	t.Cleanup(f.Close)
	testkit.Eventually(t, 20*time.Second, "the master is found", f.Connect)
	if r, outcome, err := f.Do("SET", "a", "b"); err != nil || outcome != testkit.Done || r.String() != "+OK" {
		t.Fatalf("first command: %v %v %v", r, outcome, err)
	}
	if got := f.Addr(); got != data {
		t.Errorf("connected to %s, want %s", got, data)
	}
	if _, outcome, err := f.Do("SET", "a", "b"); err == nil || outcome != testkit.Unknown {
		t.Errorf("on a closed connection: outcome %v, error %v, want Unknown and an error", outcome, err)
	}
}

// With no Sentinel to name a master nothing is sent, so nothing can have happened.
func TestFollowerWithoutMasterIsRefused(t *testing.T) {
	f := testkit.NewFollower([]string{serve(t, "*-1\r\n"), testkit.Loopback(testkit.Ports(t))}, 20*time.Second)
	if _, outcome, err := f.Do("INCR", "a"); err == nil || outcome != testkit.Refused {
		t.Errorf("outcome %v, error %v, want Refused and an error", outcome, err)
	}
}

// A node that a Sentinel names but that is no master itself gets no command.
func TestFollowerAsksForTheRole(t *testing.T) {
	host, port, err := net.SplitHostPort(serve(t, "*1\r\n$5\r\nslave\r\n", "+OK\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	f := testkit.NewFollower([]string{serve(t, string(testkit.AppendCommand(nil, host, port)))}, 20*time.Second)
	t.Cleanup(f.Close)
	if _, outcome, err := f.Do("SET", "a", "b"); err == nil || outcome != testkit.Refused {
		t.Errorf("outcome %v, error %v, want Refused and an error", outcome, err)
	}
}

// Blocks of ports never overlap while their test runs.
func TestPortsAreReserved(t *testing.T) {
	var firsts []int
	for range 20 {
		firsts = append(firsts, testkit.Ports(t))
	}
	slices.Sort(firsts)
	for i := 1; i < len(firsts); i++ {
		if firsts[i]-firsts[i-1] < 16 {
			t.Errorf("blocks %d and %d overlap", firsts[i-1], firsts[i])
		}
	}
}

// A process can be stopped, continued, ended and started again, and its output is kept.
func TestProcessLife(t *testing.T) {
	p := testkit.NewProcess(t, testkit.Command{
		Name: "sleeper", Path: "/bin/sh", Args: []string{"-c", "echo Started $WORD; exec sleep 60"},
		Env: []string{"WORD=here"}, Dir: t.TempDir(),
	})
	for starts := 1; starts <= 2; starts++ {
		p.Start()
		testkit.Eventually(t, 20*time.Second, "another line", func() error {
			got := strings.Count(p.Tail(1000), "Started")
			return testkit.Check(got == starts && p.LogLines("started", "here") == starts && p.LogContains("here"), "log is %q", p.Tail(100))
		})
		p.Kill9()
		if p.Running() {
			t.Fatal("still running after Kill9")
		}
	}
	p.Start()
	if cpu, err := testkit.CPUSeconds(p.Pid()); err != nil || cpu < 0 {
		t.Errorf("CPUSeconds: %v, %v", cpu, err)
	}
	testkit.Eventually(t, 20*time.Second, "some memory is resident", func() error {
		rss, err := testkit.ResidentBytes(p.Pid())
		return errors.Join(err, testkit.Check(rss > 0, "%d bytes", rss))
	})
	p.Stop()
	p.Cont()
	if code := p.Term(20 * time.Second); code != -1 {
		t.Errorf("exit code %d after SIGTERM, want -1", code)
	}
	if err := syscall.Kill(p.Pid(), 0); err == nil {
		t.Error("the process still exists")
	}
}

// Poll gives up with its context and tells the last reason.
func TestPollReportsTheLastError(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	n := 0
	err := testkit.Poll(ctx, func() error { n++; return testkit.Check(false, "not yet") })
	if err == nil || err.Error() != "not yet" || n < 2 {
		t.Errorf("Poll tried %d times and returned %v", n, err)
	}
	if err := testkit.Poll(ctx, func() error { return nil }); err != nil {
		t.Errorf("a condition that holds: %v", err)
	}
}

// INFO's text is read field by field.
func TestParseInfo(t *testing.T) {
	got := testkit.ParseInfo("# Server\r\nredis_version:7.2.4\r\n\r\n# Keyspace\r\ndb0:keys=1,expires=0\r\n")
	if got["redis_version"] != "7.2.4" || got["db0"] != "keys=1,expires=0" || len(got) != 2 {
		t.Errorf("got %v", got)
	}
}

// The oracle starts, replicates and is the version whose replies the tests know.
func TestRedisOracle(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil || testing.Short() {
		t.Skip("needs redis-server, and seconds")
	}
	master := testkit.StartRedis(t)
	replica := testkit.StartReplica(t, master)
	testkit.MustDial(t, master.Addr()).MustDo(t, "SET", "a", "b")
	c := testkit.MustDial(t, replica.Addr())
	testkit.Eventually(t, 20*time.Second, "the replica has the key", func() error {
		r, err := c.Do("GET", "a")
		if err != nil {
			return err
		}
		return testkit.Check(string(r.Text) == "b", "got %v", r)
	})
	info := testkit.ParseInfo(string(c.MustDo(t, "INFO", "server").Text))
	if info["redis_version"] != testkit.OracleVersion {
		t.Errorf("redis-server is %s, the tests know %s", info["redis_version"], testkit.OracleVersion)
	}
	sentinel := testkit.StartSentinel(t, master, testkit.MasterName)
	if addr, err := testkit.AskSentinel(sentinel.Addr()); err != nil || addr != master.Addr() {
		t.Errorf("Sentinel names %s, %v, want %s", addr, err, master.Addr())
	}
	if role, err := testkit.Role(replica.Addr()); err != nil || role != "slave" {
		t.Errorf("replica's role is %s, %v", role, err)
	}
	if _, err := os.Stat(testkit.Root() + "/go.mod"); err != nil {
		t.Errorf("Root: %v", err)
	}
}

// report keeps whether a test failed that it stands for.
type report struct {
	testing.TB
	failed bool
}

func (r *report) Helper()               {}
func (r *report) Errorf(string, ...any) { r.failed = true }
func (r *report) Fatalf(string, ...any) { r.failed = true }
func (r *report) Failed() bool          { return r.failed }
func (r *report) Logf(string, ...any)   {}

// A story is told until it passes, so often at most; what each telling has left to
// clean up is cleaned up before the next, whatever the telling or the cleaning did. What
// is reported to the test itself is not told again.
func TestTries(t *testing.T) {
	for name, c := range map[string]struct {
		passes, tellings int // with which one it passes; how many there are
		lasting          bool
		failed           bool
	}{
		"passes at once":    {passes: 1, tellings: 1},
		"passes later":      {passes: 3, tellings: 3},
		"never passes":      {passes: 9, tellings: 3, failed: true},
		"a lasting failure": {passes: 9, tellings: 1, lasting: true, failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &report{TB: t}
			tellings, open := 0, 0
			testkit.Tries(r, 3, func(t testing.TB) {
				tellings++
				if open != 0 {
					r.TB.Errorf("%d things were left", open)
				}
				open += 2
				t.Cleanup(func() { open-- })
				t.Cleanup(func() {
					open--
					if tellings < c.passes {
						t.FailNow()
					}
				})
				if c.lasting {
					r.Errorf("lost")
				}
				if tellings == c.passes {
					return
				}
				t.Error("first")
				t.Fatalf("then %d", tellings)
			})
			if tellings != c.tellings || r.failed != c.failed || open != 0 {
				t.Errorf("%d tellings, failed: %v, %d things left; want %+v", tellings, r.failed, open, c)
			}
		})
	}
}

// A document that differs by a byte is stale, one that does not is not.
func TestStaleDocumentsAreFound(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(testkit.Root(), "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	for want, stale := range map[string]bool{string(text): false, string(text) + "\n": true, "": true} {
		r := &report{TB: t}
		testkit.CheckDocument(r, "metrics.md", want, false)
		if r.failed != stale {
			t.Errorf("a text of %d bytes: stale is %v, want %v", len(want), r.failed, stale)
		}
	}
}

// A connection that the server closed is known as such before anything is sent on
// it, but not while replies are still to be read.
func TestClientKnowsTheEnd(t *testing.T) {
	c := testkit.MustDial(t, serve(t, "+OK\r\n"))
	if c.Ended() {
		t.Fatal("an open connection is taken for closed")
	}
	if err := c.Send("PING"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 20*time.Second, "the reply", func() error {
		_, err := c.ReadWithin(time.Second)
		return err
	})
	testkit.Eventually(t, 20*time.Second, "the end", func() error { return testkit.Check(c.Ended(), "not seen") })
}
