package command_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/store"
)

// content is what a client can see of a key, but for how long ago it was used.
type content struct {
	value    string
	deadline int64
}

// everything is all keys of a store by "database/name".
func everything(s *store.Store) map[string]content {
	all := map[string]content{}
	for db := range limits.Databases {
		s.View(0, db, func(r *store.Reader) {
			for cursor := uint64(0); ; {
				cursor = r.Scan(cursor, 100, func(e *store.Entry) {
					all[fmt.Sprint(db, "/", e.Key())] = content{string(e.Value().Bytes()), e.Deadline()}
				})
				if cursor == 0 {
					return
				}
			}
		})
	}
	return all
}

// Whatever a command changes, an event names the key, or says that the whole database
// is another: who follows the events knows of every change.
func TestEveryChangeHasAnEvent(t *testing.T) {
	const steps = 30_000
	seed := rand.Uint64()
	d := dice{rand.New(rand.NewPCG(seed, 4))}
	m := newMemory(t, 2)
	before := everything(m.store)
	for range steps {
		args := d.command()
		spec, err := m.table.Lookup(byteArgs(args))
		if err != nil || args[0] == "SELECT" || spec.Do.Check(byteArgs(args)) != nil || spec.Do.Route != command.RouteWrite {
			continue
		}
		m.now += d.Int64N(100_000_000)
		told, flushed := map[string]bool{}, map[int]bool{}
		for _, e := range m.store.Update(m.now, 7, func(tx *store.Tx) {
			tx.Begin(d.IntN(3))
			spec.Do.Apply(tx, byteArgs(args))
		}) {
			told[fmt.Sprint(e.DB, "/", e.Key)] = e.Class != store.ClassFlushed
			flushed[e.DB] = flushed[e.DB] || e.Class == store.ClassFlushed
		}
		after := everything(m.store)
		for _, one := range []map[string]content{before, after} {
			for key := range one {
				var db int
				if _, err := fmt.Sscanf(key, "%d/", &db); err != nil {
					t.Fatal(err)
				}
				if before[key] != after[key] && !told[key] && !flushed[db] {
					t.Fatalf("seed %d: %q changes %s from %+v to %+v without an event", seed, args, key, before[key], after[key])
				}
			}
		}
		before = after
	}
}
