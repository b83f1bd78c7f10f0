package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// P1, P6: with a million keys of 512 bytes (fewer in the short form) a node that
// was killed serves again within 15 s, and one that was down during 200,000
// writes catches up and holds the same.
func TestRestartAndCatchUpWithManyKeys(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	keys, missed := pick(150_000, 1_000_000), pick(50_000, 200_000)
	took := fill(t, c, "key:", keys)
	t.Logf("%d keys written in %v", keys, took.Round(time.Millisecond))

	follower := c.Nodes[(c.WaitWhole(formLimit)+1)%3]
	testkit.Tries(t, mostTold(), func(t testing.TB) {
		follower.Kill9()
		t.Logf("replica of %d keys ready %v after its start", keys, readyAfter(t, follower, 15*time.Second))
	})

	follower.Kill9()
	fill(t, c, "missed:", missed)
	t.Logf("ready %v after its start with %d writes missed", readyAfter(t, follower, pick(time.Minute, 30*time.Second)), missed)
	c.WaitWhole(formLimit)
	sameData(t, c, keys, missed)

	for _, n := range c.Nodes {
		n.Kill9()
	}
	started := testkit.Now()
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitWhole(time.Minute)
	t.Logf("all three nodes together: whole %v after their start", testkit.Now()-started)
	sameData(t, c, keys, missed)
}

// valueOf is the value of 512 bytes that belongs to a key.
func valueOf(key string) string {
	return (key + strings.Repeat("="+key, 512/len(key)))[:512]
}

// fill writes keys prefix1 … prefixN over several connections.
func fill(t testing.TB, c *testkit.Cluster, prefix string, n int) time.Duration {
	t.Helper()
	const clients, atOnce = 8, 500
	started := testkit.Now()
	failures := make([]error, clients)
	var wait sync.WaitGroup
	for i := range clients {
		wait.Go(func() {
			p := pipeliner{cluster: c}
			defer p.close()
			for first := 1 + i*atOnce; first <= n && failures[i] == nil; first += clients * atOnce {
				var commands [][]string
				for k := first; k < min(first+atOnce, n+1); k++ {
					key := prefix + strconv.Itoa(k)
					commands = append(commands, []string{"SET", key, valueOf(key)})
				}
				ctx, cancel := context.WithTimeout(t.Context(), insistLimit)
				failures[i] = testkit.Poll(ctx, func() error { return p.do(commands) })
				cancel()
			}
		})
	}
	wait.Wait()
	if err := errors.Join(failures...); err != nil {
		t.Fatal(err)
	}
	return testkit.Now() - started
}

// pipeliner sends commands at once to whoever is master.
type pipeliner struct {
	cluster *testkit.Cluster
	conn    *testkit.Client // nil when not connected
}

// do sends commands, and looks for the master anew next time unless all of them succeed.
func (p *pipeliner) do(commands [][]string) error {
	if p.conn == nil {
		i, err := p.cluster.FindMaster()
		if err != nil {
			return err
		}
		if p.conn, err = testkit.Dial(p.cluster.Nodes[i].Addr(), 30*time.Second); err != nil {
			p.conn = nil
			return err
		}
	}
	replies, err := p.conn.Pipeline(commands...)
	if err := errors.Join(append(errorsOf(replies), err)...); err != nil {
		p.close()
		return err
	}
	return nil
}

func (p *pipeliner) close() {
	if p.conn != nil {
		_ = p.conn.Close()
		p.conn = nil
	}
}

// readyAfter starts a killed node and waits until it serves as a replica that has
// caught up with the master, or as the master.
func readyAfter(t testing.TB, n *testkit.Node, limit time.Duration) time.Duration {
	t.Helper()
	started := testkit.Now()
	n.Start()
	testkit.Eventually(t, limit, n.ID+" serves again", func() error {
		client, err := testkit.Dial(n.Addr(), time.Second)
		if err != nil {
			return err
		}
		defer client.Close()
		if _, err := client.Do("GET", "key:1"); err != nil {
			return err
		}
		info, err := client.Do("INFO", "replication")
		if err != nil {
			return err
		}
		fields := testkit.ParseInfo(string(info.Text))
		status := fields["master_link_status"]
		return testkit.Check(status == "up" || fields["role"] == "master", "master_link_status:%s", status)
	})
	return testkit.Now() - started
}

// sameData compares all nodes: the number of keys, and a sample of them read from
// each.
func sameData(t testing.TB, c *testkit.Cluster, keys, missed int) {
	t.Helper()
	for _, n := range c.Nodes {
		testkit.Eventually(t, formLimit, n.ID+" has all keys", func() error {
			got, err := answerOf(n, "DBSIZE")
			return errors.Join(err, testkit.Check(got.Int() == int64(keys+missed), "%d keys, want %d", got.Int(), keys+missed))
		})
		for range 20 {
			sample := []string{"MGET"}
			for range 100 {
				key := fmt.Sprintf("key:%d", 1+rand.IntN(keys))
				if rand.IntN(2) == 0 {
					key = fmt.Sprintf("missed:%d", 1+rand.IntN(missed))
				}
				sample = append(sample, key)
			}
			for i, got := range asked(t, n, sample...).Strings() {
				if key := sample[i+1]; got != valueOf(key) {
					t.Fatalf("%s: %s holds %.40q …", n.ID, key, got)
				}
			}
		}
	}
}
