package sessions

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// small is a short load of few commands.
func small() Options {
	return Options{
		Sessions: 20, Connections: 4, Rate: 200, Duration: 500 * time.Millisecond, TTL: time.Hour / 2,
		Handover: HandoverNone, Seed: 1, Progress: io.Discard,
	}
}

// drive puts a load on a fake server and returns its report.
func drive(t *testing.T, f *fake, o Options) *Report {
	t.Helper()
	all := openBooks(o)
	if err := fill(t.Context(), f.find, all); err != nil {
		t.Fatal(err)
	}
	workers, err := newWorkers(t.Context(), []string{f.addr()}, all, o)
	if err != nil {
		t.Fatal(err)
	}
	col := newCollector(testkit.Now(), o)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan struct{})
	for _, w := range workers {
		go func() {
			w.run(ctx, col)
			done <- struct{}{}
		}()
	}
	for range workers {
		<-done
	}
	col.end(testkit.Now())
	f.answerWith(nil)
	if err := verify(t.Context(), f.find, all); err != nil {
		t.Fatal(err)
	}
	return newReport(o, col, all)
}

// A server that does as it is told is found without fault, and every command that
// was due was sent.
func TestGoodServerPasses(t *testing.T) {
	o := small()
	r := drive(t, newFake(t), o)
	if failures := r.Failures(Limits{P99: time.Minute, Answered: 1}); len(failures) > 0 {
		t.Error(failures)
	}
	if got, want := r.answered(), totalCommands(o); got != want || r.books.checked == 0 {
		t.Errorf("%d commands answered, want %d; %d replies compared", got, want, r.books.checked)
	}
}

// A stall counts for every command that became due meanwhile, not only for those
// that were under way: latencies are from the due time.
func TestStallsCountForAllThatWasDue(t *testing.T) {
	o := small()
	f := newFake(t)
	var first atomic.Int64
	const stall = 250 * time.Millisecond
	f.answerWith(func(args []string) (string, bool) {
		if args[0] != "SET" { // with which the server was filled before
			first.CompareAndSwap(0, int64(testkit.Now()))
			testkit.Pause(t.Context(), time.Duration(first.Load())+stall-testkit.Now())
		}
		return "", false
	})
	r := drive(t, f, o)
	late := 0
	for _, h := range r.outside {
		for _, bar := range h.Distribution() {
			if bar.From > (50 * ms).Microseconds() {
				late += int(bar.Count)
			}
		}
	}
	// In the 200 ms before its last 50 the stall has met 40 commands of 200/s; only
	// one for each of the four connections was under way.
	if late < 20 {
		t.Errorf("%d commands count as late, want about 40", late)
	}
}

// What was definitely refused is repeated until it is done, and nothing is in doubt.
func TestRefusalsAreRepeated(t *testing.T) {
	f := newFake(t)
	var n atomic.Int64
	o := small()
	f.answerWith(func(args []string) (string, bool) {
		return "-READONLY You can't write against a read only replica.\r\n", args[0] == "EXPIRE" && n.Add(1)%2 == 0
	})
	r := drive(t, f, o)
	if failures := r.Failures(Limits{Answered: 1}); len(failures) > 0 {
		t.Error(failures)
	}
	if r.sums.repeated == 0 || r.sums.unknown != 0 {
		t.Errorf("%d attempts repeated, %d in doubt", r.sums.repeated, r.sums.unknown)
	}
}

// Writes whose connection closes without a reply are in doubt and not repeated;
// reads are repeated. Either outcome of the writes agrees with the books.
func TestClosedConnectionsLeaveWritesInDoubt(t *testing.T) {
	f := newFake(t)
	var n atomic.Int64
	f.answerWith(func([]string) (string, bool) { return "", n.Add(1)%10 == 0 && n.Load() > 20 })
	o := small()
	r := drive(t, f, o)
	if r.sums.unknown == 0 || r.sums.repeated == 0 || r.books.doubts != r.sums.unknown {
		t.Errorf("%d writes in doubt, %d in the books; %d reads repeated", r.sums.unknown, r.books.doubts, r.sums.repeated)
	}
	if r.books.found > 0 || r.sums.finished() != totalCommands(o) {
		t.Errorf("found %v; %d commands ended", r.books.findings, r.sums.finished())
	}
	if list := r.Failures(Limits{Answered: 1}); len(list) != 1 || !strings.Contains(list[0], "answered") {
		t.Errorf("judged as %v: no kill excuses what is in doubt", list)
	}
}

// A connection that ends while the server is filled leaves writes in doubt, one that ends
// while the books are verified nothing; refusals are repeated. An error ends it all.
func TestLostLinesAreReplaced(t *testing.T) {
	f := newFake(t)
	var n atomic.Int64
	f.answerWith(func(args []string) (string, bool) {
		switch n.Add(1) {
		case 3:
			return "", true
		case 9:
			return "-READONLY You can't write against a read only replica.\r\n", true
		case 11:
			return "-INDOUBT the outcome is unknown\r\n", true
		}
		return "", false
	})
	all := openBooks(small())
	if err := fill(t.Context(), f.find, all); err != nil {
		t.Fatal(err)
	}
	live, doubts, checked := 0, 0, 0
	for _, b := range all {
		live, doubts = live+len(b.live), doubts+len(b.doubts)
	}
	if live != small().Sessions || doubts < 2 {
		t.Errorf("%d live sessions, %d in doubt", live, doubts)
	}
	n.Store(0)
	if err := verify(t.Context(), f.find, all); err != nil {
		t.Fatal(err)
	}
	for _, b := range all {
		checked += b.checked
		for _, text := range b.findings {
			t.Error(text)
		}
	}
	if checked != 2*live+doubts {
		t.Errorf("%d replies compared of %d sessions and %d in doubt", checked, live, doubts)
	}
	f.answerWith(func([]string) (string, bool) { return "-ERR no\r\n", true })
	if err := verify(t.Context(), f.find, all); err == nil || !strings.Contains(err.Error(), "GET: ERR no") {
		t.Errorf("with nothing but errors: %v", err)
	}
	f.answerWith(func([]string) (string, bool) { return "", true })
	if err := fill(t.Context(), f.find, openBooks(small())); err == nil {
		t.Error("filled a server that closes every connection")
	}
}

// A server that acknowledges writes and forgets them is found out.
func TestForgetfulServerIsFoundOut(t *testing.T) {
	f := newFake(t)
	var n atomic.Int64
	f.answerWith(func(args []string) (string, bool) { return "+OK\r\n", args[0] == "SET" && n.Add(1) > 20 })
	r := drive(t, f, small())
	list := r.Failures(Limits{})
	if r.books.found == 0 || len(list) < 2 || !strings.Contains(strings.Join(list, "\n"), "was acknowledged") {
		t.Errorf("judged as %v", list)
	}
}

// An error reply that no fault explains fails the run and is named.
func TestErrorRepliesFailTheRun(t *testing.T) {
	f := newFake(t)
	f.answerWith(func(args []string) (string, bool) { return "-OOM no room\r\n", args[0] == "EXPIRE" })
	r := drive(t, f, small())
	if list := r.Failures(Limits{}); len(list) != 1 || !strings.Contains(list[0], "EXPIRE: OOM no room") {
		t.Errorf("judged as %v", list)
	}
}

// A server without the command for a handover is told apart from one with it.
func TestHandoverIsRefusedWhereUnknown(t *testing.T) {
	f := newFake(t)
	const spec = "*1\r\n*2\r\n$13\r\nraft|transfer\r\n:-2\r\n"
	for _, answer := range []string{spec, "*1\r\n*-1\r\n", "*1\r\n$-1\r\n", "-ERR unknown command\r\n"} {
		f.answerWith(func([]string) (string, bool) { return answer, true })
		if err := knowsTransfer(f.addr()); (err == nil) != (answer == spec) {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

// A load that is broken off does nothing more to the cluster.
func TestNoFaultsAfterTheEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := small()
	o.Kill, o.Handover, o.Duration = true, HandoverKill, time.Hour
	col := newCollector(testkit.Now(), o)
	if err := runFaults(ctx, &testkit.Cluster{}, col, o); !errors.Is(err, context.Canceled) || len(col.mu.events) != 0 {
		t.Errorf("%v, events %+v", err, col.mu.events)
	}
}

// Each second gets a line of what was answered in it, and events lines of their
// own; on a terminal a line takes the place of the last.
func TestProgressLines(t *testing.T) {
	for _, live := range []bool{false, true} {
		col := newCollector(0, Options{Rate: 3, Duration: 10 * time.Second})
		var out bytes.Buffer
		p := &progress{out: &out, live: live}
		col.answered(read, 500*time.Millisecond, 502*time.Millisecond)
		col.answered(write, 600*time.Millisecond, 608*time.Millisecond)
		p.show(col, time.Second)
		col.begin("kill", killed, 1200*time.Millisecond)
		p.show(col, 2*time.Second)
		text := out.String()
		for _, want := range []string{
			"1 s      2/s  reads p99 2.00 max 2.00  writes p99 8.00", "behind 1", "1.2 s  kill", "2 s      0/s  reads p99 0.00", "behind 4",
		} {
			if !strings.Contains(text, want) {
				t.Errorf("live %v: no %q in %q", live, want, text)
			}
		}
		if lines := strings.Count(text, "\n"); live && lines != 1 || !live && lines != 3 {
			t.Errorf("live %v: %d line feeds in %q", live, lines, text)
		}
	}
}
