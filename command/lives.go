package command

import (
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Replies in place of a life or a deadline.
const (
	noKey      = -2
	noDeadline = -1
)

// lifeSpecs are the commands that tell how long keys last, and PERSIST.
func lifeSpecs() []*Spec {
	life := func(s Spec, tips []string, u unit) *Spec {
		s.Arity, s.Flags, s.Keys, s.Tips = 2, FlagFast, oneKey(KeyRO|KeyAccess), tips
		s.Complexity, s.Syntax = "O(1)", "key"
		s.Do = Reads(parseKey, func(r *store.Reader, key []byte) resp.Value { return lifeOf(r, key, u) })
		return &s
	}
	return []*Spec{
		life(Spec{Name: "ttl", Since: "1.0.0", Summary: "Tells the seconds until the deadline of a key."}, varying(), lifeSeconds),
		life(Spec{Name: "pttl", Since: "2.6.0", Summary: "Tells the milliseconds until the deadline of a key."}, varying(), lifeMillis),
		life(Spec{Name: "expiretime", Since: "7.0.0", Summary: "Tells the deadline of a key in Unix seconds."}, nil, instantSeconds),
		life(Spec{Name: "pexpiretime", Since: "7.0.0", Summary: "Tells the deadline of a key in Unix milliseconds."}, nil, instantMillis),
		{
			Name: "persist", Arity: 2, Flags: FlagFast, Keys: oneKey(KeyRW | KeyUpdate), Since: "2.2.0", Complexity: "O(1)",
			Summary: "Takes the deadline of a key away.", Syntax: "key",
			Do: Writes(parseKey, persist),
		},
	}
}

// lifeOf tells how long a key lasts, or until when; whole seconds are rounded.
func lifeOf(r *store.Reader, key []byte, u unit) resp.Value {
	e := r.Peek(key)
	if e == nil {
		return resp.Int(noKey)
	}
	n := e.Deadline()
	if n == 0 {
		return resp.Int(noDeadline)
	}
	if u.isLife() {
		n = max(n-r.Now(), 0)
	}
	if u.inSeconds() {
		n = n/1000 + (n%1000+500)/1000
	}
	return resp.Int(n)
}

func persist(tx *store.Tx, key []byte) resp.Value {
	e := tx.Find(key)
	return resp.Flag(e != nil && persistEntry(tx, e, key))
}

// persistEntry takes the deadline of e away, records the event, and tells
// whether there was one.
func persistEntry(tx *store.Tx, e *store.Entry, key []byte) bool {
	if e.Deadline() == 0 {
		return false
	}
	tx.SetDeadline(e, 0)
	tx.Notify(store.ClassGeneric, "persist", key)
	return true
}

// expireEntry gives e a deadline, or removes it if that has passed, and records
// the event.
func expireEntry(tx *store.Tx, e *store.Entry, key []byte, deadline int64) {
	if deadline <= tx.Now() {
		remove(tx, key)
		return
	}
	tx.SetDeadline(e, deadline)
	tx.Notify(store.ClassGeneric, "expire", key)
}

// expireSpecs are the commands that give keys a deadline.
func expireSpecs() []*Spec {
	expiring := func(s Spec, number string, u unit) *Spec {
		s.Arity, s.Flags, s.Keys, s.Complexity = -3, FlagFast, oneKey(KeyRW|KeyUpdate), "O(1)"
		s.Syntax = "key " + number + " [NX | XX | GT | LT]"
		s.Do = Writes(parseExpire(s.Name, u), expire)
		return &s
	}
	return []*Spec{
		expiring(Spec{Name: "expire", Since: "1.0.0", Summary: "Gives a key a life in seconds."}, "seconds", lifeSeconds),
		expiring(Spec{Name: "pexpire", Since: "2.6.0", Summary: "Gives a key a life in milliseconds."}, "milliseconds", lifeMillis),
		expiring(Spec{Name: "expireat", Since: "1.2.0", Summary: "Gives a key a deadline in Unix seconds."}, "unix-time-seconds", instantSeconds),
		expiring(Spec{Name: "pexpireat", Since: "2.6.0", Summary: "Gives a key a deadline in Unix milliseconds."}, "unix-time-milliseconds", instantMillis),
	}
}

// expireFlags are the conditions of the EXPIRE family.
type expireFlags uint8

const (
	expireNew     expireFlags = 1 << iota // NX: only a key without deadline
	expireOld                             // XX: only a key with one
	expireLater                           // GT: only to a later one; none is the latest
	expireEarlier                         // LT: only to an earlier one
)

// expireOp gives a key a deadline.
type expireOp struct {
	key   []byte
	until moment
	flags expireFlags
}

// parseExpire reads the conditions first: that is the order of the errors.
func parseExpire(command string, u unit) func(args [][]byte) (expireOp, error) {
	return func(args [][]byte) (expireOp, error) {
		op := expireOp{key: args[1]}
		for _, arg := range args[3:] {
			switch {
			case is(arg, "nx"):
				op.flags |= expireNew
			case is(arg, "xx"):
				op.flags |= expireOld
			case is(arg, "gt"):
				op.flags |= expireLater
			case is(arg, "lt"):
				op.flags |= expireEarlier
			default:
				return expireOp{}, resp.UnsupportedOption(arg)
			}
		}
		switch f := op.flags; {
		case f&expireNew != 0 && f != expireNew:
			return expireOp{}, resp.ErrNXConflict
		case f&expireLater != 0 && f&expireEarlier != 0:
			return expireOp{}, resp.ErrGTConflict
		}
		var err error
		op.until, err = parseMoment(command, args[2], u, true)
		return op, err
	}
}

func expire(tx *store.Tx, op expireOp) resp.Value {
	deadline, err := op.until.deadline(tx.Now())
	if err != nil {
		return resp.Err(err)
	}
	e := tx.Find(op.key)
	if e == nil || !op.flags.allow(e.Deadline(), deadline) {
		return resp.Zero
	}
	expireEntry(tx, e, op.key, deadline)
	return resp.One
}

// allow tells whether the conditions let a key change its deadline from old, 0
// for none, to deadline.
func (f expireFlags) allow(old, deadline int64) bool {
	switch {
	case f&expireNew != 0 && old != 0,
		f&expireOld != 0 && old == 0,
		f&expireLater != 0 && (old == 0 || deadline <= old),
		f&expireEarlier != 0 && old != 0 && deadline >= old:
		return false
	}
	return true
}
