package respserver

import (
	"github.com/holdfast/holdfast/command"
)

// raftSpec is the container of the commands about the cluster.
func raftSpec() *command.Spec {
	raft := &command.Spec{
		Name: "raft", Arity: -2, Group: "server", Since: "1.0.0", Complexity: "Depends on subcommand.",
		Summary: "Holds the commands about the cluster.", Newer: true, Sub: memberSpecs(),
	}
	help := helpSpec(raft, "1.0.0")
	help.Newer = true
	raft.Sub = append(raft.Sub, help)
	return raft
}
