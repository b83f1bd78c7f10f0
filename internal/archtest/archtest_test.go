package archtest_test

import (
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

var rewrite = flag.Bool("rewrite", false, "write the generated part of the document instead of comparing with it")

// tree is this module's source.
func tree() fs.FS { return os.DirFS("../..") }

// report fails the test with everything that is wrong.
func report(t *testing.T, wrong []string) {
	t.Helper()
	for _, line := range wrong {
		t.Error(line)
	}
}

// Every package and every import of the module, with all build tags, is in the list.
func TestImportsAreInTheList(t *testing.T) {
	sources := parse(t, tree())
	report(t, checkGraph(sources))
	for _, dir := range []string{"resp", "store", "config", "cmd/holdfast"} {
		if !slices.ContainsFunc(sources, func(s source) bool { return s.dir == dir }) {
			t.Errorf("package %s was not found", dir)
		}
	}
}

// The list itself has only edges that go downward.
func TestTheListGoesDownward(t *testing.T) { report(t, checkLayers()) }

// picture shows the list, the highest layer first.
func picture() string {
	var b strings.Builder
	b.WriteString("```\n")
	for height, layer := range slices.Backward(layers) {
		for _, dir := range slices.Sorted(maps.Keys(layer)) {
			n := layer[dir]
			line := fmt.Sprintf("%d %-17s", height, dir)
			if len(n.own) > 0 {
				line += " → " + strings.Join(n.own, " ")
			}
			if len(n.third) > 0 {
				line += " | " + strings.Join(n.third, " ")
			}
			b.WriteString(strings.ReplaceAll(strings.TrimRight(line, " "), "github.com/", "") + "\n")
		}
	}
	b.WriteString("```\n")
	return b.String()
}

// docs/architecture.md shows the list.
func TestGraphInTheDocument(t *testing.T) {
	const path, begin, end = "../../docs/architecture.md", "<!-- graph -->\n", "<!-- /graph -->\n"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), begin)
	shown, after, ok2 := strings.Cut(rest, end)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no place for the graph", path)
	}
	if *rewrite {
		if err := os.WriteFile(path, []byte(before+begin+picture()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != picture() {
		t.Errorf("%s is stale; run \"make docs\"", path)
	}
}

// The deterministic core reaches no clock, no chance, no file, no socket, and
// starts no goroutine.
func TestTheCoreIsDeterministic(t *testing.T) { report(t, checkCore(parse(t, tree()))) }

// No fault hook is in a release build.
func TestReleaseBuildsHaveNoFaultHooks(t *testing.T) {
	sources := parse(t, tree())
	report(t, checkFaults(sources))
	if !slices.ContainsFunc(sources, source.faultsOnly) || !slices.ContainsFunc(sources, source.releaseOnly) {
		t.Error("no file with the tag faults, or none without, was found")
	}
}

// main only puts the program together.
func TestMainIsShort(t *testing.T) {
	const most = 40 // lines
	text, err := fs.ReadFile(tree(), "cmd/holdfast/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > most {
		t.Errorf("cmd/holdfast/main.go has %d lines, more than %d", n, most)
	}
}

// The rules find what they are there to find.
func TestRulesFindViolations(t *testing.T) {
	const own = `"` + module + `/`
	for _, c := range []struct {
		name, path, text string
		check            func([]source) []string
		want             string // "" for nothing wrong
	}{
		{"a package that is not in the list", "misc/a.go", "package misc", checkGraph, "package misc is not in the list"},
		{"an upward import", "store/a.go", "package store; import " + own + `command"`, checkGraph, "import of command is not in the list"},
		{"an upward import under a tag", "ttl/a.go", "//go:build faults\n\npackage ttl; import " + own + `store"`, checkGraph, "import of store"},
		{"an import within a layer", "pubsub/a.go", "package pubsub; import " + own + `resp"`, checkGraph, "import of resp"},
		{"somebody else's module", "command/a.go", `package command; import "github.com/tidwall/redcon"`, checkGraph, "import of github.com/tidwall/redcon"},
		{"a module whose path begins alike", "raftfsm/a.go", `package raftfsm; import "github.com/hashicorp/raft-wal"`, checkGraph, "import of github.com/hashicorp/raft-wal"},
		{"a test that looks up", "resp/a_test.go", "package resp; import " + own + `node"`, checkGraph, "a test imports node from a layer above"},
		{"code that uses a package for tests", "node/a.go", "package node; import " + own + `internal/testkit"`, checkGraph, "import of internal/testkit"},
		{"a test that uses a package for tests", "node/a_test.go", "package node; import " + own + `internal/testkit"`, checkGraph, ""},
		{"a test that uses any module", "resp/a_test.go", `package resp; import "go.uber.org/goleak"`, checkGraph, ""},
		{"an allowed import", "command/a.go", "package command; import " + own + `store"`, checkGraph, ""},
		{"another module's code", "tools/a.go", "package tools", checkGraph, ""},
		{"a goroutine in the core", "ttl/a.go", "package ttl; func f() { go f() }", checkCore, "ttl/a.go:1: starts a goroutine"},
		{"a clock in the core", "store/a.go", "package store; import \"time\"; func f() { time.Now() }", checkCore, "asks the clock with time.Now"},
		{"a duration in the core", "store/a.go", "package store; import \"time\"; const d = time.Second", checkCore, ""},
		{"chance in the core", "command/a.go", `package command; import "math/rand/v2"`, checkCore, "imports math/rand/v2"},
		{"a socket in the core", "resp/a.go", `package resp; import "net/http"`, checkCore, "imports net/http"},
		{"a goroutine in a test of the core", "ttl/a_test.go", "package ttl; func f() { go f() }", checkCore, ""},
		{"a goroutine elsewhere", "node/a.go", "package node; func f() { go f() }", checkCore, ""},
		{"a hook without the tag", "cluster/a.go", "package cluster; func injectFault() {}", checkFaults, "injectFault is in release builds"},
		{"a hook under the tag", "cluster/a.go", "//go:build faults\n\npackage cluster; func injectFault() {}", checkFaults, ""},
		{"a hook under another tag", "cluster/a.go", "//go:build linux\n\npackage cluster; func injectFault() {}", checkFaults, "injectFault is in release builds"},
		{"a replacement that does nothing", "cluster/a.go", "//go:build !faults\n\npackage cluster; func fault() error { return nil }", checkFaults, ""},
		{"a replacement that does something", "cluster/a.go", "//go:build !faults\n\npackage cluster; func fault() { fault() }", checkFaults, "does something"},
		{"a replacement that calls something", "cluster/a.go", "//go:build !faults\n\npackage cluster; func fault() error { return fault() }", checkFaults, "does something"},
		{"a field without the tag", "cluster/a.go", "package cluster; type t struct { onFault func() }", checkFaults, "onFault is in release builds"},
		{"a local name", "cluster/a.go", "package cluster; func f() { faults := 1; _ = faults }", checkFaults, ""},
		{"a default", "cluster/a.go", "package cluster; const DefaultSize = 1", checkFaults, ""},
	} {
		root := fstest.MapFS{c.path: {Data: []byte(c.text)}, "tools/go.mod": {Data: []byte("module tools")}}
		wrong := strings.Join(c.check(parse(t, root)), "\n")
		if c.want == "" && wrong != "" || !strings.Contains(wrong, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, wrong, c.want)
		}
	}
}
