package command

import (
	"strings"

	"github.com/holdfast/holdfast/resp"
)

// Help is the reply of a container's HELP subcommand, in the form Redis gives
// it: a headline, then each subcommand with its arguments and, indented, what it
// does. Its texts are the summaries of the specs.
func Help(container *Spec) resp.Value {
	lines := []resp.Value{resp.Simple(strings.ToUpper(container.Name) + " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")}
	if container.Do.Route != 0 {
		lines = append(lines, resp.Simple("(no subcommand)"), resp.Simple("    "+container.Summary))
	}
	for _, sub := range container.Sub {
		if sub.Has(FlagInternal) {
			continue
		}
		lines = append(lines, resp.Simple(strings.TrimSpace(strings.ToUpper(sub.Name)+" "+sub.Syntax)), resp.Simple("    "+sub.Summary))
	}
	return resp.Array(lines...)
}
