package command

import "github.com/holdfast/holdfast/resp"

// TableSpecs are COMMAND and its subcommands. They ask table for the table they
// describe when they run, because it holds them too. In EXEC and pipelines they
// are like any other Local command.
func TableSpecs(table func() *Table) []*Spec {
	sub := func(s Spec, run func(args [][]byte) resp.Value) *Spec {
		s.Flags |= FlagLoading | FlagStale
		s.Categories, s.Group = CatConnection, "server"
		s.Do = Locally(func(_ Conn, args [][]byte) resp.Value { return run(args) })
		return &s
	}
	perCommand := []string{"nondeterministic_output_order"}
	root := sub(Spec{
		Name: "command", Arity: -1, Tips: perCommand, Since: "2.8.13", Complexity: "O(N) in the number of commands",
		Summary: "Describes all commands.",
	}, func([][]byte) resp.Value { return table().info(nil) })
	root.Sub = []*Spec{
		sub(Spec{
			Name: "count", Arity: 2, Since: "2.8.13", Complexity: "O(1)", Summary: "Counts the commands.",
		}, func([][]byte) resp.Value { return resp.Int(int64(table().Len())) }),
		sub(Spec{
			Name: "docs", Arity: -2, Tips: perCommand, Since: "7.0.0", Complexity: "O(N) in the number of commands asked for",
			Summary: "Documents commands.", Syntax: "[command-name ...]",
		}, func(args [][]byte) resp.Value { return table().docs(args[2:]) }),
		sub(Spec{
			Name: "getkeys", Arity: -4, Since: "2.8.13", Complexity: "O(N) in the number of arguments of the call",
			Summary: "Tells which arguments of a call are keys.", Syntax: "command [arg ...]",
		}, func(args [][]byte) resp.Value { return table().keys(args[2:], false) }),
		sub(Spec{
			Name: "getkeysandflags", Arity: -4, Since: "7.0.0", Complexity: "O(N) in the number of arguments of the call",
			Summary: "Tells which arguments of a call are keys and what the call does with them.", Syntax: "command [arg ...]",
		}, func(args [][]byte) resp.Value { return table().keys(args[2:], true) }),
		sub(Spec{
			Name: "help", Arity: 2, Since: "5.0.0", Complexity: "O(1)", Summary: "Lists the subcommands.",
		}, func([][]byte) resp.Value { return Help(root) }),
		sub(Spec{
			Name: "info", Arity: -2, Tips: perCommand, Since: "2.8.13", Complexity: "O(N) in the number of commands asked for",
			Summary: "Describes commands for client libraries.", Syntax: "[command-name ...]",
		}, func(args [][]byte) resp.Value { return table().info(args[2:]) }),
		sub(Spec{
			Name: "list", Arity: -2, Tips: perCommand, Since: "7.0.0", Complexity: "O(N) in the number of commands",
			Summary: "Lists the names of commands.", Syntax: "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
		}, func(args [][]byte) resp.Value { return listReply(table(), args[2:]) }),
	}
	return []*Spec{root}
}

// listReply answers COMMAND LIST with the options that follow it.
func listReply(t *Table, options [][]byte) resp.Value {
	if len(options) == 0 {
		return t.list(everything)
	}
	if len(options) != 3 || !is(options[0], "filterby") {
		return resp.Err(resp.ErrSyntax)
	}
	switch kind, arg := options[1], options[2]; {
	case is(kind, "aclcat"):
		return t.list(inCategory(CategoryByName(arg)))
	case is(kind, "pattern"):
		m := matcher{pattern: arg, left: matchWork}
		return m.reply(t.list(like(&m)))
	case is(kind, "module"):
		return t.list(nothing)
	}
	return resp.Err(resp.ErrSyntax)
}
