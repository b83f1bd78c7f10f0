package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/holdfast/holdfast/internal/testkit"
)

// cachingClient keeps what it reads until it is told to forget it.
type cachingClient struct {
	*testkit.Client
	cache map[string]string
}

// dialCaching connects to a node that has caught up and tracks.
func dialCaching(t testing.TB, addr string) *cachingClient {
	t.Helper()
	c := &cachingClient{Client: testkit.MustDial(t, addr), cache: map[string]string{}}
	c.MustDo(t, "HELLO", "3")
	c.MustDo(t, "CLIENT", "TRACKING", "ON")
	return c
}

// next reads a reply and forgets what is told before it.
func (c *cachingClient) next() (testkit.Reply, error) {
	for {
		r, err := c.Read()
		if err != nil || r.Type != '>' {
			return r, err
		}
		if r.Elems[1].Null {
			clear(c.cache)
		}
		for _, k := range r.Elems[1].Elems {
			delete(c.cache, string(k.Text))
		}
	}
}

// get asks for a key and keeps the answer.
func (c *cachingClient) get(key string) error {
	if err := c.Send("GET", key); err != nil {
		return err
	}
	r, err := c.next()
	if err == nil {
		err = r.Err()
	}
	if err == nil {
		c.cache[key] = string(r.Text)
	}
	return err
}

// P2: clients that cache what they read, on the master and on replicas of either kind,
// are told of every change: once the writers are done and a node has applied
// everything, no client of it keeps anything but the present value.
func TestCachesOnAllNodesAreNeverStale(t *testing.T) {
	for _, mode := range []string{"redis", "forward"} {
		t.Run(mode, func(t *testing.T) {
			testkit.Tries(t, mostTold(), func(try testing.TB) { cachesOnAllNodes(t, try, mode) })
		})
	}
}

// cachesOnAllNodes reports what is stale to always, and everything else to t: an election
// that nobody asked for ends connections.
func cachesOnAllNodes(always, t testing.TB, mode string) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{Args: []string{"--replica-mode", mode}})
	m := master(t, c)
	rounds := pick(4, 30)
	const keys, more, writes, writers = 20, 30, 40, 3
	var clients []*cachingClient
	var nodes []string
	for _, n := range c.Nodes {
		for range 2 {
			clients, nodes = append(clients, dialCaching(t, n.Addr())), append(nodes, n.Addr())
		}
	}
	kept := 0
	for round := range rounds {
		var group, writing sync.WaitGroup
		for w := range writers {
			rnd := rand.New(rand.NewPCG(uint64(round), uint64(w)))
			writing.Go(func() { writeAtRandom(t, c, rnd, writes, keys) })
		}
		var written atomic.Bool
		for i, client := range clients {
			rnd := rand.New(rand.NewPCG(uint64(round), uint64(100+i)))
			group.Go(func() {
				for left := more; left > 0; {
					if written.Load() {
						left--
					}
					if err := client.get(fmt.Sprint("k", rnd.IntN(keys))); err != nil {
						t.Errorf("a read on %s: %v", nodes[i], err)
						return
					}
				}
			})
		}
		writing.Wait()
		written.Store(true)
		group.Wait()
		waitApplied(t, c)
		for i, client := range clients {
			if err := client.Send("PING"); err != nil {
				t.Fatal(err)
			}
			if _, err := client.next(); err != nil {
				t.Fatal(err)
			}
			for k, v := range client.cache {
				kept++
				if now := string(m.MustDo(t, "GET", k).Text); now != v {
					always.Errorf("round %d: a client of %s keeps %s = %q, which is %q", round, nodes[i], k, v, now)
				}
			}
		}
	}
	t.Logf("%d cached values were compared", kept)
	if kept == 0 {
		t.Error("nobody kept anything")
	}
}

// writeAtRandom changes keys on the master.
func writeAtRandom(t testing.TB, c *testkit.Cluster, rnd *rand.Rand, n, keys int) {
	t.Helper()
	m, err := testkit.Dial(c.Nodes[c.WaitMaster(formLimit)].Addr(), 10*time.Second)
	if err != nil {
		t.Error(err)
		return
	}
	defer m.Close()
	for i := range n {
		key, value := fmt.Sprint("k", rnd.IntN(keys)), strconv.Itoa(rnd.IntN(1_000_000))
		var err error
		switch rnd.IntN(10) {
		case 0:
			_, err = m.Do("DEL", key)
		case 1:
			_, err = m.Pipeline([]string{"MULTI"}, []string{"SET", key, value}, []string{"COPY", key, fmt.Sprint("k", i%keys), "REPLACE"}, []string{"EXEC"})
		case 2:
			if i%50 == 0 {
				_, err = m.Do("FLUSHALL")
			}
		default:
			_, err = m.Do("SET", key, value)
		}
		if err != nil {
			t.Errorf("a write: %v", err)
			return
		}
	}
}

// waitApplied waits until all nodes have applied what the master has.
func waitApplied(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	testkit.Eventually(t, formLimit, "all nodes have applied the same", func() error {
		seen := map[string]bool{}
		for _, n := range c.Nodes {
			client, err := testkit.Dial(n.Addr(), time.Second)
			if err != nil {
				return err
			}
			r, err := client.Do("INFO", "raft")
			_ = client.Close()
			if err != nil {
				return err
			}
			seen[testkit.ParseInfo(string(r.Text))["raft_applied_index"]] = true
		}
		return testkit.Check(len(seen) == 1, "applied indexes %v", seen)
	})
}

// rueidisCache is a client of rueidis that answers from its cache.
type rueidisCache struct{ rueidis.Client }

// get reads a key, from the cache if it is there.
func (r rueidisCache) get(key string) (value string, hit bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply := r.DoCache(ctx, r.B().Get().Key(key).Cache(), time.Minute)
	value, err = reply.ToString()
	return value, reply.IsCacheHit(), err
}

// count reads several keys and tells how many answers there are.
func (r rueidisCache) count(keys ...string) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	values, err := rueidis.MGetCache(r.Client, ctx, time.Minute, keys)
	return len(values), err
}

// follows plays a story with a key that somebody else changes.
func (r rueidisCache) follows(t testing.TB, m asker, when string) {
	t.Helper()
	const limit = formLimit
	m.MustDo(t, "SET", "k", "1", "EX", "1000")
	testkit.Eventually(t, limit, when+": it is answered from the cache", func() error {
		v, hit, err := r.get("k")
		return testkit.Check(err == nil && v == "1" && hit, "%q, hit %t, %v", v, hit, err)
	})
	for i := 2; i < 50; i++ {
		want := strconv.Itoa(i)
		m.MustDo(t, "SET", "k", want)
		testkit.Eventually(t, limit, when+": the change arrives", func() error {
			v, _, err := r.get("k")
			return testkit.Check(err == nil && v == want, "%q instead of %s, %v", v, want, err)
		})
	}
	m.MustDo(t, "SET", "k", "short", "PX", "100")
	testkit.Eventually(t, limit, when+": the end of the key arrives", func() error {
		_, _, err := r.get("k")
		return testkit.Check(rueidis.IsRedisNil(err), "not gone: %v", err)
	})
	testkit.Eventually(t, limit, when+": many keys are read together", func() error {
		n, err := r.count("k", "l", "m")
		return testkit.Check(err == nil && n == 3, "%d answers, %v", n, err)
	})
}

// P8: rueidis finds the master by Sentinel with its client-side cache switched on, as it
// is without any option, answers from the cache, hears of changes, and keeps nothing
// over a change of the master.
func TestRueidisCaches(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	var r rueidisCache
	testkit.Eventually(t, formLimit, "rueidis finds the master", func() (err error) {
		r.Client, err = rueidis.NewClient(rueidis.ClientOption{
			InitAddress: c.Sentinels(), Sentinel: rueidis.SentinelOption{MasterSet: testkit.MasterName},
		})
		return err
	})
	t.Cleanup(r.Close)
	m := insist(t, c)
	r.follows(t, m, "at first")
	testkit.Eventually(t, formLimit, "a key that was never set", func() error {
		_, _, err := r.get("before")
		return testkit.Check(rueidis.IsRedisNil(err), "%v", err)
	})
	node := c.Nodes[c.WaitMaster(formLimit)]
	node.Kill9()
	m.MustDo(t, "SET", "before", "changed")
	testkit.Eventually(t, formLimit, "what was cached from the old master is gone", func() error {
		v, _, err := r.get("before")
		return testkit.Check(err == nil && v == "changed", "%q, %v", v, err)
	})
	r.follows(t, m, "after the failover")
	node.Start()
	c.WaitWhole(formLimit)
}

// fieldNames are the names of a section of INFO in their order; those of slave lines
// with the names of their parts.
func fieldNames(section string) []string {
	var all []string
	for line := range strings.Lines(section) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			continue
		}
		if strings.HasPrefix(name, "slave0") {
			for part := range strings.SplitSeq(value, ",") {
				part, _, _ = strings.Cut(part, "=")
				name += "," + part
			}
		}
		all = append(all, name)
	}
	return all
}

// INFO replication and ROLE of a master and of its replica have the fields of the real
// ones, in their order and of their types.
func TestReplicationIsToldAsByRedis(t *testing.T) {
	testkit.Tries(t, mostTold(), replicationAsByRedis) // of a master that stays
}

func replicationAsByRedis(t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{})
	ourMaster := c.WaitWhole(formLimit)
	theirMaster := testkit.StartRedis(t)
	theirReplica := testkit.StartReplica(t, theirMaster)
	pairs := map[string][2]*testkit.Client{
		"master":  {testkit.MustDial(t, c.Nodes[ourMaster].Addr()), testkit.MustDial(t, theirMaster.Addr())},
		"replica": {testkit.MustDial(t, c.Nodes[(ourMaster+1)%len(c.Nodes)].Addr()), testkit.MustDial(t, theirReplica.Addr())},
	}
	testkit.Eventually(t, formLimit, "the real replica is online", func() error {
		ofMaster, err := pairs["master"][1].Do("INFO", "replication")
		ofReplica, err2 := pairs["replica"][1].Do("INFO", "replication")
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		info, link := testkit.ParseInfo(string(ofMaster.Text)), testkit.ParseInfo(string(ofReplica.Text))
		return testkit.Check(strings.Contains(info["slave0"], "state=online") && link["master_link_status"] == "up", "%v %v", info, link)
	})
	for role, pair := range pairs {
		// A master shows one line per replica.
		ours := strings.Replace(string(pair[0].MustDo(t, "INFO", "replication").Text), "slave1:", "#slave1 ", 1)
		got, want := fieldNames(ours), fieldNames(string(pair[1].MustDo(t, "INFO", "replication").Text))
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("INFO replication of a %s\n got %v\nwant %v", role, got, want)
		}
		got, want = roleTypes(pair[0].MustDo(t, "ROLE")), roleTypes(pair[1].MustDo(t, "ROLE"))
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("ROLE of a %s\n got %v\nwant %v", role, got, want)
		}
	}
	if r := pairs["replica"][0].MustDo(t, "INFO", "replication"); !strings.Contains(string(r.Text), "master_link_status:up\r\n") {
		t.Errorf("the link of a replica: %s", r.Text)
	}
}

// roleTypes are the types of a reply of ROLE, with its words; of a list only the first
// element counts.
func roleTypes(r testkit.Reply) []string {
	var all []string
	for i, e := range r.Elems {
		word := string(e.Type)
		if i == 0 || e.Type == '$' && strings.Trim(string(e.Text), "0123456789.") == string(e.Text) {
			word += string(e.Text)
		}
		if len(e.Elems) > 0 {
			word += "[" + strings.Join(roleTypes(e.Elems[0]), " ") + "]"
		}
		all = append(all, word)
	}
	return all
}
