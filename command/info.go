package command

import (
	"github.com/holdfast/holdfast/internal/glob"
	"github.com/holdfast/holdfast/resp"
)

// Replies of COMMAND and its subcommands, built from a table. Their shapes are
// those of redis.io/commands/command and its neighbours; where Redis has no
// order (it walks a hash table) the order is that of names.

// info is the reply of COMMAND and COMMAND INFO: of all commands, or of those
// named, null in the place of each name that is unknown.
func (t *Table) info(names [][]byte) resp.Value {
	list := make([]resp.Value, 0, max(len(names), t.Len()))
	for _, name := range names {
		reply := resp.Null
		if s := t.named(name); s != nil {
			reply = s.info()
		}
		list = append(list, reply)
	}
	if len(names) == 0 {
		for s := range t.All() {
			list = append(list, s.info())
		}
	}
	return resp.Array(list...)
}

// info is one command as COMMAND INFO describes it.
func (s *Spec) info() resp.Value {
	keys := make([]resp.Value, len(s.Keys))
	for i := range s.Keys {
		keys[i] = s.Keys[i].info()
	}
	categories := s.AllCategories().Names()
	for i := range categories {
		categories[i] = "@" + categories[i]
	}
	r := s.KeyRange()
	return resp.Array(
		resp.BulkString(s.FullName()),
		resp.Int(int64(s.Arity)),
		simpleSet(s.FlagNames()),
		resp.Int(int64(r.First)),
		resp.Int(int64(r.Last)),
		resp.Int(int64(r.Step)),
		simpleSet(categories),
		bulkSet(s.Tips),
		resp.Set(keys...),
		s.subInfo(),
	)
}

// subInfo is the subcommands as COMMAND INFO describes them: an array, or if
// there are none an empty set, as Redis has it.
func (s *Spec) subInfo() resp.Value {
	if len(s.Sub) == 0 {
		return resp.Set()
	}
	subs := make([]resp.Value, len(s.Sub))
	for i, sub := range s.Sub {
		subs[i] = sub.info()
	}
	return resp.Array(subs...)
}

// info is one key specification as COMMAND INFO describes it.
func (k *Keys) info() resp.Value {
	begin := typed("index", field{"index", int64(k.First)})
	if k.Keyword != "" {
		begin = typed("keyword", field{"keyword", k.Keyword}, field{"startfrom", int64(k.First)})
	}
	find := typed("range", field{"lastkey", int64(k.Last)}, field{"keystep", int64(k.Step)}, field{"limit", int64(0)})
	if k.KeyNum > 0 {
		find = typed("keynum", field{"keynumidx", int64(0)}, field{"firstkey", int64(k.KeyNum)}, field{"keystep", int64(k.Step)})
	}
	return fields(
		field{"flags", simpleSet(k.Flags.Names())},
		field{"begin_search", begin},
		field{"find_keys", find},
	)
}

// docs is the reply of COMMAND DOCS: of all commands, or of those named; names
// that are unknown are left out.
func (t *Table) docs(names [][]byte) resp.Value {
	var pairs []resp.Value
	add := func(s *Spec) { pairs = append(pairs, resp.BulkString(s.FullName()), s.docs()) }
	for _, name := range names {
		if s := t.named(name); s != nil {
			add(s)
		}
	}
	if len(names) == 0 {
		for s := range t.All() {
			add(s)
		}
	}
	return resp.Map(pairs...)
}

// docs is one command as COMMAND DOCS describes it.
func (s *Spec) docs() resp.Value {
	list := []field{{"summary", s.Summary}, {"since", s.Since}, {"group", s.Group}}
	if s.Complexity != "" {
		list = append(list, field{"complexity", s.Complexity})
	}
	if s.Deprecated != "" {
		list = append(list, field{"doc_flags", simpleSet([]string{"deprecated"})}, field{"deprecated_since", s.Deprecated})
		if s.ReplacedBy != "" {
			list = append(list, field{"replaced_by", s.ReplacedBy})
		}
	}
	if args, err := s.Arguments(); err == nil && len(args) > 0 {
		list = append(list, field{"arguments", argumentList(args)})
	}
	if len(s.Sub) > 0 {
		var subs []resp.Value
		for _, sub := range s.Sub {
			subs = append(subs, resp.BulkString(sub.FullName()), sub.docs())
		}
		list = append(list, field{"subcommands", resp.Map(subs...)})
	}
	return fields(list...)
}

func argumentList(args []Argument) resp.Value {
	list := make([]resp.Value, len(args))
	for i := range args {
		list[i] = args[i].docs()
	}
	return resp.Array(list...)
}

// docs is one argument as COMMAND DOCS describes it.
func (a *Argument) docs() resp.Value {
	list := []field{{"name", a.Name}, {"type", a.Type}}
	if a.Key >= 0 {
		list = append(list, field{"key_spec_index", int64(a.Key)})
	}
	if a.Token != "" {
		list = append(list, field{"token", a.Token})
	}
	var flags []string
	if a.Optional {
		flags = append(flags, "optional")
	}
	if a.Multiple {
		flags = append(flags, "multiple")
	}
	if len(flags) > 0 {
		list = append(list, field{"flags", simpleSet(flags)})
	}
	if len(a.Args) > 0 {
		list = append(list, field{"arguments", argumentList(a.Args)})
	}
	return fields(list...)
}

// list is the reply of COMMAND LIST: the canonical names, subcommands included,
// for which keep says so.
func (t *Table) list(keep func(s *Spec) bool) resp.Value {
	var names []resp.Value
	for s := range t.Each() {
		if keep(s) {
			names = append(names, resp.BulkString(s.FullName()))
		}
	}
	return resp.Array(names...)
}

// inCategory, like and everything choose the commands of COMMAND LIST.
func inCategory(c Category) func(s *Spec) bool {
	return func(s *Spec) bool { return s.AllCategories()&c != 0 }
}

func like(m *matcher) func(s *Spec) bool {
	return func(s *Spec) bool { return glob.MatchFoldWithin(&m.left, m.pattern, s.FullName()) }
}

func everything(*Spec) bool { return true }

func nothing(*Spec) bool { return false }

// keys is the reply of COMMAND GETKEYS, and with flags of COMMAND
// GETKEYSANDFLAGS: the keys of the given call.
func (t *Table) keys(call [][]byte, flags bool) resp.Value {
	s := t.find(call)
	if s != nil && s.subs != nil && len(call) > 1 {
		s = s.sub(call[1])
	}
	switch {
	case s == nil:
		return resp.Err(resp.ErrGetKeysName)
	case !s.HasKeys():
		return resp.Err(resp.ErrNoKeys)
	case !s.Accepts(len(call)):
		return resp.Err(resp.ErrGetKeysArity)
	}
	var found []resp.Value
	for _, k := range s.KeysOf(nil, call) {
		key := resp.Bulk(own(call[k.Pos]))
		if flags {
			key = resp.Array(key, simpleSet(k.Flags.Names()))
		}
		found = append(found, key)
	}
	return resp.Array(found...)
}

// field is an entry of a map: a string, an int64 or a resp.Value under a name.
type field struct {
	name  string
	value any
}

// fields is a map of fields.
func fields(list ...field) resp.Value {
	pairs := make([]resp.Value, 0, 2*len(list))
	for _, f := range list {
		pairs = append(pairs, resp.BulkString(f.name))
		switch v := f.value.(type) {
		case string:
			pairs = append(pairs, resp.BulkString(v))
		case int64:
			pairs = append(pairs, resp.Int(v))
		case resp.Value:
			pairs = append(pairs, v)
		}
	}
	return resp.Map(pairs...)
}

// typed is one half of a key specification.
func typed(kind string, spec ...field) resp.Value {
	return fields(field{"type", kind}, field{"spec", fields(spec...)})
}

func simpleSet(words []string) resp.Value {
	list := make([]resp.Value, len(words))
	for i, word := range words {
		list[i] = resp.Simple(word)
	}
	return resp.Set(list...)
}

func bulkSet(words []string) resp.Value {
	list := make([]resp.Value, len(words))
	for i, word := range words {
		list[i] = resp.BulkString(word)
	}
	return resp.Set(list...)
}
