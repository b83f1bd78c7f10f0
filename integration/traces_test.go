package integration_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/internal/testkit/script"
)

// P8: what session libraries were seen to send is answered as redis-server answers
// it, reply by reply. Times may differ by what passed between the two servers.
func TestTracesOfLibraries(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Size: 1})
	oracle := testkit.StartRedis(t)
	files, err := filepath.Glob("testdata/traces/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no traces: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			// Between the two servers may pass more time than is allowed for.
			testkit.Tries(t, 3, func(t testing.TB) {
				want, got := newReplay(oracle.Addr()), newReplay(c.Nodes[0].Addr())
				t.Cleanup(want.close)
				t.Cleanup(got.close)
				compareTraces(t, string(text), want, got)
			})
		})
	}
}

// compareTraces does the commands of a trace on both servers and reports what they
// answer differently.
func compareTraces(t testing.TB, text string, want, got *replay) {
	t.Helper()
	want.do(t, "", []string{"FLUSHALL"})
	got.do(t, "", []string{"FLUSHALL"})
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		conn, command, _ := strings.Cut(line, " ")
		args, err := script.Words(command)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		theirs, ours := want.do(t, conn, args), got.do(t, conn, args)
		if why := differ(strings.ToLower(args[0]), args, theirs, ours); why != "" {
			t.Errorf("%s: got %v, want %v (%s)", command, ours, theirs, why)
		}
	}
}

// replay sends the commands of a trace over as many connections as it has.
type replay struct {
	addr  string
	conns map[string]*testkit.Client
}

func newReplay(addr string) *replay {
	return &replay{addr: addr, conns: map[string]*testkit.Client{}}
}

func (r *replay) close() {
	for _, c := range r.conns {
		_ = c.Close()
	}
}

// do sends a command on the connection of that name. A closed connection counts as
// the reply 0.
func (r *replay) do(t testing.TB, conn string, args []string) testkit.Reply {
	t.Helper()
	c, ok := r.conns[conn]
	if !ok {
		c = testkit.MustDial(t, r.addr)
		r.conns[conn] = c
	}
	reply, err := c.Do(args...)
	var answer testkit.ReplyError
	if err != nil && !errors.As(err, &answer) {
		if !errors.Is(err, io.EOF) {
			t.Errorf("%v: %v", args, err)
		}
		return testkit.Reply{}
	}
	return reply
}

// differ says in what two replies to the same command differ that should not.
func differ(name string, args []string, want, got testkit.Reply) string {
	switch name {
	case "info", "time":
		if want.Type == got.Type && len(want.Elems) == len(got.Elems) {
			return ""
		}
		return "type"
	case "hello", "role":
		if want.Type == '-' {
			break
		}
		return differ("", nil, shape(want), shape(got))
	case "client":
		// Options of CLIENT that are newer than the oracle may succeed.
		if strings.HasPrefix(string(want.Text), "ERR unknown subcommand") && len(got.Text) > 0 {
			return ""
		}
	case "keys":
		sortElems(want)
		sortElems(got)
	case "scan":
		if len(want.Elems) == 2 && len(got.Elems) == 2 {
			if args[1] != "0" { // a cursor that nobody gave out: anything but an error will do
				return ""
			}
			sortElems(want.Elems[1])
			sortElems(got.Elems[1])
		}
	}
	if want.String() == got.String() || timed(name) && near(want, got) {
		return ""
	}
	return "reply"
}

// shape is a reply without what differs between two servers: of a map the keys, of
// a list the first element.
func shape(r testkit.Reply) testkit.Reply {
	out := testkit.Reply{Type: r.Type}
	for i, e := range r.Elems {
		if e.Type == '$' && i%2 == 0 {
			out.Elems = append(out.Elems, e)
		}
	}
	return out
}

func sortElems(r testkit.Reply) {
	slices.SortFunc(r.Elems, func(a, b testkit.Reply) int { return strings.Compare(string(a.Text), string(b.Text)) })
}

// timed tells whether a command's reply may hold a time that is left.
func timed(name string) bool {
	return slices.Contains([]string{"ttl", "pttl", "expiretime", "pexpiretime", "exec"}, name)
}

// near tells whether two replies are equal but for numbers less than two seconds apart.
func near(a, b testkit.Reply) bool {
	if a.Type != b.Type || len(a.Elems) != len(b.Elems) {
		return false
	}
	if a.Type == ':' {
		apart := a.Int() - b.Int()
		return apart == 0 || max(apart, -apart) < 2000 && a.Int() > 0 && b.Int() > 0
	}
	for i := range a.Elems {
		if !near(a.Elems[i], b.Elems[i]) {
			return false
		}
	}
	return len(a.Elems) > 0 || a.String() == b.String()
}

// The comparison of traces can fail, and is lenient only about time.
func TestTraceComparison(t *testing.T) {
	number := func(n string) testkit.Reply { return testkit.Reply{Type: ':', Text: []byte(n)} }
	list := func(e ...testkit.Reply) testkit.Reply { return testkit.Reply{Type: '*', Elems: e} }
	cases := []struct {
		name      string
		want, got testkit.Reply
		equal     bool
	}{
		{"incr", number("1"), number("2"), false},
		{"pttl", number("1000"), number("990"), true},
		{"pttl", number("1000"), number("9000"), false},
		{"ttl", number("-1"), number("-2"), false},
		{"ttl", number("-1"), number("1"), false},
		{"exec", list(number("50"), number("1")), list(number("49"), number("1")), true},
		{"exec", list(number("50")), list(number("49"), number("1")), false},
		{"keys", list(number("1"), number("2")), list(number("2"), number("1")), true},
		{"mget", list(number("1"), number("2")), list(number("2"), number("1")), false},
	}
	for _, k := range cases {
		if got := differ(k.name, []string{k.name}, k.want, k.got) == ""; got != k.equal {
			t.Errorf("%s: %v and %v are equal: %v, want %v", k.name, k.want, k.got, got, k.equal)
		}
	}
}
