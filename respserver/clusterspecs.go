package respserver

import (
	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// noCluster answers the commands of Redis Cluster that clients send to any server to
// find out what it is.
func noCluster(command.Conn, [][]byte) resp.Value { return resp.Err(resp.ErrNoCluster) }

// clusterSpecs are commands of Redis Cluster that clients send to any server.
func clusterSpecs() []*command.Spec {
	const refused = "Refused: this is no Redis Cluster."
	frame := func(name string) *command.Spec {
		s := said(serverSpec(name, 1, flagsAnytime|command.FlagFast, "3.0.0", noCluster), "", refused)
		s.Group, s.Categories = "cluster", command.CatConnection
		return s
	}
	asking := frame("asking")
	asking.Flags = command.FlagFast
	cluster := &command.Spec{
		Name: "cluster", Arity: -2, Group: "cluster", Since: "3.0.0", Complexity: clientDepends,
		Summary: "Holds commands of Redis Cluster, which are refused.",
	}
	sub := func(name string, arity int, since, complexity string, tips ...string) *command.Spec {
		s := said(serverSpec(name, arity, command.FlagStale, since, noCluster), "", refused)
		s.Group, s.Complexity, s.Tips = "cluster", complexity, tips
		cluster.Sub = append(cluster.Sub, s)
		return s
	}
	const random, nodes = "nondeterministic_output", "O(N) where N is the total number of Cluster nodes"
	sub("info", 2, "3.0.0", "O(1)", random)
	sub("keyslot", 3, "3.0.0", "O(N) where N is the number of bytes in the key").Syntax = "key"
	sub("links", 2, "7.0.0", nodes, random)
	sub("myid", 2, "3.0.0", "O(1)")
	sub("nodes", 2, "3.0.0", nodes, random)
	replicas := sub("replicas", 3, "5.0.0", "O(1)", random)
	replicas.Syntax, replicas.Flags = "node-id", replicas.Flags|command.FlagAdmin
	replicas.Categories = command.CatAdmin | command.CatDangerous
	sub("shards", 2, "7.0.0", nodes, random)
	sub("slots", 2, "3.0.0", nodes, random)
	help := said(serverSpec("help", 2, flagsAnytime, "5.0.0", noCluster), "", refused)
	help.Group = "cluster"
	cluster.Sub = append(cluster.Sub, help)
	return []*command.Spec{cluster, asking, frame("readonly"), frame("readwrite")}
}
