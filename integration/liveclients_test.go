package integration_test

import (
	"flag"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// writeOutages has the long form write its table into docs/clients.md.
var writeOutages = flag.Bool("write-outages", false, "write the table of outages into docs/clients.md")

// onlyClients leaves out clients: for looking at one.
var onlyClients = flag.String("clients", "", "regular expression: run only clients whose names match")

// outageLimit is the longest outage of a client that does not sleep longer by itself.
const outageLimit = 2 * time.Second

// backLimit bounds how long a client may take until it is acknowledged again, so that one
// that never comes back is told from one that is slow.
const backLimit = 60 * time.Second

// resumedAt is how many acknowledgements show that a client is back.
const resumedAt = 5

// library is one way to use a client library, as a program of clients/.
type library struct {
	name, version string
	folder        string // below clients
	args          []string
	limit         time.Duration // its longest outage, 0 for outageLimit
	why           string        // why it may take longer than that
	fails         string        // why increments may fail when the master moves by plan; empty if none may
	nearest       bool          // its replica reads may go to the master
	noReplicas    bool          // it asks no replicas
}

// program is what to run, built or installed before if need be.
func (l library) program(t testing.TB) (path string, args []string) {
	t.Helper()
	dir := filepath.Join(testkit.Root(), "integration", "clients", l.folder)
	if strings.HasPrefix(l.folder, "go/") {
		return goProgram(t, l.folder), l.args
	}
	interpreters := map[string]string{
		".js": "node", ".php": "php", ".rb": "ruby", ".pl": "perl", ".sh": "bash",
		".py": "/usr/bin/python3", // the one that Debian's python3-redis is for
	}
	interpreter := interpreters[filepath.Ext(l.args[0])]
	if interpreter == "node" {
		install(t, dir)
		if dir != filepath.Join(testkit.Root(), "integration", "clients", "node") {
			install(t, filepath.Join(testkit.Root(), "integration", "clients", "node"))
		}
	}
	return interpreter, append([]string{filepath.Join(dir, l.args[0])}, l.args[1:]...)
}

// batch is clients that tell the story together: they share a cluster and its faults.
type batch struct {
	name      string
	libraries []library
}

var batches = []batch{
	{"Go, C, Perl, Ruby", []library{
		{name: "go-redis FailoverClient", version: "9.23.0", folder: "go/goredis", args: []string{"failover"}},
		{
			name: "go-redis FailoverClusterClient, RouteByLatency", version: "9.23.0", folder: "go/goredis", args: []string{"latency"}, nearest: true,
			fails: "its repetitions end before it has looked for the master",
		},
		{
			name: "go-redis FailoverClusterClient, RouteRandomly", version: "9.23.0", folder: "go/goredis", args: []string{"random"},
			fails: "its repetitions end before it has looked for the master",
		},
		{name: "rueidis", version: "1.0.79", folder: "go/rueidis", fails: "it repeats no writes"},
		{
			name: "radix", version: "4.1.4", folder: "go/radix", fails: "it repeats nothing",
			limit: 8 * time.Second, why: "asks every 5 s, and hears of a move from one Sentinel only",
		},
		{name: "redis-cli", version: "7.0.15", folder: "redis-cli", args: []string{"story.sh"}, fails: "it repeats nothing"},
		{
			name: "Redis.pm", version: "2.000", folder: "perl", args: []string{"story.pl"}, noReplicas: true,
			fails: "a command that crosses the end of its connection is an error",
		},
		{name: "redis-rb", version: "4.8.0", folder: "ruby", args: []string{"redis_rb.rb"}},
	}},
	{"Node, Python, PHP", []library{
		{name: "ioredis 5", version: "5.11.1", folder: "node", args: []string{"ioredis-story.js", "ioredis"}},
		{name: "ioredis 5, failoverDetector", version: "5.11.1", folder: "node", args: []string{"ioredis-story.js", "ioredis", "detect"}},
		{name: "ioredis 6", version: "6.0.0", folder: "node", args: []string{"ioredis-story.js", "ioredis6"}},
		{name: "ioredis 6, failoverDetector", version: "6.0.0", folder: "node", args: []string{"ioredis-story.js", "ioredis6", "detect"}},
		{name: "iovalkey", version: "0.4.0", folder: "node", args: []string{"ioredis-story.js", "iovalkey"}},
		{
			name: "node-redis 5", version: "5.12.1", folder: "node-redis5", args: []string{"story.js"},
			limit: 5 * time.Second, why: "looks for the master once a second",
		},
		{
			name: "node-redis 6", version: "6.3.1", folder: "node-redis6", args: []string{"story.js"},
			limit: 5 * time.Second, why: "looks for the master once a second",
		},
		{name: "redis-py", version: "4.3.4", folder: "python", args: []string{"redis_py.py"}, fails: "it repeats nothing"},
		{name: "redis-py asyncio", version: "4.3.4", folder: "python", args: []string{"redis_py_asyncio.py"}, fails: "it repeats nothing"},
		{name: "phpredis", version: "5.3.7", folder: "php", args: []string{"phpredis.php"}, fails: "it repeats nothing"},
		{name: "predis", version: "1.1.10", folder: "php", args: []string{"predis.php"}, fails: "it crosses Sentinels off its list that have died"},
	}},
}

// The phases of the story, in order.
const (
	phaseCrash    = "crash"           // kill -9 of the master and its Sentinel, and its return
	phaseLoss     = "Sentinel lost"   // a replica's Sentinel dies, the master moves, the Sentinel returns
	phaseLoss2    = "another lost"    // the same with the third machine
	phaseHandover = "planned move"    // SENTINEL FAILOVER with everything in good health
	phaseDark     = "no majority"     // two machines are dead
	phaseBack     = "majority's back" // counted from a master's being there
)

// phase is a part of the story; it ends where the next begins.
type phase struct {
	name string
	from time.Duration
}

// story is a batch of clients on a system, and what has happened to them.
type story struct {
	system  *liveSystem
	clients []*liveClient
	phases  []phase
	end     time.Duration
}

// P1, P8: every client library finds the master by three Sentinel addresses of which
// one is dead, with different passwords on both ports, writes and reads, finds
// replicas, and goes on when the master is killed, when the Sentinel it subscribed to
// is lost, when the master moves, and after a time without any majority. No
// acknowledged increment is lost, and no outage is longer than the library's own
// pauses make it.
func TestEveryClientKeepsWorking(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	only := regexp.MustCompile(*onlyClients)
	table := &outageTable{}
	for _, b := range batches {
		b.libraries = slices.DeleteFunc(slices.Clone(b.libraries), func(l library) bool { return !only.MatchString(l.name) })
		if len(b.libraries) == 0 {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			s := tell(t, startHoldfast(t), b.libraries)
			table.add(t, s)
			for _, c := range s.clients {
				s.judge(t, c)
			}
		})
		if long() {
			t.Run(b.name+" with the real Redis", func(t *testing.T) { table.add(t, tell(t, startRealRedis(t), b.libraries)) })
		}
	}
	t.Logf("%s", table)
	if long() && !t.Failed() {
		table.compare(t)
		if *writeOutages {
			table.write(t)
		}
	}
}

// tell has all the libraries live through the story on the system.
func tell(t testing.TB, system *liveSystem, libraries []library) *story {
	t.Helper()
	s := &story{system: system}
	first, err := system.master()
	if err != nil {
		t.Fatal(err)
	}
	// The master's own Sentinel is one of those that the clients are told, and will die.
	sentinels := []string{
		testkit.Loopback(testkit.Ports(t)), // nobody answers here
		system.machines[first].sentinel,
		system.machines[(first+1)%3].sentinel,
	}
	for _, l := range libraries {
		s.clients = append(s.clients, startLive(t, l, sentinels))
	}
	for _, c := range s.clients {
		if n := c.await(t, "ready", backLimit); n != "1" {
			t.Errorf("%s reads %q after its first increment, want 1", c.name, n)
		}
	}
	s.back(t, testkit.Now())
	s.askReplicas(t, first)

	s.crash(t)
	s.loseSentinel(t, phaseLoss)
	s.loseSentinel(t, phaseLoss2)
	s.handOver(t)
	s.loseMajority(t)
	s.close(t)
	return s
}

// close has every client read its counter and end, and looks what the counter holds.
func (s *story) close(t testing.TB) {
	t.Helper()
	s.end = testkit.Now()
	for _, c := range s.clients {
		before := c.last()
		read, _ := strconv.ParseInt(c.order(t, "read", backLimit), 10, 64)
		c.quit(t)
		if after := c.last(); read < before || read > after {
			t.Errorf("%s reads %d after it was acknowledged %d and before %d", c.name, read, before, after)
		}
	}
	at := s.system.waitMaster(t, -1)
	for _, c := range s.clients {
		r, err := ask(s.system.machines[at].data, dataPassword, "GET", c.key())
		if err != nil {
			t.Fatal(err)
		}
		c.counter, _ = strconv.ParseInt(string(r.Text), 10, 64)
	}
}

// begin begins a phase.
func (s *story) begin(name string) { s.phases = append(s.phases, phase{name, testkit.Now()}) }

// back waits until every client is acknowledged again after the instant, and reports
// those that are not.
func (s *story) back(t testing.TB, after time.Duration) {
	t.Helper()
	limit := testkit.Now() + backLimit
	for _, c := range s.clients {
		ctx, cancel := withLimit(t, limit-testkit.Now())
		if err := testkit.Poll(ctx, func() error { return c.resumed(after, resumedAt) }); err != nil {
			t.Errorf("%s: not back after %v: %v\n%s", s.system.name, backLimit, err, c.stderr())
		}
		cancel()
	}
}

// askReplicas has each client read through replicas, and makes sure that it was a
// replica that answered.
func (s *story) askReplicas(t testing.TB, master int) {
	t.Helper()
	for _, c := range s.clients {
		before := s.system.replicaReads(t, master)
		answer := c.order(t, "replica", backLimit)
		if c.noReplicas {
			if answer != "none" {
				t.Errorf("%s asks replicas: %s", c.name, answer)
			}
			continue
		}
		if n, err := strconv.Atoi(answer); err != nil || n < 1 {
			t.Errorf("%s reads %q through replicas", c.name, answer)
		}
		if got := s.system.replicaReads(t, master) - before; got == 0 && !c.nearest {
			t.Errorf("%s: no replica has answered its reads", c.name)
		}
	}
}

// crash kills the master and starts it again.
func (s *story) crash(t testing.TB) {
	t.Helper()
	at := s.system.waitWhole(t)
	s.begin(phaseCrash)
	s.system.machines[at].kill()
	s.back(t, testkit.Now())
	s.system.machines[at].start()
	s.system.waitWhole(t)
}

// loseSentinel kills a machine that is not the master, and moves the master while its
// Sentinel is gone: whoever subscribed to that one must hear of it in another way. Over
// both calls and the crash every machine has been killed once.
func (s *story) loseSentinel(t testing.TB, name string) {
	t.Helper()
	at := s.system.waitWhole(t)
	s.begin(name)
	victim := s.system.machines[s.victim(at)]
	victim.kill()
	s.back(t, testkit.Now())
	s.system.failover(t)
	s.back(t, testkit.Now())
	victim.start()
	s.system.waitWhole(t)
	s.back(t, testkit.Now())
}

// victim is a machine besides the master that was not restarted yet, else any.
func (s *story) victim(master int) int {
	found := -1
	for i, m := range s.system.machines {
		if i == master {
			continue
		}
		if found < 0 || m.starts < s.system.machines[found].starts {
			found = i
		}
	}
	return found
}

// handOver moves the master while everything is in good health.
func (s *story) handOver(t testing.TB) {
	t.Helper()
	s.system.waitWhole(t)
	s.begin(phaseHandover)
	s.system.failover(t)
	s.system.waitWhole(t)
	s.back(t, testkit.Now())
}

// darkFor is how long there is no majority: long enough that every client has noticed.
const darkFor = 2 * time.Second

// inFlight is how long after a kill a reply may still be on its way through pipes.
const inFlight = 500 * time.Millisecond

// loseMajority kills the master and another machine and starts them again: nobody is
// acknowledged anything meanwhile, and everybody afterwards.
func (s *story) loseMajority(t testing.TB) {
	t.Helper()
	at := s.system.waitWhole(t)
	s.begin(phaseDark)
	killed := []*machine{s.system.machines[at], s.system.machines[(at+1)%3]}
	for _, m := range killed {
		m.kill()
	}
	dark := testkit.Now() + inFlight
	testkit.Pause(t.Context(), darkFor)
	for _, c := range s.clients {
		if err := c.resumed(dark, 1); err == nil {
			t.Errorf("%s was acknowledged something without a majority", c.name)
		}
	}
	for _, m := range killed {
		m.start()
	}
	s.system.waitMaster(t, -1)
	s.begin(phaseBack)
	s.back(t, testkit.Now())
}

// judge reports what a client on Holdfast has suffered and should not have.
func (s *story) judge(t testing.TB, c *liveClient) {
	t.Helper()
	if (c.limit > outageLimit) != (c.why != "") {
		t.Errorf("%s: a longer outage without a reason", c.name)
	}
	n, lost := books(c.acks, c.counter)
	if lost > 0 || n == 0 {
		t.Errorf("%s: %d of %d acknowledged increments are lost", c.name, lost, n)
	}
	limit := max(c.limit, outageLimit)
	for i, p := range s.phases {
		took := c.outage(p.from, s.until(i))
		if p.name != phaseDark && took > limit {
			t.Errorf("%s: an outage of %v in the phase %q, want at most %v", c.name, took.Round(time.Millisecond), p.name, limit)
		}
		if failed := c.failed(p.from, s.until(i)); p.name == phaseHandover && c.fails == "" && len(failed) > 0 {
			t.Errorf("%s: increments failed although the master moved by plan: %v", c.name, failed)
		}
	}
}

// outages are the longest ones of a client, by phase.
func (s *story) outages(c *liveClient) map[string]time.Duration {
	list := map[string]time.Duration{}
	for i, p := range s.phases {
		list[p.name] = c.outage(p.from, s.until(i))
	}
	return list
}

// until is when a phase ended.
func (s *story) until(i int) time.Duration {
	if i+1 < len(s.phases) {
		return s.phases[i+1].from
	}
	return s.end
}

// describe is a line for each phase in which increments of a client failed.
func (s *story) describe(c *liveClient) string {
	var b strings.Builder
	for i, p := range s.phases {
		fmt.Fprintf(&b, "\n    %-16s outage %4d ms, failures %v", p.name+":", c.outage(p.from, s.until(i)).Milliseconds(), c.failed(p.from, s.until(i)))
	}
	return b.String()
}
