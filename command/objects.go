package command

import (
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// introspectionSpecs are OBJECT and MEMORY.
func introspectionSpecs() []*Spec {
	object := &Spec{
		Name: "object", Arity: -2, Group: "generic", Since: "2.2.3", Complexity: "Depends on subcommand.",
		Summary: "Looks at how values are kept.",
	}
	look := func(name, since, summary string, run func(r *store.Reader, e *store.Entry) resp.Value) *Spec {
		return &Spec{
			Name: name, Arity: 3, Group: "generic", Since: since, Complexity: "O(1)", Summary: summary, Syntax: "key",
			Categories: CatKeyspace, Tips: varying(), Keys: []Keys{{Flags: KeyRO, First: 2, Step: 1}},
			Do: Reads(parseSubKey, atEntry(run)),
		}
	}
	object.Sub = []*Spec{
		look("encoding", "2.2.3", "Names the encoding Redis would choose for the value at a key.", encodingOf),
		look("freq", "4.0.0", "Tells how often a key is used, if that is counted.",
			func(*store.Reader, *store.Entry) resp.Value { return resp.Err(resp.ErrNoLFU) }),
		look("idletime", "2.2.3", "Tells the seconds since the last access to a key on this node.", idleTime),
		look("refcount", "2.2.3", "Tells how many refer to the value at a key.",
			func(*store.Reader, *store.Entry) resp.Value { return resp.One }),
		helpSpec(object, "6.2.0", CatKeyspace),
	}
	object.Sub[2].PerNode = true

	memory := &Spec{
		Name: "memory", Arity: -2, Group: "server", Since: "4.0.0", Complexity: "Depends on subcommand.",
		Summary: "Looks at the use of memory.",
	}
	memory.Sub = []*Spec{
		helpSpec(memory, "4.0.0", 0),
		{
			Name: "usage", Arity: -3, Group: "server", Since: "4.0.0", Complexity: "O(1)", PerNode: true,
			Summary: "Tells the bytes that a key and its value take.", Syntax: "key [SAMPLES count]",
			Keys: []Keys{{Flags: KeyRO, First: 2, Step: 1}},
			Do: Reads(parseMemoryUsage, atEntry(func(_ *store.Reader, e *store.Entry) resp.Value {
				return resp.Int(e.Size())
			})),
		},
	}
	return []*Spec{object, memory}
}

// helpSpec is the HELP subcommand of a container.
func helpSpec(container *Spec, since string, categories Category) *Spec {
	return &Spec{
		Name: "help", Arity: 2, Flags: FlagLoading | FlagStale, Group: container.Group, Since: since, Complexity: "O(1)",
		Categories: categories, Summary: "Lists the subcommands.",
		Do: Locally(func(Conn, [][]byte) resp.Value { return Help(container) }),
	}
}

// atEntry runs look on the entry of a key without an access, and answers null
// if there is none.
func atEntry(look func(r *store.Reader, e *store.Entry) resp.Value) func(r *store.Reader, key []byte) resp.Value {
	return func(r *store.Reader, key []byte) resp.Value {
		e := r.Peek(key)
		if e == nil {
			return resp.Null
		}
		return look(r, e)
	}
}

// embeddedMax is the longest string that Redis keeps beside its object header.
const embeddedMax = 44

// encodingOf names the encoding that Redis chooses for such contents when they
// are set. It does not depend on how they came about.
func encodingOf(_ *store.Reader, e *store.Entry) resp.Value {
	b := e.Value().Bytes()
	if _, ok := parseInt(b); ok {
		return resp.BulkString("int")
	}
	if len(b) <= embeddedMax {
		return resp.BulkString("embstr")
	}
	return resp.BulkString("raw")
}

func idleTime(r *store.Reader, e *store.Entry) resp.Value {
	return resp.Int(max(r.Now()-e.Accessed(), 0) / 1000)
}

// parseMemoryUsage checks the number of samples, which strings do not need.
func parseMemoryUsage(args [][]byte) ([]byte, error) {
	for i := 3; i < len(args); i += 2 {
		if !is(args[i], "samples") || i+1 == len(args) {
			return nil, resp.ErrSyntax
		}
		n, ok := parseInt(args[i+1])
		if !ok {
			return nil, resp.ErrNotInteger
		}
		if n < 0 {
			return nil, resp.ErrSyntax
		}
	}
	return args[2], nil
}
