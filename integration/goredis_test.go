package integration_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast/holdfast/internal/testkit"
)

// P1, P8: go-redis's failover client does the same job as the other libraries.
func TestGoRedisFollowsTheMaster(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: testkit.MasterName, SentinelAddrs: c.Sentinels()})
	t.Cleanup(func() { _ = client.Close() })
	job := &goRedisJob{client: client}
	const workers = 4
	var wait sync.WaitGroup
	for i := range workers {
		wait.Go(func() { job.work(fmt.Sprintf("go-redis:%d:", i)) })
	}
	testkit.Eventually(t, formLimit, "first writes", job.moreThan(50))
	node := c.Nodes[c.WaitMaster(formLimit)]
	killed := testkit.Now()
	node.Kill9()
	testkit.Eventually(t, formLimit, "writes after the kill", job.moreThan(job.acknowledged.Load()+100))
	node.Start()
	c.WaitWhole(formLimit)
	job.stop.Store(true)
	wait.Wait()

	ws := &writers{all: job.done}
	all, worst := ws.gaps(killed)
	t.Logf("%d writes acknowledged, without any for %v, worst worker %v, failures %v", ws.acknowledged(), all, worst, ws.failures())
	ws.verify(t, master(t, c))
	if n := job.wrongReads.Load(); n > 0 {
		t.Errorf("%d reads did not show what had just been written", n)
	}
	if all > goRedisGap {
		t.Errorf("longest time without a successful write is %v, want at most %v", all, goRedisGap)
	}
}

// goRedisGap bounds what the failover and the library take together. If the Sentinel it
// talks to dies with the master, go-redis tries that one four times, with five dials
// 100 ms apart each time, before it asks another: 2.5 s that no server can shorten. The
// short form has room for a machine that stands still meanwhile.
var goRedisGap = pick(8*time.Second, 5*time.Second)

// goRedisJob is workers that write one new key after the other.
type goRedisJob struct {
	client       *redis.Client
	stop         atomic.Bool
	acknowledged atomic.Int64
	wrongReads   atomic.Int64

	mu   sync.Mutex
	done []*writer // guarded by mu
}

func (j *goRedisJob) work(prefix string) {
	w := &writer{key: prefix, unknown: map[int]bool{}, errors: map[string]int{}}
	for !j.stop.Load() {
		w.tried++
		key, value := prefix+strconv.Itoa(w.tried), strconv.Itoa(w.tried)
		if err := j.write(key, value); err != nil {
			w.unknown[w.tried] = true
			w.errors[err.Error()]++
		} else {
			w.acks = append(w.acks, testkit.Now())
			j.acknowledged.Add(1)
			j.read(key, value)
		}
		time.Sleep(4 * time.Millisecond)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.done = append(j.done, w)
}

func (j *goRedisJob) write(key, value string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return j.client.Set(ctx, key, value, 0).Err()
}

// read counts an answer that is not what was written; none at all proves nothing.
func (j *goRedisJob) read(key, value string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	got, err := j.client.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) || err == nil && got != value {
		j.wrongReads.Add(1)
	}
}

func (j *goRedisJob) moreThan(n int64) func() error {
	return func() error {
		got := j.acknowledged.Load()
		return testkit.Check(got > n, "%d writes acknowledged", got)
	}
}
