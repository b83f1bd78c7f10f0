package raftfsm_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// product is the table of the commands that clients have.
func product(tb testing.TB) *command.Table {
	tb.Helper()
	table, err := command.Join(command.StringSpecs(), command.KeySpecs())
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

// phrases are commands with %k for a key, %n for a number, %v for a value and
// %t for an instant.
var phrases = strings.Split(`set %k %v|set %k %v px %n|set %k %v pxat %t get|set %k %v nx|set %k %v keepttl xx
setex %k %n %v|psetex %k %n %v|setnx %k %v|getset %k %v|mset %k %v %k %v|msetnx %k %v %k %v
incr %k|decrby %k %n|incrbyfloat %k 1.5|getdel %k|getex %k px %n|getex %k persist|append %k %v
setrange %k %n %v|del %k %k|unlink %k|expire %k %n|pexpire %k %n gt|pexpireat %k %t|persist %k
rename %k %k|renamenx %k %k|copy %k %k replace|copy %k %k db 1|move %k 1|swapdb 0 1|flushdb|flushall
get %k|mget %k %k|strlen %k|getrange %k 0 %n|exists %k|type %k|pttl %k|dbsize`, "\n")

// phrase is a random command of the product as a request.
func phrase(tb testing.TB, table *command.Table, rnd *rand.Rand, now int64) command.Request {
	tb.Helper()
	line := phrases[rnd.IntN(len(phrases))]
	all := strings.Split(line, "|")
	var args [][]byte
	for w := range strings.FieldsSeq(all[rnd.IntN(len(all))]) {
		switch w {
		case "%k":
			w = fmt.Sprint("k", rnd.IntN(6))
		case "%n":
			w = fmt.Sprint(1 + rnd.IntN(300))
		case "%v":
			w = strings.Repeat(fmt.Sprint(rnd.IntN(100)), 1+rnd.IntN(40))
		case "%t":
			w = fmt.Sprint(now + rnd.Int64N(500) - 50)
		}
		args = append(args, []byte(w))
	}
	spec, err := table.Lookup(args)
	if err != nil {
		tb.Fatalf("%q: %v", args, err)
	}
	if err := spec.Do.Check(args); err != nil {
		tb.Fatalf("%q: %v", args, err)
	}
	return command.Request{Spec: spec, DB: rnd.IntN(2), Args: args}
}

// newProduct is a state machine with the product's commands.
func newProduct(tb testing.TB, table *command.Table) *rig {
	tb.Helper()
	r := newFSM(tb)
	r.fsm = raftfsm.New(raftfsm.Config{
		Store: r.store, Lookup: table.ByName, Clock: r.clock, Log: quiet(), Sink: r.sink,
		Fatal: func(err error) { r.fatal = err },
	})
	return r
}

// Property: P6 and the copying rule, over every command that clients have: a
// node whose entries are overwritten once applied, a node that restores a
// snapshot in between, and a node that does neither hold the same bytes.
func TestProductCommandsCopyWhatTheyKeep(t *testing.T) {
	table := product(t)
	seed := uint64(time.Now().UnixNano()) // a seed, no clock
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	plain, scribbled, restored := newProduct(t, table), newProduct(t, table), newProduct(t, table)
	now := int64(wall)
	for index := uint64(1); index <= 600; index++ {
		now += rnd.Int64N(60)
		var reqs []command.Request
		for range 1 + rnd.IntN(5) {
			q := phrase(t, table, rnd, now)
			if q.Spec.Do.Route == command.RouteRead {
				q = transaction(nil, q) // in the log, reads are in transactions only
			}
			reqs = append(reqs, q)
		}
		data := raftfsm.Entry(now, index, reqs...)
		for _, r := range []*rig{plain, restored} {
			if err := r.fsm.Apply(&raft.Log{Index: index, Term: 1, Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		mine := bytes.Clone(data)
		scribbled.fsm.Apply(&raft.Log{Index: index, Term: 1, Data: mine})
		for i := range mine {
			mine[i] = '!'
		}
		if rnd.IntN(40) == 0 {
			if err := restored.restore(restored.snapshot()); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := plain.snapshot()
	if !bytes.Equal(scribbled.snapshot(), want) {
		t.Error("the state aliases entries")
	}
	if !bytes.Equal(restored.snapshot(), want) || restored.fsm.Digest() != plain.fsm.Digest() {
		t.Error("the restored state differs")
	}
	if n := plain.fsm.Stats().Panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

// Property: every command of the product that changes the state, and every
// reader, can be found by its canonical name, as an entry names it.
func TestProductCommandsAreFoundByTheirNames(t *testing.T) {
	table := product(t)
	n := 0
	for spec := range table.Each() {
		if spec.Do.Apply == nil && spec.Do.Read == nil {
			continue
		}
		n++
		if table.ByName(spec.FullName()) != spec {
			t.Errorf("%s is not found by its name", spec.FullName())
		}
	}
	if n < 40 {
		t.Errorf("only %d commands", n)
	}
}

// Property: what the product replies does not alias the entry either: the
// replies of a batch are as good after raft's memory is gone.
func TestProductRepliesDoNotAliasTheEntry(t *testing.T) {
	table := product(t)
	r := newProduct(t, table)
	overwrite := &overwriting{fsm: r.fsm}
	r.runOver(overwrite)
	r.establish(1)
	rnd := rand.New(rand.NewPCG(3, 4))
	other := newProduct(t, table)
	other.run()
	other.establish(1)
	for range 300 {
		var a, b []command.Request
		for range 4 {
			q := phrase(t, table, rnd, r.fsm.Instant())
			a, b = append(a, q), append(b, q)
		}
		want := endings(other.submit(b...))
		wantEndings(t, r.submit(a...), want...)
		r.clock.Advance(10 * time.Millisecond)
		other.clock.Advance(10 * time.Millisecond)
	}
}

// overwriting is a state machine whose entries are overwritten once applied.
type overwriting struct{ fsm *raftfsm.FSM }

func (o *overwriting) Apply(l *raft.Log) any {
	reply := o.fsm.Apply(l)
	for i := range l.Data {
		l.Data[i] = '!'
	}
	return reply
}

// Property: P6. A read inside a transaction removes the due keys it meets, so it
// meets the same ones on every node, whatever a node was asked before: RANDOMKEY
// too.
func TestReadsInTransactionsMeetTheSameDueKeysEverywhere(t *testing.T) {
	table := product(t)
	asked, idle := newProduct(t, table), newProduct(t, table)
	random := command.Request{Spec: table.ByName("randomkey"), Args: [][]byte{[]byte("randomkey")}}
	var reqs []command.Request
	for i := range 200 {
		reqs = append(reqs, phraseOf(t, table, fmt.Sprintf("set k%d v pxat", i), wall+1000+int64(i)%2*100_000))
	}
	for _, r := range []*rig{asked, idle} {
		r.apply(1, raftfsm.Entry(wall, 1, reqs...))
	}
	for range 5 { // only one of them has clients
		asked.fsm.View(0, func(rd *store.Reader) { random.Spec.Do.Read(rd, random.Args) })
	}
	for _, r := range []*rig{asked, idle} {
		r.apply(2, raftfsm.Entry(wall+2000, 7, transaction(nil, random, random, random, random)))
	}
	if asked.fsm.Digest() != idle.fsm.Digest() {
		t.Fatal("RANDOMKEY removed other keys on a node that had been asked before")
	}
}

// Property: P4. What a read of this node has hidden as due, a listing of the
// keys right after does not show: on a replica at the instant of its reads; on
// the master, whose reads wait for the removal, once that is committed.
func TestListingsShowNoKeyThatWasSeenDue(t *testing.T) {
	table := product(t)
	keys := table.ByName("keys")
	list := func(r *rig) string {
		f := r.fsm.Freeze()
		defer f.Release()
		return text(keys.Do.Frozen(f, 0, [][]byte{[]byte("keys"), []byte("*")}))
	}
	r := newProduct(t, table)
	r.apply(1, raftfsm.EstablishEntry(wall, "c1", settings))
	end := r.fsm.Instant() + 1000
	set := phraseOf(t, table, "set k v pxat", end)
	r.apply(2, raftfsm.Entry(r.fsm.Instant(), 1, set))
	if got := list(r); got != "*1\r\n$1\r\nk\r\n" {
		t.Fatalf("before the deadline: %q", got)
	}
	r.clock.Advance(time.Second)
	if r.value("k") != null {
		t.Fatal("the replica shows a due key")
	}
	if got := list(r); got != "*0\r\n" {
		t.Errorf("the replica lists a key that it has hidden: %q", got)
	}

	m := newProduct(t, table)
	m.run()
	m.establish(1)
	end = m.fsm.Instant() + 1000
	m.submit(phraseOf(t, table, "set k v pxat", end))
	m.clock.Advance(time.Second)
	if got := list(m); got != "*1\r\n$1\r\nk\r\n" {
		t.Errorf("the master hides a key whose removal is not committed: %q", got)
	}
	if err := m.prop.Expire(t.Context(), []store.Victim{{Key: "k", Deadline: end}}); err != nil {
		t.Fatal(err)
	}
	if got := list(m); got != "*0\r\n" {
		t.Errorf("a removed key is listed: %q", got)
	}
}

// phraseOf is a command of the product: words, and a number after them.
func phraseOf(tb testing.TB, table *command.Table, words string, n int64) command.Request {
	tb.Helper()
	var args [][]byte
	for _, w := range append(strings.Fields(words), fmt.Sprint(n)) {
		args = append(args, []byte(w))
	}
	spec, err := table.Lookup(args)
	if err != nil {
		tb.Fatal(err)
	}
	return command.Request{Spec: spec, Args: args}
}
