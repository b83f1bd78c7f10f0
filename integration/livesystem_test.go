package integration_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// Both ports have passwords, and not the same.
const (
	dataPassword     = "data-secret"
	sentinelPassword = "sentinel-secret"
)

// wholeLimit bounds how long a system may take until everything about it is well
// again. A real Sentinel needs 10 s alone until it makes a replica of an old master
// that comes back.
const wholeLimit = 90 * time.Second

// liveSystem is three machines that hold the same data, one of them as the master,
// with a Sentinel port each: three nodes of Holdfast, or three redis-server with three
// redis-sentinel. Its methods are for the test's goroutine.
type liveSystem struct {
	name     string
	real     bool // the real Redis
	machines []*machine
	// settle is how long the system wants to be left alone between two faults.
	settle time.Duration
}

// machine is what dies together.
type machine struct {
	data, sentinel string
	processes      []*testkit.Process
	starts         int
}

func (m *machine) start() {
	m.starts++
	for _, p := range m.processes {
		p.Start()
	}
}

func (m *machine) kill() {
	for _, p := range m.processes {
		p.Kill9()
	}
}

func (m *machine) running() bool {
	return !slices.ContainsFunc(m.processes, func(p *testkit.Process) bool { return !p.Running() })
}

// startHoldfast starts three nodes.
func startHoldfast(t testing.TB) *liveSystem {
	t.Helper()
	c := testkit.NewCluster(t, testkit.ClusterOptions{
		Args: []string{"--requirepass", dataPassword, "--sentinel-requirepass", sentinelPassword},
	})
	s := &liveSystem{name: "Holdfast"}
	for _, n := range c.Nodes {
		s.machines = append(s.machines, &machine{data: n.Addr(), sentinel: n.SentinelAddr(), processes: []*testkit.Process{n.Process}})
	}
	s.start(t)
	return s
}

// startRealRedis starts three redis-server, the first as the master of the others, and
// three redis-sentinel that watch it with down-after-milliseconds 1000. Everything else
// is as Debian's files have it, but for the failover timeout: it is also the pause after
// which a Sentinel may fail over again, and the tests do so sooner than six minutes.
func startRealRedis(t testing.TB) *liveSystem {
	t.Helper()
	const failoverTimeout = 5 * time.Second
	s := &liveSystem{name: "Redis " + testkit.OracleVersion + " with Sentinel", real: true, settle: 2 * failoverTimeout}
	first := testkit.Ports(t)
	const sentinels = 8 // where in the block of ports the Sentinels begin
	for i := range 3 {
		data := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %%s\nsave \"\"\nappendonly yes\nrequirepass %s\nmasterauth %s\n", first+i, dataPassword, dataPassword)
		if i > 0 {
			data += fmt.Sprintf("replicaof 127.0.0.1 %d\n", first)
		}
		watch := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %%s\nrequirepass %s\nsentinel sentinel-pass %s\nsentinel monitor %s 127.0.0.1 %d 2\n",
			first+sentinels+i, sentinelPassword, sentinelPassword, testkit.MasterName, first)
		for _, option := range []string{"auth-pass %s " + dataPassword, "down-after-milliseconds %s 1000", fmt.Sprintf("failover-timeout %%s %d", failoverTimeout.Milliseconds())} {
			watch += "sentinel " + fmt.Sprintf(option, testkit.MasterName) + "\n"
		}
		s.machines = append(s.machines, &machine{
			data: testkit.Loopback(first + i), sentinel: testkit.Loopback(first + sentinels + i),
			processes: []*testkit.Process{configured(t, "redis-server", i, data), configured(t, "redis-sentinel", i, watch)},
		})
	}
	s.start(t)
	return s
}

// configured prepares a process with a configuration file that it may rewrite; %s in
// the text is its directory.
func configured(t testing.TB, program string, i int, text string) *testkit.Process {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, program+".conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, text, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	return testkit.NewProcess(t, testkit.Command{Name: fmt.Sprintf("%s-%d", program, i+1), Path: program, Args: []string{file}, Dir: dir})
}

func (s *liveSystem) start(t testing.TB) {
	t.Helper()
	for _, m := range s.machines {
		m.start()
	}
	s.waitWhole(t)
}

// ask does one command on one port and leaves.
func ask(addr, password string, args ...string) (testkit.Reply, error) {
	c, err := testkit.Dial(addr, time.Second)
	if err != nil {
		return testkit.Reply{}, err
	}
	defer c.Close()
	if _, err := c.Do("AUTH", password); err != nil {
		return testkit.Reply{}, fmt.Errorf("AUTH on %s: %w", addr, err)
	}
	r, err := c.Do(args...)
	if err != nil {
		err = fmt.Errorf("%s on %s: %w", strings.Join(args, " "), addr, err)
	}
	return r, err
}

// askSentinel asks SENTINEL something about the master.
func (m *machine) askSentinel(command string) (testkit.Reply, error) {
	return ask(m.sentinel, sentinelPassword, "SENTINEL", command, testkit.MasterName)
}

// info is INFO of the data port.
func (m *machine) info(section string) (map[string]string, error) {
	r, err := ask(m.data, dataPassword, "INFO", section)
	return testkit.ParseInfo(string(r.Text)), err
}

// master is the index of the machine that the Sentinels of all running machines name
// and that says itself that it is master.
func (s *liveSystem) master() (int, error) {
	found := -1
	for _, m := range s.machines {
		if !m.running() {
			continue
		}
		r, err := m.askSentinel("GET-MASTER-ADDR-BY-NAME")
		if err != nil {
			return -1, err
		}
		addr := strings.Join(r.Strings(), ":")
		at := slices.IndexFunc(s.machines, func(m *machine) bool { return m.data == addr })
		if at < 0 || found >= 0 && at != found {
			return -1, fmt.Errorf("the Sentinel %s names %v as master", m.sentinel, r)
		}
		found = at
	}
	if found < 0 || !s.machines[found].running() {
		return -1, errors.New("no Sentinel names a master that runs")
	}
	role, err := ask(s.machines[found].data, dataPassword, "ROLE")
	if err != nil {
		return -1, err
	}
	return found, testkit.Check(string(role.Elems[0].Text) == "master", "the master says %v", role)
}

// waitMaster waits for a master other than the given one, -1 for any.
func (s *liveSystem) waitMaster(t testing.TB, not int) int {
	t.Helper()
	at := -1
	testkit.Eventually(t, wholeLimit, s.name+" has a new master", func() error {
		var err error
		if at, err = s.master(); err != nil {
			return err
		}
		return testkit.Check(at != not, "still the old master")
	})
	return at
}

// waitWhole waits until all machines run and every Sentinel shows all of them in good
// health, and lets the system settle. It returns the master's index.
func (s *liveSystem) waitWhole(t testing.TB) int {
	t.Helper()
	at := -1
	testkit.Eventually(t, wholeLimit, s.name+" is whole", func() error {
		var err error
		if at, err = s.master(); err != nil {
			return err
		}
		return s.whole(at)
	})
	testkit.Pause(t.Context(), s.settle)
	return at
}

// whole tells what is missing to everything being well with that master.
func (s *liveSystem) whole(at int) error {
	others := strconv.Itoa(len(s.machines) - 1)
	_, port, _ := net.SplitHostPort(s.machines[at].data)
	for i, m := range s.machines {
		info, err := m.info("default")
		if err != nil {
			return err
		}
		want := map[string]string{"loading": "0", "role": "slave", "master_link_status": "up", "master_port": port}
		if i == at {
			want = map[string]string{"loading": "0", "role": "master", "connected_slaves": others}
		}
		for field, value := range want {
			if info[field] != value {
				return fmt.Errorf("%s: %s is %q, want %q", m.data, field, info[field], value)
			}
		}
		shown := map[string]string{"flags": "master", "num-slaves": others, "num-other-sentinels": others}
		replica := map[string]string{"flags": "slave", "master-link-status": "ok", "master-port": port}
		if err := errors.Join(m.shows("MASTER", shown), m.shows("REPLICAS", replica), m.shows("SENTINELS", map[string]string{"flags": "sentinel"})); err != nil {
			return err
		}
	}
	return nil
}

// shows tells which fields of the instances in a reply of the Sentinel are not as wanted.
func (m *machine) shows(command string, want map[string]string) error {
	r, err := m.askSentinel(command)
	if err != nil {
		return err
	}
	list := r.Elems
	if command == "MASTER" {
		list = []testkit.Reply{r}
	}
	for _, instance := range list {
		fields := instance.Map()
		for field, value := range want {
			if got := string(fields[field].Text); got != value {
				return fmt.Errorf("%s: SENTINEL %s: %s is %q, want %q", m.sentinel, command, field, got, value)
			}
		}
	}
	return nil
}

// failover has a Sentinel move the master, and waits until that has happened. It asks
// again when the answer is not OK, or nothing comes of it: so it may be while a machine
// stands still, and it may be that the master has moved meanwhile.
func (s *liveSystem) failover(t testing.TB) {
	t.Helper()
	const times, accepted = 3, 10 * time.Second
	old := s.waitMaster(t, -1)
	moved := func() error {
		at, err := s.master()
		return errors.Join(err, testkit.Check(at != old, "still the old master"))
	}
	// Asked of a replica's Sentinel that runs, as an operator would ask any.
	asked := slices.IndexFunc(s.machines, func(m *machine) bool { return m != s.machines[old] && m.running() })
	for range times {
		testkit.Eventually(t, accepted, s.name+": SENTINEL FAILOVER", func() error {
			r, err := s.machines[asked].askSentinel("FAILOVER")
			if err == nil && r.String() == "+OK" || moved() == nil {
				return nil
			}
			return errors.Join(err, fmt.Errorf("the answer is %v", r))
		})
		ctx, cancel := withLimit(t, wholeLimit/times)
		err := testkit.Poll(ctx, moved)
		cancel()
		if err == nil {
			return
		}
	}
	t.Fatalf("%s: the master has not moved within %v", s.name, wholeLimit)
}

// counter is what the master holds under the key. A node that was deposed meanwhile
// would tell what is old: it must be master still when it has told.
func (s *liveSystem) counter(t testing.TB, key string) int64 {
	t.Helper()
	n := int64(0)
	testkit.Eventually(t, wholeLimit, s.name+" tells a counter", func() error {
		at, err := s.master()
		if err != nil {
			return err
		}
		r, err := ask(s.machines[at].data, dataPassword, "GET", key)
		if err != nil {
			return err
		}
		n = r.Int()
		after, err := s.master()
		return errors.Join(err, testkit.Check(after == at, "the master has moved"))
	})
	return n
}

// replicaReads is how many GET the machines have answered that are not the master.
func (s *liveSystem) replicaReads(t testing.TB, master int) int {
	t.Helper()
	sum := 0
	for i, m := range s.machines {
		if i == master {
			continue
		}
		var stats map[string]string
		testkit.Eventually(t, wholeLimit, m.data+" tells its statistics", func() error {
			var err error
			stats, err = m.info("commandstats")
			return err
		})
		calls, _, _ := strings.Cut(strings.TrimPrefix(stats["cmdstat_get"], "calls="), ",")
		n, _ := strconv.Atoi(calls)
		sum += n
	}
	return sum
}
