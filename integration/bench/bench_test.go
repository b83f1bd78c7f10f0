package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The parser counts whole replies however the stream is cut.
func TestParserCountsAcrossCuts(t *testing.T) {
	stream := "+OK\r\n:1\r\n$3\r\nabc\r\n$0\r\n\r\n$5\r\n\r\n$1\n\r\n+PONG\r\n"
	for size := 1; size <= len(stream); size++ {
		var p parser
		for rest := stream; rest != ""; {
			n := min(size, len(rest))
			if err := p.feed([]byte(rest[:n])); err != nil {
				t.Fatalf("cut every %d: %v", size, err)
			}
			rest = rest[n:]
		}
		if p.complete != 6 {
			t.Errorf("cut every %d: %d replies, want 6", size, p.complete)
		}
	}
}

// Whatever is no success ends the measurement instead of being counted.
func TestParserRefusesFailures(t *testing.T) {
	for _, stream := range []string{"-READONLY no\r\n", "$-1\r\n", "\r\n", "$x\r\n", "*1\r\n", strings.Repeat("+", 2*maxLine)} {
		var p parser
		if err := p.feed([]byte(stream)); err == nil {
			t.Errorf("%.20q was accepted", stream)
		}
	}
}

// The command line's mistakes are told, and its defaults measure everything.
func TestOptions(t *testing.T) {
	for _, args := range []string{"-pipelines 0", "-pipelines x", "-systems redis", "-rounds 0", "-connections -1", "-duration 0s"} {
		if _, err := parseOptions(strings.Fields(args), io.Discard); err == nil {
			t.Errorf("%s was accepted", args)
		}
	}
	opts, err := parseOptions(nil, io.Discard)
	if err != nil || len(opts.systems) != len(systemNames()) || len(opts.pipelines) != 2 {
		t.Errorf("defaults are %+v, %v", opts, err)
	}
}

// A load keeps one pipeline in flight per connection, counts commands without
// their WAITs, and sends what the operation says.
func TestLoadCountsCommands(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) { loadCounts(t, echoOK(t, host)) })
	}
}

func loadCounts(t *testing.T, addr string) {
	t.Helper()
	opts := options{connections: 3, size: 10, keys: 5}
	set := op{name: "SET", build: buildSet, perCommand: appendWait}
	l, err := newLoad(addr, set, 4, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	if err := l.begin(); err != nil {
		t.Fatal(err)
	}
	if err := l.run(200*time.Millisecond, true); err != nil {
		t.Fatal(err)
	}
	if l.done == 0 || l.done%4 != 0 {
		t.Errorf("%d commands counted, want a multiple of 4 above 0", l.done)
	}
	if got := l.hist.TotalCount(); got != l.done {
		t.Errorf("%d latencies for %d commands", got, l.done)
	}
	if got := strings.Count(string(l.batches[0]), "WAIT"); got != 4 {
		t.Errorf("%d WAITs in a pipeline of 4 commands", got)
	}
}

// A server that hangs up fails the load.
func TestLoadReportsClosedConnections(t *testing.T) {
	var cfg net.ListenConfig
	listener, err := cfg.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() { _ = listener.Close() })
	l, err := newLoad(listener.Addr().String(), op{build: buildGet}, 1, options{connections: 1, size: 1, keys: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	if err := errors.Join(l.begin(), l.run(time.Second, true)); err == nil {
		t.Error("the load went on")
	}
}

// echoOK is a server on host that answers +OK to every bulk command it counts.
func echoOK(t *testing.T, host string) string {
	t.Helper()
	var cfg net.ListenConfig
	listener, err := cfg.Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go answer(conn)
		}
	}()
	return listener.Addr().String()
}

func answer(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewScanner(conn)
	for in.Scan() {
		if strings.HasPrefix(in.Text(), "*") {
			if _, err := conn.Write([]byte("+OK\r\n")); err != nil {
				return
			}
		}
	}
}

// The table shows the median of the rounds and how many times faster Holdfast is.
func TestReportShowsMedianAndRatio(t *testing.T) {
	var all []result
	for _, n := range []float64{100, 5000, 200} {
		all = append(all, result{system: always, op: "SET", pipeline: 1, perSecond: n, p50: time.Millisecond})
	}
	all = append(all, result{system: holdfast, op: "SET", pipeline: 1, perSecond: 300, cpu: 1.25})
	var out strings.Builder
	opts := options{pipelines: []int{1}, systems: []string{always, holdfast}, rounds: 3}
	if err := writeReport(&out, opts, all); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| redis-always | 200 | 1.00 | 0.00 | 0.00 | × 1.50 |", "| holdfast | 300 | 0.00 | 0.00 | 1.25 | – |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no row %q in\n%s", want, out.String())
		}
	}
}

// A helper's failure ends the guarded function with an error, and everything it
// started is undone, last first.
func TestHostGuardsAndCleansUp(t *testing.T) {
	h := newHost(io.Discard)
	var undone []int
	h.Cleanup(func() { undone = append(undone, 1) })
	h.Cleanup(func() { undone = append(undone, 2) })
	err := h.guard(func() error {
		h.Fatalf("no %s", "port")
		return nil
	})
	if err == nil || !strings.Contains(err.Error(), "no port") || !h.Failed() {
		t.Errorf("guard returned %v", err)
	}
	h.close()
	if len(undone) != 2 || undone[0] != 2 {
		t.Errorf("cleaned up in order %v", undone)
	}
}

// The load of sessions is the promised one unless told otherwise, and the command
// line's mistakes are told.
func TestSessionOptions(t *testing.T) {
	progress, err := os.Create(filepath.Join(t.TempDir(), "progress"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = progress.Close() })
	opts, err := parseSessions(nil, progress)
	if err != nil {
		t.Fatal(err)
	}
	o := opts.load
	if o.Sessions != 50_000 || o.Connections != 200 || o.Rate != 5000 || o.Duration != 10*time.Minute || !o.Kill || opts.limits.P99 != 10*time.Millisecond {
		t.Errorf("defaults are %+v", opts)
	}
	if o.Live {
		t.Error("a file is taken for a terminal")
	}
	for _, args := range []string{"-rate 0", "-handover reboot", "-ttl 1500ms", "-sessions 3", "now"} {
		if err := command(append([]string{"sessions"}, strings.Fields(args)...), io.Discard, progress); err == nil {
			t.Errorf("%s was accepted", args)
		}
	}
}
