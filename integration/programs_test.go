package integration_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// program is a client program of clients/: it reports lines of JSON, each with the
// name of an event, and ends at SIGTERM after an event "done".
type program struct {
	*testkit.Process
}

// startProgram starts one; its packages are installed first where there are some.
func startProgram(t testing.TB, path string, args ...string) *program {
	t.Helper()
	full := filepath.Join(testkit.Root(), "integration", "clients", path)
	interpreter := "node"
	if filepath.Ext(path) == ".py" {
		interpreter = "/usr/bin/python3" // the one that Debian's python3-redis is for
	} else {
		install(t, filepath.Dir(full))
	}
	p := &program{testkit.NewProcess(t, testkit.Command{
		Name: strings.ReplaceAll(path, "/", "-"), Path: interpreter, Args: append([]string{full}, args...), Dir: t.TempDir(),
	})}
	p.Start()
	return p
}

// install runs npm ci unless the folder has what its lock file says.
func install(t testing.TB, dir string) {
	t.Helper()
	if upToDate(dir) {
		return
	}
	cmd := exec.CommandContext(t.Context(), "npm", "ci", "--no-audit", "--no-fund")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("npm ci in %s: %v\n%s", dir, err, out)
	}
}

// upToDate tells whether npm's note of what it installed is younger than the lock file.
func upToDate(dir string) bool {
	want, err := os.Stat(filepath.Join(dir, "package-lock.json"))
	if err != nil {
		return false
	}
	have, err := os.Stat(filepath.Join(dir, "node_modules", ".package-lock.json"))
	return err == nil && !have.ModTime().Before(want.ModTime())
}

// await waits for the first event of that name and reads it into v.
func (p *program) await(t testing.TB, event string, limit time.Duration, v any) {
	t.Helper()
	testkit.Eventually(t, limit, p.Name()+" reports "+event, func() error {
		text := p.last(event)
		if text == nil {
			if fatal := p.last("fatal"); fatal != nil || !p.Running() {
				t.Fatalf("%s ended: %s", p.Name(), p.Tail(2000))
			}
			return errors.New("not yet")
		}
		return json.Unmarshal(text, v)
	})
}

// last is the newest line with that event, nil if there is none.
func (p *program) last(event string) []byte {
	text, err := os.ReadFile(p.LogFile())
	if err != nil {
		return nil
	}
	var found []byte
	for line := range strings.Lines(string(text)) {
		var head struct{ Event string }
		if json.Unmarshal([]byte(line), &head) == nil && head.Event == event {
			found = []byte(line)
		}
	}
	return found
}

// finish ends the program and reads its last report into v.
func (p *program) finish(t testing.TB, v any) {
	t.Helper()
	p.Signal(syscall.SIGTERM)
	p.await(t, "done", formLimit, v)
	if code := p.WaitExit(formLimit); code != 0 {
		t.Errorf("%s ended with exit code %d", p.Name(), code)
	}
}

// pages is what the Express job reports.
type pages struct {
	Pages, Failed, LoggedOut, WrongUser, LostVisits int
	Slowest                                         int   // ms
	Outages                                         []int // ms
	Errors                                          map[string]int
	Users, StillLoggedIn                            int
}

// P1, P8, the main job: an Express application keeps 200 users' sessions through
// express-session, connect-redis and ioredis in Sentinel mode. The master is
// killed twice, the killed node started again in between: nobody is logged out,
// nothing acknowledged is lost, and pages fail for less than 2 s each time.
func TestExpressKeepsUsersLoggedIn(t *testing.T) {
	testkit.Tries(t, mostTold(), func(try testing.TB) { expressUnderKills(t, try) })
}

// users are how many the application has.
const users = 200

// startExpress starts the application on a cluster and has everybody log in.
func startExpress(t testing.TB, c *testkit.Cluster) *program {
	t.Helper()
	job := startProgram(t, "node/job.js", "--users", strconv.Itoa(users), "--sentinels", strings.Join(c.Sentinels(), ","))
	var in struct{ Users int }
	job.await(t, "loggedIn", time.Minute, &in)
	return job
}

// never reports what no page may show, however slow the machine is.
func (p *pages) never(t testing.TB) {
	t.Helper()
	if p.LoggedOut > 0 || p.WrongUser > 0 || p.LostVisits > 0 {
		t.Errorf("%d pages did not know their user, %d showed another's, %d lost a change", p.LoggedOut, p.WrongUser, p.LostVisits)
	}
}

// expressUnderKills reports sessions that are lost to always, and everything else to t.
func expressUnderKills(always, t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{})
	job := startExpress(t, c)
	for range 2 {
		time.Sleep(1500 * time.Millisecond)
		node := c.Nodes[c.WaitMaster(formLimit)]
		node.Kill9()
		time.Sleep(2500 * time.Millisecond)
		node.Start()
		c.WaitWhole(formLimit)
	}
	time.Sleep(time.Second)
	var seen pages
	job.finish(t, &seen)
	t.Logf("%d pages, %d failed, outages %v ms, slowest page %d ms, errors %v", seen.Pages, seen.Failed, seen.Outages, seen.Slowest, seen.Errors)
	seen.never(always)
	if seen.StillLoggedIn != users {
		t.Errorf("%d of %d users are still logged in", seen.StillLoggedIn, users)
	}
	for _, ms := range append(seen.Outages, seen.Slowest) {
		if ms >= 2000 {
			t.Errorf("an outage or page of %d ms, want below 2000", ms)
		}
	}
	if seen.Pages < 10*users {
		t.Errorf("only %d pages were served", seen.Pages)
	}
}

// P8: all nodes are restarted one after the other, the master too, under the same
// application: not one page fails.
func TestExpressServesOverARollingRestart(t *testing.T) {
	testkit.Tries(t, mostTold(), func(try testing.TB) { expressOverRestarts(t, try) })
}

// expressOverRestarts reports sessions that are lost to always, and everything else to t:
// an election that nobody asked for fails pages.
func expressOverRestarts(always, t testing.TB) {
	t.Helper()
	c := start(t, testkit.ClusterOptions{})
	job := startExpress(t, c)
	for range pick(1, 5) {
		for _, node := range c.Nodes {
			time.Sleep(300 * time.Millisecond)
			if code := node.Term(20 * time.Second); code != 0 {
				t.Errorf("%s ended with code %d", node.ID, code)
			}
			node.Start()
			c.WaitWhole(formLimit)
		}
	}
	time.Sleep(time.Second)
	var seen pages
	job.finish(t, &seen)
	t.Logf("%d pages, %d failed, slowest page %d ms, errors %v", seen.Pages, seen.Failed, seen.Slowest, seen.Errors)
	seen.never(always)
	if seen.Failed > 0 || seen.StillLoggedIn != users {
		t.Errorf("pages went wrong: %+v", seen)
	}
	if seen.Pages < 2*users {
		t.Errorf("only %d pages were served", seen.Pages)
	}
}

// report is what the writers of each library report.
type report struct {
	Acknowledged, WrongReads, LongestGap int
	Failures                             map[string]int
	Workers                              []struct {
		Key    string
		Tried  int
		Failed []int
	}
}

// verify reports every acknowledged write that is not found.
func (r *report) verify(t testing.TB, c asker) {
	t.Helper()
	for _, w := range r.Workers {
		failed := map[int]bool{}
		for _, n := range w.Failed {
			failed[n] = true
		}
		for n, value := range readAll(t, c, w.Key+":", w.Tried) {
			if value != strconv.Itoa(n) && (!failed[n] || value != "") {
				t.Errorf("acknowledged write %s:%d is lost: its key holds %q", w.Key, n, value)
			}
		}
	}
	if r.WrongReads > 0 {
		t.Errorf("%d reads did not show what had just been written", r.WrongReads)
	}
}

// P1, P8: every client library finds the master through the three Sentinel ports,
// follows it when it is killed, and loses no acknowledged write. limit is what the
// library itself adds to the failover by its default pauses.
func TestLibrariesFollowTheMaster(t *testing.T) {
	libraries := []struct {
		name, path string
		args       []string
		limit      time.Duration
	}{
		{"ioredis5", "node/ioredis.js", nil, 2 * time.Second},
		{"ioredis6", "node/ioredis.js", []string{"--version", "6"}, 2 * time.Second},
		{"node-redis5", "node-redis5/writers.js", nil, 5 * time.Second},
		{"node-redis6", "node-redis6/writers.js", nil, 5 * time.Second},
		{"redis-py", "python/writers.py", nil, 2 * time.Second},
	}
	c := start(t, testkit.ClusterOptions{})
	sentinels := strings.Join(c.Sentinels(), ",")
	for _, l := range libraries {
		t.Run(l.name, func(t *testing.T) {
			try := 0
			testkit.Tries(t, mostTold(), func(told testing.TB) {
				try++ // no telling writes the keys of another
				args := append(slices.Clone(l.args), "--sentinels", sentinels, "--prefix", fmt.Sprint(l.name, ":", try))
				done := writeOverAKill(told, c, startProgram(told, l.path, args...))
				told.Logf("%d writes acknowledged, longest gap %d ms, failures %v", done.Acknowledged, done.LongestGap, done.Failures)
				done.verify(t, insist(told, c))
				if gap := time.Duration(done.LongestGap) * time.Millisecond; gap > l.limit {
					told.Errorf("longest time without a successful write is %v, want at most %v", gap, l.limit)
				}
			})
		})
	}
}

// writeOverAKill has a program write while the master is killed and started again, and
// returns its report.
func writeOverAKill(t testing.TB, c *testkit.Cluster, p *program) (done report) {
	t.Helper()
	acknowledged := func() int {
		var now report
		if text := p.last("second"); text != nil {
			_ = json.Unmarshal(text, &now)
		}
		return now.Acknowledged
	}
	more := func(than int) func() error {
		return func() error {
			n := acknowledged()
			return testkit.Check(n > than && p.Running(), "%d writes acknowledged: %s", n, p.Tail(500))
		}
	}
	testkit.Eventually(t, formLimit, "first writes", more(50))
	node := c.Nodes[c.WaitMaster(formLimit)]
	node.Kill9()
	defer func() { // also for the next one, if this one fails
		if !node.Running() {
			node.Start()
		}
		c.WaitWhole(formLimit)
	}()
	testkit.Eventually(t, formLimit, "writes after the kill", more(acknowledged()+100))
	node.Start()
	c.WaitWhole(formLimit)
	p.finish(t, &done)
	return done
}
