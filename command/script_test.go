package command_test

import (
	"flag"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/internal/testkit/script"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

var rewrite = flag.Bool("rewrite", false, "take the replies of the real redis-server over into testdata")

// Each script gets from the commands on a store, in both protocols, exactly the
// replies and events it wants.
func TestScriptsAgainstTheStore(t *testing.T) {
	for _, path := range scripts(t) {
		s := parsed(t, path)
		for _, proto := range []int{2, 3} {
			t.Run(s.Name+"/"+strconv.Itoa(proto), func(t *testing.T) {
				if s.Socket || s.Proto != 0 && s.Proto != proto {
					t.Skip("the script is about connections, or about the other protocol")
				}
				s.Run(t, newMemory(t, proto), script.Options{Proto: proto})
			})
		}
	}
}

// The same scripts get the same from the real redis-server: what they want is
// not our own idea.
func TestScriptsAgainstRedis(t *testing.T) {
	server := startOracle(t)
	open := func(proto int) (script.Session, error) { return script.DialWatched(server.Addr(), proto) }
	for _, path := range scripts(t) {
		if *rewrite {
			if err := script.Update(path, open); err != nil {
				t.Fatal(err)
			}
		}
		s := parsed(t, path)
		for _, proto := range []int{2, 3} {
			t.Run(s.Name+"/"+strconv.Itoa(proto), func(t *testing.T) {
				if s.Proto != 0 && s.Proto != proto {
					t.Skip("the script is about the other protocol")
				}
				session, err := script.DialWatched(server.Addr(), proto)
				if err != nil {
					t.Fatal(err)
				}
				defer session.End()
				s.Run(t, session, script.Options{Proto: proto, Oracle: true})
			})
		}
	}
}

// Every data command is in a script.
func TestEveryCommandHasAScript(t *testing.T) {
	table := dataTable(t)
	played := map[string]bool{}
	for _, path := range scripts(t) {
		for _, args := range parsed(t, path).Commands() {
			if spec, err := table.Lookup(byteArgs(args)); err == nil {
				played[spec.FullName()] = true
			}
		}
	}
	for spec := range table.Each() {
		if spec.Do.Route != 0 && !played[spec.FullName()] {
			t.Errorf("no script plays %s", spec.FullName())
		}
	}
}

func scripts(tb testing.TB) []string {
	tb.Helper()
	return script.Paths(tb, "testdata")
}

func parsed(tb testing.TB, path string) *script.Script {
	tb.Helper()
	s, err := script.Parse(path)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// startOracle starts the real redis-server, or skips the test where it is missing.
func startOracle(tb testing.TB) *testkit.Redis {
	tb.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		tb.Skip("redis-server is not installed: nothing to compare with")
	}
	return testkit.StartRedis(tb, "--notify-keyspace-events", "KEA", "--enable-debug-command", "yes")
}

// dataTable is the table of the commands of this package.
func dataTable(tb testing.TB) *command.Table {
	tb.Helper()
	var table *command.Table
	table, err := command.Join(command.StringSpecs(), command.KeySpecs(), command.TableSpecs(func() *command.Table { return table }))
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

func byteArgs(args []string) [][]byte {
	out := make([][]byte, len(args))
	for i, a := range args {
		out[i] = []byte(a)
	}
	return out
}

// limits are the settings of the stores under test.
var limits = store.Settings{Databases: 16, MaxEntryBytes: 32 << 20, MaxBulkBytes: 32 << 20}

// newStore is a store with the usual settings.
func newStore() *store.Store {
	s := store.New(limits.Databases)
	s.Update(1, 1, func(tx *store.Tx) {
		tx.Begin(0)
		tx.ChangeSystem(func(sys *store.System) { sys.Settings = limits })
	})
	return s
}

// memory is a session with a store instead of a server: what a node does with a
// command, without network, log and time.
type memory struct {
	table  *command.Table
	store  *store.Store
	proto  int
	now    int64 // ms
	db     map[string]int
	events []string
}

var (
	_ script.Session = (*memory)(nil)
	_ script.Passer  = (*memory)(nil)
	_ script.Eventer = (*memory)(nil)
)

func newMemory(tb testing.TB, proto int) *memory {
	tb.Helper()
	return &memory{table: dataTable(tb), store: newStore(), proto: proto, now: 1_800_000_000_000, db: map[string]int{}}
}

// Do runs a command as a confirmed read or as an applied write.
func (m *memory) Do(conn string, args []string) (testkit.Reply, error) {
	return script.FromValue(m.run(conn, byteArgs(args)), m.proto)
}

func (m *memory) run(conn string, args [][]byte) resp.Value {
	if len(args) == 2 && strings.EqualFold(string(args[0]), "select") { // a command of the connection
		db, _ := strconv.Atoi(string(args[1]))
		m.db[conn] = db
		return resp.OK
	}
	spec, err := m.table.Lookup(args)
	if err == nil {
		err = spec.Do.Check(args)
	}
	if err != nil {
		return resp.Err(err)
	}
	return m.carryOut(spec, m.db[conn], args)
}

// carryOut runs a command by its route.
func (m *memory) carryOut(spec *command.Spec, db int, args [][]byte) resp.Value {
	switch spec.Do.Route {
	case command.RouteRead:
		return m.read(spec, db, args)
	case command.RouteLocal:
		return spec.Do.Local(nil, args)
	default: // through the log
	}
	var reply resp.Value
	m.update(func(tx *store.Tx) {
		tx.Begin(db)
		reply = spec.Do.Apply(tx, args)
	})
	return reply
}

// read runs a read; due keys it meets are removed before it answers.
func (m *memory) read(spec *command.Spec, db int, args [][]byte) resp.Value {
	var reply resp.Value
	for {
		victims := m.store.View(m.now, db, func(r *store.Reader) { reply = spec.Do.Read(r, args) })
		if len(victims) == 0 {
			return reply
		}
		m.update(func(tx *store.Tx) {
			tx.Begin(0)
			for _, v := range victims {
				tx.Expire(v)
			}
		})
	}
}

func (m *memory) update(fn func(tx *store.Tx)) {
	for _, e := range m.store.Update(m.now, 7, fn) {
		if e.Class != store.ClassFlushed { // no client is told of it
			m.events = append(m.events, e.Name+"("+e.Key+")")
		}
	}
}

// Pass moves the clock.
func (m *memory) Pass(d time.Duration) error {
	m.now += d.Milliseconds()
	return nil
}

// Events are the events since the last call.
func (m *memory) Events() ([]string, error) {
	events := slices.Clone(m.events)
	m.events = m.events[:0]
	return events, nil
}
