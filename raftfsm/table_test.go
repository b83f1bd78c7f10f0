package raftfsm

import (
	"bytes"
	"testing"

	"github.com/holdfast/holdfast/command"
)

// Property: apply sees the canonical name as the first word, however the client
// spelled it, and the container's of a subcommand.
func TestFirstWordIsCanonical(t *testing.T) {
	if _, err := command.Join([]*command.Spec{SpecSub}); err != nil {
		t.Log(err) // it need not be presentable to clients
	}
	put := SpecSub.Sub[0]
	if put.FullName() != "config|put" {
		t.Skip("subcommands have no parent here")
	}
	x := newEntryDecoder(func(name string) *command.Spec {
		if name == "config|put" {
			return put
		}
		return Lookup(name)
	})
	data := Entry(1, 1,
		command.Request{Spec: SpecSet, Args: words("SET", "k", "v")},
		command.Request{Spec: put, Args: words("CONFIG", "put", "v")})
	_, units, err := x.decode(data)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(units[0].cmd.args[0]); got != "set" {
		t.Errorf("first word %q", got)
	}
	if got := string(bytes.Join(units[1].cmd.args, []byte(" "))); got != "config put v" {
		t.Errorf("words %q", got)
	}
}
