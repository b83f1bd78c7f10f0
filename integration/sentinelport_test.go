package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// What a reply says, as lines: of each part its place, its type and its value, or the
// kind of value where that depends on the moment, the machine or the node.

var (
	aNumber  = regexp.MustCompile(`^-?[0-9]+$`)
	aDecimal = regexp.MustCompile(`^-?[0-9]+\.[0-9]+$`)
	anID     = regexp.MustCompile(`^[0-9a-f]{40}$`)
	aPlace   = regexp.MustCompile(`127\.0\.0\.1:[0-9]+`)
)

// exactNumbers are the fields whose numbers are the same in both clusters.
var exactNumbers = []string{
	"link-refcount", "num-slaves", "num-other-sentinels", "quorum", "parallel-syncs", "slave-priority", "replica-announced",
	"down-after-milliseconds", "failover-timeout", "proto", "sentinel_masters", "sentinel_tilt", "sentinel_tilt_since_seconds",
	"sentinel_running_scripts", "sentinel_scripts_queue_length", "sentinel_simulate_failure_flags",
}

// freeTexts are the fields of INFO and HELLO whose texts are everybody's own.
var freeTexts = []string{
	"redis_version", "version", "redis_git_sha1", "redis_build_id", "os", "multiplexing_api", "executable", "config_file", "monotonic_clock",
	"go_version", "node_id", "holdfast_version",
}

// shownValue is the value of a field, or its kind.
func shownValue(field, text string) string {
	switch {
	case slices.Contains(freeTexts, field):
		return "(text)"
	case slices.Contains(exactNumbers, field):
		return text
	case aNumber.MatchString(text):
		return "(number)"
	case aDecimal.MatchString(text):
		return "(decimal)"
	case anID.MatchString(text):
		return "(id)"
	}
	return aPlace.ReplaceAllString(text, "(address)")
}

// outline is what a reply says. Instances of a list are told in the order of their
// outlines: a real Sentinel has them in no order.
func outline(r testkit.Reply) []string {
	if r.Type == '$' && strings.Contains(string(r.Text), "\r\n") {
		return infoOutline(string(r.Text))
	}
	switch {
	case r.Null:
		return []string{string(r.Type) + " null"}
	case len(r.Elems) == 0:
		return []string{string(r.Type) + " " + shownValue("", string(r.Text))}
	}
	lines := []string{fmt.Sprintf("%c%d", r.Type, len(r.Elems))}
	if r.Elems[0].Type == '$' && len(r.Elems)%2 == 0 && len(r.Elems) > 2 && len(r.Elems[1].Elems) == 0 {
		for i := 0; i < len(r.Elems); i += 2 { // names and values
			name, value := r.Elems[i], r.Elems[i+1]
			lines = append(lines, fmt.Sprintf("%s %c %s", name.Text, value.Type, shownValue(string(name.Text), string(value.Text))))
		}
		return lines
	}
	var items []string
	for _, e := range r.Elems {
		items = append(items, strings.Join(outline(e), "\n"))
	}
	if r.Elems[0].Type != '$' {
		slices.Sort(items)
	}
	for i, item := range items {
		for line := range strings.SplitSeq(item, "\n") {
			lines = append(lines, fmt.Sprintf("%d: %s", i, line))
		}
	}
	return lines
}

// infoOutline is the outline of a text of INFO.
func infoOutline(text string) []string {
	lines := []string{"$ text"}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, value, ok := strings.Cut(line, ":"); ok {
			line = name + " " + shownValue(name, value)
		}
		lines = append(lines, line)
	}
	return lines
}

// compare tells what one outline has and the other has not, and whether what both
// have comes in the same order.
func compare(ours, theirs []string) (differences []string) {
	for _, line := range theirs {
		if !slices.Contains(ours, line) {
			differences = append(differences, "no "+line)
		}
	}
	for _, line := range ours {
		if !slices.Contains(theirs, line) {
			differences = append(differences, "also "+line)
		}
	}
	common := func(a, b []string) []string {
		return slices.DeleteFunc(slices.Clone(a), func(line string) bool { return !slices.Contains(b, line) })
	}
	if a, b := common(ours, theirs), common(theirs, ours); !slices.Equal(a, b) {
		differences = append(differences, fmt.Sprintf("the order %q, not %q", a, b))
	}
	return differences
}

// documented are the differences from redis-sentinel 7.0.15 by the command line: what
// compare says, and the words of docs/clients.md that tell of it.
var documented = map[string]map[string]string{
	"INFO": {
		"no atomicvar_api c11-builtin":                            "`atomicvar_api`",
		"no gcc_version 12.2.0":                                   "`gcc_version`",
		"no used_cpu_sys_main_thread (decimal)":                   "`used_cpu_sys_main_thread`",
		"no used_cpu_user_main_thread (decimal)":                  "`used_cpu_user_main_thread`",
		"also holdfast_version (text)":                            "`holdfast_version`",
		"also go_version (text)":                                  "`go_version`",
		"also node_id (text)":                                     "`node_id`",
		"also pubsub_clients (number)":                            "`pubsub_clients`",
		"also pending_output_bytes (number)":                      "`pending_output_bytes`",
		"also client_output_buffer_limit_disconnections (number)": "`client_output_buffer_limit_disconnections`",
		"also internal_errors (number)":                           "`internal_errors`",
	},
	"SENTINEL CONFIG GET *":      {"also loglevel $ notice": "`loglevel`"},
	"SENTINEL REPLICAS mymaster": linkOfDownReplica,
	"SENTINEL SLAVES mymaster":   linkOfDownReplica,
}

var linkOfDownReplica = map[string]string{
	"no 1: master-link-status $ ok":    "`master-link-status`",
	"also 1: master-link-status $ err": "`master-link-status`",
}

// documentedLine is the line of documented that a command line belongs to.
func documentedLine(line string) string {
	if strings.HasPrefix(line, "INFO") {
		return "INFO"
	}
	return line
}

// documentedSizes are the command lines whose replies have another number of parts
// because of differences above.
var documentedSizes = []string{"SENTINEL CONFIG GET *"}

// watched is a real master with two replicas, watched by three redis-sentinels.
type watched struct {
	servers, sentinels []*testkit.Redis
}

// How long an instance may say nothing before the real Sentinels call it down: as long as
// our own say, and longer while all is to be well, whatever else the machine does.
const (
	downAfter     = "500"
	downAfterWell = "5000"
)

func startOracle(t testing.TB) *watched {
	t.Helper()
	primary := testkit.StartRedis(t)
	o := &watched{servers: []*testkit.Redis{primary, testkit.StartReplica(t, primary), testkit.StartReplica(t, primary)}}
	for range 3 {
		o.sentinels = append(o.sentinels, testkit.StartSentinel(t, primary, testkit.MasterName))
	}
	o.set(t, "down-after-milliseconds", downAfterWell, "failover-timeout", "2000", "quorum", "2")
	return o
}

// set sets options of all Sentinels.
func (o *watched) set(t testing.TB, options ...string) {
	t.Helper()
	for _, s := range o.sentinels {
		testkit.MustDial(t, s.Addr()).MustDo(t, append([]string{"SENTINEL", "SET", testkit.MasterName}, options...)...)
	}
}

// waitShown waits until a Sentinel shows the master healthy with two replicas and two
// other Sentinels that all have the given flags, and has heard INFO of the replicas.
func (o *watched) waitShown(t testing.TB, addr, slave, sentinel string) {
	t.Helper()
	testkit.Eventually(t, 40*time.Second, "the Sentinels know each other and the replicas", func() error {
		c, err := testkit.Dial(addr, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		for command, want := range map[string]string{"REPLICAS": slave, "SENTINELS": sentinel} {
			r, err := c.Do("SENTINEL", command, testkit.MasterName)
			if err != nil {
				return err
			}
			var flags []string
			for _, e := range r.Elems {
				m := e.Map()
				flags = append(flags, string(m["flags"].Text))
				if command == "REPLICAS" && string(m["master-link-status"].Text) != "ok" && string(m["flags"].Text) == "slave" {
					return fmt.Errorf("%v", m)
				}
			}
			slices.Sort(flags)
			if got := strings.Join(flags, " "); got != want {
				return fmt.Errorf("%s have the flags %q, want %q", command, got, want)
			}
		}
		return nil
	})
}

// P8: every reply of SENTINEL, and INFO, ROLE, HELLO, has the fields of a real
// redis-sentinel in its order and with its types, in RESP2 and RESP3, while all is well
// and while a node is down; what differs is told in docs/clients.md. When either master
// moves, or a real Sentinel finds its clock odd, all is told again.
func TestSentinelPortEqualsRealOne(t *testing.T) {
	testkit.Tries(t, 3, sentinelPortEqualsRealOne)
}

func sentinelPortEqualsRealOne(t testing.TB) {
	c := start(t, testkit.ClusterOptions{})
	o := startOracle(t)
	at := c.WaitWhole(formLimit)
	seen := map[string]bool{}
	o.waitShown(t, o.sentinels[0].Addr(), "slave slave", "sentinel sentinel")
	ours := place{c.Nodes[at].SentinelAddr(), c.Nodes[at].Addr(), downAfter}
	theirs := place{o.sentinels[0].Addr(), o.servers[0].Addr(), downAfterWell}
	compareAll(t, ours, theirs, seen)

	theirs.downAfter = downAfter
	o.set(t, "down-after-milliseconds", theirs.downAfter)
	c.Nodes[(at+1)%3].Kill9()
	o.servers[2].Kill9()
	o.sentinels[2].Kill9()
	for _, addr := range []string{theirs.sentinel, ours.sentinel} {
		o.waitShown(t, addr, "s_down,slave,disconnected slave", "s_down,sentinel,disconnected sentinel")
	}
	compareAll(t, ours, theirs, seen)

	text, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	_, chapter, _ := strings.Cut(string(text), "## Differences from redis-sentinel")
	for line, list := range documented {
		for difference, words := range list {
			if !seen[line+": "+difference] {
				t.Errorf("%s: said to differ and does not: %s", line, difference)
			}
			if !strings.Contains(chapter, words) {
				t.Errorf("docs/clients.md does not tell of %s, a difference in %s", words, line)
			}
		}
	}
}

// place is where a Sentinel and its master are, and how long that may say nothing.
type place struct{ sentinel, master, downAfter string }

// compareAll compares the replies of two Sentinels and notes the documented
// differences it has seen. What differs for a moment, while a Sentinel has not heard of
// somebody, is gone when it is compared again.
func compareAll(t testing.TB, ours, theirs place, seen map[string]bool) {
	t.Helper()
	differences := differencesOf(t, ours, theirs, seen)
	for range 2 {
		if len(differences) == 0 {
			return
		}
		testkit.Pause(t.Context(), time.Second)
		again := differencesOf(t, ours, theirs, seen)
		differences = slices.DeleteFunc(differences, func(d string) bool { return !slices.Contains(again, d) })
	}
	for _, d := range differences {
		t.Error(d)
	}
}

// differencesOf are the differences that are not documented.
func differencesOf(t testing.TB, ours, theirs place, seen map[string]bool) (list []string) {
	t.Helper()
	for _, protocol := range []string{"2", "3"} {
		got, want := testkit.MustDial(t, ours.sentinel), testkit.MustDial(t, theirs.sentinel)
		for _, line := range sentinelLines {
			line = strings.ReplaceAll(line, "PROTOCOL", protocol)
			a := askSentinel(t, got, line, ours)
			b := askSentinel(t, want, line, theirs)
			for _, difference := range compare(outline(a), likeOurs(outline(b))) {
				switch {
				case documented[documentedLine(line)][difference] != "":
					seen[documentedLine(line)+": "+difference] = true
				case slices.Contains(documentedSizes, line) && regexp.MustCompile(`^(no|also) [*%][0-9]+$`).MatchString(difference):
				default:
					list = append(list, fmt.Sprintf("RESP%s, %s: %s", protocol, line, difference))
				}
			}
		}
	}
	return list
}

// likeOurs has the lines of a real one say that it calls an instance down when our own do.
func likeOurs(lines []string) []string {
	for i, line := range lines {
		if name, ok := strings.CutSuffix(line, " "+downAfterWell); ok && strings.Contains(name, "down-after-milliseconds") {
			lines[i] = name + " " + downAfter
		}
	}
	return lines
}

// sentinelLines are the commands that are compared.
var sentinelLines = []string{
	"HELLO PROTOCOL", "PING", "ROLE", "INFO", "INFO server sentinel", "INFO nosuch", "INFO replication",
	"SENTINEL MASTERS", "SENTINEL MASTER mymaster", "SENTINEL REPLICAS mymaster", "SENTINEL SLAVES mymaster", "SENTINEL SENTINELS mymaster",
	"SENTINEL GET-MASTER-ADDR-BY-NAME mymaster", "SENTINEL IS-MASTER-DOWN-BY-ADDR HOSTPORT 0 *", "SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 1 0 *",
	"SENTINEL IS-MASTER-DOWN-BY-ADDR 127.0.0.1 x 0 *", "SENTINEL CKQUORUM mymaster", "SENTINEL INFO-CACHE nobody", "SENTINEL MYID",
	"SENTINEL CONFIG GET *", "SENTINEL CONFIG GET announce-*", "SENTINEL CONFIG GET nosuch", "SENTINEL CONFIG SET announce-port 0",
	"SENTINEL CONFIG SET announce-port x", "SENTINEL CONFIG SET nosuch x", "SENTINEL FLUSHCONFIG", "SENTINEL RESET nobody",
	"SENTINEL PENDING-SCRIPTS", "SENTINEL SIMULATE-FAILURE HELP", "SENTINEL SIMULATE-FAILURE nosuch", "SENTINEL DEBUG", "SENTINEL DEBUG nosuch 1",
	"SENTINEL DEBUG ping-period 0", "SENTINEL MONITOR mymaster 127.0.0.1 6379 2", "SENTINEL MONITOR other 127.0.0.1 6379 0",
	"SENTINEL MONITOR other 127.0.0.1 70000 1", "SENTINEL MONITOR other 127.0.0.1 x 1", "SENTINEL MONITOR other 127.0.0.1 6379 x",
	"SENTINEL SET mymaster down-after-milliseconds DOWNAFTER failover-timeout 2000 parallel-syncs 1 quorum 2", "SENTINEL SET mymaster quorum 0",
	"SENTINEL SET mymaster nosuch 1", "SENTINEL SET mymaster notification-script /x",
	"SENTINEL MASTER nobody", "SENTINEL REPLICAS nobody", "SENTINEL SENTINELS nobody", "SENTINEL GET-MASTER-ADDR-BY-NAME nobody",
	"SENTINEL CKQUORUM nobody", "SENTINEL REMOVE nobody", "SENTINEL SET nobody quorum 2", "SENTINEL", "SENTINEL nosuch",
	"PUBLISH __sentinel__:hello x", "PUBLISH x y", "COMMAND COUNT", "ACL WHOAMI", "ACL LIST", "CLIENT TRACKINGINFO", "QUIT", "SELECT 0",
}

// askSentinel sends a command line in which HOSTPORT stands for the master's address, and
// DOWNAFTER for how long it may say nothing.
func askSentinel(t testing.TB, c *testkit.Client, line string, p place) testkit.Reply {
	t.Helper()
	line = strings.NewReplacer("HOSTPORT", strings.ReplaceAll(p.master, ":", " "), "DOWNAFTER", p.downAfter).Replace(line)
	if err := c.Send(strings.Fields(line)...); err != nil {
		t.Fatal(err)
	}
	r, err := c.Read()
	if err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return r
}

// INFO-CACHE and HELP have the form of the real ones; their texts are our own.
func TestSentinelTextsHaveTheFormOfRealOnes(t *testing.T) {
	testkit.Tries(t, 3, sentinelTextsHaveTheFormOfRealOnes)
}

func sentinelTextsHaveTheFormOfRealOnes(t testing.TB) {
	c := start(t, testkit.ClusterOptions{})
	o := startOracle(t)
	o.waitShown(t, o.sentinels[0].Addr(), "slave slave", "sentinel sentinel")
	testkit.Eventually(t, 20*time.Second, "the real one has heard INFO of all", func() error {
		s, err := testkit.Dial(o.sentinels[0].Addr(), time.Second)
		if err != nil {
			return err
		}
		defer s.Close()
		r, err := s.Do("SENTINEL", "INFO-CACHE", testkit.MasterName)
		if err != nil {
			return err
		}
		for _, e := range r.Elems[1].Elems {
			if e.Elems[1].Null {
				return fmt.Errorf("%v", r)
			}
		}
		return testkit.Check(len(r.Elems[1].Elems) == 3, "%d entries", len(r.Elems[1].Elems))
	})
	for _, protocol := range []string{"2", "3"} {
		var forms [2][]string
		for i, addr := range []string{c.Nodes[0].SentinelAddr(), o.sentinels[0].Addr()} {
			s := testkit.MustDial(t, addr)
			s.MustDo(t, "HELLO", protocol)
			cache := s.MustDo(t, "SENTINEL", "INFO-CACHE", testkit.MasterName)
			forms[i] = append(forms[i], form(cache), form(s.MustDo(t, "SENTINEL", "HELP").Elems[0]))
			for at, entry := range cache.Elems[1].Elems {
				if info := testkit.ParseInfo(string(entry.Elems[1].Text)); info["role"] != map[bool]string{true: "master", false: "slave"}[at == 0] || len(info["run_id"]) != 40 {
					t.Errorf("entry %d of %s says %v", at, addr, info)
				}
			}
		}
		if !slices.Equal(forms[0], forms[1]) {
			t.Errorf("RESP%s: the forms are %q, want %q", protocol, forms[0], forms[1])
		}
	}
}

// form is the types of a reply.
func form(r testkit.Reply) string {
	parts := make([]string, len(r.Elems))
	for i, e := range r.Elems {
		parts[i] = form(e)
	}
	return string(r.Type) + strings.Join(parts, "")
}

// P8: a node that is started again with other addresses tells them to clients, through
// all nodes, while the nodes go on reaching each other where they did: as for clients
// outside a container network, who are given forwarded addresses.
func TestNewAddressIsAnnouncedAfterRestart(t *testing.T) {
	files := make([]string, 3)
	dir := t.TempDir()
	c := start(t, testkit.ClusterOptions{NodeArgs: func(i int) []string {
		files[i] = filepath.Join(dir, strconv.Itoa(i))
		if err := os.WriteFile(files[i], nil, 0o600); err != nil {
			t.Fatal(err)
		}
		return []string{files[i]}
	}})
	at := c.WaitMaster(formLimit)
	i := (at + 1) % 3
	n := c.Nodes[i]
	directives := "replica-announce-ip 192.0.2.7\nreplica-announce-port 7000\nsentinel-announce-ip sentinel.example\nsentinel-announce-port 7001\n"
	if err := os.WriteFile(files[i], []byte(directives), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := n.Term(10 * time.Second); code != 0 {
		t.Fatalf("%s ended with %d", n.ID, code)
	}
	n.Start()
	for _, other := range c.Nodes {
		testkit.Eventually(t, formLimit, other.ID+" tells the new addresses", func() error {
			s, err := testkit.Dial(other.SentinelAddr(), time.Second)
			if err != nil {
				return err
			}
			defer s.Close()
			replicas, err := s.Do("SENTINEL", "REPLICAS", testkit.MasterName)
			if err != nil {
				return err
			}
			sentinels, err := s.Do("SENTINEL", "SENTINELS", testkit.MasterName)
			if err != nil {
				return err
			}
			told := strings.Contains(replicas.String(), `$"name" $"192.0.2.7:7000" $"ip" $"192.0.2.7" $"port" $"7000"`)
			heard := other == n || strings.Contains(sentinels.String(), `$"ip" $"sentinel.example" $"port" $"7001"`)
			return testkit.Check(told && heard, "%v\n%v", replicas, sentinels)
		})
	}
	role := testkit.MustDial(t, c.Nodes[at].Addr()).MustDo(t, "ROLE")
	if !strings.Contains(role.String(), `$"192.0.2.7" $"7000"`) {
		t.Errorf("ROLE of the master says %v", role)
	}
}
