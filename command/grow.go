package command

import (
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// growSpecs are the commands that change a string where it stands.
func growSpecs() []*Spec {
	return []*Spec{
		{
			Name: "append", Arity: 3, Flags: FlagDenyOOM | FlagFast, Keys: oneKey(KeyRW | KeyInsert), Since: "2.0.0",
			Complexity: "O(N) in the number of bytes appended, amortized",
			Summary:    "Adds bytes to the end of the string at a key, creating it if missing.", Syntax: "key value",
			Do: Writes(parseAppend, appendString),
		},
		{
			Name: "setrange", Arity: 4, Flags: FlagDenyOOM, Keys: oneKey(KeyRW | KeyUpdate), Since: "2.2.0",
			Complexity: "O(N) in the length of the string",
			Summary:    "Overwrites a part of the string at a key, filling with zero bytes up to it.", Syntax: "key offset value",
			Do: Writes(parseSetRange, setRange),
		},
	}
}

// anyLimit is a length that every setting allows, so that most commands need
// not look at the settings.
const anyLimit = 1 << 20

// fits tells whether a string may become n bytes long.
func fits(tx *store.Tx, n int64) bool {
	if n <= anyLimit {
		return true
	}
	settings := tx.System().Settings
	return n <= min(settings.MaxBulkBytes, settings.MaxEntryBytes)
}

// keyValueOp is a key and a value for it.
type keyValueOp struct{ key, value []byte }

func parseAppend(args [][]byte) (keyValueOp, error) {
	return keyValueOp{key: args[1], value: args[2]}, nil
}

func appendString(tx *store.Tx, op keyValueOp) resp.Value {
	e, err := findString(&tx.Reader, op.key)
	if err != nil {
		return resp.Err(err)
	}
	length := int64(len(op.value))
	if e != nil {
		length += int64(len(e.Value().Bytes()))
	}
	if !fits(tx, length) {
		return resp.Err(resp.ErrTooBig)
	}
	if e == nil {
		tx.Set(op.key, store.StringValue(own(op.value)), 0)
	} else {
		tx.Append(e, op.value)
	}
	tx.Notify(store.ClassString, "append", op.key)
	return resp.Int(length)
}

// maxString is the length no string exceeds whatever the settings, as in Redis.
const maxString = 512 << 20

// setRangeOp overwrites a part of a string.
type setRangeOp struct {
	keyValueOp
	offset int64
}

func parseSetRange(args [][]byte) (setRangeOp, error) {
	offset, ok := parseInt(args[2])
	if !ok {
		return setRangeOp{}, resp.ErrNotInteger
	}
	if offset < 0 {
		return setRangeOp{}, resp.ErrOffset
	}
	value := args[3]
	if len(value) > 0 && offset > maxString-int64(len(value)) {
		return setRangeOp{}, resp.ErrTooBig
	}
	return setRangeOp{keyValueOp: keyValueOp{key: args[1], value: value}, offset: offset}, nil
}

func setRange(tx *store.Tx, op setRangeOp) resp.Value {
	e, err := findString(&tx.Reader, op.key)
	if err != nil {
		return resp.Err(err)
	}
	var old []byte
	if e != nil {
		old = e.Value().Bytes()
	}
	if len(op.value) == 0 {
		return resp.Int(int64(len(old)))
	}
	length := max(int64(len(old)), op.offset+int64(len(op.value)))
	if !fits(tx, length) {
		return resp.Err(resp.ErrTooBig)
	}
	value := make([]byte, length)
	copy(value, old)
	copy(value[op.offset:], op.value)
	setString(tx, op.key, value, store.KeepDeadline, "setrange")
	return resp.Int(length)
}
