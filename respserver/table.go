package respserver

import (
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/command"
)

// entry is a command as this server runs it: its spec with the counters that
// INFO commandstats and the metrics show. Only CONFIG RESETSTAT sets them back.
type entry struct {
	spec    *command.Spec
	name    string // as COMMAND shows it: "get", "client|list"
	lookups lookupKind
	selects bool // it is SELECT, whose effect on the commands after it is known when it is queued
	commits bool // it is EXEC: when it is refused, the transaction is over
	prompt  bool // it is CLIENT CACHING, which concerns what comes next and nothing before

	calls, nanos, failed, rejected atomic.Int64
}

// lookupKind says how the reply of a command tells found keys from missing ones.
type lookupKind uint8

const (
	lookupNone lookupKind = iota // its reply says nothing about it
	lookupOne                    // null is a miss
	lookupMany                   // one element per key, null for a miss
)

// table finds commands with their counters.
type table struct {
	*command.Table
	entries map[*command.Spec]*entry
	sorted  []*entry // without containers that cannot be called themselves
}

func newTable(specs *command.Table) *table {
	t := &table{Table: specs, entries: make(map[*command.Spec]*entry)}
	for s := range specs.Each() {
		if s.Do.Route == 0 {
			continue
		}
		name := s.FullName()
		e := &entry{spec: s, name: name, lookups: lookupKindOf(s), selects: name == selectName, commits: name == execName, prompt: name == cachingName}
		t.entries[s] = e
		t.sorted = append(t.sorted, e)
	}
	return t
}

// lookupKindOf derives from the key specification whether hits and misses can be
// read off the reply: only commands that return what they find can tell.
func lookupKindOf(s *command.Spec) lookupKind {
	if s.Do.Route != command.RouteRead || len(s.Keys) != 1 || s.Keys[0].Flags&command.KeyAccess == 0 {
		return lookupNone
	}
	if s.Keys[0].Last == 0 {
		return lookupOne
	}
	return lookupMany
}

// done counts an execution that took d.
func (e *entry) done(d time.Duration, failed bool) {
	e.calls.Add(1)
	e.nanos.Add(int64(d))
	if failed {
		e.failed.Add(1)
	}
}

func (e *entry) reset() {
	e.calls.Store(0)
	e.nanos.Store(0)
	e.failed.Store(0)
	e.rejected.Store(0)
}
