package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// askOnce asks a Sentinel port for the master on a connection of its own, from the given
// address of this machine, and tells how long that took.
func askOnce(addr string, from net.IP) (time.Duration, error) {
	began := testkit.Now()
	dialer := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: from}}
	conn, err := dialer.DialContext(context.Background(), "tcp", addr)
	if err != nil {
		return 0, err
	}
	c := testkit.NewClient(conn, 5*time.Second)
	defer c.Close()
	r, err := c.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", testkit.MasterName)
	if err == nil && len(r.Elems) != 2 {
		err = fmt.Errorf("the answer is %v", r)
	}
	return testkit.Now() - began, err
}

// passersBy asks so many times, a thousand times a second, and returns how long each took.
// On a machine that others use too there can be an election meanwhile: without a master the
// connection is closed. So the short form lets one in ten be sent away.
func passersBy(t testing.TB, addr string, count int) []time.Duration {
	t.Helper()
	var (
		mu    sync.Mutex
		times []time.Duration
		wg    sync.WaitGroup
		errs  = map[string]int{}
	)
	began := testkit.Now()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range count {
		// Late ticks are lost: the pace is kept by the clock.
		for testkit.Now()-began < time.Duration(i)*time.Millisecond {
			<-tick.C
		}
		from := net.IPv4(127, 0, 0, byte(2+i%8)) // one address has too few ports for a minute
		wg.Go(func() {
			took, err := askOnce(addr, from)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
				errs["closed"]++
				return
			case err != nil:
				errs[err.Error()]++
				return
			}
			times = append(times, took)
		})
	}
	took := testkit.Now() - began
	wg.Wait()
	if failed := count - len(times); failed > pick(count/10, 0) {
		t.Errorf("%d of %d were not answered: %v", failed, count, errs)
	}
	if long() && took > time.Duration(count)*time.Millisecond*11/10 {
		t.Errorf("%d questions took %v to ask: this machine is too slow to tell", count, took)
	}
	return times
}

// usage is what a process holds.
type usage struct{ goroutines, files, memory float64 }

func usageOf(t testing.TB, n *testkit.Node) (u usage) {
	t.Helper()
	for name, to := range map[string]*float64{
		"go_goroutines": &u.goroutines, "process_open_fds": &u.files, "process_resident_memory_bytes": &u.memory,
	} {
		v, err := gauge(t, n, name)
		if err != nil {
			t.Fatal(err)
		}
		*to = v
	}
	return u
}

// P7, P8: a thousand clients a second that connect to one Sentinel port, ask for the
// master and leave are all answered, the slowest of a hundred in less than 10 ms, and leave
// nothing behind. On a machine that stands still now and then the short form tells it again.
func TestSentinelPortServesPassersBy(t *testing.T) {
	testkit.Tries(t, pick(4, 1), sentinelPortServesPassersBy)
}

func sentinelPortServesPassersBy(t testing.TB) {
	c := start(t, testkit.ClusterOptions{})
	at := c.WaitWhole(formLimit)
	for role, n := range map[string]*testkit.Node{"master": c.Nodes[at], "replica": c.Nodes[(at+1)%3]} {
		passersBy(t, n.SentinelAddr(), 2000) // for buffers and the like to grow
		before := usageOf(t, n)
		times := passersBy(t, n.SentinelAddr(), pick(3000, 60_000))
		p99 := quantile(times, 0.99)
		t.Logf("%s: %d answers, median %v, p99 %v, worst %v", role, len(times), quantile(times, 0.5), p99, quantile(times, 1))
		if limit := pick(2*time.Second, 10*time.Millisecond); p99 > limit {
			t.Errorf("%s: p99 is %v, want at most %v", role, p99, limit)
		}
		testkit.Eventually(t, 20*time.Second, "nothing is left behind", func() error {
			after := usageOf(t, n)
			const more, bytes = 10, 16 << 20
			return testkit.Check(after.goroutines <= before.goroutines+more && after.files <= before.files+more && after.memory <= before.memory+bytes,
				"it was %+v and is %+v", before, after)
		})
	}
}

// P8: 5,000 subscribers of one Sentinel port, beside some that never read, hear of a new
// master within 250 ms of the moment at which that port shows it, and it serves on. An
// election that takes long ends their connections, so the short form tells it again.
func TestManySubscribersHearInTime(t *testing.T) {
	testkit.Tries(t, pick(5, 1), manySubscribersHearInTime)
}

func manySubscribersHearInTime(t testing.TB) {
	const crowd, deaf = 5000, 50
	c := start(t, testkit.ClusterOptions{})
	at := c.WaitWhole(formLimit)
	levelReached(t, c.Nodes)
	old, n := c.Nodes[at], c.Nodes[(at+1)%3]
	heard := make(chan time.Duration, crowd)
	var wg sync.WaitGroup
	for i := range crowd + deaf {
		s := testkit.MustDial(t, n.SentinelAddr())
		if i >= crowd {
			s.MustDo(t, "PSUBSCRIBE", "*")
			continue
		}
		s.MustDo(t, "SUBSCRIBE", "+switch-master")
		wg.Go(func() {
			if m, err := s.ReadWithin(formLimit); err == nil && strings.HasSuffix(m.String(), `"]`) {
				heard <- testkit.Now()
			}
		})
	}
	memory, err := testkit.ResidentBytes(n.Pid())
	if err != nil {
		t.Fatal(err)
	}
	old.Kill9()
	shown := shows(t, n, old)
	wg.Wait()
	close(heard)
	var times, late []time.Duration
	for when := range heard {
		times = append(times, when)
	}
	began := min(shown, quantile(times, 0))
	for _, when := range times {
		late = append(late, when-began)
	}
	t.Logf("%d of %d heard: the first after %v, half after %v, the last after %v; the node holds %d MB",
		len(late), crowd, quantile(late, 0), quantile(late, 0.5), quantile(late, 1), memory>>20)
	if len(late) != crowd {
		t.Errorf("%d subscribers heard nothing", crowd-len(late))
	}
	if limit := pick(2500*time.Millisecond, 250*time.Millisecond); quantile(late, 1) > limit {
		t.Errorf("the last one heard after %v, want at most %v", quantile(late, 1), limit)
	}
}

// shows waits until a node's Sentinel port names another master than the old one and
// returns when that was.
func shows(t testing.TB, n, old *testkit.Node) time.Duration {
	t.Helper()
	var client *testkit.Client
	defer func() {
		if client != nil {
			_ = client.Close()
		}
	}()
	deadline := testkit.Now() + formLimit
	for ; testkit.Now() < deadline; testkit.Pause(t.Context(), 2*time.Millisecond) {
		if client == nil {
			var err error
			if client, err = testkit.Dial(n.SentinelAddr(), 10*time.Second); err != nil {
				client = nil
				continue
			}
		}
		m, err := client.Do("SENTINEL", "MASTER", testkit.MasterName)
		now := testkit.Now()
		if err != nil { // connections end if the election takes long
			_ = client.Close()
			client = nil
			continue
		}
		fields := m.Map()
		if string(fields["flags"].Text) == "master" && string(fields["port"].Text) != strconv.Itoa(old.Port) {
			return now
		}
	}
	t.Fatal("no new master is shown")
	return 0
}
