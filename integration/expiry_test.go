package integration_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/holdfast/holdfast/internal/testkit"
)

// P4, P6, P8: 50,000 keys due in the same second are gone from all nodes soon
// after, each at the same index of the log everywhere, and reads of other keys keep
// a p99 below 10 ms meanwhile.
//
// The nodes are watched while they run, and then the log of each is replayed. The
// replays say at which index each key went; that the running nodes did the same is
// shown by what they told of themselves: how many keys they had removed at which
// index, and a digest, in which the place of removals counts.
func TestWaveOfExpirations(t *testing.T) {
	room := 0
	testkit.Tries(t, mostTold(), func(try testing.TB) {
		room += 8
		waveOfExpirations(t, try, room)
	})
}

// waveOfExpirations has a wave come so many seconds after it was begun to be written. It
// reports to always what the logs show to be wrong, and everything else to t: a machine
// that stands still may be late with writing it, and with reading meanwhile.
func waveOfExpirations(always, t testing.TB, room int) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{})
	const keys = 50_000
	m := insist(t, c)
	m.MustDo(t, "SET", "stays", "here")
	due := fillWave(t, c, keys, room)
	if got := m.MustDo(t, "DBSIZE").Int(); got != keys+1 {
		t.Fatalf("%d keys before the wave, want %d", got, keys+1)
	}
	before := func(seconds int64) func() error {
		return func() error {
			at, _, err := m.Do("TIME")
			if err != nil {
				return err
			}
			s, _ := strconv.ParseInt(string(at.Elems[0].Text), 10, 64)
			return testkit.Check(s >= due-seconds, "%d s to go", due-s)
		}
	}
	watch := sight(t, c)
	limit := 10 * time.Millisecond
	if !long() && before(3)() != nil { // there is time to see how busy the machine is
		if calm, err := readDuring(t, c, time.Second); err == nil {
			limit = max(limit, 3*micros(calm.ValueAtQuantile(99)))
		}
	}
	testkit.Eventually(t, time.Minute, "the second before the wave", before(1))
	hist, err := readDuring(t, c, 4*time.Second)
	t.Logf("%d reads during the wave: p50 %v p99 %v worst %v", hist.TotalCount(),
		micros(hist.ValueAtQuantile(50)), micros(hist.ValueAtQuantile(99)), micros(hist.Max()))
	for _, n := range c.Nodes {
		testkit.Eventually(t, 15*time.Second, "all due keys are gone from "+n.ID, func() error {
			got, err := answerOf(n, "DBSIZE")
			return errors.Join(err, testkit.Check(got.Int() == 1, "%d keys left", got.Int()-1))
		})
	}
	seen := watch.end()
	if t.Failed() {
		return // they lack their end
	}
	compareWithLogs(always, t, c, seen, keys)
	if err != nil {
		t.Errorf("GET during the wave: %v", err)
	}
	if p99 := micros(hist.ValueAtQuantile(99)); p99 >= limit {
		t.Errorf("GET p99 during the wave is %v, want below %v", p99, limit)
	}
}

// fillWave writes keys that are due within one second, so many from now, and returns
// which, in seconds of cluster time.
func fillWave(t testing.TB, c *testkit.Cluster, keys, room int) (due int64) {
	t.Helper()
	seconds, _ := strconv.ParseInt(string(insist(t, c).MustDo(t, "TIME").Elems[0].Text), 10, 64)
	due = seconds + int64(room)
	p := pipeliner{cluster: c}
	defer p.close()
	for first := 0; first < keys; first += 1000 {
		var commands [][]string
		for i := first; i < first+1000; i++ {
			at := strconv.FormatInt(due*1000+int64(i%1000), 10)
			commands = append(commands, []string{"SET", "wave:" + strconv.Itoa(i), "session", "PXAT", at})
		}
		testkit.Eventually(t, formLimit, "the keys of the wave", func() error { return p.do(commands) })
	}
	return due
}

// watchers write down what each node says of itself.
type watchers struct {
	stop atomic.Bool
	wait sync.WaitGroup
	seen [][]sighting // by node
}

// sight watches all nodes until end is called.
func sight(t testing.TB, c *testkit.Cluster) *watchers {
	t.Helper()
	w := &watchers{seen: make([][]sighting, len(c.Nodes))}
	for i, n := range c.Nodes {
		w.wait.Go(func() {
			var client *testkit.Client
			look := func() (err error) {
				if client == nil {
					if client, err = testkit.Dial(n.Addr(), 5*time.Second); err != nil {
						client = nil
						return err
					}
				}
				r, err := client.Do("INFO")
				if err != nil { // an election ends connections
					_ = client.Close()
					client = nil
					return err
				}
				w.seen[i] = append(w.seen[i], sightingOf(testkit.ParseInfo(string(r.Text))))
				return nil
			}
			for !w.stop.Load() {
				_ = look()
				time.Sleep(5 * time.Millisecond)
			}
			testkit.Eventually(t, formLimit, "the last that "+n.ID+" says", look)
			_ = client.Close()
		})
	}
	t.Cleanup(func() { w.end() }) // before the nodes end
	return w
}

// end returns what each node said, the last of it after the call.
func (w *watchers) end() [][]sighting {
	w.stop.Store(true)
	w.wait.Wait()
	return w.seen
}

func sightingOf(info map[string]string) (s sighting) {
	s.expired, _ = strconv.ParseUint(info["expired_keys"], 10, 64)
	s.applied, _ = strconv.ParseUint(info["raft_applied_index"], 10, 64)
	s.digest, _ = strconv.ParseUint(info["raft_digest"], 16, 64)
	return s
}

// compareWithLogs stops the nodes, replays the log of each, and fails unless every
// key went at the same index in all of them and what the nodes said fits. That something
// was seen amid the wave is for t, everything else for always.
func compareWithLogs(always, t testing.TB, c *testkit.Cluster, seen [][]sighting, keys int) {
	t.Helper()
	for _, n := range c.Nodes {
		n.Kill9()
	}
	var first *logReplay
	for i, n := range c.Nodes {
		last := seen[i][len(seen[i])-1]
		r := replayLog(always, n.DataDir, last.applied)
		if len(r.gone) != keys || len(r.again) != 0 {
			always.Errorf("%s: %d keys went by its log, %d of them again; want %d once each", n.ID, len(r.gone), len(r.again), keys)
		}
		if first == nil {
			first = r
		}
		for key, index := range first.gone {
			if r.gone[key] != index {
				always.Fatalf("%s went at index %d on %s and at %d on %s", key, index, c.Nodes[0].ID, r.gone[key], n.ID)
			}
		}
		if !r.exact(last) || last.expired != uint64(keys) {
			always.Errorf("%s ended with %+v, its log says %+v", n.ID, last, r.points[len(r.points)-1])
		}
		amid, exact := 0, 0
		for k, s := range seen[i] {
			if k > 0 {
				if err := r.explain(seen[i][k-1], s); err != nil {
					always.Fatalf("%s: %v", n.ID, err)
				}
			}
			if s.expired == 0 || s.expired == uint64(keys) {
				continue
			}
			amid++
			if r.exact(s) {
				exact++
			}
		}
		t.Logf("%s was seen %d times, %d of them amid the wave, %d of these exactly in the state of its index", n.ID, len(seen[i]), amid, exact)
		if exact == 0 {
			t.Errorf("%s was never seen amid the wave in a state that its log explains to the digest", n.ID)
		}
	}
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

// readDuring reads one key over several connections for d and returns the
// latencies in µs.
func readDuring(t testing.TB, c *testkit.Cluster, d time.Duration) (*hdrhistogram.Histogram, error) {
	t.Helper()
	addr := c.Nodes[c.WaitMaster(formLimit)].Addr()
	sum := hdrhistogram.New(1, time.Minute.Microseconds(), 3)
	var mu sync.Mutex
	var failed error
	var wait sync.WaitGroup
	end := testkit.Now() + d
	for range 8 {
		client := testkit.MustDial(t, addr)
		wait.Go(func() {
			own := hdrhistogram.New(1, time.Minute.Microseconds(), 3)
			for testkit.Now() < end {
				sent := testkit.Now()
				reply, err := client.Do("GET", "stays")
				if err := errors.Join(err, testkit.Check(string(reply.Text) == "here", "it holds %v", reply)); err != nil {
					mu.Lock()
					defer mu.Unlock()
					failed = err
					return
				}
				_ = own.RecordValue((testkit.Now() - sent).Microseconds())
				time.Sleep(time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			sum.Merge(own)
		})
	}
	wait.Wait()
	return sum, failed
}

// lifeSpan is a key under observation, all instants by this process's own clock.
type lifeSpan struct {
	key          string
	earliest     time.Duration // its deadline is not before
	latest       time.Duration // and not after
	seenGone     bool
	resurrection bool // reported once
}

// P4: measured by a clock of its own, a key is readable until 250 ms before its
// deadline and unreadable 250 ms after it on the master, 1 s after it on a
// replica, and nothing that was gone is ever seen again; a failover in between
// changes nothing.
func TestDeadlinesAreKept(t *testing.T) {
	for _, kill := range []bool{false, true} {
		name := "calm"
		if kill {
			name = "failover"
		}
		t.Run(name, func(t *testing.T) {
			testkit.Tries(t, mostTold(), func(try testing.TB) { deadlines(t, try, kill) })
		})
	}
}

// deadlines watches keys on the master, which may be killed, or else on a replica too. It
// reports as watchDeadlines does.
func deadlines(always, t testing.TB, kill bool) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{})
	spans := spread(t, c, pick(100, 500), 2*time.Second, 6*time.Second)
	var stop atomic.Bool
	var wait sync.WaitGroup
	defer func() {
		stop.Store(true)
		wait.Wait()
	}()
	observe := func(at reader) {
		own := slices.Clone(spans)
		wait.Go(func() { watchDeadlines(always, t, &stop, at, own) })
	}
	observe(reader{masterOf(c), 250 * time.Millisecond})
	if !kill {
		replica := c.Nodes[(c.WaitMaster(formLimit)+1)%3]
		testkit.Eventually(t, 10*time.Second, "the replica has all keys", func() error {
			r, err := answerOf(replica, "EXISTS", spans[len(spans)-1].key)
			return errors.Join(err, testkit.Check(r.Int() == 1, "not the last one"))
		})
		observe(reader{func() (*testkit.Client, error) { return testkit.Dial(replica.Addr(), time.Second) }, time.Second})
	} else {
		time.Sleep(time.Second)
		c.Nodes[c.WaitMaster(formLimit)].Kill9()
	}
	time.Sleep(spans[len(spans)-1].latest + 2*time.Second - testkit.Now())
}

// masterOf connects to whoever is master by asking the Sentinel ports.
func masterOf(c *testkit.Cluster) func() (*testkit.Client, error) {
	sentinels := c.Sentinels()
	return func() (*testkit.Client, error) {
		for _, s := range sentinels {
			addr, err := testkit.AskSentinel(s)
			if err != nil {
				continue
			}
			if role, err := testkit.Role(addr); err == nil && role == "master" {
				return testkit.Dial(addr, time.Second)
			}
		}
		return nil, errors.New("no master")
	}
}

// spread writes n keys with lives between shortest and longest, in rising order.
func spread(t testing.TB, c *testkit.Cluster, n int, shortest, longest time.Duration) []lifeSpan {
	t.Helper()
	m := insist(t, c)
	spans := make([]lifeSpan, n)
	for i := range spans {
		life := shortest + (longest-shortest)*time.Duration(i)/time.Duration(n)
		key := fmt.Sprintf("due:%d", i)
		sent := testkit.Now()
		m.MustDo(t, "SET", key, "here", "PX", strconv.FormatInt(life.Milliseconds(), 10))
		spans[i] = lifeSpan{key: key, earliest: sent + life.Truncate(time.Millisecond), latest: testkit.Now() + life}
	}
	return spans
}

// reader is a place to read keys at, and how long after its deadline one may be there.
type reader struct {
	connect func() (*testkit.Client, error)
	late    time.Duration
}

// watchDeadlines reads all keys again and again and judges each reading by the
// instants between which it happened. Keys that go too early or come back it reports to
// always; those that stay too long to t, for a node that stands still is late.
func watchDeadlines(always, t testing.TB, stop *atomic.Bool, at reader, spans []lifeSpan) {
	t.Helper()
	const early = 250 * time.Millisecond
	var client *testkit.Client
	readings := 0
	for !stop.Load() {
		if client == nil {
			var err error
			if client, err = at.connect(); err != nil {
				time.Sleep(retryPause)
				continue
			}
		}
		for i := range spans {
			s := &spans[i]
			sent := testkit.Now()
			reply, err := client.Do("GET", s.key)
			got := testkit.Now()
			if err != nil {
				client.Close()
				client = nil
				break
			}
			readings++
			switch {
			case reply.Null && got < s.earliest-early:
				always.Errorf("%s was gone %v before its deadline", s.key, s.earliest-got)
			case !reply.Null && sent > s.latest+at.late:
				t.Errorf("%s was there %v after its deadline", s.key, sent-s.latest)
			case !reply.Null && s.seenGone && !s.resurrection:
				s.resurrection = true
				always.Errorf("%s came back", s.key)
			}
			s.seenGone = s.seenGone || reply.Null
		}
		time.Sleep(5 * time.Millisecond)
	}
	for _, s := range spans {
		if !s.seenGone {
			t.Errorf("%s was never seen gone", s.key)
		}
	}
	if client != nil {
		client.Close()
	}
	t.Logf("%d readings", readings)
}
