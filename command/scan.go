package command

import (
	"strconv"
	"strings"

	"github.com/holdfast/holdfast/internal/glob"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// scanSpecs are the commands that find keys without being told their names.
func scanSpecs() []*Spec {
	return []*Spec{
		{
			Name: "keys", Arity: 2, Categories: CatDangerous, Since: "1.0.0", Complexity: "O(N) in the number of keys of the database",
			Tips:    []string{"request_policy:all_shards", "nondeterministic_output_order"},
			Summary: "Lists all keys that match a pattern.", Syntax: "pattern",
			Do: keysHandler(),
		},
		{
			Name: "scan", Arity: -2, Since: "2.8.0", Complexity: "O(COUNT) for a call",
			Tips:    []string{"nondeterministic_output", "request_policy:special"},
			Summary: "Lists some of the keys and a cursor to go on from.",
			Syntax:  "cursor [MATCH pattern] [COUNT count] [TYPE type]",
			Do:      Reads(parseScan, scan),
		},
		{
			Name: "randomkey", Arity: 1, Since: "1.0.0", Complexity: "O(1)", PerNode: true,
			Tips:    []string{"request_policy:all_shards", "nondeterministic_output"},
			Summary: "Names a key, any key.",
			Do:      Reads(parseNone, randomKey),
		},
	}
}

// keysPerStep is how many keys KEYS asks the store for at once.
const keysPerStep = 1024

// keysHandler runs KEYS, on a frozen view where the caller has one.
func keysHandler() Handler {
	parse := func(args [][]byte) ([]byte, error) { return args[1], nil }
	h := Reads(parse, keys)
	h.Frozen = func(f *store.Frozen, db int, args [][]byte) resp.Value { return frozenKeys(f, db, args[1]) }
	return h
}

func keys(r *store.Reader, pattern []byte) resp.Value {
	var list []resp.Value
	m := matcher{pattern: pattern, left: matchWork}
	for cursor := uint64(0); ; {
		cursor = r.Scan(cursor, keysPerStep, func(e *store.Entry) {
			if m.matches(e.Key()) {
				list = append(list, resp.BulkString(e.Key()))
			}
		})
		if cursor == 0 || m.tired() {
			return m.reply(resp.Array(list...))
		}
	}
}

// frozenKeys lists the keys of a frozen view that are not due at its instant.
func frozenKeys(f *store.Frozen, db int, pattern []byte) resp.Value {
	now := f.Now()
	var list []resp.Value
	m := matcher{pattern: pattern, left: matchWork}
	err := f.Each(db, func(rec store.Record) error {
		live := rec.Deadline == 0 || rec.Deadline > now
		if live && m.matches(rec.Key) {
			list = append(list, resp.BulkString(rec.Key))
		}
		if m.tired() {
			return resp.ErrPattern
		}
		return nil
	})
	if err != nil {
		return resp.Err(err)
	}
	return resp.Array(list...)
}

// What matching a pattern may cost, so that none keeps a lock for long, whatever
// lengths it and the keys have: a tenth of a second for a call, and as much for
// each key as usual ones never need.
const (
	matchWork   = 1 << 26
	matchPerKey = 1 << 12
)

// matcher matches names against a pattern. Its work is bounded: reply tells
// whether that was enough.
type matcher struct {
	pattern []byte
	left    glob.Work
}

func (m *matcher) matches(name string) bool {
	if m.tired() {
		return false
	}
	m.left += matchPerKey
	return glob.MatchWithin(&m.left, m.pattern, name)
}

// tired tells whether the bound was reached; nothing matches any more then.
func (m *matcher) tired() bool { return m.left <= 0 }

// reply is v, or an error if v is not all because the bound was reached.
func (m *matcher) reply(v resp.Value) resp.Value {
	if m.tired() {
		return resp.Err(resp.ErrPattern)
	}
	return v
}

// scanOp is one call of SCAN.
type scanOp struct {
	cursor  uint64
	count   int
	pattern []byte // nil for any key
	typ     []byte // nil for any type
}

const (
	// scanCount is how many keys a call of SCAN looks at unless told.
	scanCount = 10
	// scanMost is how many it looks at whatever it is told: it holds the lock for
	// some milliseconds then.
	scanMost = 10_000
)

func parseScan(args [][]byte) (scanOp, error) {
	cursor, ok := parseCursor(args[1])
	if !ok {
		return scanOp{}, resp.ErrCursor
	}
	op := scanOp{cursor: cursor, count: scanCount}
	for i := 2; i < len(args); i += 2 {
		if i+1 == len(args) {
			return scanOp{}, resp.ErrSyntax
		}
		switch option, arg := args[i], args[i+1]; {
		case is(option, "match"):
			op.pattern = arg
		case is(option, "type"):
			op.typ = arg
		case is(option, "count"):
			n, ok := parseInt(arg)
			if !ok {
				return scanOp{}, resp.ErrNotInteger
			}
			if n < 1 {
				return scanOp{}, resp.ErrSyntax
			}
			op.count = int(min(n, scanMost))
		default:
			return scanOp{}, resp.ErrSyntax
		}
	}
	return op, nil
}

// parseCursor reads a cursor as leniently as Redis does with C's strtoul: a sign
// and no digits at all are right.
func parseCursor(text []byte) (uint64, bool) {
	if len(text) == 0 {
		return 0, true
	}
	digits := text
	if text[0] == '+' || text[0] == '-' {
		digits = text[1:]
	}
	n, err := strconv.ParseUint(string(digits), 10, 64)
	if err != nil || strings.ContainsRune(string(digits), '_') {
		return 0, false
	}
	if text[0] == '-' {
		n = -n
	}
	return n, true
}

func scan(r *store.Reader, op scanOp) resp.Value {
	list := []resp.Value{}
	m := matcher{pattern: op.pattern, left: matchWork}
	next := r.Scan(op.cursor, op.count, func(e *store.Entry) {
		if op.ofType(e) && (op.pattern == nil || m.matches(e.Key())) {
			list = append(list, resp.BulkString(e.Key()))
		}
	})
	return m.reply(resp.Array(resp.Bulk(strconv.AppendUint(nil, next, 10)), resp.Array(list...)))
}

func (op *scanOp) ofType(e *store.Entry) bool {
	return op.typ == nil || equalFold(op.typ, e.Value().Type().String())
}

func randomKey(r *store.Reader, _ none) resp.Value {
	e := r.Random(r.Random64())
	if e == nil {
		return resp.Null
	}
	return resp.BulkString(e.Key())
}
