package command

import (
	"slices"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// StringSpecs are the commands of redis.io/commands/?group=string, but for LCS.
func StringSpecs() []*Spec {
	return grouped("string", CatString, slices.Concat(
		stringReads(), setSpecs(), takeSpecs(), counterSpecs(), growSpecs(),
	)...)
}

// stringReads are the commands that only read strings.
func stringReads() []*Spec {
	const cut = "O(N) in the number of bytes returned"
	part := Reads(parseRange, getRange)
	return []*Spec{
		{
			Name: "get", Arity: 2, Flags: FlagFast, Keys: oneKey(KeyRO | KeyAccess), Since: "1.0.0", Complexity: "O(1)",
			Summary: "Returns the string at a key.", Syntax: "key",
			Do: Reads(parseKey, get),
		},
		{
			Name: "mget", Arity: -2, Flags: FlagFast, Keys: everyKey(KeyRO | KeyAccess), Since: "1.0.0",
			Tips: []string{"request_policy:multi_shard"}, Complexity: "O(N) in the number of keys",
			Summary: "Returns the strings at several keys at once.", Syntax: "key [key ...]",
			Do: Reads(parseKeys, mget),
		},
		{
			Name: "strlen", Arity: 2, Flags: FlagFast, Keys: oneKey(KeyRO), Since: "2.2.0", Complexity: "O(1)",
			Summary: "Returns the number of bytes of the string at a key.", Syntax: "key",
			Do: Reads(parseKey, strlen),
		},
		{
			Name: "getrange", Arity: 4, Keys: oneKey(KeyRO | KeyAccess), Since: "2.4.0", Complexity: cut,
			Summary: "Returns a part of the string at a key.", Syntax: "key start end",
			Do: part,
		},
		{
			Name: "substr", Arity: 4, Keys: oneKey(KeyRO | KeyAccess), Since: "1.0.0", Complexity: cut,
			Deprecated: "2.0.0", ReplacedBy: "`GETRANGE`",
			Summary: "Returns a part of the string at a key.", Syntax: "key start end",
			Do: part,
		},
	}
}

func get(r *store.Reader, key []byte) resp.Value {
	e, err := findString(r, key)
	if err != nil {
		return resp.Err(err)
	}
	return bulk(e)
}

func mget(r *store.Reader, keys [][]byte) resp.Value {
	list := make([]resp.Value, len(keys))
	for i, key := range keys {
		e, _ := findString(r, key) // a key of another type counts as missing
		list[i] = bulk(e)
	}
	return resp.Array(list...)
}

func strlen(r *store.Reader, key []byte) resp.Value {
	e, err := findString(r, key)
	switch {
	case err != nil:
		return resp.Err(err)
	case e == nil:
		return resp.Zero
	}
	return resp.Int(int64(len(e.Value().Bytes())))
}

// rangeOp is a part of a string; negative positions count from its end.
type rangeOp struct {
	key        []byte
	start, end int64
}

func parseRange(args [][]byte) (rangeOp, error) {
	start, ok := parseInt(args[2])
	end, ok2 := parseInt(args[3])
	if !ok || !ok2 {
		return rangeOp{}, resp.ErrNotInteger
	}
	return rangeOp{key: args[1], start: start, end: end}, nil
}

func getRange(r *store.Reader, op rangeOp) resp.Value {
	e, err := findString(r, op.key)
	if err != nil {
		return resp.Err(err)
	}
	if e == nil {
		return emptyBulk
	}
	b := e.Value().Bytes()
	n := int64(len(b))
	if op.start < 0 && op.end < 0 && op.start > op.end {
		return emptyBulk
	}
	if op.start < 0 {
		op.start = max(op.start+n, 0)
	}
	if op.end < 0 {
		op.end = max(op.end+n, 0) // before the beginning counts as the first byte
	}
	op.end = min(op.end, n-1)
	if op.start > op.end {
		return emptyBulk
	}
	return resp.Bulk(b[op.start : op.end+1])
}
