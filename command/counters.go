package command

import (
	"math"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// counterSpecs are the commands that take strings for numbers.
func counterSpecs() []*Spec {
	counter := func(s Spec, do Handler) *Spec {
		s.Flags, s.Keys = FlagDenyOOM|FlagFast, oneKey(KeyRW|KeyAccess|KeyUpdate)
		s.Complexity, s.Do = "O(1)", do
		return &s
	}
	return []*Spec{
		counter(Spec{
			Name: "incr", Arity: 2, Since: "1.0.0", Syntax: "key",
			Summary: "Adds one to the integer at a key; a missing key counts as 0.",
		}, Writes(parseStep(1), add)),
		counter(Spec{
			Name: "decr", Arity: 2, Since: "1.0.0", Syntax: "key",
			Summary: "Subtracts one from the integer at a key; a missing key counts as 0.",
		}, Writes(parseStep(-1), add)),
		counter(Spec{
			Name: "incrby", Arity: 3, Since: "1.0.0", Syntax: "key increment",
			Summary: "Adds a number to the integer at a key; a missing key counts as 0.",
		}, Writes(parseIncrBy, add)),
		counter(Spec{
			Name: "decrby", Arity: 3, Since: "1.0.0", Syntax: "key decrement",
			Summary: "Subtracts a number from the integer at a key; a missing key counts as 0.",
		}, Writes(parseDecrBy, add)),
		counter(Spec{
			Name: "incrbyfloat", Arity: 3, Since: "2.6.0", Syntax: "key number",
			Summary: "Adds a floating-point number to the one at a key; a missing key counts as 0.",
		}, Writes(parseAddFloat, addFloat)),
	}
}

// addOp adds to a counter.
type addOp struct {
	key []byte
	by  int64
}

func parseStep(by int64) func(args [][]byte) (addOp, error) {
	return func(args [][]byte) (addOp, error) { return addOp{key: args[1], by: by}, nil }
}

func parseIncrBy(args [][]byte) (addOp, error) {
	by, ok := parseInt(args[2])
	if !ok {
		return addOp{}, resp.ErrNotInteger
	}
	return addOp{key: args[1], by: by}, nil
}

func parseDecrBy(args [][]byte) (addOp, error) {
	op, err := parseIncrBy(args)
	if err == nil && op.by == math.MinInt64 {
		err = resp.ErrDecrOverflow
	}
	op.by = -op.by
	return op, err
}

func add(tx *store.Tx, op addOp) resp.Value {
	e, err := findString(&tx.Reader, op.key)
	if err != nil {
		return resp.Err(err)
	}
	var n int64
	if e != nil {
		var ok bool
		if n, ok = parseInt(e.Value().Bytes()); !ok {
			return resp.Err(resp.ErrNotInteger)
		}
	}
	if (op.by > 0 && n > math.MaxInt64-op.by) || (op.by < 0 && n < math.MinInt64-op.by) {
		return resp.Err(resp.ErrOverflow)
	}
	n += op.by
	setString(tx, op.key, intText(n), store.KeepDeadline, "incrby")
	return resp.Int(n)
}
