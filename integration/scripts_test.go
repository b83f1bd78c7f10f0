package integration_test

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/internal/testkit/script"
)

var rewrite = flag.Bool("rewrite", false, "take the replies of redis-server over into the scripts of integration/testdata")

// scripts are the paths of all command scripts.
func scripts(t testing.TB) []string {
	t.Helper()
	return script.Paths(t, "testdata", "../command/testdata")
}

// oracle starts the redis-server that scripts are compared with.
func oracle(t testing.TB) *testkit.Redis {
	t.Helper()
	return testkit.StartRedis(t, "--enable-debug-command", "yes", "--notify-keyspace-events", "KEA", "--hz", "100")
}

// Every command answers over a socket, in both protocols, as the scripts say, and
// so does the real redis-server, but for what the scripts mark as newer or
// different.
func TestScriptsOverSockets(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Size: 1, Args: []string{"--enable-debug-command", "yes"}})
	real1 := oracle(t)
	for _, path := range scripts(t) {
		s, err := script.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, proto := range []int{2, 3} {
			if s.Proto != 0 && s.Proto != proto {
				continue
			}
			t.Run(fmt.Sprintf("%s/holdfast/%d", s.Name, proto), func(t *testing.T) {
				play(t, s, c.Nodes[0].Addr, script.Options{Proto: proto})
			})
			t.Run(fmt.Sprintf("%s/redis/%d", s.Name, proto), func(t *testing.T) {
				play(t, s, real1.Addr, script.Options{Proto: proto, Oracle: true})
			})
		}
	}
}

// play plays a script with the server at an address that is asked for each time. Keys
// live in it for less than a machine may stand still, so it is played again if it fails,
// on an empty store.
func play(t testing.TB, s *script.Script, addr func() string, opt script.Options) {
	t.Helper()
	testkit.Tries(t, 5, func(t testing.TB) {
		session, err := script.Dial(addr(), opt.Proto)
		if err != nil {
			t.Fatal(err)
		}
		defer session.End()
		s.Run(t, session, opt)
	})
}

// With -rewrite the scripts of this directory take over what redis-server answers.
func TestRewriteScripts(t *testing.T) {
	if !*rewrite {
		t.Skip("only with -rewrite")
	}
	real1 := oracle(t)
	for _, path := range script.Paths(t, "testdata") {
		var last *script.Socket
		err := script.Update(path, func(proto int) (script.Session, error) {
			if last != nil {
				last.End()
			}
			var err error
			last, err = script.Dial(real1.Addr(), proto)
			return last, err
		})
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		last.End()
	}
}

// Every command and subcommand that the server has is played by a script.
func TestEveryCommandHasAScript(t *testing.T) {
	c := start(t, testkit.ClusterOptions{Size: 1})
	m := master(t, c)
	played := map[string]bool{}
	for _, path := range scripts(t) {
		s, err := script.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range s.Commands() {
			name := strings.ToLower(args[0])
			played[name] = true
			if len(args) > 1 {
				played[name+"|"+strings.ToLower(args[1])] = true
			}
		}
	}
	const subcommands = 9 // their place in an element of COMMAND INFO
	for _, name := range m.MustDo(t, "COMMAND", "LIST").Strings() {
		if strings.Contains(name, "|") {
			continue
		}
		if !played[name] {
			t.Errorf("no script plays %s", name)
		}
		info := m.MustDo(t, "COMMAND", "INFO", name).Elems[0]
		for _, sub := range info.Elems[subcommands].Elems {
			if full := string(sub.Elems[0].Text); !played[full] {
				t.Errorf("no script plays %s", full)
			}
		}
	}
}
