package integration_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// liveClient is one running client program of clients/ that tells the story of
// clients/go/story. Its methods are for the test's goroutine.
type liveClient struct {
	library

	command *exec.Cmd
	orders  io.WriteCloser
	end     func() // kills it
	errors  string // path of the file with what it wrote to standard error
	key     string // of its counter
	counter int64  // what its counter held in the end; more than any number before

	mu       sync.Mutex
	acks     []counted         // guarded by mu, in order of time
	failures []failure         // guarded by mu, in order of time
	said     map[string]string // guarded by mu: the newest answer to each order
	ended    bool              // guarded by mu: its output has ended
}

// counted is an increment that was acknowledged.
type counted struct {
	at    time.Duration
	value int64
}

// failure is one that was not.
type failure struct {
	at   time.Duration
	text string
}

// enter starts a client program and waits until it has begun. One that an election met
// is started again, with a counter of its own: libraries that repeat nothing end then,
// and the others may count twice. What it reads must hold what it has counted: else that
// is reported to the test itself.
func enter(t, test testing.TB, l library, sentinels []string) *liveClient {
	t.Helper()
	const times = 3
	for n := 1; ; n++ {
		c := startLive(t, l, fmt.Sprintf("counter:%s:%d", l.name, n), sentinels)
		read, err := c.answer("ready", backLimit/times)
		if err == nil && read == "1" {
			return c
		}
		if count, _ := strconv.Atoi(read); err == nil && count < 1 {
			test.Errorf("%s reads %q after its first increment, want 1", l.name, read)
		}
		if n == times {
			t.Fatalf("%s reads %q after its first increment, want 1 (%v)", l.name, read, err)
		}
		t.Logf("%s is started again: it reads %q after its first increment (%v)", l.name, read, err)
		c.end()
	}
}

// startLive starts a client program against the Sentinels at the given addresses and
// ends it with the test.
func startLive(t testing.TB, l library, key string, sentinels []string) *liveClient {
	t.Helper()
	c := &liveClient{library: l, key: key, counter: math.MaxInt64, said: map[string]string{}, errors: filepath.Join(t.TempDir(), "stderr")}
	file, err := os.Create(c.errors)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	c.command = exec.CommandContext(t.Context(), l.program[0], l.program[1:]...)
	c.command.Stderr = file
	c.command.Env = append(os.Environ(),
		"SENTINELS="+strings.Join(sentinels, ","), "MASTER_NAME="+testkit.MasterName,
		"REDIS_PASSWORD="+dataPassword, "SENTINEL_PASSWORD="+sentinelPassword, "COUNTER_KEY="+c.key)
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if c.orders, err = c.command.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := c.command.Start(); err != nil {
		t.Fatalf("%s: %v", l.name, err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		c.listen(out)
	}()
	c.end = sync.OnceFunc(func() {
		_ = c.command.Process.Kill()
		<-read
		_ = c.command.Wait()
	})
	t.Cleanup(c.end)
	return c
}

// listen notes what the program says, and when, until its output ends.
func (c *liveClient) listen(out io.Reader) {
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		now := testkit.Now()
		event, rest, _ := strings.Cut(scanner.Text(), " ")
		c.mu.Lock()
		value, err := strconv.ParseInt(rest, 10, 64)
		switch {
		case event == "ack" && err == nil:
			c.acks = append(c.acks, counted{now, value})
		case event == "fail" || event == "ack":
			c.failures = append(c.failures, failure{now, rest})
		default:
			c.said[event] = rest
		}
		c.mu.Unlock()
	}
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
}

// order has the program do something and waits for its answer. What has failed is
// ordered again, until the limit: most libraries repeat nothing by themselves.
func (c *liveClient) order(t testing.TB, order string, limit time.Duration) string {
	t.Helper()
	const pause = 200 * time.Millisecond
	for end := testkit.Now() + limit; ; testkit.Pause(t.Context(), pause) {
		c.mu.Lock()
		delete(c.said, order)
		c.mu.Unlock()
		if _, err := io.WriteString(c.orders, order+"\n"); err != nil {
			t.Fatalf("%s: %s: %v", c.name, order, err)
		}
		answer := c.await(t, order, limit)
		if !strings.HasPrefix(answer, "fail") {
			return answer
		}
		if testkit.Now() > end {
			t.Fatalf("%s: %s: not within %v: %s", c.name, order, limit, answer)
		}
	}
}

// quit has the program end, and waits until it has.
func (c *liveClient) quit(t testing.TB) {
	t.Helper()
	if _, err := io.WriteString(c.orders, "quit\n"); err != nil {
		t.Errorf("%s: quit: %v", c.name, err)
		return
	}
	c.await(t, "done", backLimit)
}

// await waits for an event other than those about increments.
func (c *liveClient) await(t testing.TB, event string, limit time.Duration) string {
	t.Helper()
	answer, err := c.answer(event, limit)
	if err != nil {
		t.Fatalf("%s says no %s within %v: %v", c.name, event, limit, err)
	}
	return answer
}

// answer is what the program says of an event, or why it says nothing.
func (c *liveClient) answer(event string, limit time.Duration) (answer string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	ended := false
	err = testkit.Poll(ctx, func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		var ok bool
		if answer, ok = c.said[event]; ok {
			return nil
		}
		if ended = c.ended; ended {
			return nil // nothing will come
		}
		return errors.New("not yet: " + c.lastFailure())
	})
	if ended {
		return "", errors.New("it has ended: " + c.stderr())
	}
	return answer, err
}

// stderr is the end of what the program wrote to standard error.
func (c *liveClient) stderr() string {
	text, _ := os.ReadFile(c.errors)
	return string(text[max(0, len(text)-2000):])
}

// lastFailure is the text of the newest failure, with the lock held.
func (c *liveClient) lastFailure() string {
	if len(c.failures) == 0 {
		return "no failure"
	}
	return c.failures[len(c.failures)-1].text
}

// acknowledged is how many increments were.
func (c *liveClient) acknowledged() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.acks)
}

// books are those of its counter.
func (c *liveClient) books() (acknowledged, lost int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return books(c.acks, c.counter)
}

// last is the newest number that was acknowledged, 0 if none was.
func (c *liveClient) last() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.acks) == 0 {
		return 0
	}
	return c.acks[len(c.acks)-1].value
}

// resumed tells whether n increments were acknowledged after the instant.
func (c *liveClient) resumed(after time.Duration, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	count := countAfter(c.acks, after)
	return testkit.Check(count >= n, "%s: %d acknowledged, last failure: %s", c.name, count, c.lastFailure())
}

func countAfter(acks []counted, after time.Duration) int {
	at, _ := slices.BinarySearchFunc(acks, after, func(a counted, after time.Duration) int { return int(a.at - after) })
	return len(acks) - at
}

// outage is the longest time without an acknowledgement that ended after from, and
// began after it or is counted from there, up to the instant to.
func (c *liveClient) outage(from, to time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	longest, last := time.Duration(0), from
	for _, a := range c.acks {
		if a.at > from && a.at <= to {
			longest = max(longest, a.at-last)
			last = a.at
		}
	}
	if countAfter(c.acks, to) == 0 { // nor later: it had not come back
		longest = max(longest, to-last)
	}
	return longest
}

// failed are the failures between two instants, by text.
func (c *liveClient) failed(from, to time.Duration) map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := map[string]int{}
	for _, f := range c.failures {
		if f.at > from && f.at <= to {
			sum[f.text]++
		}
	}
	return sum
}

// books are how many increments were acknowledged, and how many of those are lost in the counter
// that ended at end: an acknowledgement of a lower number than the one before it, or
// the end, shows that those between have gone.
func books(acks []counted, end int64) (acknowledged, lost int) {
	var kept []int64
	drop := func(from int64) {
		for len(kept) > 0 && kept[len(kept)-1] >= from {
			kept = kept[:len(kept)-1]
			lost++
		}
	}
	for _, a := range acks {
		drop(a.value)
		kept = append(kept, a.value)
	}
	if end < math.MaxInt64 { // the end is known
		drop(end + 1)
	}
	return len(acks), lost
}

// The books find what is lost: acknowledged numbers that come again, and those above
// the end. Numbers that are left out were executed without an acknowledgement.
func TestBooksOfACounter(t *testing.T) {
	for _, k := range []struct {
		values []int64
		end    int64
		lost   int
	}{
		{[]int64{1, 2, 3, 5}, 5, 0},
		{[]int64{1, 2, 3, 5}, 7, 0},
		{[]int64{1, 2, 3, 2, 3}, 3, 2},
		{[]int64{1, 2, 3, 3}, 3, 1},
		{[]int64{1, 2, 3}, 2, 1},
		{[]int64{1, 2, 3, 9}, 0, 4},
		{[]int64{1, 2, 3, 2}, math.MaxInt64, 2},
	} {
		var acks []counted
		for _, v := range k.values {
			acks = append(acks, counted{value: v})
		}
		if n, lost := books(acks, k.end); lost != k.lost || n != len(k.values) {
			t.Errorf("%v ending at %d: %d acknowledged, %d lost; want %d and %d", k.values, k.end, n, lost, len(k.values), k.lost)
		}
	}
}

// An outage is counted from the fault, between any two acknowledgements, and to the end
// for a client that never came back.
func TestOutageOfAClient(t *testing.T) {
	at := func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond }
	c := &liveClient{}
	for _, ms := range []int{10, 90, 110, 400, 410, 900} {
		c.acks = append(c.acks, counted{at: at(ms)})
	}
	for _, k := range []struct{ from, to, want int }{
		{100, 450, 290}, {150, 450, 250}, {405, 900, 490}, {405, 800, 5}, {405, 1500, 600}, {950, 1000, 50},
	} {
		if got := c.outage(at(k.from), at(k.to)); got != at(k.want) {
			t.Errorf("from %d to %d ms: %v, want %d ms", k.from, k.to, got, k.want)
		}
	}
}

// A client that was kept waiting, or that has failed while the master moved by plan, is
// complained of only when that was so each time that the phase was told.
func TestVerdictOnAClient(t *testing.T) {
	for _, k := range []struct {
		name  string
		acks  []int // seconds
		fails []int
		fine  bool
	}{
		{"well at once", []int{11, 12, 13, 14, 21, 22, 23, 24, 31}, nil, true},
		{"well the second time", []int{11, 14, 21, 22, 23, 24, 31}, nil, true},
		{"waits each time", []int{11, 14, 21, 24, 31}, nil, false},
		{"fails once", []int{11, 12, 13, 14, 21, 22, 23, 24, 31}, []int{12}, true},
		{"fails each time", []int{11, 12, 13, 14, 21, 22, 23, 24, 31}, []int{12, 22}, false},
		{"fails or waits", []int{11, 14, 21, 22, 23, 24, 31}, []int{22}, false},
		{"fails between", []int{11, 12, 13, 14, 21, 22, 23, 24, 31}, []int{15, 25}, true},
	} {
		at := func(seconds int) time.Duration { return time.Duration(seconds) * time.Second }
		c := &liveClient{}
		for _, s := range k.acks {
			c.acks = append(c.acks, counted{at: at(s)})
		}
		for _, s := range k.fails {
			c.failures = append(c.failures, failure{at: at(s)})
		}
		s := &story{phases: []phase{
			{phaseHandover, at(10)}, {phaseApart, at(14)}, {phaseHandover, at(20)}, {phaseApart, at(24)},
		}, end: at(40)}
		if err := s.verdict(c, phaseHandover); (err == nil) != k.fine {
			t.Errorf("%s: %v", k.name, err)
		}
	}
}
