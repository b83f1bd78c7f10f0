package node

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/internal/testkit/script"
	"github.com/holdfast/holdfast/sentinelapi"
)

// noView is a cluster of which nothing is known.
type noView struct{}

var _ sentinelapi.Source = noView{}

// View is empty.
func (noView) View() sentinelapi.View { return sentinelapi.View{} }

// Failover does nothing.
func (noView) Failover() error { return nil }

// tables are the joined tables of both ports.
func tables(tb testing.TB) map[string]*command.Table {
	tb.Helper()
	data, err := dataTable()
	if err != nil {
		tb.Fatal(err)
	}
	sentinel, err := sentinelTable(noView{}, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return map[string]*command.Table{"data": data, "sentinel": sentinel}
}

// specs are all commands, subcommands and containers of both ports, by port and
// name.
func specs(tb testing.TB) map[string]*command.Spec {
	tb.Helper()
	all := map[string]*command.Spec{}
	for port, table := range tables(tb) {
		n := 0
		for s := range table.Each() {
			n++
			all[port+"/"+s.FullName()] = s
		}
		if n < table.Len() || table.Len() < 10 {
			tb.Errorf("the table of the %s port has %d commands", port, n)
		}
	}
	return all
}

// A command has exactly one route and what runs it there, and nothing for another;
// a container that is no command has nothing.
func TestEveryCommandHasExactlyOneRoute(t *testing.T) {
	type parts struct{ check, read, frozen, apply, local bool }
	want := map[command.Route]parts{
		0:                       {},
		command.RouteRead:       {check: true, read: true},
		command.RouteWrite:      {check: true, apply: true},
		command.RouteReplicated: {check: true, apply: true},
		command.RouteLocal:      {check: true, local: true},
	}
	for name, s := range specs(t) {
		t.Run(name, func(t *testing.T) {
			d := &s.Do
			w, known := want[d.Route]
			w.frozen = d.Route == command.RouteRead && d.Frozen != nil // beside Read, where it pays
			got := parts{d.Check != nil, d.Read != nil, d.Frozen != nil, d.Apply != nil, d.Local != nil}
			if !known || got != w {
				t.Errorf("route %d has the handlers %+v, want %+v", d.Route, got, w)
			}
			if d.Route == 0 && len(s.Sub) == 0 {
				t.Error("it has neither a route nor subcommands")
			}
			if strings.HasPrefix(name, "sentinel/") && d.Route != 0 && d.Route != command.RouteLocal {
				t.Errorf("route %d on the Sentinel port, which has no data", d.Route)
			}
		})
	}
}

// The arity counts the name: positive is exact, negative the least. A subcommand
// counts its container too.
func TestArityAgreesWithAccepts(t *testing.T) {
	const most = 40
	for name, s := range specs(t) {
		t.Run(name, func(t *testing.T) {
			least := max(s.Arity, -s.Arity)
			if words := strings.Count(s.FullName(), "|") + 1; least < words {
				t.Errorf("arity %d leaves no room for %d words of the name", s.Arity, words)
			}
			for n := range most {
				want := n == least || n > least && s.Arity < 0
				if got := s.Accepts(n); got != want {
					t.Errorf("arity %d: %d arguments accepted: %t", s.Arity, n, got)
				}
			}
		})
	}
}

// Whatever a call looks like, its keys are among its arguments, behind the name,
// and a command that has keys has one in its shortest call unless it says so.
func TestKeysAreWithinTheArguments(t *testing.T) {
	for name, s := range specs(t) {
		t.Run(name, func(t *testing.T) {
			least := max(s.Arity, -s.Arity)
			for _, filler := range []string{"x", "1", "2", "-1", "99999999999999999999", "KEYS", "STREAMS", "STORE", ""} {
				for n := least; n < least+6 && s.Accepts(n); n++ {
					args := strings.Split(s.FullName(), "|")
					for len(args) < n {
						args = append(args, filler)
					}
					keys := s.KeysOf(nil, byteArgs(args))
					for _, k := range keys {
						if k.Pos < 1 || k.Pos >= len(args) {
							t.Errorf("%q: a key at %d", args, k.Pos)
						}
						if k.Flags == 0 {
							t.Errorf("%q: nothing is said of the key at %d", args, k.Pos)
						}
					}
					if s.HasKeys() && filler == "x" && len(keys) == 0 && !s.Has(command.FlagNoMandatoryKeys) && !s.Has(command.FlagMovableKeys) {
						t.Errorf("%q has no key", args)
					}
				}
			}
		})
	}
}

func byteArgs(args []string) [][]byte {
	list := make([][]byte, len(args))
	for i, a := range args {
		list[i] = []byte(a)
	}
	return list
}

// Categories that follow from other facts are there, and those that contradict
// them are not.
func TestImpliedCategories(t *testing.T) {
	for name, s := range specs(t) {
		t.Run(name, func(t *testing.T) {
			c, words := s.AllCategories(), s.FlagNames()
			has := func(word string) bool { return slices.Contains(words, word) }
			if (c&command.CatFast != 0) == (c&command.CatSlow != 0) {
				t.Error("it is not either fast or slow")
			}
			for word, implied := range map[string]command.Category{
				"write": command.CatWrite, "admin": command.CatAdmin | command.CatDangerous, "pubsub": command.CatPubSub,
				"blocking": command.CatBlocking, "fast": command.CatFast,
			} {
				if has(word) && c&implied != implied {
					t.Errorf("it is %s but not of %q", word, (implied &^ c).Names())
				}
			}
			if has("write") && has("readonly") {
				t.Error("it is both write and readonly")
			}
			if c&command.CatWrite != 0 && !has("write") || c&command.CatRead != 0 && !has("readonly") {
				t.Errorf("categories %q contradict flags %q", c.Names(), words)
			}
			if s.Do.Route == command.RouteWrite && !has("write") || s.Do.Route == command.RouteReplicated && has("write") {
				t.Errorf("flags %q contradict route %d", words, s.Do.Route)
			}
		})
	}
}

// Every command says what documents, COMMAND DOCS and operators need.
func TestEveryCommandIsDescribed(t *testing.T) {
	for name, s := range specs(t) {
		t.Run(name, func(t *testing.T) {
			for part, text := range map[string]string{"summary": s.Summary, "group": s.Group, "since": s.Since, "complexity": s.Complexity} {
				if text == "" {
					t.Errorf("it has no %s", part)
				}
			}
			if !strings.HasSuffix(s.Summary, ".") {
				t.Errorf("the summary %q is no sentence", s.Summary)
			}
			if _, err := s.Arguments(); err != nil {
				t.Errorf("its syntax cannot be read: %v", err)
			}
			if (s.Deprecated == "") != (s.ReplacedBy == "") && s.ReplacedBy != "" {
				t.Error("it is replaced but not deprecated")
			}
		})
	}
}

// The parts of a command's description in the reply of COMMAND INFO.
var infoParts = []string{
	"name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "key specifications", "subcommands",
}

// infoDifferences are the parts that differ from those of redis-server 7.0.15 on
// purpose, and why.
var infoDifferences = map[string]map[string]string{
	"client":  {"subcommands": "pausing is not offered, and those newer than 7.0 are there; told in the order of names"},
	"cluster": {"subcommands": "only what clients ask to find out whether this is a Redis Cluster; told in the order of names"},
	"command": {"subcommands": "told in the order of names"},
	"config":  {"subcommands": "there is no file to rewrite; told in the order of names"},
	"memory":  {"subcommands": "the others are about Redis's allocator"},
	"object":  {"subcommands": "told in the order of names"},
}

// Names, arity, flags, key positions, categories, tips and key specifications of
// all commands of the data port are those of the real server, so that clients
// that ask COMMAND see no difference. Commands newer than it are told by none.
func TestCommandInfoEqualsRedis(t *testing.T) {
	theirs := testkit.MustDial(t, testkit.StartRedis(t).Addr())
	ours := single(t).dial()
	compareInfo(t, tables(t)["data"], theirs, ours, infoDifferences)
}

// sentinelDifferences are the same for redis-sentinel 7.0.15.
var sentinelDifferences = map[string]map[string]string{
	"acl":      {"subcommands": "told in the order of names"},
	"client":   {"subcommands": "those newer than 7.0 are there; told in the order of names"},
	"command":  {"subcommands": "told in the order of names"},
	"sentinel": {"subcommands": "told in the order of names"},
}

// The Sentinel port has the commands of a Redis 7.2 Sentinel, described as that
// describes them, and no others.
func TestSentinelCommandInfoEqualsRedis(t *testing.T) {
	theirs := testkit.MustDial(t, testkit.StartSentinel(t, testkit.StartRedis(t), testkit.MasterName).Addr())
	m := single(t)
	ours := testkit.MustDial(t, testkit.Loopback(m.cfg.SentinelPort))
	compareInfo(t, tables(t)["sentinel"], theirs, ours, sentinelDifferences)
	known := map[string]bool{}
	for s := range tables(t)["sentinel"].Each() {
		known[s.FullName()] = true
	}
	for _, name := range theirs.MustDo(t, "COMMAND", "LIST").Strings() {
		if !known[name] {
			t.Errorf("there is no %s", name)
		}
	}
}

// compareInfo compares what two servers say of the commands of a table.
func compareInfo(t *testing.T, table *command.Table, theirs, ours *testkit.Client, differences map[string]map[string]string) {
	t.Helper()
	checked := map[string]bool{}
	for s := range table.Each() {
		name := s.FullName()
		want := theirs.MustDo(t, "COMMAND", "INFO", name).Elems[0]
		got := ours.MustDo(t, "COMMAND", "INFO", name).Elems[0]
		if s.Newer != want.Null {
			t.Errorf("%s: it is newer than redis-server %s: %t, but that knows it: %t", name, testkit.OracleVersion, s.Newer, !want.Null)
		}
		if want.Null {
			continue
		}
		if len(want.Elems) != len(infoParts) || len(got.Elems) != len(infoParts) {
			t.Fatalf("%s: COMMAND INFO has %d parts in Redis and %d here", name, len(want.Elems), len(got.Elems))
		}
		checked[name] = true
		for i, part := range infoParts {
			g, w := script.Render(got.Elems[i]), script.Render(withoutNotes(want.Elems[i]))
			switch why := differences[name][part]; {
			case why == "" && g != w:
				t.Errorf("%s: %s\n got %s\nwant %s", name, part, g, w)
			case why != "" && g == w:
				t.Errorf("%s: %s is said to differ because %s, but does not", name, part, why)
			}
		}
	}
	for name := range differences {
		if !checked[name] {
			t.Errorf("%s is said to differ but was not compared", name)
		}
	}
}

// withoutNotes leaves the notes of key specifications out: they are texts, and
// what they say is in the flags.
func withoutNotes(r testkit.Reply) testkit.Reply {
	elems := slices.Clone(r.Elems)
	if i := slices.IndexFunc(elems, func(e testkit.Reply) bool { return string(e.Text) == "notes" }); i >= 0 {
		elems = slices.Delete(elems, i, i+2)
	}
	for i := range elems {
		elems[i] = withoutNotes(elems[i])
	}
	r.Elems = elems
	return r
}

// Every command and subcommand of the data port is played by a script, whose
// replies were compared with the real server.
func TestEveryCommandHasAScript(t *testing.T) {
	table := tables(t)["data"]
	played := map[string]bool{}
	for _, path := range script.Paths(t, "../command/testdata", "../integration/testdata") {
		s, err := script.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range s.Commands() {
			if spec, err := table.Lookup(byteArgs(args)); err == nil { // a script may also show what is refused
				played[spec.FullName()] = true
			}
		}
	}
	for s := range table.Each() {
		if s.Do.Route != 0 && !played[s.FullName()] {
			t.Errorf("no script plays %s", s.FullName())
		}
	}
}

// What a client can call on both ports is described alike: tables do not drift
// apart where Redis has one command.
func TestPortsAgreeOnCommonCommands(t *testing.T) {
	both := tables(t)
	common := 0
	for s := range both["sentinel"].Each() {
		twin := both["data"].ByName(s.FullName())
		if twin == nil || s.FullName() == "client" || s.Group == "sentinel" || s.Name == "role" {
			continue // ROLE of a Sentinel is a command of its own
		}
		common++
		if s.Arity != twin.Arity || s.Syntax != twin.Syntax || s.AllCategories() != twin.AllCategories() || !slices.Equal(s.FlagNames(), twin.FlagNames()) {
			t.Errorf("%s differs between the ports", s.FullName())
		}
	}
	if common < 10 {
		t.Errorf("%d commands are common to both ports", common)
	}
}
