package respserver

import (
	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// body is what a Local command runs.
type body = func(command.Conn, [][]byte) resp.Value

// serverSpec is the frame of a command of group server.
func serverSpec(name string, arity int, flags command.Flags, since string, do body) *command.Spec {
	return &command.Spec{
		Name: name, Arity: arity, Flags: flags, Since: since, Group: "server", Complexity: "O(1)", Do: command.Locally(do),
	}
}

// said adds what documents say to a spec.
func said(s *command.Spec, syntax, summary string) *command.Spec {
	s.Syntax, s.Summary = syntax, summary
	return s
}

// Frequent sets of flags.
const (
	flagsAnytime = command.FlagLoading | command.FlagStale
	flagsAdmin   = command.FlagAdmin | command.FlagNoScript | flagsAnytime
)

// ServerSpecs are the commands about the server as a whole; COMMAND is in
// package command.
func ServerSpecs() []*command.Spec {
	const dangerous = command.CatAdmin | command.CatDangerous
	info := infoSpec()
	role := said(serverSpec("role", 1, flagsAnytime|command.FlagNoScript|command.FlagFast, "2.8.12", role),
		"", "Returns the role of this node and its view of replication.")
	role.Categories = dangerous
	clock := said(serverSpec("time", 1, flagsAnytime|command.FlagFast, "2.6.0", timeCommand), "", "Returns the time of the cluster.")
	clock.Tips, clock.PerNode = []string{"nondeterministic_output"}, true
	lastSave := said(serverSpec("lastsave", 1, flagsAnytime|command.FlagFast, "1.0.0", lastSave), "", "Returns when the last snapshot was finished.")
	lastSave.Categories, lastSave.Tips, lastSave.PerNode = dangerous, []string{"nondeterministic_output"}, true
	const saving = command.FlagAdmin | command.FlagNoScript | command.FlagNoAsyncLoading
	bgSave := said(serverSpec("bgsave", -1, saving, "1.0.0", bgSave), "[SCHEDULE]", "Begins a snapshot.")
	save := said(serverSpec("save", 1, saving|command.FlagNoMulti, "1.0.0", save), "", "Makes a snapshot.")
	save.Complexity = "O(N) where N is the total number of keys in all databases"
	debugSpec := said(serverSpec("debug", -2, flagsAdmin, "1.0.0", debugCommand), "SLEEP seconds", "Holds up this connection, for tests.")
	debugSpec.Complexity = "Depends on subcommand."
	list := []*command.Spec{info, role, clock, lastSave, bgSave, save, shutdownSpec(), failoverSpec(), debugSpec, configSpec(), raftSpec()}
	list = append(list, waitSpecs()...)
	return append(list, clusterSpecs()...)
}

func shutdownSpec() *command.Spec {
	s := said(serverSpec("shutdown", -1, flagsAdmin|command.FlagNoMulti|command.FlagAllowBusy, "1.0.0", shutdown),
		"[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", "Ends this node.")
	s.Complexity = "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)"
	return s
}

func infoSpec() *command.Spec {
	s := said(serverSpec("info", -1, flagsAnytime, "1.0.0", info), "[section [section ...]]", "Returns figures about this node.")
	s.Categories, s.PerNode = command.CatDangerous, true
	s.Tips = []string{"nondeterministic_output", "request_policy:all_shards", "response_policy:special"}
	return s
}

func configSpec() *command.Spec {
	get := said(serverSpec("get", -3, flagsAdmin, "2.0.0", configGet), "parameter [parameter ...]", "Returns settings by name or pattern.")
	get.Complexity = "O(N) when N is the number of configuration parameters provided"
	set := said(serverSpec("set", -4, flagsAdmin, "2.0.0", configSet), "parameter value [parameter value ...]", "Changes settings.")
	set.Complexity, set.Tips = get.Complexity, []string{"request_policy:all_nodes", "response_policy:all_succeeded"}
	reset := said(serverSpec("resetstat", 2, flagsAdmin, "2.0.0", configResetStat), "", "Sets the counters of INFO back.")
	config := &command.Spec{
		Name: "config", Arity: -2, Group: "server", Since: "2.0.0", Complexity: "Depends on subcommand.",
		Summary: "Holds the commands about settings.", Sub: []*command.Spec{get, set, reset},
	}
	config.Sub = append(config.Sub, helpSpec(config, "5.0.0"))
	return config
}

func waitSpecs() []*command.Spec {
	frame := func(name string, arity int, since string, do body) *command.Spec {
		s := serverSpec(name, arity, command.FlagNoScript, since, do)
		s.Group, s.Categories = "generic", command.CatConnection
		s.Tips = []string{"request_policy:all_shards", "response_policy:agg_min"}
		return s
	}
	replicas := said(frame("wait", 3, "3.0.0", waitCommand), "numreplicas timeout", "Waits until replicas have this connection's writes.")
	logs := said(frame("waitaof", 4, "7.2.0", waitAOF), "numlocal numreplicas timeout",
		"Waits until this connection's writes are on disk here and on replicas.")
	logs.Newer = true
	return []*command.Spec{replicas, logs}
}
