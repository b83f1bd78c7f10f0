package command

import (
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// takeSpecs are the commands that return a string and change how long it stays.
func takeSpecs() []*Spec {
	return []*Spec{
		{
			Name: "getdel", Arity: 2, Flags: FlagFast, Keys: oneKey(KeyRW | KeyAccess | KeyDelete), Since: "6.2.0", Complexity: "O(1)",
			Summary: "Returns the string at a key and deletes the key.", Syntax: "key",
			Do: Writes(parseKey, getDel),
		},
		{
			Name: "getex", Arity: -2, Flags: FlagFast, Keys: oneKey(KeyRW | KeyAccess | KeyUpdate), Since: "6.2.0", Complexity: "O(1)",
			Summary: "Returns the string at a key and gives the key another deadline, or none.",
			Syntax:  "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
			Do:      Writes(parseGetEx, getEx),
		},
	}
}

func getDel(tx *store.Tx, key []byte) resp.Value {
	e, err := findString(&tx.Reader, key)
	if err != nil {
		return resp.Err(err)
	}
	reply := bulk(e)
	if e != nil {
		remove(tx, key)
	}
	return reply
}

// getExOp is what GETEX does; without until and persist it only reads.
type getExOp struct {
	key     []byte
	until   moment
	persist bool
}

// parseGetEx refuses a number that cannot be a deadline whether or not the key
// exists; Redis looks for the key first and answers null if there is none.
func parseGetEx(args [][]byte) (getExOp, error) {
	op := getExOp{key: args[1]}
	var number []byte
	var kind unit
	for i := 2; i < len(args); i++ {
		u := deadlineUnit(args[i])
		switch {
		case u != 0 && (kind == 0 || kind == u) && !op.persist && i+1 < len(args):
			i++
			kind, number = u, args[i]
		case u == 0 && kind == 0 && is(args[i], "persist"):
			op.persist = true
		default:
			return getExOp{}, resp.ErrSyntax
		}
	}
	if kind == 0 {
		return op, nil
	}
	var err error
	op.until, err = parseMoment("getex", number, kind, false)
	return op, err
}

func getEx(tx *store.Tx, op getExOp) resp.Value {
	e, err := findString(&tx.Reader, op.key)
	if err != nil {
		return resp.Err(err)
	}
	if e == nil {
		return resp.Null
	}
	reply := bulk(e)
	switch {
	case op.persist:
		persistEntry(tx, e, op.key)
	case op.until.given:
		deadline, err := op.until.deadline(tx.Now())
		if err != nil {
			return resp.Err(err)
		}
		expireEntry(tx, e, op.key, deadline)
	}
	return reply
}
