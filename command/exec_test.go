package command_test

import (
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/testkit/script"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// queue makes the body of a transaction; a line "1: GET k" runs in database 1.
func queue(tb testing.TB, lines ...string) []command.Queued {
	tb.Helper()
	table := execTable(tb)
	var q []command.Queued
	for _, line := range lines {
		db := 0
		if rest, ok := strings.CutPrefix(line, "1: "); ok {
			db, line = 1, rest
		}
		args := byteArgs(strings.Fields(line))
		spec, err := table.Lookup(args)
		if err != nil {
			tb.Fatal(err)
		}
		q = append(q, command.Queued{Spec: spec, DB: db, Args: args})
	}
	return q
}

// execTable has the data commands, one that panics after a change, and a Local one.
func execTable(tb testing.TB) *command.Table {
	tb.Helper()
	parse := func(args [][]byte) ([]byte, error) { return args[1], nil }
	table, err := command.Join(command.StringSpecs(), command.KeySpecs(), []*command.Spec{
		{Name: "break", Arity: 2, Do: command.Writes(parse, func(tx *store.Tx, key []byte) resp.Value {
			tx.Set(key, store.StringValue([]byte("broken")), 0)
			panic("after the change")
		})},
		{Name: "ping", Arity: 1, Do: local()},
	})
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

// run applies a transaction as the state machine does.
func run(st *store.Store, now int64, e *command.Exec) (reply string, events int) {
	var v resp.Value
	list := st.Update(now, 1, func(tx *store.Tx) {
		v = command.ApplyExec(tx, e, func(run func() resp.Value) (reply resp.Value) {
			defer func() {
				if recover() != nil {
					tx.Undo()
					reply = resp.Err(resp.ErrInternal)
				}
			}()
			return run()
		})
	})
	return shown(v), len(list)
}

func shown(v resp.Value) string {
	r, err := script.FromValue(v, 2)
	if err != nil {
		return err.Error()
	}
	return script.Render(r)
}

// watched is what WATCH of a key remembers.
func watched(st *store.Store, now int64, db int, key string) command.Watched {
	w := command.Watched{DB: db, Key: []byte(key)}
	st.View(now, db, func(r *store.Reader) { w.Version = r.Version(w.Key) })
	return w
}

// A transaction's commands run in order, each in its database, and each stands
// or falls by itself.
func TestExecRunsEveryCommandOnItsOwn(t *testing.T) {
	st := newStore()
	got, _ := run(st, 10, &command.Exec{Queue: queue(t,
		"SET a 1", "1: SET a 2", "INCR a", "1: INCR a", "APPEND a x", "INCR a", "BREAK a", "GET a", "1: GET a", "EXISTS a")})
	want := `[+OK +OK :2 :3 :2 -ERR value is not an integer or out of range -ERR internal error "2x" "3" :1]`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, _ := run(st, 10, &command.Exec{}); got != "[]" {
		t.Errorf("an empty transaction answers %s", got)
	}
}

// A transaction whose watched keys have changed does nothing and answers null;
// otherwise it runs.
func TestExecRunsOnlyIfWatchedKeysAreUnchanged(t *testing.T) {
	for name, c := range map[string]struct {
		between []string
		now     int64
		runs    bool
	}{
		"nothing happened":         {nil, 20, true},
		"another key was set":      {[]string{"SET other 1"}, 20, true},
		"set in another database":  {[]string{"1: SET a 1"}, 20, true},
		"set to the same":          {[]string{"SET a 1"}, 20, false},
		"its deadline was moved":   {[]string{"EXPIRE a 100"}, 20, false},
		"it was deleted":           {[]string{"DEL a"}, 20, false},
		"it was deleted and set":   {[]string{"DEL a", "SET a 1"}, 20, false},
		"the database was flushed": {[]string{"FLUSHDB"}, 20, false},
		"databases were swapped":   {[]string{"SWAPDB 0 1"}, 20, false},
		"a missing key was set":    {[]string{"SET missing 1"}, 20, false},
		"it became due":            {nil, 2000, false},
	} {
		t.Run(name, func(t *testing.T) {
			st := newStore()
			run(st, 10, &command.Exec{Queue: queue(t, "PSETEX a 1000 1")})
			e := &command.Exec{
				Watch: []command.Watched{watched(st, 10, 0, "a"), watched(st, 10, 0, "missing")},
				Queue: queue(t, "SET done 1"),
			}
			run(st, 15, &command.Exec{Queue: queue(t, c.between...)})
			got, _ := run(st, c.now, e)
			if c.runs && got != "[+OK]" || !c.runs && got != "nullarray" {
				t.Errorf("it answers %s", got)
			}
			if got, _ := run(st, c.now, &command.Exec{Queue: queue(t, "EXISTS done")}); (got == "[:1]") != c.runs {
				t.Errorf("afterwards EXISTS answers %s", got)
			}
		})
	}
}

// A transaction of reads runs without a log entry, with room for what the
// connection itself answers.
func TestReadExecReadsAtOneInstant(t *testing.T) {
	st := newStore()
	run(st, 10, &command.Exec{Queue: queue(t, "MSET a 1 b 2", "1: SET a 3")})
	e := &command.Exec{
		Watch: []command.Watched{watched(st, 10, 0, "a")},
		Queue: queue(t, "GET a", "PING", "1: GET a", "DBSIZE"),
	}
	read := func() (v resp.Value) {
		st.View(10, 0, func(r *store.Reader) { v = command.ReadExec(r, e) })
		return v
	}
	v := read()
	if len(v.Elems()) != 4 || v.Elems()[1].Kind() != resp.KindNone {
		t.Fatalf("got %v", v)
	}
	for i, want := range map[int]string{0: `"1"`, 2: `"3"`, 3: ":2"} {
		if got := shown(v.Elems()[i]); got != want {
			t.Errorf("reply %d is %s, want %s", i, got, want)
		}
	}
	run(st, 10, &command.Exec{Queue: queue(t, "INCR a")})
	if v := read(); v.Kind() != resp.KindNullArray {
		t.Errorf("after a change of the watched key it answers %s", shown(v))
	}
}

// Databases that do not exist are refused and panic nowhere: an entry of the log
// may come from another node.
func TestExecRefusesDatabasesThatDoNotExist(t *testing.T) {
	st := newStore()
	q := queue(t, "SET a 1", "GET a")
	for i := range q {
		q[i].DB = limits.Databases
	}
	if got, _ := run(st, 10, &command.Exec{Queue: q}); got != "[-ERR DB index is out of range -ERR DB index is out of range]" {
		t.Errorf("got %s", got)
	}
	if got, _ := run(st, 10, &command.Exec{Watch: []command.Watched{{DB: limits.Databases}}}); got != "nullarray" {
		t.Errorf("watched: got %s", got)
	}
	var v resp.Value
	st.View(10, 0, func(r *store.Reader) { v = command.ReadExec(r, &command.Exec{Queue: q[1:]}) })
	if got := shown(v); got != "[-ERR DB index is out of range]" {
		t.Errorf("reads: got %s", got)
	}
}
