package config_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/internal/testkit"
)

var rewrite = flag.Bool("rewrite", false, "write the generated document instead of comparing with it")

const preamble = `# Configuration

<!-- Generated from the table in config/directives.go by "make docs"; do not edit. -->

A node needs no setting: it is then a cluster of one with its data in ` + "`./data`" + `. Every directive below can be given in three ways;
a later one wins over an earlier one:

1. a line of a configuration file, which is the first argument: ` + "`holdfast /etc/holdfast.conf`" + `. Lines have the form ` + "`name value`" + `, with the
   comments and quotes of redis.conf;
2. an environment variable: ` + "`HOLDFAST_`" + ` and the name in capitals with ` + "`_` for `-`" + `, such as ` + "`HOLDFAST_CLUSTER_SECRET`" + `. An empty variable counts
   as not set, and so do the variables Kubernetes makes for services whose names begin with holdfast;
3. a flag: ` + "`--port 6380`" + `.

Unknown names are refused, and the nearest name is suggested. Sizes take Redis's units: ` + "`1k` is 1000 bytes, `1kb` 1024, and so on with `m`, `mb`, `g`, `gb`" + `.

*At run time* says whether CONFIG SET changes the directive while the node runs; such a change lasts until the node restarts. *Cluster* says that all
nodes use one value: the one the first master was started with, until CONFIG SET changes it for all.

Names that clients and redis.conf files use and that have one value here are listed at the end.
`

// document is the whole text of docs/configuration.md.
func document() string {
	var b strings.Builder
	b.WriteString(preamble)
	group := ""
	for _, d := range config.Directives() {
		if d.Group != group {
			group = d.Group
			fmt.Fprintf(&b, "\n## %s\n", group)
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s", d.Name, d.Short)
		if d.Long != "" {
			b.WriteString(" " + d.Long)
		}
		value := "none"
		if d.Default != "" {
			value = "`" + d.Default + "`"
		}
		fmt.Fprintf(&b, "\n\n%s · default %s · at run time: %s", d.Kind(), value, yesNo(d.Mutable))
		if d.Replicated {
			b.WriteString(" · cluster")
		}
		if d.Secret {
			b.WriteString(" · never logged")
		}
		if d.Hidden {
			b.WriteString(" · not shown by CONFIG GET")
		}
		if len(d.Aliases) > 0 {
			fmt.Fprintf(&b, " · also `%s`", strings.Join(d.Aliases, "`, `"))
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Fixed values\n\n| name | value |\n|---|---|\n")
	for _, pair := range constants() {
		fmt.Fprintf(&b, "| %s | `%s` |\n", pair[0], pair[1])
	}
	return strings.ReplaceAll(b.String(), "``", "empty")
}

// constants are the names CONFIG GET shows that are no directives.
func constants() [][2]string {
	own := map[string]bool{}
	for _, d := range config.Directives() {
		own[d.Name] = true
		for _, a := range d.Aliases {
			own[a] = true
		}
	}
	var list [][2]string
	for _, pair := range config.NewSettings(config.Default()).Get([]string{"*"}) {
		if !own[pair[0]] {
			list = append(list, pair)
		}
	}
	return list
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// docs/configuration.md says what the table says.
func TestConfigurationDocument(t *testing.T) {
	testkit.CheckDocument(t, "configuration.md", document(), *rewrite)
}

// Every directive says what it is for, and names, aliases and variables are unique.
func TestTableIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range config.Directives() {
		if d.Short == "" || !strings.HasSuffix(d.Short, ".") || d.Group == "" || d.Kind() == "" {
			t.Errorf("%s: incomplete", d.Name)
		}
		if d.Hidden && !d.Secret {
			t.Errorf("%s: hidden and no secret", d.Name)
		}
		for _, name := range append([]string{d.Name}, d.Aliases...) {
			if seen[name] || name != strings.ToLower(name) || strings.Contains(name, "_") {
				t.Errorf("%s: not a name of its own in lower case", name)
			}
			seen[name] = true
		}
	}
}

// The directives Redis does not know, and those it does, all exist.
func TestDirectivesOfTheRelease(t *testing.T) {
	const names = `port bind dir requirepass maxclients timeout tcp-keepalive databases proto-max-bulk-len client-query-buffer-limit
		client-output-buffer-limit replica-announce-ip replica-announce-port loglevel logfile protected-mode enable-debug-command
		node-id peers join sentinel-port sentinel-requirepass sentinel-announce-ip sentinel-announce-port
		sentinel-resolve-hostnames sentinel-announce-hostnames master-name raft-port raft-announce
		metrics-port unixsocket unixsocketperm supervised cluster-secret election-timeout max-entry-bytes read-mode replica-mode replica-priority handover-hold log-store
		digest-every tracking-table-max-keys`
	missing := map[string]bool{}
	for name := range strings.FieldsSeq(names) {
		missing[name] = true
	}
	for _, d := range config.Directives() {
		if !missing[d.Name] {
			t.Errorf("%s is not in the list", d.Name)
		}
		delete(missing, d.Name)
	}
	for name := range missing {
		t.Errorf("%s does not exist", name)
	}
}
