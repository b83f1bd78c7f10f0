package command_test

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/testkit/script"
	"github.com/holdfast/holdfast/store"
)

// FuzzCommands throws any arguments at every command: nothing panics, what Check
// accepts runs and answers something a client can read, what it refuses Apply
// refuses as well, and a refused or failed command leaves the state as it was.
// The arguments are separated by newlines.
func FuzzCommands(f *testing.F) {
	table := dataTable(f)
	for _, path := range scripts(f) {
		for _, args := range parsed(f, path).Commands() {
			f.Add([]byte(strings.Join(args, "\n")))
		}
	}
	for spec := range table.Each() {
		name := strings.ReplaceAll(spec.FullName(), "|", "\n")
		n := max(spec.Arity, -spec.Arity)
		f.Add([]byte(name + strings.Repeat("\n0", n-strings.Count(name, "\n")-1)))
		f.Add([]byte(name + strings.Repeat("\nkey", n-strings.Count(name, "\n"))))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		args := bytes.Split(line, []byte("\n"))
		spec, err := table.Lookup(args)
		if err != nil {
			return
		}
		spec.KeysOf(nil, args)
		refused := spec.Do.Check(args)
		if refused != nil && spec.Do.Route == command.RouteLocal {
			return
		}
		m := &memory{table: table, store: newStore(), proto: 3, now: 1_800_000_000_000, db: map[string]int{}}
		m.update(func(tx *store.Tx) {
			tx.Begin(0)
			for i, v := range []string{"17", "text", "", "3.5"} {
				tx.Set([]byte("key"+strconv.Itoa(i)), store.StringValue([]byte(v)), 0)
			}
			tx.Set([]byte("key"), store.StringValue([]byte("5")), m.now+1000)
			tx.Set([]byte("0"), store.StringValue([]byte("0")), 0)
		})
		before := contents(m.store)
		reply := m.carryOut(spec, 0, args)
		if refused != nil && !reply.IsError() {
			t.Fatalf("%q is refused (%v) but runs", args, refused)
		}
		if reply.IsError() && contents(m.store) != before {
			t.Fatalf("%q fails with %s but changes the state", args, reply.Bytes())
		}
		for _, proto := range []int{2, 3} {
			if r, err := script.FromValue(reply, proto); err != nil || r.Type == 0 {
				t.Fatalf("%q answers %q: %v", args, reply.Append(nil, proto), err)
			}
		}
	})
}

// contents shows all keys with their values and deadlines.
func contents(st *store.Store) string {
	frozen := st.Freeze()
	defer frozen.Release()
	var b strings.Builder
	for db := range limits.Databases {
		_ = frozen.Each(db, func(rec store.Record) error {
			_, err := fmt.Fprintf(&b, "%d %q %q %d\n", db, rec.Key, rec.Value.Bytes(), rec.Deadline)
			return err
		})
	}
	return b.String()
}

// FuzzKeys throws any arguments at any key specification that Join accepts: the
// keys found are among the arguments.
func FuzzKeys(f *testing.F) {
	f.Add(int8(1), int8(0), uint8(1), uint8(0), "", "a b c")
	f.Add(int8(2), int8(0), uint8(1), uint8(1), "", "eval s 2 a b")
	f.Add(int8(-2), int8(-1), uint8(2), uint8(0), "store", "x store b")
	f.Fuzz(func(t *testing.T, first, last int8, step, keyNum uint8, keyword, line string) {
		spec := &command.Spec{Name: "x", Arity: -1, Do: local(), Keys: []command.Keys{
			{First: int(first), Last: int(last), Step: int(step), KeyNum: int(keyNum), Keyword: keyword},
		}}
		if _, err := command.Join([]*command.Spec{spec}); err != nil {
			return
		}
		args := byteArgs(strings.Fields(line))
		for _, k := range spec.KeysOf(nil, args) {
			if k.Pos < 1 || k.Pos >= len(args) {
				t.Fatalf("key at %d of %d arguments", k.Pos, len(args))
			}
		}
	})
}
