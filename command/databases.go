package command

import (
	"cmp"
	"errors"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// databaseSpecs are the commands about whole databases.
func databaseSpecs() []*Spec {
	const flushing = "O(1); freeing the memory goes on in the background"
	return []*Spec{
		{
			Name: "dbsize", Arity: 1, Flags: FlagFast, Since: "1.0.0", Tips: allShards("agg_sum"), Complexity: "O(1)",
			Summary: "Counts the keys of the selected database.",
			Do:      Reads(parseNone, dbSize),
		},
		{
			Name: "flushdb", Arity: -1, Categories: CatDangerous, Since: "1.0.0", Tips: allShards("all_succeeded"), Complexity: flushing,
			Summary: "Deletes all keys of the selected database.", Syntax: "[ASYNC | SYNC]",
			Do: Writes(parseFlush, func(tx *store.Tx, _ none) resp.Value {
				tx.Flush(tx.DB())
				return resp.OK
			}),
		},
		{
			Name: "flushall", Arity: -1, Categories: CatDangerous, Since: "1.0.0", Tips: allShards("all_succeeded"), Complexity: flushing,
			Summary: "Deletes all keys of all databases.", Syntax: "[ASYNC | SYNC]",
			Do: Writes(parseFlush, func(tx *store.Tx, _ none) resp.Value {
				tx.FlushAll()
				return resp.OK
			}),
		},
		{
			Name: "swapdb", Arity: 3, Flags: FlagFast, Categories: CatDangerous, Since: "4.0.0", Complexity: "O(1)",
			Summary: "Exchanges two databases.", Syntax: "index1 index2",
			Do: Writes(parseSwap, swap),
		},
	}
}

func dbSize(r *store.Reader, _ none) resp.Value { return resp.Int(int64(r.Len())) }

// parseFlush reads the option, which makes no difference: flushing exchanges
// pointers either way.
func parseFlush(args [][]byte) (none, error) {
	if len(args) == 1 || len(args) == 2 && (is(args[1], "async") || is(args[1], "sync")) {
		return none{}, nil
	}
	return none{}, resp.ErrSyntax
}

// swapOp exchanges two databases.
type swapOp struct{ a, b int64 }

func parseSwap(args [][]byte) (swapOp, error) {
	a, err := parseDB(args[1])
	if err != nil && !errors.Is(err, resp.ErrDBIndex) {
		return swapOp{}, resp.ErrFirstDB
	}
	b, err2 := parseDB(args[2])
	if err2 != nil && !errors.Is(err2, resp.ErrDBIndex) {
		return swapOp{}, resp.ErrSecondDB
	}
	return swapOp{a: a, b: b}, cmp.Or(err, err2)
}

func swap(tx *store.Tx, op swapOp) resp.Value {
	if max(op.a, op.b) >= int64(tx.Databases()) {
		return resp.Err(resp.ErrDBIndex)
	}
	if op.a != op.b {
		tx.Swap(int(op.a), int(op.b))
	}
	return resp.OK
}
