package integration_test

import (
	"errors"
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

	program []string // what to run, once it is built
}

// built returns the libraries with their programs built and installed. That takes both
// processors for a while: no cluster should run beside it.
func built(t testing.TB, libraries []library) []library {
	t.Helper()
	list := slices.Clone(libraries)
	programs := map[string]string{} // in Go, by folder
	for i, l := range list {
		if !strings.HasPrefix(l.folder, "go/") {
			list[i].program = l.interpreted(t)
			continue
		}
		if programs[l.folder] == "" {
			programs[l.folder] = goProgram(t, l.folder)
		}
		list[i].program = append([]string{programs[l.folder]}, l.args...)
	}
	return list
}

// interpreted is how to run a program of a language with an interpreter.
func (l library) interpreted(t testing.TB) []string {
	t.Helper()
	dir := filepath.Join(testkit.Root(), "integration", "clients", l.folder)
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
	return append([]string{interpreter, filepath.Join(dir, l.args[0])}, l.args[1:]...)
}

// radixLimit has room for a question of radix that comes too early, in the short form
// for another one as well.
var radixLimit = pick(13*time.Second, 8*time.Second)

// detectorFails is rare: the increment under way ends with the client.
const detectorFails = "a +switch-master that it hears while it asks for the master ends it"

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
			limit: radixLimit, why: "asks every 5 s, and hears of a move from one Sentinel only",
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
		{name: "ioredis 5, failoverDetector", version: "5.11.1", folder: "node", args: []string{"ioredis-story.js", "ioredis", "detect"}, fails: detectorFails},
		{name: "ioredis 6", version: "6.0.0", folder: "node", args: []string{"ioredis-story.js", "ioredis6"}},
		{name: "ioredis 6, failoverDetector", version: "6.0.0", folder: "node", args: []string{"ioredis-story.js", "ioredis6", "detect"}, fails: detectorFails},
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
	phaseApart    = "apart"           // in the short form between those above, and not judged
)

// judged are the phases in which no client may be without an acknowledgement for long.
var judged = []string{phaseCrash, phaseLoss, phaseLoss2, phaseHandover, phaseBack}

// tellings is how often a part of the story is told until every client has come through
// it well once: a machine that stands still for two seconds looks like a library that
// sleeps. The long form tells it once.
var tellings = pick(5, 1)

// phase is a part of the story; it ends where the next begins. There is one for each
// time that the part is told.
type phase struct {
	name string
	from time.Duration
}

// story is a batch of clients on a system, and what has happened to them.
type story struct {
	test    testing.TB // told of what must never happen, in whatever telling
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
		libraries := slices.DeleteFunc(slices.Clone(b.libraries), func(l library) bool { return !only.MatchString(l.name) })
		if len(libraries) == 0 {
			continue
		}
		libraries = built(t, libraries)
		t.Run(b.name, func(t *testing.T) {
			s := &story{}
			testkit.Tries(t, pick(2, 1), func(try testing.TB) {
				s = &story{test: t, system: startHoldfast(try)}
				s.tell(try, libraries)
			})
			table.add(t, s)
			for _, c := range s.clients {
				s.judge(t, c)
			}
		})
		if long() {
			t.Run(b.name+" with the real Redis", func(t *testing.T) {
				s := &story{test: t, system: startRealRedis(t)}
				s.tell(t, libraries)
				table.add(t, s)
			})
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
func (s *story) tell(t testing.TB, libraries []library) {
	t.Helper()
	defer s.audit()
	first := s.system.waitMaster(t, -1)
	// The master's own Sentinel is one of those that the clients are told, and will die.
	sentinels := []string{
		testkit.Loopback(testkit.Ports(t)), // nobody answers here
		s.system.machines[first].sentinel,
		s.system.machines[(first+1)%3].sentinel,
	}
	for _, l := range libraries {
		s.clients = append(s.clients, enter(t, s.test, l, sentinels))
	}
	s.back(t, testkit.Now())
	for _, c := range s.clients {
		testkit.Tries(t, 3, func(t testing.TB) { s.askReplicas(t, c) })
	}

	s.scene(t, s.crash)
	s.scene(t, func(t testing.TB) { s.loseSentinel(t, phaseLoss) })
	s.scene(t, func(t testing.TB) { s.loseSentinel(t, phaseLoss2) })
	s.scene(t, s.handOver)
	s.scene(t, s.loseMajority)
	s.close(t)
}

// scene tells a part of the story, and tells it again while it has kept clients waiting
// for too long each time.
func (s *story) scene(t testing.TB, play func(t testing.TB)) {
	t.Helper()
	first := len(s.phases)
	for n := 1; ; n++ {
		play(t)
		if long() {
			return // the phase goes on until the next begins
		}
		late := s.late(first)
		s.begin(phaseApart)
		if late == nil || n == tellings {
			return
		}
		t.Logf("told again after %d: %v", n, late)
	}
}

// late tells which clients have come through a phase badly each time that it was told,
// of those phases that have begun since there were so many.
func (s *story) late(first int) error {
	var list []error
	for _, name := range judged {
		if !slices.ContainsFunc(s.phases[first:], func(p phase) bool { return p.name == name }) {
			continue
		}
		for _, c := range s.clients {
			list = append(list, s.verdict(c, name))
		}
	}
	return errors.Join(list...)
}

// audit reports acknowledged increments that are lost, whatever else has happened. The
// real Redis may lose some.
func (s *story) audit() {
	for _, c := range s.clients {
		if n, lost := c.books(); lost > 0 && !s.system.real {
			s.test.Errorf("%s: %d of %d acknowledged increments are lost", c.name, lost, n)
		}
	}
}

// close has every client read its counter and end, and looks what the counter holds.
func (s *story) close(t testing.TB) {
	t.Helper()
	s.end = testkit.Now()
	for _, c := range s.clients {
		before := c.last()
		read, _ := strconv.ParseInt(c.order(t, "read", backLimit), 10, 64)
		// An increment that was executed without an acknowledgement counts, too: only the
		// next acknowledgement is of a higher number for certain.
		if err := s.resumes(t, c, testkit.Now(), 1, backLimit); err != nil {
			t.Fatal(err)
		}
		c.quit(t)
		if after := c.last(); read < before || read > after {
			s.test.Errorf("%s reads %d after it was acknowledged %d and before %d", c.name, read, before, after)
		}
	}
	for _, c := range s.clients {
		c.counter = s.system.counter(t, c.key)
	}
}

// begin begins a phase.
func (s *story) begin(name string) { s.phases = append(s.phases, phase{name, testkit.Now()}) }

// back waits until every client is acknowledged again after the instant, and reports
// those that are not.
func (s *story) back(t testing.TB, after time.Duration) {
	t.Helper()
	limit := testkit.Now() + backLimit
	var missing []error
	for _, c := range s.clients {
		missing = append(missing, s.resumes(t, c, after, resumedAt, limit-testkit.Now()))
	}
	if err := errors.Join(missing...); err != nil {
		t.Fatal(err)
	}
}

// resumes waits until a client was acknowledged n increments after the instant.
func (s *story) resumes(t testing.TB, c *liveClient, after time.Duration, n int, limit time.Duration) error {
	t.Helper()
	ctx, cancel := withLimit(t, limit)
	defer cancel()
	if err := testkit.Poll(ctx, func() error { return c.resumed(after, n) }); err != nil {
		return fmt.Errorf("%s: not back after %v: %w\n%s", s.system.name, backLimit, err, c.stderr())
	}
	return nil
}

// askReplicas has a client read through replicas, and makes sure that it was a replica
// that answered.
func (s *story) askReplicas(t testing.TB, c *liveClient) {
	t.Helper()
	master := s.system.waitMaster(t, -1)
	before := s.system.replicaReads(t, master)
	answer := c.order(t, "replica", backLimit)
	if c.noReplicas {
		if answer != "none" {
			t.Errorf("%s asks replicas: %s", c.name, answer)
		}
		return
	}
	if n, err := strconv.Atoi(answer); err != nil || n < 1 {
		t.Errorf("%s reads %q through replicas", c.name, answer)
	}
	if got := s.system.replicaReads(t, master) - before; got == 0 && !c.nearest {
		t.Errorf("%s: no replica has answered its reads", c.name)
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

// quiet waits until no client was acknowledged anything for half a second, at most three:
// after a kill replies are still on their way through pipes. It counts its looks and not
// the time: when the machine stands still, so do the pipes.
func (s *story) quiet(t testing.TB) {
	t.Helper()
	const looks, limit = 50, 3 * time.Second
	ctx, cancel := withLimit(t, limit)
	defer cancel()
	seen, calm := 0, 0
	_ = testkit.Poll(ctx, func() error {
		sum := 0
		for _, c := range s.clients {
			sum += c.acknowledged()
		}
		if calm++; sum > seen {
			seen, calm = sum, 0
		}
		return testkit.Check(calm >= looks, "looked %d times", calm)
	})
}

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
	s.quiet(t)
	dark := testkit.Now()
	testkit.Pause(t.Context(), darkFor)
	for _, c := range s.clients {
		if err := c.resumed(dark, 1); err == nil {
			s.test.Errorf("%s was acknowledged something without a majority", c.name)
		}
	}
	for _, m := range killed {
		m.start()
	}
	s.system.waitMaster(t, -1)
	s.begin(phaseBack)
	s.back(t, testkit.Now())
}
