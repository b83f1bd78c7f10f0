package command_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// reads, writes and local are handlers for specs that are only looked at.
func reads() command.Handler {
	return command.Reads(func([][]byte) (int, error) { return 0, nil }, func(*store.Reader, int) resp.Value { return resp.OK })
}

func writes() command.Handler {
	return command.Writes(func([][]byte) (int, error) { return 0, nil }, func(*store.Tx, int) resp.Value { return resp.OK })
}

func local() command.Handler {
	return command.Locally(func(command.Conn, [][]byte) resp.Value { return resp.OK })
}

// Whatever is wrong with a list of specs, Join names the command and the fault.
func TestJoinRefusesSpecsThatContradictThemselves(t *testing.T) {
	good := func() *command.Spec { return &command.Spec{Name: "good", Arity: 2, Do: reads()} }
	with := func(change func(s *command.Spec)) []*command.Spec {
		s := good()
		change(s)
		return []*command.Spec{s}
	}
	for fault, list := range map[string][]*command.Spec{
		"there are two":      {good(), good()},
		"empty or too long":  with(func(s *command.Spec) { s.Name = "" }),
		"not in lower case":  with(func(s *command.Spec) { s.Name = "Good" }),
		"no arity":           with(func(s *command.Spec) { s.Arity = 0 }),
		"no handler":         with(func(s *command.Spec) { s.Do = command.Handler{} }),
		"not fit its route":  with(func(s *command.Spec) { s.Do.Route = command.RouteWrite }),
		"fit its route":      with(func(s *command.Spec) { s.Do.Check = nil }),
		"begins nowhere":     with(func(s *command.Spec) { s.Keys = []command.Keys{{Flags: command.KeyRO, First: 1}} }),
		"begins":             with(func(s *command.Spec) { s.Keys = []command.Keys{{Flags: command.KeyRO, First: -1, Step: 1}} }),
		"varies":             with(func(s *command.Spec) { s.Keys = []command.Keys{{Flags: command.KeyVariableFlags, First: 1, Step: 1}} }),
		"brackets":           with(func(s *command.Spec) { s.Syntax = "key [x" }),
		"leaves no room":     {{Name: "box", Arity: -2, Sub: []*command.Spec{{Name: "sub", Arity: 1, Do: local()}}}},
		"box|sub: there are": {{Name: "box", Arity: -2, Sub: []*command.Spec{{Name: "sub", Arity: 2, Do: local()}, {Name: "sub", Arity: 2, Do: local()}}}},
	} {
		_, err := command.Join(list)
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("want an error about %q, got %v", fault, err)
		}
	}
	if _, err := command.Join([]*command.Spec{good()}, nil); err != nil {
		t.Errorf("a good list is refused: %v", err)
	}
}

// A subcommand belongs to one container.
func TestJoinRefusesASharedSubcommand(t *testing.T) {
	sub := &command.Spec{Name: "sub", Arity: 2, Do: local()}
	_, err := command.Join([]*command.Spec{
		{Name: "a", Arity: -2, Sub: []*command.Spec{sub}},
		{Name: "b", Arity: -2, Sub: []*command.Spec{sub}},
	})
	if err == nil {
		t.Error("a subcommand of two containers is accepted")
	}
}

// boxes is a table with a container that is no command, one that is, and an
// internal operation.
func boxes(tb testing.TB) *command.Table {
	tb.Helper()
	table, err := command.Join([]*command.Spec{
		{Name: "box", Arity: -2, Sub: []*command.Spec{
			{Name: "zeta", Arity: 3, Do: writes()},
			{Name: "alpha", Arity: -2, Do: reads()},
		}},
		{Name: "both", Arity: -1, Do: local(), Sub: []*command.Spec{{Name: "sub", Arity: 2, Do: local()}}},
		{Name: "hidden", Arity: -1, Flags: command.FlagInternal, Do: writes()},
		{Name: "plain", Arity: 2, Do: reads()},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

// Lookup finds in any case what a client may call, with the right number of
// arguments, and nothing else.
func TestLookupFindsWhatAClientMayCall(t *testing.T) {
	table := boxes(t)
	for line, want := range map[string]string{
		"plain x":                      "plain",
		"PlAiN x":                      "plain",
		"box alpha":                    "box|alpha",
		"BOX ALPHA more":               "box|alpha",
		"box zeta x":                   "box|zeta",
		"both":                         "both",
		"both SUB":                     "both|sub",
		"plain":                        "ERR wrong number of arguments for 'plain' command",
		"plain x y":                    "ERR wrong number of arguments for 'plain' command",
		"box":                          "ERR wrong number of arguments for 'box' command",
		"box zeta":                     "ERR wrong number of arguments for 'box|zeta' command",
		"box nosuch":                   "ERR unknown subcommand 'nosuch'. Try BOX HELP.",
		"both nosuch":                  "ERR unknown subcommand 'nosuch'. Try BOTH HELP.",
		"both sub x":                   "ERR wrong number of arguments for 'both|sub' command",
		"hidden":                       "ERR unknown command 'hidden', with args beginning with: ",
		"box|alpha":                    "ERR unknown command 'box|alpha', with args beginning with: ",
		"alpha x":                      "ERR unknown command 'alpha', with args beginning with: 'x' ",
		strings.Repeat("p", 60) + " x": "ERR unknown command '" + strings.Repeat("p", 60) + "', with args beginning with: 'x' ",
	} {
		spec, err := table.Lookup(byteArgs(strings.Fields(line)))
		got := ""
		switch {
		case err != nil && spec != nil:
			t.Errorf("%q: both a command and an error", line)
		case err != nil:
			got = err.Error()
			if _, ok := errors.AsType[resp.Error](err); !ok {
				t.Errorf("%q: the error is of type %T", line, err)
			}
		default:
			got = spec.FullName()
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", line, got, want)
		}
	}
}

// The log's commands are found by canonical name, internal operations too.
func TestByNameFindsEverythingByCanonicalName(t *testing.T) {
	table := boxes(t)
	for _, name := range []string{"box", "box|zeta", "box|alpha", "both|sub", "hidden", "plain"} {
		if s := table.ByName(name); s == nil || s.FullName() != name {
			t.Errorf("%s is not found", name)
		}
	}
	for _, name := range []string{"", "Plain", "alpha", "box|", "box|nosuch"} {
		if table.ByName(name) != nil {
			t.Errorf("%q is found", name)
		}
	}
}

// Iteration follows the names and leaves internal operations out.
func TestIterationIsInTheOrderOfNames(t *testing.T) {
	table := boxes(t)
	var top, all []string
	for s := range table.All() {
		top = append(top, s.FullName())
	}
	for s := range table.Each() {
		all = append(all, s.FullName())
	}
	if want := []string{"both", "box", "plain"}; !slices.Equal(top, want) || table.Len() != len(want) {
		t.Errorf("All yields %q, Len is %d", top, table.Len())
	}
	if want := []string{"both", "both|sub", "box", "box|alpha", "box|zeta", "plain"}; !slices.Equal(all, want) {
		t.Errorf("Each yields %q", all)
	}
	for s := range table.Each() {
		if s.Name == "box" {
			break // ending early is allowed
		}
	}
}

// Looking a command up costs no memory.
func TestLookupDoesNotAllocate(t *testing.T) {
	table := boxes(t)
	for _, line := range []string{"PLAIN x", "box ALPHA"} {
		args := byteArgs(strings.Fields(line))
		if n := testing.AllocsPerRun(100, func() { _, _ = table.Lookup(args) }); n != 0 {
			t.Errorf("%q allocates %v times", line, n)
		}
	}
}

// Flags and categories that follow from others need not be written down.
func TestImpliedFlagsAndCategories(t *testing.T) {
	for _, c := range []struct {
		spec              command.Spec
		flags, categories string
	}{
		{command.Spec{Do: reads()}, "readonly", "read slow"},
		{command.Spec{Do: writes(), Flags: command.FlagFast}, "write fast", "write fast"},
		{command.Spec{Do: local()}, "", "slow"},
		{command.Spec{}, "", "slow"},
		{command.Spec{Do: local(), Flags: command.FlagAdmin | command.FlagNoScript}, "admin noscript", "admin slow dangerous"},
		{command.Spec{Do: local(), Flags: command.FlagPubSub | command.FlagFast}, "pubsub fast", "pubsub fast"},
		{command.Spec{Do: writes(), Flags: command.FlagBlocking | command.FlagDenyOOM}, "write denyoom blocking", "write slow blocking"},
		{command.Spec{Do: reads(), Categories: command.CatScripting}, "readonly", "slow scripting"},
		{command.Spec{Do: local(), Flags: command.FlagWriteReply}, "write", "write slow"},
		{command.Spec{Do: reads(), Flags: command.FlagWriteReply, Categories: command.CatString}, "write", "write string slow"},
		{
			command.Spec{Do: local(), Flags: command.FlagLoading | command.FlagStale | command.FlagNoAuth | command.FlagAllowBusy | command.FlagNoMulti},
			"loading stale no_auth no_multi allow_busy", "slow",
		},
	} {
		if got := strings.Join(c.spec.FlagNames(), " "); got != c.flags {
			t.Errorf("flags: got %q, want %q", got, c.flags)
		}
		if got := strings.Join(c.spec.AllCategories().Names(), " "); got != c.categories {
			t.Errorf("categories: got %q, want %q", got, c.categories)
		}
	}
}

// Every category is found by its name, in any case.
func TestCategoriesAreFoundByName(t *testing.T) {
	all := command.CatScripting<<1 - 1
	names := all.Names()
	if len(names) != 21 {
		t.Fatalf("there are %d categories, want 21", len(names))
	}
	for i, name := range names {
		if got := command.CategoryByName([]byte(strings.ToUpper(name))); got != 1<<i {
			t.Errorf("%s is %b", name, got)
		}
	}
	if command.CategoryByName([]byte("nosuch")) != 0 || command.CategoryByName(nil) != 0 {
		t.Error("an unknown category is found")
	}
}
