package node

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/sentinelapi"
)

var rewrite = flag.Bool("rewrite", false, "write the generated documents anew")

// checkDocument compares a generated document with the file, or writes it.
func checkDocument(t *testing.T, name, want string) {
	t.Helper()
	path := filepath.Join("..", "docs", name)
	if *rewrite {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("docs/%s is stale: run make docs", name)
	}
}

type noView struct{}

func (noView) View() sentinelapi.View { return sentinelapi.View{} }

// The list of commands is what the tables say.
func TestCommandsDocumentIsGenerated(t *testing.T) {
	data, err := dataTable()
	if err != nil {
		t.Fatal(err)
	}
	sentinel, err := sentinelTable(noView{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.WriteString("# Commands\n\nGenerated from the command tables by `make docs`; do not edit.\n\n" +
		"Replies, error texts and options are those of Redis 7.2 (redis.io/commands). " +
		"*Route* says where a command runs: a *read* on the node that is asked, a *write* through the log on every node, " +
		"*local* commands concern the connection or the node alone.\n")
	writeTable(&b, "Data port", data)
	writeTable(&b, "Sentinel port", sentinel)
	checkDocument(t, "commands.md", b.String())
}

func writeTable(b *bytes.Buffer, title string, table *command.Table) {
	groups := map[string][]*command.Spec{}
	for s := range table.Each() {
		if s.Do.Route != 0 && !s.Has(command.FlagInternal) {
			groups[s.Group] = append(groups[s.Group], s)
		}
	}
	fmt.Fprintf(b, "\n## %s\n", title)
	names := make([]string, 0, len(groups))
	for g := range groups {
		names = append(names, g)
	}
	slices.Sort(names)
	for _, g := range names {
		fmt.Fprintf(b, "\n### %s\n\n| command | arguments | route | since | summary |\n| --- | --- | --- | --- | --- |\n", g)
		slices.SortFunc(groups[g], func(x, y *command.Spec) int { return cmp.Compare(x.FullName(), y.FullName()) })
		for _, s := range groups[g] {
			name := strings.ToUpper(strings.ReplaceAll(s.FullName(), "|", " "))
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", name, cell(s.Syntax), routeName(s.Do.Route), s.Since, cell(s.Summary))
		}
	}
}

func cell(text string) string {
	if text == "" {
		return ""
	}
	return strings.ReplaceAll(text, "|", "\\|")
}

func routeName(r command.Route) string {
	switch r {
	case command.RouteRead:
		return "read"
	case command.RouteWrite:
		return "write"
	case command.RouteReplicated:
		return "replicated"
	default:
		return "local"
	}
}

// Every command says what it does and what it costs: the documents, COMMAND DOCS
// and the operators' trust depend on it.
func TestEveryCommandIsDescribed(t *testing.T) {
	data, err := dataTable()
	if err != nil {
		t.Fatal(err)
	}
	for s := range data.Each() {
		if s.Has(command.FlagInternal) {
			continue
		}
		if s.Summary == "" || s.Group == "" || s.Since == "" || (s.Do.Route != 0 && s.Complexity == "") {
			t.Errorf("%s lacks summary, group, since or complexity", s.FullName())
		}
	}
}

var descText = regexp.MustCompile(`fqName: "([^"]+)", help: "([^"]*)".*variableLabels: \{([^}]*)\}`)

// The list of metrics is what the collectors describe.
func TestMetricsDocumentIsGenerated(t *testing.T) {
	data, err := dataTable()
	if err != nil {
		t.Fatal(err)
	}
	descs := make(chan *prometheus.Desc, 1000)
	newCollector(nil).Describe(descs)
	respserver.New(respserver.Config{Table: data}).Collector().Describe(descs)
	tm := newTimings()
	for _, c := range []prometheus.Collector{tm.fsync, tm.round, tm.snapshot, tm.snapshotErrors} {
		c.Describe(descs)
	}
	close(descs)
	var rows []string
	for d := range descs {
		m := descText.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("cannot read %s", d)
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |", m[1], strings.Trim(m[3], "{}"), cell(m[2])))
	}
	slices.Sort(rows)
	checkDocument(t, "metrics.md", "# Metrics\n\nGenerated from the collectors by `make docs`; do not edit. "+
		"They are served by `metrics-port` under /metrics, beside those of the Go runtime and the process. "+
		"Names are those of redis_exporter where it has one.\n\n| metric | labels | meaning |\n| --- | --- | --- |\n"+
		strings.Join(slices.Compact(rows), "\n")+"\n")
}
