package command

import (
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// setSpecs are the commands that give keys a string, whatever was there.
func setSpecs() []*Spec {
	const perKey = "O(N) in the number of keys"
	return []*Spec{
		{
			Name: "set", Arity: -3, Flags: FlagDenyOOM, Since: "1.0.0", Complexity: "O(1)",
			Keys:    []Keys{{Flags: KeyRW | KeyAccess | KeyUpdate | KeyVariableFlags, First: 1, Step: 1, Vary: setKeyFlags}},
			Summary: "Gives a key a string, with a deadline and under conditions if wanted.",
			Syntax: "key value [NX | XX] [GET] " +
				"[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
			Do: Writes(parseSet, set),
		},
		{
			Name: "setnx", Arity: 3, Flags: FlagDenyOOM | FlagFast, Keys: oneKey(KeyOW | KeyInsert), Since: "1.0.0", Complexity: "O(1)",
			Summary: "Gives a key a string if it does not exist.", Syntax: "key value",
			Do: Writes(parseSetNX, setNX),
		},
		{
			Name: "setex", Arity: 4, Flags: FlagDenyOOM, Keys: oneKey(KeyOW | KeyUpdate), Since: "2.0.0", Complexity: "O(1)",
			Summary: "Gives a key a string and a life in seconds.", Syntax: "key seconds value",
			Do: Writes(parseSetLife("setex", lifeSeconds), set),
		},
		{
			Name: "psetex", Arity: 4, Flags: FlagDenyOOM, Keys: oneKey(KeyOW | KeyUpdate), Since: "2.6.0", Complexity: "O(1)",
			Summary: "Gives a key a string and a life in milliseconds.", Syntax: "key milliseconds value",
			Do: Writes(parseSetLife("psetex", lifeMillis), set),
		},
		{
			Name: "getset", Arity: 3, Flags: FlagDenyOOM | FlagFast, Keys: oneKey(KeyRW | KeyAccess | KeyUpdate), Since: "1.0.0",
			Complexity: "O(1)", Deprecated: "6.2.0", ReplacedBy: "`SET` with the `!GET` argument",
			Summary: "Gives a key a string and returns the one it had.", Syntax: "key value",
			Do: Writes(parseGetSet, set),
		},
		{
			Name: "mset", Arity: -3, Flags: FlagDenyOOM, Keys: pairs(KeyOW | KeyUpdate), Since: "1.0.1",
			Tips: perShard("all_succeeded"), Complexity: perKey,
			Summary: "Gives several keys their strings at once.", Syntax: "key value [key value ...]",
			Do: Writes(parsePairs("mset"), mset),
		},
		{
			Name: "msetnx", Arity: -3, Flags: FlagDenyOOM, Keys: pairs(KeyOW | KeyInsert), Since: "1.0.1",
			Tips: perShard("agg_min"), Complexity: perKey,
			Summary: "Gives several keys their strings if none of them exists.", Syntax: "key value [key value ...]",
			Do: Writes(parsePairs("msetnx"), msetNX),
		},
	}
}

// pairs is the place of keys that alternate with values.
func pairs(f KeyFlags) []Keys { return []Keys{{Flags: f, First: 1, Last: -1, Step: 2}} }

// setFlags are the options of SET that are no deadline.
type setFlags uint8

const (
	setNew      setFlags = 1 << iota // NX
	setExisting                      // XX
	setGet                           // GET: reply what was there
	setKeep                          // KEEPTTL
)

// setOp is what SET and its relatives do.
type setOp struct {
	key, value []byte
	until      moment
	flags      setFlags
}

// parseSet reads the options in any order, and as the last thing the number
// that goes with a deadline: that is the order of the errors.
func parseSet(args [][]byte) (setOp, error) {
	op := setOp{key: args[1], value: args[2]}
	var number []byte
	var kind unit
	for i := 3; i < len(args); i++ {
		arg := args[i]
		if u := deadlineUnit(arg); u != 0 {
			if (kind != 0 && kind != u) || op.flags&setKeep != 0 || i+1 == len(args) {
				return setOp{}, resp.ErrSyntax
			}
			i++
			kind, number = u, args[i]
			continue
		}
		switch {
		case is(arg, "nx") && op.flags&setExisting == 0:
			op.flags |= setNew
		case is(arg, "xx") && op.flags&setNew == 0:
			op.flags |= setExisting
		case is(arg, "get"):
			op.flags |= setGet
		case is(arg, "keepttl") && kind == 0:
			op.flags |= setKeep
		default:
			return setOp{}, resp.ErrSyntax
		}
	}
	if kind == 0 {
		return op, nil
	}
	var err error
	op.until, err = parseMoment("set", number, kind, false)
	return op, err
}

// deadlineUnit is the unit that an option of SET or GETEX announces, 0 if it
// announces none.
func deadlineUnit(option []byte) unit {
	switch {
	case is(option, "ex"):
		return lifeSeconds
	case is(option, "px"):
		return lifeMillis
	case is(option, "exat"):
		return instantSeconds
	case is(option, "pxat"):
		return instantMillis
	}
	return 0
}

// setKeyFlags tells what a SET does with its key: with GET it shows it, too.
func setKeyFlags(args [][]byte) KeyFlags {
	for i := 3; i < len(args); i++ {
		if is(args[i], "get") {
			return KeyRW | KeyAccess | KeyUpdate
		}
	}
	return KeyOW | KeyUpdate
}

func parseSetLife(command string, u unit) func(args [][]byte) (setOp, error) {
	return func(args [][]byte) (setOp, error) {
		until, err := parseMoment(command, args[2], u, false)
		return setOp{key: args[1], value: args[3], until: until}, err
	}
}

func parseGetSet(args [][]byte) (setOp, error) {
	return setOp{key: args[1], value: args[2], flags: setGet}, nil
}

func parseSetNX(args [][]byte) (setOp, error) {
	return setOp{key: args[1], value: args[2], flags: setNew}, nil
}

// set carries out SET SETEX PSETEX and GETSET. A deadline beyond all numbers is
// an error even if the conditions do not hold.
func set(tx *store.Tx, op setOp) resp.Value {
	deadline, err := op.deadline(tx.Now())
	if err != nil {
		return resp.Err(err)
	}
	reply := resp.OK
	if op.flags&(setGet|setNew|setExisting) != 0 {
		var done bool
		if reply, done = op.look(tx); done {
			return reply
		}
	}
	setString(tx, op.key, own(op.value), deadline, "set")
	if op.until.given {
		notifyDeadline(tx, op.key, deadline)
	}
	return reply
}

// setNX is set with a number for a reply.
func setNX(tx *store.Tx, op setOp) resp.Value {
	if tx.Find(op.key) != nil {
		return resp.Zero
	}
	setString(tx, op.key, own(op.value), 0, "set")
	return resp.One
}

// look finds what is at the key, for GET and the conditions. It returns the
// reply, and whether nothing is to be done any more.
func (op *setOp) look(tx *store.Tx) (reply resp.Value, done bool) {
	old := tx.Find(op.key)
	if op.flags&setGet == 0 {
		if !op.meets(old) {
			return resp.Null, true
		}
		return resp.OK, false
	}
	if old != nil && old.Value().Type() != store.TypeString {
		return resp.Err(resp.ErrWrongType), true
	}
	return bulk(old), !op.meets(old)
}

// meets tells whether the conditions hold for what is at the key, nil for nothing.
func (op *setOp) meets(old *store.Entry) bool {
	return (op.flags&setNew == 0 || old == nil) && (op.flags&setExisting == 0 || old != nil)
}

// deadline is the deadline for store.Tx.Set.
func (op *setOp) deadline(now int64) (int64, error) {
	if op.flags&setKeep != 0 {
		return store.KeepDeadline, nil
	}
	return op.until.deadline(now)
}

// parsePairs reads keys that alternate with values.
func parsePairs(command string) func(args [][]byte) ([][]byte, error) {
	return func(args [][]byte) ([][]byte, error) {
		if len(args)%2 == 0 {
			return nil, resp.Arity(command)
		}
		return args[1:], nil
	}
}

func mset(tx *store.Tx, pairs [][]byte) resp.Value {
	for i := 0; i < len(pairs); i += 2 {
		setString(tx, pairs[i], own(pairs[i+1]), 0, "set")
	}
	return resp.OK
}

func msetNX(tx *store.Tx, pairs [][]byte) resp.Value {
	for i := 0; i < len(pairs); i += 2 {
		if tx.Find(pairs[i]) != nil {
			return resp.Zero
		}
	}
	mset(tx, pairs)
	return resp.One
}
