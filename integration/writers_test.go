package integration_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// retryPause keeps clients without a master from taking the processors away from
// the nodes that elect one.
const retryPause = 2 * time.Millisecond

// writers are clients that each write one new key after the other and remember
// what was acknowledged. They retry at once with the next key.
type writers struct {
	prefix string
	all    []*writer
	stop   atomic.Bool
	wait   sync.WaitGroup
}

// writer is one of them. Its fields are the goroutine's until it has ended.
type writer struct {
	key     string
	tried   int
	unknown map[int]bool    // tried, but not acknowledged
	acks    []time.Duration // when the acknowledgements came
	refused int
	errors  map[string]int // by text
}

// startWriters starts n of them, which follow the master; keys begin with the prefix.
func startWriters(t testing.TB, c *testkit.Cluster, n int, prefix string) *writers {
	t.Helper()
	return startWritersBy(t, n, prefix, func(int) commander { return testkit.NewFollower(c.Sentinels(), time.Second) })
}

// startWritersBy is startWriters for clients of any kind, made by their numbers.
func startWritersBy(t testing.TB, n int, prefix string, dial func(i int) commander) *writers {
	t.Helper()
	ws := &writers{prefix: prefix}
	for i := range n {
		w := &writer{key: fmt.Sprintf("%s:%d:", prefix, i), unknown: map[int]bool{}, errors: map[string]int{}}
		ws.all = append(ws.all, w)
		ws.wait.Go(func() { w.run(&ws.stop, dial(i)) })
	}
	t.Cleanup(ws.end)
	return ws
}

func (w *writer) run(stop *atomic.Bool, f commander) {
	defer f.Close()
	for !stop.Load() {
		if err := f.Connect(); err != nil {
			w.errors[err.Error()]++
			time.Sleep(retryPause)
			continue
		}
		w.tried++
		_, outcome, err := f.Do("SET", w.key+strconv.Itoa(w.tried), strconv.Itoa(w.tried))
		if err == nil {
			w.acks = append(w.acks, testkit.Now())
			continue
		}
		w.errors[err.Error()]++
		w.unknown[w.tried] = true
		if outcome == testkit.Refused {
			w.refused++
			time.Sleep(retryPause)
		}
	}
}

// end stops them and waits until they have stopped.
func (ws *writers) end() {
	ws.stop.Store(true)
	ws.wait.Wait()
}

// acknowledged is how many writes were, after end.
func (ws *writers) acknowledged() int {
	n := 0
	for _, w := range ws.all {
		n += len(w.acks)
	}
	return n
}

// verify reports every acknowledged write that the client does not find, after end.
func (ws *writers) verify(t testing.TB, c asker) {
	t.Helper()
	lost := 0
	for _, w := range ws.all {
		for n, value := range readAll(t, c, w.key, w.tried) {
			if value == strconv.Itoa(n) || w.unknown[n] && value == "" {
				continue
			}
			if lost++; lost <= 10 {
				t.Errorf("acknowledged write %s%d is lost: its key holds %q", w.key, n, value)
			}
		}
	}
	if lost > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", lost, ws.acknowledged())
	}
}

// readAll is what the keys prefix1 … prefixN hold, by number; a missing one is "".
func readAll(t testing.TB, c asker, prefix string, n int) map[int]string {
	t.Helper()
	const atOnce = 1000
	found := make(map[int]string, n)
	for first := 1; first <= n; first += atOnce {
		args := []string{"MGET"}
		last := min(first+atOnce-1, n)
		for i := first; i <= last; i++ {
			args = append(args, prefix+strconv.Itoa(i))
		}
		for i, value := range c.MustDo(t, args...).Strings() {
			found[first+i] = value
		}
	}
	return found
}

// gaps are the longest time without any acknowledgement after the instant, over
// all writers together and for the writer that fared worst, after end. A writer
// without an acknowledgement afterwards counts as waiting until now.
func (ws *writers) gaps(after time.Duration) (all, worst time.Duration) {
	var merged []time.Duration
	for _, w := range ws.all {
		merged = append(merged, w.acks...)
		worst = max(worst, longestGap(w.acks, after))
	}
	slices.Sort(merged)
	return longestGap(merged, after), worst
}

// longestGap is the longest distance between neighbours of which the later is
// after the instant.
func longestGap(acks []time.Duration, after time.Duration) time.Duration {
	longest := time.Duration(0)
	last := after
	for _, at := range acks {
		if at > after {
			longest = max(longest, at-last)
		}
		last = max(at, after)
	}
	if len(acks) == 0 || acks[len(acks)-1] < after {
		return testkit.Now() - after
	}
	return longest
}

// failures shows what errors the writers met, after end.
func (ws *writers) failures() map[string]int {
	sum := map[string]int{}
	for _, w := range ws.all {
		for text, n := range w.errors {
			sum[text] += n
		}
	}
	return sum
}

// Gaps are measured from the instant of the fault, between any two successes, and
// to the present when no success followed.
func TestLongestGap(t *testing.T) {
	ms := func(list ...int) (out []time.Duration) {
		for _, n := range list {
			out = append(out, time.Duration(n)*time.Millisecond)
		}
		return out
	}
	for _, k := range []struct {
		acks []time.Duration
		want time.Duration
	}{
		{ms(10, 90, 110, 400, 410), 290 * time.Millisecond},
		{ms(10, 300, 310), 200 * time.Millisecond},
		{ms(150, 900), 750 * time.Millisecond},
	} {
		if got := longestGap(k.acks, 100*time.Millisecond); got != k.want {
			t.Errorf("gap in %v is %v, want %v", k.acks, got, k.want)
		}
	}
	for _, acks := range [][]time.Duration{nil, ms(50)} {
		if got := longestGap(acks, 100*time.Millisecond); got < time.Second {
			t.Errorf("without a success afterwards the gap is %v, want until now", got)
		}
	}
}
