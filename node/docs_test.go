package node

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/respserver"
)

var rewrite = flag.Bool("rewrite", false, "write the generated documents anew")

// The list of commands is what the tables say.
func TestCommandsDocumentIsGenerated(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Commands\n\nGenerated from the command tables by `make docs`; do not edit.\n\n" +
		"Replies, error texts and options are those of Redis 7.2 (redis.io/commands). " +
		"*Route* says where a command runs: a *read* on the node that is asked, a *write* through the log on every node, " +
		"*local* commands concern the connection or the node alone.\n")
	writeTable(&b, "Data port", tables(t)["data"])
	writeTable(&b, "Sentinel port", tables(t)["sentinel"])
	testkit.CheckDocument(t, "commands.md", b.String(), *rewrite)
}

func writeTable(b *bytes.Buffer, title string, table *command.Table) {
	groups := map[string][]*command.Spec{}
	for s := range table.Each() {
		if s.Do.Route != 0 {
			groups[s.Group] = append(groups[s.Group], s)
		}
	}
	fmt.Fprintf(b, "\n## %s\n", title)
	for _, g := range slices.Sorted(maps.Keys(groups)) {
		fmt.Fprintf(b, "\n### %s\n\n| command | arguments | route | since | complexity | summary |\n| --- | --- | --- | --- | --- | --- |\n", g)
		for _, s := range groups[g] {
			name := strings.ToUpper(strings.ReplaceAll(s.FullName(), "|", " "))
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s |\n", name, code(s.Syntax), routeNames[s.Do.Route], s.Since, cell(s.Complexity), cell(s.Summary))
		}
	}
}

// cell is text that may stand in a cell of a table.
func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

// code is cell for a syntax.
func code(text string) string {
	if text == "" {
		return ""
	}
	return "`" + cell(text) + "`"
}

var routeNames = map[command.Route]string{
	command.RouteRead:       "read",
	command.RouteWrite:      "write",
	command.RouteReplicated: "replicated",
	command.RouteLocal:      "local",
}

var descText = regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]*)".*variableLabels: \{([^}]*)\}`)

// described are the metrics of a node as its collectors describe them: labels and
// meaning by name.
func described(t testing.TB) map[string][2]string {
	t.Helper()
	descs := make(chan *prometheus.Desc, 1000)
	newCollector(nil).Describe(descs)
	respserver.New(respserver.Config{Table: tables(t)["data"]}).Collector().Describe(descs)
	tm := newTimings()
	for _, c := range []prometheus.Collector{tm.fsync, tm.round, tm.snapshot} {
		c.Describe(descs)
	}
	close(descs)
	all := map[string][2]string{}
	for d := range descs {
		m := descText.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		if _, twice := all[m[1]]; twice {
			t.Errorf("%s is described twice", m[1])
		}
		all[m[1]] = [2]string{strings.ReplaceAll(strings.Trim(m[3], "{}"), ",", ", "), m[2]}
	}
	return all
}

// kindOf is the type that a metric's name stands for; TestMetricsPage sees to it
// that it is true.
func kindOf(name string) string {
	switch {
	case strings.HasSuffix(name, "_total"):
		return "counter"
	case slices.Contains([]string{"holdfast_fsync_seconds", "holdfast_probe_round_seconds", "holdfast_snapshot_seconds"}, name):
		return "histogram"
	}
	return "gauge"
}

// The list of metrics is what the collectors describe.
func TestMetricsDocumentIsGenerated(t *testing.T) {
	all := described(t)
	var b bytes.Buffer
	b.WriteString("# Metrics\n\nGenerated from the collectors by `make docs`; do not edit.\n\n" +
		"They are served by `metrics-port` under /metrics, beside those of the Go runtime (`go_…`) and of the process (`process_…`). " +
		"Names and labels that begin with `redis_` are those of redis_exporter, so that its dashboards and alerts work; " +
		"what only Holdfast has begins with `holdfast_`. Label values are names of commands, error codes, databases and nodes: no client can add one.\n\n" +
		"| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, kindOf(name), all[name][0], cell(all[name][1]))
	}
	testkit.CheckDocument(t, "metrics.md", b.String(), *rewrite)
}
