package command

import (
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// grouped gives the specs the group and the categories they have in common.
func grouped(group string, categories Category, specs ...*Spec) []*Spec {
	for _, s := range specs {
		s.Group = group
		s.Categories |= categories
		for _, sub := range s.Sub {
			sub.Group = group
		}
	}
	return specs
}

// oneKey, everyKey and twoKeys are the usual places of keys: the first
// argument, all arguments, the first two with uses of their own.
func oneKey(f KeyFlags) []Keys { return []Keys{{Flags: f, First: 1, Step: 1}} }

func everyKey(f KeyFlags) []Keys { return []Keys{{Flags: f, First: 1, Last: -1, Step: 1}} }

func twoKeys(first, second KeyFlags) []Keys {
	return []Keys{{Flags: first, First: 1, Step: 1}, {Flags: second, First: 2, Step: 1}}
}

// Tips that several commands share.
func perShard(response string) []string {
	return []string{"request_policy:multi_shard", "response_policy:" + response}
}

func allShards(response string) []string {
	return []string{"request_policy:all_shards", "response_policy:" + response}
}

func varying() []string { return []string{"nondeterministic_output"} }

// none is the operation of a command without arguments.
type none struct{}

func parseNone([][]byte) (none, error) { return none{}, nil }

// parseKey is the operation of a command whose only argument is a key.
func parseKey(args [][]byte) ([]byte, error) { return args[1], nil }

// parseSubKey is parseKey for a subcommand.
func parseSubKey(args [][]byte) ([]byte, error) { return args[2], nil }

// parseKeys is the operation of a command whose arguments are all keys.
func parseKeys(args [][]byte) ([][]byte, error) { return args[1:], nil }

// findString is the entry of a key that must hold a string; nil if there is none.
func findString(r *store.Reader, key []byte) (*store.Entry, error) {
	e := r.Find(key)
	if e != nil && e.Value().Type() != store.TypeString {
		return nil, resp.ErrWrongType
	}
	return e, nil
}

// bulk is the string of e as a reply, null if e is nil.
func bulk(e *store.Entry) resp.Value {
	if e == nil {
		return resp.Null
	}
	return bulkBytes(e.Value().Bytes())
}

// emptyBulk is a bulk string without bytes; resp.Bulk makes null of nil.
var emptyBulk = resp.Bulk([]byte{})

// bulkBytes is b as a bulk string, also if it is nil.
func bulkBytes(b []byte) resp.Value {
	if len(b) == 0 {
		return emptyBulk
	}
	return resp.Bulk(b)
}

// setString gives key a string, which it owns, and records the event.
func setString(tx *store.Tx, key, value []byte, deadline int64, event string) {
	tx.Set(key, store.StringValue(value), deadline)
	tx.Notify(store.ClassString, event, key)
}

// remove deletes key, records the event, and tells whether it was there.
func remove(tx *store.Tx, key []byte) bool {
	if !tx.Delete(key) {
		return false
	}
	tx.Notify(store.ClassGeneric, "del", key)
	return true
}
