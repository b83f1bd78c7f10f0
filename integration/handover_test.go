package integration_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast/holdfast/internal/testkit"
)

// handoverGap is the longest time that a planned change of the master may keep all
// clients waiting. The short form leaves room for whatever else the machine does.
func handoverGap() time.Duration { return pick(500*time.Millisecond, 150*time.Millisecond) }

// handingOver tells a story of planned changes of the master, while workers count. An
// election that nobody planned ends connections: then commands fail, and go-redis executes
// those again that it has no answer to. So the short form tells the story again when it
// fails. A count that the master has lost is never excused, and one that was executed
// twice, or read too low, only if there was such an election or a change that took too long.
func handingOver(t *testing.T, story func(t testing.TB, c *testkit.Cluster, j *counting)) {
	t.Helper()
	test := t
	testkit.Tries(t, pick(4, 1), func(t testing.TB) {
		c := start(t, testkit.ClusterOptions{})
		term := termOf(t, c.Nodes[c.WaitWhole(formLimit)])
		j := startCounting(t, test, c, 8)
		story(t, c, j)
		j.end()
		now := termOf(t, c.Nodes[c.WaitMaster(formLimit)])
		t.Logf("from term %d to %d in %d planned changes", term, now, j.planned)
		if now != term+j.planned || j.slow {
			j.judge(t, t, c)
			return
		}
		j.judge(t, test, c)
	})
}

// P8: SIGTERM of the master under load fails no command of go-redis's failover client
// with its default retries, and executes none twice.
func TestStoppedMasterHandsOver(t *testing.T) {
	handingOver(t, func(t testing.TB, c *testkit.Cluster, j *counting) {
		for range pick(3, 20) {
			j.soon(t, func() time.Duration { return j.stopped(t, c) })
		}
		c.WaitWhole(formLimit)
	})
}

// stopped has the master stop, and start again when another has taken over, and returns
// how long nobody was answered.
func (j *counting) stopped(t testing.TB, c *testkit.Cluster) time.Duration {
	t.Helper()
	old := c.WaitWhole(formLimit)
	j.settle(t)
	at, told := testkit.Now(), c.Nodes[old].LogLines("handed over")
	if code := c.Nodes[old].Term(15 * time.Second); code != 0 {
		t.Errorf("the old master ended with code %d", code)
	}
	ended := testkit.Now()
	j.settle(t)
	if next := c.WaitMaster(formLimit); next == old {
		t.Error("the old master is master")
	}
	if c.Nodes[old].LogLines("handed over") == told {
		t.Error("there was no handover")
	}
	gap := j.gap(at)
	t.Logf("stopped after %v, no command was answered for %v, the slowest took %v",
		(ended - at).Round(time.Millisecond), gap.Round(time.Millisecond), j.slowest(at).Round(time.Millisecond))
	c.Nodes[old].Start()
	return gap
}

// P8: so do SENTINEL FAILOVER, asked of any node, and FAILOVER to a certain node; the
// old master stays as a replica.
func TestFailoverCommandsHandOver(t *testing.T) {
	handingOver(t, func(t testing.TB, c *testkit.Cluster, j *counting) {
		for round := range pick(3, 12) {
			j.soon(t, func() time.Duration { return j.failedOver(t, c, round%3) })
		}
		c.WaitWhole(formLimit)
	})
}

// failedOver has the master changed by one of the commands for that.
func (j *counting) failedOver(t testing.TB, c *testkit.Cluster, command int) time.Duration {
	t.Helper()
	old := c.WaitWhole(formLimit)
	target := (old + 1) % len(c.Nodes)
	if command != 0 {
		target = -1
	}
	return j.change(t, c, old, target, func() {
		switch command {
		case 0:
			testkit.MustDial(t, c.Nodes[old].Addr()).MustDo(t, "FAILOVER", "TO", "127.0.0.1", strconv.Itoa(c.Nodes[target].Port))
		case 1:
			testkit.MustDial(t, c.Nodes[(old+1)%len(c.Nodes)].SentinelAddr()).MustDo(t, "SENTINEL", "FAILOVER", testkit.MasterName)
		default:
			testkit.MustDial(t, c.Nodes[old].SentinelAddr()).MustDo(t, "SENTINEL", "FAILOVER", testkit.MasterName)
		}
	})
}

// P8: so does RAFT TRANSFER to each node in turn; when it answers the node that it names
// is master.
func TestTransferToEachNode(t *testing.T) {
	handingOver(t, func(t testing.TB, c *testkit.Cluster, j *counting) {
		for range pick(4, 12) {
			j.soon(t, func() time.Duration {
				old := c.WaitWhole(formLimit)
				target := (old + 1) % len(c.Nodes)
				return j.change(t, c, old, target, func() {
					testkit.MustDial(t, c.Nodes[old].Addr()).MustDo(t, "RAFT", "TRANSFER", c.Nodes[target].ID)
					if role, err := testkit.Role(c.Nodes[target].Addr()); err != nil || role != "master" {
						t.Errorf("%v: after RAFT TRANSFER the node says it is %s", err, role)
					}
				})
			})
		}
		c.WaitWhole(formLimit)
	})
}

// P8: a node that hangs is not waited for at the expense of clients: the handover to it
// is given up, and no command fails. If it hangs at the very moment in which it stands
// for election, which cannot be told before, that costs as much as a crash.
func TestHandoverToAHungNodeIsGivenUp(t *testing.T) {
	handingOver(t, func(t testing.TB, c *testkit.Cluster, j *counting) {
		old := c.WaitWhole(formLimit)
		j.settle(t)
		m := testkit.MustDial(t, c.Nodes[old].Addr())
		target := c.Nodes[(old+1)%len(c.Nodes)]
		at := testkit.Now()
		target.Signal(syscall.SIGSTOP)
		defer target.Signal(syscall.SIGCONT)
		if r, err := m.Do("RAFT", "TRANSFER", target.ID); err == nil {
			t.Errorf("RAFT TRANSFER to a node that hangs answers %v", r)
		} else {
			t.Logf("after %v: %v", (testkit.Now() - at).Round(time.Millisecond), err)
		}
		j.settle(t)
		if gap := j.gap(at); gap > 2*time.Second {
			t.Errorf("no command was answered for %v", gap)
		}
		target.Signal(syscall.SIGCONT)
		c.WaitWhole(formLimit)
	})
}

// P8: a master that is to be removed hands over first: it answers when it is out of the
// cluster, and stops.
func TestRemovedMasterHandsOver(t *testing.T) {
	handingOver(t, func(t testing.TB, c *testkit.Cluster, j *counting) {
		old := c.WaitWhole(formLimit)
		node := c.Nodes[old]
		j.planned++
		gap := j.change(t, c, old, -1, func() {
			testkit.MustDial(t, node.Addr()).MustDo(t, "RAFT", "REMOVE", node.ID)
		})
		if j.slow = gap > handoverGap(); j.slow {
			t.Errorf("no command was answered for %v, want at most %v", gap, handoverGap())
		}
		if code := node.WaitExit(30 * time.Second); code <= 0 {
			t.Errorf("exit code %d, want one above 0", code)
		}
		for _, words := range []string{"handed over", "removed from its cluster"} {
			if !node.LogContains(words) {
				t.Errorf("the removed node does not say %q", words)
			}
		}
		c.Nodes = slices.Delete(slices.Clone(c.Nodes), old, old+1)
		waitVoters(t, c.Nodes...)
		j.settle(t)
	})
}

// soon has the master changed once, which tells how long nobody was answered, and judges
// that. As the machine may stand still at that moment, the short form lets it be changed up
// to three times.
func (j *counting) soon(t testing.TB, once func() time.Duration) {
	t.Helper()
	for left := pick(2, 0); ; left-- {
		j.planned++
		gap := once()
		switch {
		case gap <= handoverGap():
			return
		case left == 0:
			t.Errorf("no command was answered for %v, want at most %v", gap, handoverGap())
			return
		}
		j.slow = true
		t.Logf("no command was answered for %v: once more", gap)
	}
}

// change has the master changed by ask while the work goes on, and returns how long nobody
// was answered. target is the node to become master, -1 for any but old.
func (j *counting) change(t testing.TB, c *testkit.Cluster, old, target int, ask func()) time.Duration {
	t.Helper()
	j.settle(t)
	at := testkit.Now()
	ask()
	testkit.Eventually(t, 15*time.Second, "another master", func() error {
		next, err := c.FindMaster()
		return errors.Join(err, testkit.Check(err != nil || next != old && (target < 0 || next == target), "%d is master", next))
	})
	j.settle(t)
	gap := j.gap(at)
	t.Logf("no command was answered for %v, the slowest took %v", gap.Round(time.Millisecond), j.slowest(at).Round(time.Millisecond))
	return gap
}

// counting is workers that each count in a key of their own with go-redis's failover
// client, and read, and count in transactions.
type counting struct {
	test   testing.TB // hears of counts that were lost
	client *redis.Client
	stop   atomic.Bool
	wait   sync.WaitGroup
	total  atomic.Int64

	mu     sync.Mutex
	errs   []string
	wrong  []string        // counts that were executed twice, or read from a replica
	done   []time.Duration // when commands were answered
	took   []time.Duration // and how long each had taken
	counts map[string]int64
	doubts map[string]bool // whether a command of a key has failed

	planned int  // how often the master was to change
	slow    bool // a change took too long
}

func startCounting(t, test testing.TB, c *testkit.Cluster, workers int) *counting {
	t.Helper()
	j := &counting{test: test, counts: map[string]int64{}, doubts: map[string]bool{}}
	j.client = redis.NewFailoverClient(&redis.FailoverOptions{MasterName: testkit.MasterName, SentinelAddrs: c.Sentinels()})
	for i := range workers {
		j.wait.Go(func() { j.work(fmt.Sprintf("count:%d", i)) })
	}
	t.Cleanup(func() {
		j.end()
		_ = j.client.Close()
	})
	return j
}

// end ends the work.
func (j *counting) end() {
	j.stop.Store(true)
	j.wait.Wait()
}

func (j *counting) work(key string) {
	var count int64
	doubt := false
	for n := 0; !j.stop.Load(); n++ {
		began := testkit.Now()
		want, next, err := j.step(key, n, count)
		j.answered(began, err)
		low := err == nil && next < want || errors.Is(err, redis.Nil) && count > 0
		text := fmt.Sprintf("step %d of %s got %d, want %d", n%4, key, next, want)
		switch {
		case low && n%4 == readStep:
			j.saw(text)
		case low:
			j.test.Errorf("lost: %s", text)
		case err == nil && next > want && !doubt:
			j.saw(text)
		}
		if err == nil {
			count = next
		}
		doubt = doubt || err != nil // what failed may be executed later
		time.Sleep(time.Millisecond)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts[key], j.doubts[key] = count, doubt
}

// saw takes note of a wrong count.
func (j *counting) saw(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.wrong = append(j.wrong, text)
}

// readStep is the step of each four that reads.
const readStep = 2

// step does one thing and returns what the count should be after it, and what it is.
func (j *counting) step(key string, n int, count int64) (want, next int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	want = count
	switch n % 4 {
	case 0, 1:
		want++
		next, err = j.client.Incr(ctx, key).Result()
	case readStep:
		next, err = j.client.Get(ctx, key).Int64()
	default:
		want++
		var incr *redis.IntCmd
		_, err = j.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
			incr = p.Incr(ctx, key)
			p.Get(ctx, key)
			return nil
		})
		next = incr.Val()
	}
	if err != nil {
		err = fmt.Errorf("step %d of %s: %w", n%4, key, err)
	}
	return want, next, err
}

func (j *counting) answered(began time.Duration, err error) {
	at := testkit.Now()
	j.mu.Lock()
	defer j.mu.Unlock()
	if err != nil {
		j.errs = append(j.errs, err.Error())
		return
	}
	j.done, j.took = append(j.done, at), append(j.took, at-began)
	j.total.Add(1)
}

// settle waits until a while of work has been done.
func (j *counting) settle(t testing.TB) {
	t.Helper()
	from := j.total.Load()
	testkit.Eventually(t, 20*time.Second, "work", func() error {
		return testkit.Check(j.total.Load() > from+300, "%d of 300 commands", j.total.Load()-from)
	})
}

// gap is the longest time after at in which nothing was answered.
func (j *counting) gap(at time.Duration) time.Duration {
	j.mu.Lock()
	defer j.mu.Unlock()
	slices.Sort(j.done)
	var longest time.Duration
	last := at
	for _, d := range j.done {
		if d > at {
			longest, last = max(longest, d-last), d
		}
	}
	return longest
}

// slowest is the longest time that a command took which was answered after at.
func (j *counting) slowest(at time.Duration) (longest time.Duration) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, d := range j.took[len(j.took)-min(len(j.took), j.since(at)):] {
		longest = max(longest, d)
	}
	return longest
}

// since is how many commands were answered after at.
func (j *counting) since(at time.Duration) (n int) {
	for _, d := range j.done {
		if d > at {
			n++
		}
	}
	return n
}

// judge wants, after end, no error and every counter to be what its worker has counted. The
// test is told of wrong counts.
func (j *counting) judge(t, test testing.TB, c *testkit.Cluster) {
	t.Helper()
	t.Logf("%d commands answered, %d failed", j.total.Load(), len(j.errs))
	for _, e := range j.errs[:min(len(j.errs), 10)] {
		t.Errorf("a command failed: %s", e)
	}
	for key, count := range j.counts {
		got := atMaster(t, c, "GET", key).Int()
		if got < count {
			j.test.Errorf("lost: %s is %d, want %d", key, got, count)
		} else if got > count && !j.doubts[key] {
			j.saw(fmt.Sprintf("%s is %d, want %d", key, got, count))
		}
	}
	for _, text := range j.wrong[:min(len(j.wrong), 10)] {
		test.Errorf("a wrong count: %s", text)
	}
}
