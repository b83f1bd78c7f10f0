package command

import (
	"slices"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// KeySpecs are the commands of redis.io/commands/?group=generic that this
// release has, and those of the group server that concern whole databases or
// look at values.
func KeySpecs() []*Spec {
	return slices.Concat(
		grouped("generic", CatKeyspace, slices.Concat(presenceSpecs(), lifeSpecs(), expireSpecs(), moveSpecs(), scanSpecs())...),
		grouped("server", CatKeyspace, databaseSpecs()...),
		introspectionSpecs(),
	)
}

// presenceSpecs are the commands about keys being there.
func presenceSpecs() []*Spec {
	const perKey = "O(N) in the number of keys"
	return []*Spec{
		{
			Name: "del", Arity: -2, Keys: everyKey(KeyRM | KeyDelete), Since: "1.0.0", Tips: perShard("agg_sum"), Complexity: perKey,
			Summary: "Deletes keys.", Syntax: "key [key ...]",
			Do: Writes(parseKeys, del),
		},
		{
			Name: "unlink", Arity: -2, Flags: FlagFast, Keys: everyKey(KeyRM | KeyDelete), Since: "4.0.0",
			Tips: perShard("agg_sum"), Complexity: perKey,
			Summary: "Deletes keys.", Syntax: "key [key ...]",
			Do: Writes(parseKeys, del),
		},
		{
			Name: "exists", Arity: -2, Flags: FlagFast, Keys: everyKey(KeyRO), Since: "1.0.0", Tips: perShard("agg_sum"), Complexity: perKey,
			Summary: "Counts the keys that exist, each as often as it is named.", Syntax: "key [key ...]",
			Do: Reads(parseKeys, counting((*store.Reader).Peek)),
		},
		{
			Name: "touch", Arity: -2, Flags: FlagFast, Keys: everyKey(KeyRO), Since: "3.2.1", Tips: perShard("agg_sum"), Complexity: perKey,
			Summary: "Counts the keys that exist and notes the access to them.", Syntax: "key [key ...]",
			Do: Reads(parseKeys, counting((*store.Reader).Find)),
		},
		{
			Name: "type", Arity: 2, Flags: FlagFast, Keys: oneKey(KeyRO), Since: "1.0.0", Complexity: "O(1)",
			Summary: "Tells the type of the value at a key.", Syntax: "key",
			Do: Reads(parseKey, typeOf),
		},
	}
}

func del(tx *store.Tx, keys [][]byte) resp.Value {
	removed := int64(0)
	for _, key := range keys {
		if remove(tx, key) {
			removed++
		}
	}
	return resp.Int(removed)
}

// counting counts the keys that look finds.
func counting(look func(r *store.Reader, key []byte) *store.Entry) func(r *store.Reader, keys [][]byte) resp.Value {
	return func(r *store.Reader, keys [][]byte) resp.Value {
		found := int64(0)
		for _, key := range keys {
			if look(r, key) != nil {
				found++
			}
		}
		return resp.Int(found)
	}
}

func typeOf(r *store.Reader, key []byte) resp.Value {
	e := r.Peek(key)
	if e == nil {
		return resp.Simple(store.TypeNone.String())
	}
	return resp.Simple(e.Value().Type().String())
}
