package command_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/internal/testkit/script"
)

// differences are the commands whose description differs from that of
// redis-server 7.0.15 on purpose, with the parts that differ and why.
var differences = map[string]map[string]string{
	"command": {
		"subcommands": "told in the order of names",
	},
	"object": {
		"subcommands": "told in the order of names",
	},
	"memory": {
		"subcommands": "DOCTOR, MALLOC-STATS, PURGE and STATS are about Redis's allocator",
	},
}

// notes are texts that go with some of Redis's key specifications; ours say the
// same by their flags.
const notes = "notes"

// Arity, flags, key positions, categories, tips and key specifications are those
// of the real server, so that clients that ask COMMAND see no difference.
func TestCommandInfoEqualsRedis(t *testing.T) {
	client := testkit.MustDial(t, startOracle(t).Addr())
	ours := newMemory(t, 2)
	parts := []string{"name", "arity", "flags", "first key", "last key", "step", "categories", "tips", "key specifications", "subcommands"}
	for spec := range ours.table.Each() {
		name := spec.FullName()
		if spec.Newer {
			continue
		}
		want := client.MustDo(t, "COMMAND", "INFO", name).Elems[0]
		got := ask(t, ours, "COMMAND", "INFO", name).Elems[0]
		if len(want.Elems) != len(parts) || len(got.Elems) != len(parts) {
			t.Fatalf("%s: COMMAND INFO has %d parts in Redis and %d here", name, len(want.Elems), len(got.Elems))
		}
		for i, part := range parts {
			g, w := script.Render(got.Elems[i]), script.Render(withoutNotes(want.Elems[i]))
			why := differences[name][part]
			switch {
			case why == "" && g != w:
				t.Errorf("%s: %s\n got %s\nwant %s", name, part, g, w)
			case why != "" && g == w:
				t.Errorf("%s: %s is said to differ because %s, but does not", name, part, why)
			}
		}
	}
}

// withoutNotes leaves the notes of key specifications out.
func withoutNotes(r testkit.Reply) testkit.Reply {
	r.Elems = slices.Clone(r.Elems)
	for i := 0; i < len(r.Elems); i++ {
		if string(r.Elems[i].Text) == notes {
			r.Elems = slices.Delete(r.Elems, i, i+2)
			i--
			continue
		}
		r.Elems[i] = withoutNotes(r.Elems[i])
	}
	return r
}

// argumentDifferences are arguments that our syntax names or cuts in another way.
var argumentDifferences = map[string]string{
	"incrbyfloat":             "the increment is called a number, which says its type",
	"command|getkeys":         "Redis documents no arguments",
	"command|getkeysandflags": "Redis documents no arguments",
}

// Since, group and arguments of COMMAND DOCS are those of the real server: what
// redis-cli hints at while one types is the same.
func TestCommandDocsEqualRedis(t *testing.T) {
	client := testkit.MustDial(t, startOracle(t).Addr())
	ours := newMemory(t, 2)
	for spec := range ours.table.Each() {
		name := spec.FullName()
		want := client.MustDo(t, "COMMAND", "DOCS", name).Elems[1].Map()
		got := ask(t, ours, "COMMAND", "DOCS", name).Elems[1].Map()
		for _, part := range []string{"since", "group", "doc_flags", "deprecated_since", "replaced_by"} {
			if g, w := script.Render(got[part]), script.Render(want[part]); g != w {
				t.Errorf("%s: %s is %s, want %s", name, part, g, w)
			}
		}
		if g, w := outline(got["arguments"]), outline(want["arguments"]); (g == w) != (argumentDifferences[name] == "") {
			t.Errorf("%s: arguments (%s)\n got %s\nwant %s", name, argumentDifferences[name], g, w)
		}
		if len(got["summary"].Text) == 0 || len(got["complexity"].Text) == 0 {
			t.Errorf("%s has no summary or no complexity", name)
		}
		if string(got["summary"].Text) == string(want["summary"].Text) {
			t.Errorf("%s: the summary is not in our own words", name)
		}
	}
}

// outline shows a list of arguments without the names of choices and without
// the versions that introduced parts of them.
func outline(args testkit.Reply) string {
	parts := make([]string, len(args.Elems))
	for i, a := range args.Elems {
		m := a.Map()
		name := string(m["name"].Text)
		if string(m["type"].Text) == "oneof" {
			name = "-"
		}
		parts[i] = strings.Join([]string{
			name, string(m["type"].Text), string(m["token"].Text), script.Render(m["key_spec_index"]),
			strings.Join(m["flags"].Strings(), ","), outline(m["arguments"]),
		}, " ")
	}
	return "(" + strings.Join(parts, "; ") + ")"
}

// Errors about names and numbers of arguments are those of the real server, to
// the byte, however odd the names.
func TestLookupErrorsEqualRedis(t *testing.T) {
	long := strings.Repeat("a", 200)
	client := testkit.MustDial(t, startOracle(t).Addr())
	ours := newMemory(t, 2)
	for _, args := range [][]string{
		{"nosuch"},
		{"nosuch", "a", "b"},
		{"NoSuch", ""},
		{""},
		{"", "x"},
		{long, long, "x"},
		{"nosuch", long, "x"},
		{"nosuch", long[:120], "bcdefghijkl", "x"},
		{"nosuch", long[:119], "bcdefghijkl", "x"},
		{"nosuch", long[:109], "bbbbbbbbbbbbbbbbbbbbbb", "x"},
		{"nosuch", long[:125], "b"},
		{"nosuch", long[:126], "b"},
		{"no\r\nsuch", "x\ny", "'quoted'"},
		{"nul\x00byte", "nul\x00arg", "after"},
		{"\xff\xfe", "\x01"},
		{"get"},
		{"GET", "a", "b"},
		{"set", "a"},
		{"object"},
		{"OBJECT", "nosuch"},
		{"object", long},
		{"object", "nul\x00byte"},
		{"object", "a\r\nb"},
		{"object", "FREQ|x", "x"},
		{"object", "encoding"},
		{"OBJECT", "ENCODING", "a", "b"},
		{"memory", "usage"},
		{"command", "getkeys"},
		{"command", "nosuch"},
		{"object|encoding", "x"},
		{"mset", "a", "b", "c"},
		{"expire", "k", "1", "a\r\nb"},
		{"expire", "k", "1", "a\x00b"},
	} {
		want, err := client.Do(args...)
		if err == nil {
			t.Fatalf("%q is right to Redis", args)
		}
		if got := ask(t, ours, args...); got.String() != want.String() {
			t.Errorf("%q\n got %s\nwant %s", args, got, want)
		}
	}
}

// ask sends a command to a session.
func ask(tb testing.TB, s script.Session, args ...string) testkit.Reply {
	tb.Helper()
	r, err := s.Do("c1", args)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// Every command says all that documents and clients are told of it.
func TestSpecsAreComplete(t *testing.T) {
	for spec := range dataTable(t).Each() {
		for part, text := range map[string]string{
			"group": spec.Group, "since": spec.Since, "complexity": spec.Complexity, "summary": spec.Summary,
		} {
			if text == "" {
				t.Errorf("%s has no %s", spec.FullName(), part)
			}
		}
		if !strings.HasSuffix(spec.Summary, ".") {
			t.Errorf("%s: summary %q is no sentence", spec.FullName(), spec.Summary)
		}
		if _, err := spec.Arguments(); err != nil {
			t.Errorf("%s: %v", spec.FullName(), err)
		}
		if spec.Deprecated == "" && spec.ReplacedBy != "" {
			t.Errorf("%s is replaced but not deprecated", spec.FullName())
		}
	}
}
