package command_test

import (
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// sink keeps results alive.
var sink resp.Value

// Finding a command, checking and reading or applying it allocate at most the
// copy of the value and the list of the events, which grows for a second one.
func TestCommonCommandsHardlyAllocate(t *testing.T) {
	table := dataTable(t)
	for _, c := range []struct {
		args  []string
		limit float64
	}{
		{[]string{"GET", "key"}, 0},
		{[]string{"get", "missing"}, 0},
		{[]string{"SET", "key", "a value of some length"}, 2},
		{[]string{"sEt", "key", "a value of some length", "eX", "100"}, 3},
		{[]string{"SET", "key", "a value of some length", "NX", "PX", "100000"}, 0},
		{[]string{"EXPIRE", "key", "100", "gt"}, 1},
		{[]string{"PEXPIRE", "key", "100000"}, 1},
		{[]string{"EXISTS", "key", "missing"}, 0},
		{[]string{"TTL", "key"}, 0},
		{[]string{"INCR", "counter"}, 2},
	} {
		args := byteArgs(c.args)
		st := newStore()
		run := runner(t, table, st)
		run(byteArgs([]string{"SET", "key", "v", "EX", "5"}))
		if n := testing.AllocsPerRun(200, func() { sink = run(args) }); n > c.limit {
			t.Errorf("%q allocates %v times, want at most %v", c.args, n, c.limit)
		}
	}
}

// runner looks up, checks and runs commands on a store, one at a time, inside
// Update, as the state machine does, without allocating by itself.
func runner(tb testing.TB, table *command.Table, st *store.Store) func(args [][]byte) resp.Value {
	tb.Helper()
	var spec *command.Spec
	var args [][]byte
	var reply resp.Value
	apply := func(tx *store.Tx) {
		tx.Begin(0)
		if spec.Do.Apply != nil {
			reply = spec.Do.Apply(tx, args)
		} else {
			reply = spec.Do.Read(&tx.Reader, args)
		}
	}
	return func(a [][]byte) resp.Value {
		s, err := table.Lookup(a)
		if err == nil {
			err = s.Do.Check(a)
		}
		if err != nil {
			tb.Fatal(err)
		}
		spec, args = s, a
		st.Update(1_000_000, 1, apply)
		return reply
	}
}

func benchmarkCommand(b *testing.B, words ...string) {
	b.Helper()
	st := newStore()
	run := runner(b, dataTable(b), st)
	run(byteArgs([]string{"SET", "key", "v", "EX", "5"}))
	args := byteArgs(words)
	b.ReportAllocs()
	for b.Loop() {
		sink = run(args)
	}
}

func BenchmarkGet(b *testing.B) { benchmarkCommand(b, "GET", "key") }

func BenchmarkSet(b *testing.B) { benchmarkCommand(b, "SET", "key", string(make([]byte, 512))) }

func BenchmarkSetWithOptions(b *testing.B) {
	benchmarkCommand(b, "SET", "key", string(make([]byte, 512)), "PX", "100000", "NX", "GET")
}

func BenchmarkExpire(b *testing.B) { benchmarkCommand(b, "EXPIRE", "key", "100") }

func BenchmarkIncr(b *testing.B) { benchmarkCommand(b, "INCR", "n") }

func BenchmarkLookup(b *testing.B) {
	table := dataTable(b)
	args := byteArgs([]string{"Object", "Encoding", "k"})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := table.Lookup(args); err != nil {
			b.Fatal(err)
		}
	}
}
