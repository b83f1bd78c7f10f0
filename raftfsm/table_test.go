package raftfsm

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/store"
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

// Property: P7. The memory that one huge entry needs for its events, and the
// keys in them, are let go of with the entry.
func TestEventsOfAnEntryAreLetGoOf(t *testing.T) {
	f := New(Config{Store: store.New(1), Lookup: Lookup, Clock: &clock.Fake{}, Log: slog.New(slog.DiscardHandler)})
	for index, n := range []int{10, 20_000, 10} {
		reqs := make([]command.Request, n)
		for i := range reqs {
			reqs[i] = command.Request{Spec: SpecSet, Args: words("set", "k", "v")}
		}
		if err := f.Apply(&raft.Log{Index: uint64(index) + 1, Term: 1, Data: Entry(1, 1, reqs...)}); err != nil {
			t.Fatal(err)
		}
		kept := f.events[:cap(f.events)]
		if len(kept) > maxKeptEvents {
			t.Errorf("room for %d events is kept", len(kept))
		}
		for _, e := range kept {
			if e.Key != "" {
				t.Fatalf("the key of an event of entry %d is kept", index+1)
			}
		}
	}
}
