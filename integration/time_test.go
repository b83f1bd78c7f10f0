package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// skewCluster prepares a cluster whose wall clocks can be shifted. None is started.
func skewCluster(t testing.TB) *testkit.Cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	return testkit.NewCluster(t, testkit.ClusterOptions{Tags: []string{"faults"}})
}

// shiftWall has a node's wall clock run ahead of the machine's, now if it runs and
// else from its start on.
func shiftWall(t testing.TB, n *testkit.Node, ahead time.Duration) {
	t.Helper()
	if err := os.MkdirAll(n.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(n.DataDir, "faults.json")
	plan := fmt.Sprintf(`{"wall_offset_ms":%d}`, ahead.Milliseconds())
	if err := os.WriteFile(file+".new", []byte(plan), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// fetched is what a URL is answered with.
func fetched(ctx context.Context, url string) (status int, text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// gauge is the value of a line of a node's metrics page.
func gauge(t testing.TB, n *testkit.Node, name string) (float64, error) {
	t.Helper()
	status, text, err := fetched(t.Context(), n.MetricsURL()+"/metrics")
	if err != nil || status != http.StatusOK {
		return 0, fmt.Errorf("/metrics answers %d, %w", status, err)
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("there is no %s", name)
}

// wantGauge waits until a metric is within a second of what it should be.
func wantGauge(t testing.TB, n *testkit.Node, name string, want float64) {
	t.Helper()
	testkit.Eventually(t, 15*time.Second, n.ID+" has "+name, func() error {
		got, err := gauge(t, n, name)
		return errors.Join(err, testkit.Check(got > want-1 && got < want+1, "%s is %v, want %v", name, got, want))
	})
}

// wantWarning waits until a node has warned of another's wall clock, or its own.
func wantWarning(t testing.TB, by *testkit.Node, of string) {
	t.Helper()
	testkit.Eventually(t, 15*time.Second, by.ID+" warns of the clock of "+of, func() error {
		text, err := os.ReadFile(by.LogFile())
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "far from cluster time") && strings.Contains(line, of) {
				return nil
			}
		}
		return errors.New("it has not")
	})
}

// wantTrueTime checks that TIME is the time of this machine.
func wantTrueTime(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	const most = 250 * time.Millisecond
	m := insist(t, c)
	before := time.Now()
	at := m.MustDo(t, "TIME")
	after := time.Now()
	seconds, _ := strconv.ParseInt(string(at.Elems[0].Text), 10, 64)
	micros, _ := strconv.ParseInt(string(at.Elems[1].Text), 10, 64)
	if told := time.Unix(seconds, micros*1000); told.Before(before.Add(-most)) || told.After(after.Add(most)) {
		t.Errorf("TIME is %v from the right time", told.Sub(before))
	}
}

// becomeMaster kills masters until a node is one itself.
func becomeMaster(t testing.TB, c *testkit.Cluster, i int) {
	t.Helper()
	for range 20 {
		now := c.WaitWhole(formLimit)
		if now == i {
			return
		}
		c.Nodes[now].Kill9()
		c.WaitMaster(formLimit)
		c.Nodes[now].Start()
	}
	t.Fatalf("%s is not elected", c.Nodes[i].ID)
}

// spreadUntil writes n keys whose deadlines are given as instants by true time.
func spreadUntil(t testing.TB, c *testkit.Cluster, n int, shortest, longest time.Duration) []lifeSpan {
	t.Helper()
	m := insist(t, c)
	spans := make([]lifeSpan, n)
	for i := range spans {
		life := shortest + (longest-shortest)*time.Duration(i)/time.Duration(n)
		key := fmt.Sprintf("until:%d", i)
		sent := testkit.Now()
		end := time.Now().Add(life).UnixMilli()
		spans[i] = lifeSpan{key: key, earliest: sent + life, latest: testkit.Now() + life}
		m.MustDo(t, "SET", key, "here", "PXAT", strconv.FormatInt(end, 10))
	}
	return spans
}

// observed watches keys on whoever is master until all of them should be gone, while
// act does something to the cluster. It reports as watchDeadlines does.
func observed(always, t testing.TB, c *testkit.Cluster, spans []lifeSpan, act func()) {
	t.Helper()
	var stop atomic.Bool
	var wait sync.WaitGroup
	defer func() {
		stop.Store(true)
		wait.Wait()
	}()
	wait.Go(func() { watchDeadlines(always, t, &stop, reader{masterOf(c), 250 * time.Millisecond}, spans) })
	act()
	for _, s := range spans {
		time.Sleep(s.latest + time.Second - testkit.Now())
	}
}

// P4: a node whose wall clock is an hour off from its start is no different a master
// from others: sessions of the master before it end on time, and its own do; instants
// by true time are kept. Metrics and warnings tell of the clock.
func TestMasterWithAWrongWallClock(t *testing.T) {
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		t.Run(off.String(), func(t *testing.T) {
			testkit.Tries(t, mostTold(), func(try testing.TB) { masterOff(t, try, off) })
		})
	}
}

func masterOff(always, t testing.TB, off time.Duration) {
	t.Helper()
	c := skewCluster(t)
	shiftWall(t, c.Nodes[0], off)
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitWhole(formLimit)
	wantTrueTime(t, c)
	spans := spread(t, c, pick(50, 500), 6*time.Second, 14*time.Second)
	observed(always, t, c, spans, func() {
		becomeMaster(t, c, 0)
		wantTrueTime(t, c)
		wantGauge(t, c.Nodes[0], "holdfast_clock_skew_seconds", off.Seconds())
		wantGauge(t, c.Nodes[1], `holdfast_peer_clock_skew_seconds{peer="n1"}`, off.Seconds())
		wantGauge(t, c.Nodes[1], "holdfast_clock_skew_seconds", 0)
		wantWarning(t, c.Nodes[0], "n1")
	})
	own := append(spread(t, c, 20, time.Second, 3*time.Second), spreadUntil(t, c, 20, time.Second, 3*time.Second)...)
	observed(always, t, c, own, func() {})
	wantGauge(t, c.Nodes[0], "holdfast_clock_steps_total", 0)
}

// P4: steps of an hour, forward and back, that hit the wall clocks of all nodes in
// turn, the master's included, move no deadline.
func TestStepsOfWallClocksMoveNoDeadline(t *testing.T) {
	testkit.Tries(t, mostTold(), func(try testing.TB) { stepWallClocks(t, try) })
}

func stepWallClocks(always, t testing.TB) {
	t.Helper()
	c := skewCluster(t)
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitWhole(formLimit)
	hold := pick(time.Second, 10*time.Second)
	spans := append(spread(t, c, 60, time.Second, 8*hold), spreadUntil(t, c, 60, time.Second, 8*hold)...)
	observed(always, t, c, spans, func() {
		for _, n := range c.Nodes {
			for _, off := range []time.Duration{time.Hour, -time.Hour, 0} {
				shiftWall(t, n, off)
				time.Sleep(hold)
				wantTrueTime(t, c)
			}
		}
	})
	for _, n := range c.Nodes {
		wantWarning(t, n, n.ID)
		wantGauge(t, n, "holdfast_clock_steps_total", 0)
		wantGauge(t, n, "holdfast_clock_agreement", 1)
	}
}

// P4: when all nodes start anew, the time they were down counts by the median of their
// wall clocks, whoever becomes master: one that is an hour off, ahead or behind, counts
// for nothing.
func TestRestartOfAllFollowsTheMedian(t *testing.T) {
	testkit.Tries(t, mostTold(), func(try testing.TB) { restartAll(t, try) })
}

func restartAll(always, t testing.TB) {
	t.Helper()
	c := skewCluster(t)
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitWhole(formLimit)
	for _, off := range []time.Duration{time.Hour, -time.Hour} {
		spans := spread(t, c, pick(20, 200), 7*time.Second, 12*time.Second)
		for _, n := range c.Nodes {
			n.Kill9()
		}
		shiftWall(t, c.Nodes[0], off)
		time.Sleep(2 * time.Second)
		c.Nodes[0].Start()
		time.Sleep(400 * time.Millisecond) // it is the first to ask for votes, as a rule
		for _, n := range c.Nodes[1:] {
			n.Start()
		}
		t.Logf("the master after the restart is %s", c.Nodes[c.WaitWhole(formLimit)].ID)
		wantTrueTime(t, c)
		observed(always, t, c, spans, func() {})
		shiftWall(t, c.Nodes[0], 0)
	}
}

// P4: a majority of wall clocks that agrees for a minute is followed, forward in one
// step; that is told by a warning and a metric.
func TestAgreedStepIsFollowedAfterAMinute(t *testing.T) {
	if !long() {
		t.Skip("takes more than a minute")
	}
	c := skewCluster(t)
	for _, n := range c.Nodes {
		n.Start()
	}
	i := c.WaitWhole(formLimit)
	for _, n := range c.Nodes[:2] {
		shiftWall(t, n, 10*time.Second)
	}
	time.Sleep(50 * time.Second)
	wantTrueTime(t, c)
	time.Sleep(15 * time.Second)
	wantGauge(t, c.Nodes[2], "holdfast_clock_skew_seconds", -10)
	wantGauge(t, c.Nodes[0], "holdfast_clock_skew_seconds", 0)
	wantGauge(t, c.Nodes[i], "holdfast_clock_steps_total", 1)
	text, err := os.ReadFile(c.Nodes[i].LogFile())
	if err != nil || !strings.Contains(string(text), "cluster time steps to") {
		t.Errorf("no warning, %v", err)
	}
}
