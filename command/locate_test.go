package command_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
)

// Keys are found wherever a key specification can say they are, and never
// outside the arguments, whatever these are.
func TestKeysOfFollowsEveryKindOfSpecification(t *testing.T) {
	ro := command.KeyRO
	one := command.Keys{Flags: ro, First: 1, Step: 1}
	counted := command.Keys{Flags: ro, First: 2, KeyNum: 1, Step: 1}
	streams := command.Keys{Flags: ro, First: 1, Keyword: "STREAMS", Last: -1, Step: 2}
	backwards := command.Keys{Flags: command.KeyOW, First: -2, Keyword: "store", Step: 1}
	for _, c := range []struct {
		keys []command.Keys
		line string
		want string
	}{
		{[]command.Keys{one}, "cmd a b", "1"},
		{[]command.Keys{one}, "cmd", ""},
		{[]command.Keys{{Flags: ro, First: 1, Last: -1, Step: 1}}, "cmd a b c", "1 2 3"},
		{[]command.Keys{{Flags: ro, First: 1, Last: -1, Step: 2}}, "cmd a b c d", "1 3"},
		{[]command.Keys{{Flags: ro, First: 1, Last: -2, Step: 1}}, "cmd a b c", "1 2"},
		{[]command.Keys{{Flags: ro, First: 1, Last: 1, Step: 1}}, "cmd a b c", "1 2"},
		{[]command.Keys{{Flags: ro, First: 1, Last: 1, Step: 1}}, "cmd a", ""},
		{[]command.Keys{one, {Flags: command.KeyOW, First: 2, Step: 1}}, "cmd a b", "1 2"},
		{[]command.Keys{counted}, "eval s 2 a b c", "3 4"},
		{[]command.Keys{counted}, "eval s 0 a b", ""},
		{[]command.Keys{counted}, "eval s 3 a b", ""},
		{[]command.Keys{counted}, "eval s -1 a b", ""},
		{[]command.Keys{counted}, "eval s x a b", ""},
		{[]command.Keys{counted}, "eval s 9223372036854775807 a b", ""},
		{[]command.Keys{counted}, "eval s", ""},
		{[]command.Keys{streams}, "xread count 1 streams a 0", "4"},
		{[]command.Keys{streams}, "xread count 1", ""},
		{[]command.Keys{backwards}, "geo a store b", "3"},
		{[]command.Keys{backwards}, "geo a b", ""},
		{[]command.Keys{{Flags: ro | command.KeyNotKey, First: 1, Step: 1}}, "cmd a", ""},
		{nil, "cmd a", ""},
	} {
		spec := command.Spec{Keys: c.keys}
		var found []string
		for _, k := range spec.KeysOf(nil, byteArgs(strings.Fields(c.line))) {
			found = append(found, fmt.Sprint(k.Pos))
		}
		if got := strings.Join(found, " "); got != c.want {
			t.Errorf("%+v in %q: got keys at %q, want %q", c.keys, c.line, got, c.want)
		}
	}
}

// A call's own flags stand in for those of the specification where they vary.
func TestKeysOfVariesTheFlagsOfSet(t *testing.T) {
	set := dataTable(t).ByName("set")
	for line, want := range map[string]command.KeyFlags{
		"set k v":        command.KeyOW | command.KeyUpdate,
		"set k get":      command.KeyOW | command.KeyUpdate,
		"set k v nx GeT": command.KeyRW | command.KeyAccess | command.KeyUpdate,
	} {
		keys := set.KeysOf(nil, byteArgs(strings.Fields(line)))
		if len(keys) != 1 || keys[0].Pos != 1 || keys[0].Flags != want {
			t.Errorf("%q: got %+v", line, keys)
		}
	}
}

// The range of keys that old clients know follows from the key specifications.
func TestKeyRangeFollowsFromSpecifications(t *testing.T) {
	at := func(first, last, step int) command.Keys { return command.Keys{First: first, Last: last, Step: step} }
	for _, c := range []struct {
		keys []command.Keys
		want command.KeyRange
	}{
		{nil, command.KeyRange{}},
		{[]command.Keys{at(1, 0, 1)}, command.KeyRange{First: 1, Last: 1, Step: 1}},
		{[]command.Keys{at(2, 0, 1)}, command.KeyRange{First: 2, Last: 2, Step: 1}},
		{[]command.Keys{at(1, -1, 2)}, command.KeyRange{First: 1, Last: -1, Step: 2}},
		{[]command.Keys{at(1, 0, 1), at(2, 0, 1)}, command.KeyRange{First: 1, Last: 2, Step: 1}},
		{[]command.Keys{at(1, 0, 1), at(2, -1, 1)}, command.KeyRange{First: 1, Last: -1, Step: 1}},
		{[]command.Keys{at(1, 0, 1), at(4, 0, 1)}, command.KeyRange{First: 1, Last: 1, Step: 1}},
		{[]command.Keys{{First: 2, KeyNum: 1, Step: 1}}, command.KeyRange{}},
		{[]command.Keys{{First: 1, Keyword: "STREAMS", Step: 1}}, command.KeyRange{}},
	} {
		spec := command.Spec{Keys: c.keys}
		if got := spec.KeyRange(); got != c.want {
			t.Errorf("%+v: got %+v, want %+v", c.keys, got, c.want)
		}
	}
}

// What COMMAND DOCS says of arguments is read off the syntax.
func TestArgumentsAreReadOffTheSyntax(t *testing.T) {
	for syntax, want := range map[string]string{
		"":                              "",
		"value":                         "value:string",
		"seconds":                       "seconds:integer",
		"[ASYNC | SYNC]":                "async:oneof?(async:pure-token=ASYNC sync:pure-token=SYNC)",
		"[MATCH pattern] [COUNT count]": "pattern:pattern=MATCH? count:integer=COUNT?",
		"a [a ...]":                     "a:string*",
		"a b [a b ...]":                 "a_b:block*(a:string b:string)",
		"[name ...]":                    "name:string?*",
		"a [b ...]":                     "a:string b:string?*",
		"<ON | OFF>":                    "on:oneof(on:pure-token=ON off:pure-token=OFF)",
		"[BY <X x | Y>]":                "x:oneof=BY?(x:string=X y:pure-token=Y)",
		"[ID id [id ...]]":              "id:string=ID?*",
		"[x y]":                         "x_y:block?(x:string y:string)",
		"[a":                            "error",
		"a]":                            "error",
		"<a]":                           "error",
	} {
		spec := command.Spec{Syntax: syntax}
		args, err := spec.Arguments()
		got := "error"
		if err == nil {
			got = sketch(args)
		}
		if got != want {
			t.Errorf("%q\n got %s\nwant %s", syntax, got, want)
		}
	}
}

// sketch shows arguments on one line.
func sketch(args []command.Argument) string {
	parts := make([]string, len(args))
	for i, a := range args {
		s := a.Name + ":" + a.Type
		if a.Token != "" {
			s += "=" + a.Token
		}
		if a.Optional {
			s += "?"
		}
		if a.Multiple {
			s += "*"
		}
		if len(a.Args) > 0 {
			s += "(" + sketch(a.Args) + ")"
		}
		parts[i] = s
	}
	return strings.Join(parts, " ")
}
