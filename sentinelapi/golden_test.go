package sentinelapi_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/sentinelapi"
)

// exchange is one command and its reply as recorded from a real Sentinel.
type exchange struct {
	state   string
	proto   int
	command string
	reply   string
}

func recorded(t *testing.T) []exchange {
	t.Helper()
	text, err := os.ReadFile("testdata/redis-sentinel-7.0.15.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []exchange
	lines := slices.DeleteFunc(strings.Split(string(text), "\n"), func(line string) bool {
		return line == "" || strings.HasPrefix(line, "#")
	})
	for pair := range slices.Chunk(lines, 2) {
		var e exchange
		words := strings.SplitN(pair[0], " ", 3)
		e.state, e.command = words[0], words[2]
		if e.proto, err = strconv.Atoi(words[1]); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(pair[1]), &e.reply); err != nil {
			t.Fatal(err)
		}
		list = append(list, e)
	}
	return list
}

// setup is the recorded cluster, all well: n1 is the master and shows the view.
func setup() sentinelapi.View {
	v := sentinelapi.View{
		Name: "mymaster", Names: []string{"mymaster"}, Self: "n1", Master: "n1", MasterKnown: true,
		Quorum: 1, DownAfter: 1000, FailoverTimeout: 10_000,
	}
	for i := range 3 {
		v.Nodes = append(v.Nodes, sentinelapi.Node{
			ID:       fmt.Sprintf("n%d", i+1),
			RunID:    strings.Repeat(strconv.Itoa(i+1), 40),
			Data:     sentinelapi.Addr{Host: "127.0.0.1", Port: 17101 + i},
			Sentinel: sentinelapi.Addr{Host: "127.0.0.1", Port: 17201 + i},
			LinkUp:   true,
			Priority: 100,
		})
	}
	return v
}

// inState is the recorded cluster in one of the recorded states.
func inState(state string) sentinelapi.View {
	v := setup()
	switch state {
	case "one-node-down":
		v.Nodes[2].Down = true
	case "master-down":
		v.Nodes[1].Down, v.Nodes[2].Down = true, true
		v.MasterKnown = false
	}
	return v
}

// source is a fixed view.
type source sentinelapi.View

func (s source) View() sentinelapi.View { return sentinelapi.View(s) }

// Failover finds nobody to hand over to if there is one node only.
func (s source) Failover() error {
	if len(s.Nodes) < 2 {
		return resp.ErrNoGoodReplica
	}
	return nil
}

// conn is a connection that notes whether it was closed.
type conn struct {
	command.Conn
	closed, distrusted bool
}

func (c *conn) Trusted() bool { return !c.distrusted }

func (c *conn) CloseUnanswered() { c.closed = true }

// ask runs a command line against the view as the server does.
func ask(t *testing.T, v sentinelapi.View, line string) (resp.Value, *conn) {
	t.Helper()
	c := &conn{}
	return run(t, source(v), newMemory(), c, line), c
}

// run runs a command line, in which two quotes are an empty word.
func run(t *testing.T, src sentinelapi.Source, keep sentinelapi.Keeper, c command.Conn, line string) resp.Value {
	t.Helper()
	table, err := command.Join(sentinelapi.Commands(src, keep))
	if err != nil {
		t.Fatal(err)
	}
	var args [][]byte
	for word := range strings.FieldsSeq(line) {
		args = append(args, []byte(strings.Trim(word, `"`)))
	}
	spec, err := table.Lookup(args)
	if err != nil {
		return resp.Err(err)
	}
	return spec.Do.Local(c, args)
}

// Numbers that depend on the moment, and identities.
var (
	ages = []string{
		"link-pending-commands", "last-ping-sent", "last-ok-ping-reply", "last-ping-reply", "s-down-time", "o-down-time",
		"info-refresh", "role-reported-time", "last-hello-message", "slave-repl-offset",
	}
	digits   = regexp.MustCompile(`^[0-9]+$`)
	identity = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// shape shows a reply with its types; ages are shown as their type, identities
// as <id>, and the instances of a list are sorted.
func shape(v resp.Value) string {
	var parts []string
	elems := v.Elems()
	for i, e := range elems {
		text := shape(e)
		if i%2 == 1 && slices.Contains(ages, string(elems[i-1].Bytes())) && e.Kind() == resp.KindBulk && digits.Match(e.Bytes()) {
			text = "<age>"
		}
		parts = append(parts, text)
	}
	switch {
	case identity.Match(v.Bytes()):
		return fmt.Sprintf("%d:<id>", v.Kind())
	case len(elems) == 0:
		return fmt.Sprintf("%d:%q", v.Kind(), v.Bytes())
	case elems[0].Kind() == resp.KindArray || elems[0].Kind() == resp.KindMap:
		slices.Sort(parts)
	}
	return fmt.Sprintf("%d[%s]", v.Kind(), strings.Join(parts, " "))
}

// Field for field, in names, order, types and all values that do not depend on
// the moment, the replies are those of a real Sentinel.
func TestRepliesEqualThoseOfSentinel(t *testing.T) {
	for _, e := range recorded(t) {
		v := inState(e.state)
		want, _, err := resp.Decode([]byte(e.reply))
		if err != nil {
			t.Fatalf("%q: %v", e.reply, err)
		}
		var text []byte
		if e.command == "info sentinel" {
			text = resp.BulkString(sentinelapi.InfoSection(v)).Append(nil, e.proto)
		} else {
			reply, _ := ask(t, v, e.command)
			text = reply.Append(nil, e.proto)
		}
		got, _, err := resp.Decode(text)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if shape(got) != shape(want) {
			t.Errorf("%s, RESP%d, %s:\n%s, want\n%s", e.state, e.proto, e.command, shape(got), shape(want))
		}
	}
}
