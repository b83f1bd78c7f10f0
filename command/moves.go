package command

import (
	"math"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// moveSpecs are the commands that give values another key.
func moveSpecs() []*Spec {
	from := KeyRW | KeyAccess | KeyDelete
	return []*Spec{
		{
			Name: "rename", Arity: 3, Keys: twoKeys(from, KeyOW|KeyUpdate), Since: "1.0.0", Complexity: "O(1)",
			Summary: "Gives a value another key, with its deadline, in place of what is there.", Syntax: "key newkey",
			Do: Writes(parseRename, rename),
		},
		{
			Name: "renamenx", Arity: 3, Flags: FlagFast, Keys: twoKeys(from, KeyOW|KeyInsert), Since: "1.0.0", Complexity: "O(1)",
			Summary: "Gives a value another key, with its deadline, if that does not exist.", Syntax: "key newkey",
			Do: Writes(parseRename, renameNX),
		},
		{
			Name: "copy", Arity: -3, Flags: FlagDenyOOM, Keys: twoKeys(KeyRO|KeyAccess, KeyOW|KeyUpdate), Since: "6.2.0",
			Complexity: "O(N) in the size of the value",
			Summary:    "Copies a value with its deadline to another key.",
			Syntax:     "source destination [DB destination-db] [REPLACE]",
			Do:         Writes(parseCopy, copyKey),
		},
		{
			Name: "move", Arity: 3, Flags: FlagFast, Keys: oneKey(KeyRW | KeyAccess | KeyUpdate), Since: "1.0.0", Complexity: "O(1)",
			Summary: "Takes a key to another database if it does not exist there.", Syntax: "key db",
			Do: Writes(parseMove, move),
		},
	}
}

// renameOp gives the value of one key to another.
type renameOp struct{ from, to []byte }

func parseRename(args [][]byte) (renameOp, error) { return renameOp{from: args[1], to: args[2]}, nil }

func rename(tx *store.Tx, op renameOp) resp.Value {
	e := tx.Find(op.from)
	if e == nil {
		return resp.Err(resp.ErrNoSuchKey)
	}
	op.carryOut(tx, e)
	return resp.OK
}

func renameNX(tx *store.Tx, op renameOp) resp.Value {
	e := tx.Find(op.from)
	if e == nil {
		return resp.Err(resp.ErrNoSuchKey)
	}
	if tx.Find(op.to) != nil {
		return resp.Zero
	}
	op.carryOut(tx, e)
	return resp.One
}

// carryOut moves what e holds; a key renamed to itself stays as it is.
func (op *renameOp) carryOut(tx *store.Tx, e *store.Entry) {
	if string(op.from) == string(op.to) {
		return
	}
	value, deadline := e.Value(), e.Deadline()
	tx.Delete(op.from)
	tx.Set(op.to, value, deadline)
	tx.Notify(store.ClassGeneric, "rename_from", op.from)
	tx.Notify(store.ClassGeneric, "rename_to", op.to)
}

// sameDB as the database of a copyOp is the selected one.
const sameDB = -1

// copyOp copies the value of one key to another.
type copyOp struct {
	from, to []byte
	db       int64 // of the copy, or sameDB
	replace  bool
}

func parseCopy(args [][]byte) (copyOp, error) {
	op := copyOp{from: args[1], to: args[2], db: sameDB}
	for i := 3; i < len(args); i++ {
		switch {
		case is(args[i], "replace"):
			op.replace = true
		case is(args[i], "db") && i+1 < len(args):
			i++
			db, err := parseDB(args[i])
			if err != nil {
				return copyOp{}, err
			}
			op.db = db
		default:
			return copyOp{}, resp.ErrSyntax
		}
	}
	return op, nil
}

// parseDB reads the number of a database, which may be too high.
func parseDB(text []byte) (int64, error) {
	n, ok := parseInt(text)
	switch {
	case !ok:
		return 0, resp.ErrNotInteger
	case n > math.MaxInt32 || n < math.MinInt32:
		return 0, resp.ErrIntRange
	case n < 0:
		return 0, resp.ErrDBIndex
	}
	return n, nil
}

func copyKey(tx *store.Tx, op copyOp) resp.Value {
	here := tx.DB()
	there := here
	if op.db != sameDB {
		if op.db >= int64(tx.Databases()) {
			return resp.Err(resp.ErrDBIndex)
		}
		there = int(op.db)
	}
	if here == there && string(op.from) == string(op.to) {
		return resp.Err(resp.ErrSameObject)
	}
	e := tx.Find(op.from)
	if e == nil {
		return resp.Zero
	}
	value, deadline := e.Value(), e.Deadline()
	tx.Use(there)
	defer tx.Use(here)
	if !op.replace && tx.Find(op.to) != nil {
		return resp.Zero
	}
	tx.Set(op.to, store.StringValue(own(value.Bytes())), deadline)
	tx.Notify(store.ClassGeneric, "copy_to", op.to)
	return resp.One
}

// moveOp takes a key to another database.
type moveOp struct {
	key []byte
	db  int64
}

func parseMove(args [][]byte) (moveOp, error) {
	db, err := parseDB(args[2])
	return moveOp{key: args[1], db: db}, err
}

func move(tx *store.Tx, op moveOp) resp.Value {
	here, there := tx.DB(), int(op.db)
	switch {
	case there >= tx.Databases():
		return resp.Err(resp.ErrDBIndex)
	case there == here:
		return resp.Err(resp.ErrSameObject)
	}
	e := tx.Find(op.key)
	if e == nil {
		return resp.Zero
	}
	value, deadline := e.Value(), e.Deadline()
	tx.Use(there)
	defer tx.Use(here)
	if tx.Find(op.key) != nil {
		return resp.Zero
	}
	tx.Set(op.key, value, deadline)
	tx.Use(here)
	tx.Delete(op.key)
	tx.Notify(store.ClassGeneric, "move_from", op.key)
	tx.Use(there)
	tx.Notify(store.ClassGeneric, "move_to", op.key)
	return resp.One
}
