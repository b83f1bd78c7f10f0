package node

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/store"
)

// P8: a node that is told to stop answers the commands that are under way, closes
// every connection, and leaves nobody in doubt.
func TestStopAnswersWhatIsUnderWay(t *testing.T) {
	always := t
	testkit.Tries(t, 3, func(t testing.TB) { // clients are waited for no longer than two seconds
		m := single(t)
		const clients, depth = 8, 20
		var wg sync.WaitGroup
		var written atomic.Int64
		endings := make(chan string, clients)
		for i := range clients {
			c := m.dial()
			wg.Go(func() {
				var pipeline [][]string
				for range depth {
					pipeline = append(pipeline, []string{"INCR", "n" + itoa(i)})
				}
				for {
					replies, err := c.Pipeline(pipeline...)
					for _, r := range replies {
						if r.Err() != nil {
							endings <- r.String()
							return
						}
					}
					written.Add(int64(len(replies)))
					if err != nil {
						endings <- partial(len(replies), depth)
						return
					}
				}
			})
		}
		testkit.Eventually(t, soon, "writes go on", func() error { return testkit.Check(written.Load() > 1000, "%d", written.Load()) })
		m.halt()
		wg.Wait()
		close(endings)
		for e := range endings {
			if e != "" {
				t.Errorf("a client's last pipeline ended with %s", e)
			}
		}
		m.start()
		m.waitRole("master")
		var sum int64
		for i := range clients {
			r, err := m.do("GET", "n"+itoa(i))
			if err != nil {
				t.Fatal(err)
			}
			sum += r.Int()
		}
		switch told := written.Load(); {
		case sum < told:
			always.Errorf("%d writes were acknowledged, %d are there", told, sum)
		case sum > told:
			t.Errorf("%d writes were acknowledged, %d are there", told, sum)
		}
	})
}

// partial is "" for a pipeline that was answered wholly or not at all.
func partial(replies, depth int) string {
	if replies == 0 || replies == depth {
		return ""
	}
	return itoa(replies) + " of " + itoa(depth) + " replies"
}

// A node that loses its role and keeps the term, as by a disk that hangs for a
// while, closes its clients and serves again once it has proved that it can write.
func TestMasterReturnsInTheSameTerm(t *testing.T) {
	m := single(t)
	term := m.info()["raft_term"]
	idle := m.dial()
	idle.MustDo(t, "PING")
	m.node.reign.steps.Add(1) // what opened the Proposer counts no more
	m.node.roles.look()
	if err := idle.Closed(soon); err != nil {
		t.Error(err)
	}
	testkit.Eventually(t, soon, "writes go on", func() error { // connections end before the role does
		_, err := m.do("SET", "k", "v")
		return err
	})
	if got := m.info()["raft_term"]; got != term {
		t.Errorf("the term was %s and is %s", term, got)
	}
}

// A master whose Proposer has shut itself opens it again within moments: it never
// goes on saying that it is master and refusing to write.
func TestShutProposerIsOpenedAgain(t *testing.T) {
	m := single(t)
	for range 3 {
		m.node.proposer.StepDown()
		testkit.Eventually(t, soon, "writes go on", func() error {
			_, err := m.do("SET", "k", "v")
			return err
		})
	}
}

// Entries of the largest size are committed while the removal of keys, which may
// travel with them, is proposed all the time.
func TestLargestEntriesTravelWithTicks(t *testing.T) {
	m := single(t, "max-entry-bytes", "2mb", "proto-max-bulk-len", "2mb")
	victims := make([]store.Victim, 500)
	for i := range victims {
		victims[i] = store.Victim{Key: "gone" + itoa(i), Deadline: 1}
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() {
		for m.node.proposer.Expire(ctx, victims) == nil { // they are gone already
		}
	})
	c := m.dial()
	value := strings.Repeat("x", 2<<20-200)
	for range 20 {
		if _, err := c.Do("SET", "big", value); err != nil {
			t.Fatalf("SET of nearly max-entry-bytes answers %v; %+v, %+v", err, m.node.proposer.Stats(), m.node.raft.Stats())
		}
	}
	if _, err := m.do("MSET", "a", value, "b", value); err == nil || !strings.Contains(err.Error(), "max-entry-bytes") {
		t.Errorf("MSET of twice max-entry-bytes answers %v", err)
	}
}

// What a part reports from a goroutine of its own stops the node with that reason.
func TestFailureOfAPartStopsTheNode(t *testing.T) {
	m := single(t)
	c := m.dial()
	c.MustDo(t, "SET", "k", "v")
	reason := errors.New("the reason")
	m.node.fail(reason)
	m.node.fail(errors.New("another"))
	if err := m.wait(soon); !errors.Is(err, reason) || !errors.Is(err, errState) {
		t.Errorf("the node ended with %v", err)
	}
	if err := c.Closed(soon); err != nil {
		t.Error(err)
	}
}

// A part that ends by itself ends the node too.
func TestEndOfAPartStopsTheNode(t *testing.T) {
	m := single(t)
	c := m.dial()
	if err := m.node.raft.Close(); err != nil {
		t.Error(err)
	}
	if err := m.wait(soon); err != nil {
		t.Errorf("the node ended with %v", err)
	}
	if err := c.Closed(soon); err != nil {
		t.Error(err)
	}
}

// P5: a change of the cluster's settings whose outcome is not known is answered as
// such, and if it happens after all it counts.
func TestSettingInDoubt(t *testing.T) {
	m := single(t, "election-timeout", "100ms")
	c, reading, release := m.dial(), make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	free := sync.OnceFunc(func() { close(release) })
	defer free()
	wg.Go(func() {
		m.node.state.View(0, 0, func(*store.Reader) { // nothing is applied meanwhile
			close(reading)
			<-release
		})
	})
	<-reading
	if _, err := c.Do("CONFIG", "SET", "proto-max-bulk-len", "2mb"); err == nil || !strings.HasPrefix(err.Error(), "INDOUBT ") {
		t.Errorf("CONFIG SET answers %v", err)
	}
	free()
	testkit.Eventually(t, soon, "the setting arrives", func() error {
		r, err := m.do("CONFIG", "GET", "proto-max-bulk-len")
		return errors.Join(err, testkit.Check(string(r.Map()["proto-max-bulk-len"].Text) == "2097152", "it is %v", r))
	})
}

// A node listens on every address of bind; those marked optional may be missing.
func TestSeveralAddresses(t *testing.T) {
	m := single(t, "bind", "127.0.0.1 127.0.0.2 -192.0.2.1", "protected-mode", "no")
	for _, port := range []int{m.cfg.Port, m.cfg.SentinelPort} {
		if _, err := ask("127.0.0.2:"+itoa(port), "PING"); err != nil {
			t.Error(err)
		}
	}
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", "127.0.0.2:"+itoa(m.cfg.MetricsPort))
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	for _, bind := range []string{"192.0.2.1", "-192.0.2.1", "127.0.0.1 192.0.2.1"} {
		err := Run(t.Context(), conf(t, "n1", testkit.Ports(t), "bind", bind), m.logger(), "test")
		if err == nil || !strings.Contains(err.Error(), "data port: ") {
			t.Errorf("bind %s: got %v", bind, err)
		}
	}
}

// A node without ports for clients runs all the same.
func TestNodeWithoutPorts(t *testing.T) {
	m := &member{tb: t, cfg: *conf(t, "n1", testkit.Ports(t), "port", "0", "sentinel-port", "0", "metrics-port", "0")}
	m.start()
	testkit.Eventually(t, soon, "it is master", func() error { return m.node.Leader(t.Context()) })
	m.halt()
}

// The parts of a group stop together: when it is told to, and when one of them
// ends, and every failure is told.
func TestGroupStopsTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		g := newGroup(ctx, stop)
		first, second := errors.New("first"), errors.New("second")
		g.start("a", func(context.Context) error { return first })
		g.start("b", func(ctx context.Context) error { <-ctx.Done(); <-time.After(time.Second); return second })
		g.start("c", func(ctx context.Context) error { <-ctx.Done(); return nil })
		<-ctx.Done()
		err := g.wait()
		if !errors.Is(err, first) || !errors.Is(err, second) || err.Error() != "a: first\nb: second" {
			t.Errorf("got %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		g := newGroup(t.Context(), func() { ended++ })
		g.start("a", func(ctx context.Context) error { <-ctx.Done(); return nil })
		synctest.Wait()
		if ended > 0 {
			t.Error("it ended by itself")
		}
		if err := g.wait(); err != nil || ended != 1 {
			t.Errorf("got %v after %d endings", err, ended)
		}
	})
}

// The run id of a node is made once and kept; a damaged one is not replaced.
func TestRunIDIsKept(t *testing.T) {
	dir := t.TempDir()
	first, err := runID(dir)
	if err != nil || len(first) != 40 {
		t.Fatalf("got %q, %v", first, err)
	}
	if again, err := runID(dir); err != nil || again != first {
		t.Errorf("got %q, %v; want %q", again, err, first)
	}
	if other, err := runID(t.TempDir()); err != nil || other == first {
		t.Errorf("two nodes have the run id %q, %v", other, err)
	}
	for _, text := range []string{"", "zz", first[:39], first + "00"} {
		if err := os.WriteFile(filepath.Join(dir, runIDFile), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := runID(dir); err == nil {
			t.Errorf("%q is taken for the run id %q", text, got)
		}
	}
	if _, err := runID(filepath.Join(dir, "none")); err == nil {
		t.Error("a run id is stored in a directory that does not exist")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("the directory holds %v, %v", left, err)
	}
}

// SAVE and BGSAVE make a snapshot, and INFO and LASTSAVE tell of it. That there is
// nothing new is no failure.
func TestSnapshotsOnDemand(t *testing.T) {
	m := single(t)
	c := m.dial()
	before := c.MustDo(t, "LASTSAVE").Int()
	c.MustDo(t, "SET", "k", "v")
	c.MustDo(t, "SAVE")
	i := m.info()
	if i["rdb_saves"] != "1" || i["rdb_last_bgsave_status"] != "ok" || i["rdb_changes_since_last_save"] != "0" {
		t.Errorf("after SAVE INFO says %s saves, %s, %s changes", i["rdb_saves"], i["rdb_last_bgsave_status"], i["rdb_changes_since_last_save"])
	}
	if after := c.MustDo(t, "LASTSAVE").Int(); after < before {
		t.Errorf("LASTSAVE went from %d to %d", before, after)
	}
	c.MustDo(t, "SAVE")
	c.MustDo(t, "SET", "k", "w")
	if got := m.info()["rdb_changes_since_last_save"]; got != "1" {
		t.Errorf("INFO says %s changes after one", got)
	}
	c.MustDo(t, "BGSAVE")
	testkit.Eventually(t, soon, "BGSAVE ends", func() error {
		got := m.info()["rdb_saves"]
		return testkit.Check(got == "3", "%s saves", got)
	})
	if _, err := c.Do("SHUTDOWN", "ABORT"); err == nil || !strings.Contains(err.Error(), "No shutdown in progress") {
		t.Errorf("SHUTDOWN ABORT answers %v", err)
	}
	m.halt()
	m.start() // from the snapshot and what follows it
	m.waitRole("master")
	if r, err := m.do("GET", "k"); err != nil || string(r.Text) != "w" {
		t.Errorf("GET answers %v, %v after a restart", r, err)
	}
}

// Only what a node says of itself counts as its record.
func TestMemberRecordsAreChecked(t *testing.T) {
	good := `{"ID":"n2","RunID":"` + strings.Repeat("a", 40) + `","DataHost":"h","DataPort":1}`
	if r := parseRecord("n2", []byte(good)); !r.ok || r.member.DataHost != "h" || r.member.DataPort != 1 || r.priority != defaultPriority {
		t.Errorf("got %+v", r)
	}
	if r := parseRecord("n2", []byte(strings.Replace(good, "{", `{"Priority":0,"later":{},`, 1))); !r.ok || r.priority != 0 || r.member.DataHost != "h" {
		t.Errorf("got %+v", r)
	}
	for _, text := range []string{"", "{", "null", "[]", `{"ID":"n2"}`, strings.Replace(good, "n2", "n3", 1), strings.Replace(good, "aaa", "a", 1)} {
		if r := parseRecord("n2", []byte(text)); r.ok {
			t.Errorf("%q is taken for %+v", text, r)
		}
	}
}

// The raft port listens on every address of bind, as the other ports do, whichever
// comes first; what is marked optional may be missing.
func TestRaftPortFollowsBind(t *testing.T) {
	all := trio(t, nil, "bind", "-192.0.2.1 127.0.0.2 127.0.0.1", "protected-mode", "no")
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} {
		var d net.Dialer
		conn, err := d.DialContext(t.Context(), "tcp", host+":"+itoa(all[0].cfg.RaftPort))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
}
