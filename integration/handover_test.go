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

// P8: SIGTERM of the master under load fails no command of go-redis's failover client
// with its default retries, and executes none twice.
func TestStoppedMasterHandsOver(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	j := startCounting(t, c, 8)
	for round := range pick(3, 20) {
		old := c.WaitWhole(formLimit)
		j.settle(t)
		at, told := testkit.Now(), c.Nodes[old].LogLines("handed over")
		if code := c.Nodes[old].Term(5 * time.Second); code != 0 {
			t.Errorf("round %d: the old master ended with code %d", round, code)
		}
		ended := testkit.Now()
		j.settle(t)
		if next, err := c.FindMaster(); err != nil || next == old {
			t.Errorf("round %d: %v, master is %d", round, err, next)
		}
		if c.Nodes[old].LogLines("handed over") == told {
			t.Errorf("round %d: there was no handover", round)
		}
		t.Logf("round %d: stopped after %v, no command was answered for %v, the slowest took %v",
			round, (ended - at).Round(time.Millisecond), j.gap(at).Round(time.Millisecond), j.slowest(at).Round(time.Millisecond))
		if gap := j.gap(at); gap > handoverGap() {
			t.Errorf("round %d: no command was answered for %v, want at most %v", round, gap, handoverGap())
		}
		c.Nodes[old].Start()
	}
	c.WaitWhole(formLimit)
	j.finish(t, c)
}

// P8: so do SENTINEL FAILOVER, asked of any node, and FAILOVER to a certain node; the
// old master stays as a replica.
func TestFailoverCommandsHandOver(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	j := startCounting(t, c, 8)
	for round := range pick(3, 12) {
		old := c.WaitWhole(formLimit)
		target := (old + 1) % len(c.Nodes)
		if round%3 != 0 {
			target = -1
		}
		j.change(t, c, old, target, func() {
			switch round % 3 {
			case 0:
				testkit.MustDial(t, c.Nodes[old].Addr()).MustDo(t, "FAILOVER", "TO", "127.0.0.1", strconv.Itoa(c.Nodes[target].Port))
			case 1:
				testkit.MustDial(t, c.Nodes[(old+1)%len(c.Nodes)].SentinelAddr()).MustDo(t, "SENTINEL", "FAILOVER", testkit.MasterName)
			default:
				testkit.MustDial(t, c.Nodes[old].SentinelAddr()).MustDo(t, "SENTINEL", "FAILOVER", testkit.MasterName)
			}
		})
	}
	c.WaitWhole(formLimit)
	j.finish(t, c)
}

// P8: so does RAFT TRANSFER to each node in turn; when it answers the node that it names
// is master.
func TestTransferToEachNode(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	j := startCounting(t, c, 8)
	for range pick(4, 12) {
		old := c.WaitWhole(formLimit)
		target := (old + 1) % len(c.Nodes)
		j.change(t, c, old, target, func() {
			testkit.MustDial(t, c.Nodes[old].Addr()).MustDo(t, "RAFT", "TRANSFER", c.Nodes[target].ID)
			if role, err := testkit.Role(c.Nodes[target].Addr()); err != nil || role != "master" {
				t.Errorf("%v: after RAFT TRANSFER the node says it is %s", err, role)
			}
		})
	}
	c.WaitWhole(formLimit)
	j.finish(t, c)
}

// P8: a node that hangs is not waited for at the expense of clients: the handover to it
// is given up, and no command fails. If it hangs at the very moment in which it stands
// for election, which cannot be told before, that costs as much as a crash.
func TestHandoverToAHungNodeIsGivenUp(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	j := startCounting(t, c, 8)
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
	j.finish(t, c)
}

// P8: a master that is to be removed hands over first: it answers when it is out of the
// cluster, and stops.
func TestRemovedMasterHandsOver(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	j := startCounting(t, c, 8)
	old := c.WaitWhole(formLimit)
	node := c.Nodes[old]
	j.change(t, c, old, -1, func() {
		testkit.MustDial(t, node.Addr()).MustDo(t, "RAFT", "REMOVE", node.ID)
	})
	if code := node.WaitExit(10 * time.Second); code <= 0 {
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
	j.finish(t, c)
}

// change has the master changed by ask while the work goes on, and judges how long
// nobody was answered. target is the node to become master, -1 for any but old.
func (j *counting) change(t testing.TB, c *testkit.Cluster, old, target int, ask func()) {
	t.Helper()
	j.settle(t)
	at := testkit.Now()
	ask()
	testkit.Eventually(t, 5*time.Second, "another master", func() error {
		next, err := c.FindMaster()
		return errors.Join(err, testkit.Check(err != nil || next != old && (target < 0 || next == target), "%d is master", next))
	})
	j.settle(t)
	gap := j.gap(at)
	t.Logf("no command was answered for %v, the slowest took %v", gap.Round(time.Millisecond), j.slowest(at).Round(time.Millisecond))
	if gap > handoverGap() {
		t.Errorf("no command was answered for %v, want at most %v", gap, handoverGap())
	}
}

// counting is workers that each count in a key of their own with go-redis's failover
// client, and read, and count in transactions.
type counting struct {
	client *redis.Client
	stop   atomic.Bool
	wait   sync.WaitGroup
	total  atomic.Int64

	mu     sync.Mutex
	errs   []string
	done   []time.Duration // when commands were answered
	took   []time.Duration // and how long each had taken
	counts map[string]int64
}

func startCounting(t testing.TB, c *testkit.Cluster, workers int) *counting {
	t.Helper()
	j := &counting{counts: map[string]int64{}}
	j.client = redis.NewFailoverClient(&redis.FailoverOptions{MasterName: testkit.MasterName, SentinelAddrs: c.Sentinels()})
	for i := range workers {
		j.wait.Go(func() { j.work(fmt.Sprintf("count:%d", i)) })
	}
	t.Cleanup(func() {
		j.stop.Store(true)
		j.wait.Wait()
		_ = j.client.Close()
	})
	return j
}

func (j *counting) work(key string) {
	var count int64
	for n := 0; !j.stop.Load(); n++ {
		began := testkit.Now()
		next, err := j.step(key, n, count)
		j.answered(began, err)
		if next != 0 {
			count = next
		}
		time.Sleep(time.Millisecond)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.counts[key] = count
}

// step does one thing and returns the count after it.
func (j *counting) step(key string, n int, count int64) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var next int64
	var err error
	want := count
	switch n % 4 {
	case 0, 1:
		want++
		next, err = j.client.Incr(ctx, key).Result()
	case 2:
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
		return next, fmt.Errorf("step %d: %w", n%4, err)
	}
	if next != want {
		err = fmt.Errorf("step %d of %s: got %d, want %d", n%4, key, next, want)
	}
	return next, err
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

// finish ends the work and wants no error, and every counter to be what its worker
// has counted.
func (j *counting) finish(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	j.stop.Store(true)
	j.wait.Wait()
	j.mu.Lock()
	defer j.mu.Unlock()
	t.Logf("%d commands answered, %d failed", j.total.Load(), len(j.errs))
	for _, e := range j.errs[:min(len(j.errs), 10)] {
		t.Errorf("a command failed: %s", e)
	}
	m := master(t, c)
	for key, count := range j.counts {
		if got := m.MustDo(t, "GET", key); string(got.Text) != strconv.FormatInt(count, 10) {
			t.Errorf("%s is %s, want %d", key, got.Text, count)
		}
	}
}
