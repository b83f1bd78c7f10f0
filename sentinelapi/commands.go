package sentinelapi

import (
	"strconv"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// Commands are the commands of the Sentinel port that show the cluster: SENTINEL
// with its subcommands, and ROLE.
func Commands(src Source) []*command.Spec {
	a := api{src}
	return []*command.Spec{
		{
			Name: "role", Arity: 1, Flags: command.FlagNoScript | command.FlagLoading | command.FlagStale | command.FlagFast,
			Categories: command.CatAdmin | command.CatDangerous,
			Group:      "server", Since: "2.8.12", Complexity: "O(1)", PerNode: true,
			Summary: "Tells that this is a Sentinel, and the names of the masters it watches.",
			Do:      command.Locally(a.role),
		},
		{
			Name: "sentinel", Arity: -2, Flags: command.FlagAdmin,
			Group: "sentinel", Since: "2.8.4", Complexity: "Depends on subcommand.", PerNode: true,
			Summary: "Shows the cluster to Sentinel clients.",
			Sub: []*command.Spec{
				a.named("ckquorum", "2.8.4", "O(N) where N is the number of nodes.", "Tells whether enough nodes are usable for a failover.", ckquorum),
				a.failover(),
				a.named("get-master-addr-by-name", "2.8.4", "O(1)", "Returns the address of the master.", getMasterAddr),
				a.help(),
				a.named("master", "2.8.4", "O(1)", "Describes the master.", master),
				a.plain("masters", "2.8.4", "O(N) where N is the number of masters.", "Describes all masters.", a.masters),
				a.plain("myid", "6.2.0", "O(1)", "Returns the id of this Sentinel.", a.myID),
				a.named("replicas", "5.0.0", "O(N) where N is the number of replicas.", "Describes the replicas of a master.", replicas),
				a.named("sentinels", "2.8.4", "O(N) where N is the number of Sentinels.", "Describes the other Sentinels of a master.", sentinels),
				a.slaves(),
			},
		},
	}
}

// api answers from what its source sees.
type api struct{ src Source }

// plain is a subcommand without arguments.
func (a api) plain(name, since, complexity, summary string, run func(c command.Conn, args [][]byte) resp.Value) *command.Spec {
	return &command.Spec{
		Name: name, Arity: 2, Flags: command.FlagAdmin,
		Group: "sentinel", Since: since, Complexity: complexity, Summary: summary, PerNode: true,
		Do: command.Locally(run),
	}
}

// named is a subcommand about the master with a given name. run is called only
// if that is the name of this cluster's.
func (a api) named(name, since, complexity, summary string, run func(c command.Conn, v *View) resp.Value) *command.Spec {
	s := a.plain(name, since, complexity, summary, func(c command.Conn, args [][]byte) resp.Value {
		v := a.src.View()
		if string(args[2]) == v.Name {
			return run(c, &v)
		}
		if name == "get-master-addr-by-name" {
			return resp.NullArray
		}
		return resp.Err(resp.ErrNoSuchMaster)
	})
	s.Arity, s.Syntax = 3, "master-name"
	return s
}

// failover is a handover that nobody need agree to.
func (a api) failover() *command.Spec {
	return a.named("failover", "2.8.4", "O(1)", "Has the master hand over to another node.", func(_ command.Conn, v *View) resp.Value {
		if !v.MasterKnown {
			return resp.Err(resp.ErrNoGoodReplica)
		}
		if err := a.src.Failover(); err != nil {
			return resp.Err(err)
		}
		return resp.OK
	})
}

// slaves is the old name of REPLICAS.
func (a api) slaves() *command.Spec {
	s := a.named("slaves", "2.8.0", "O(N) where N is the number of replicas.", "Describes the replicas of a master.", replicas)
	s.Deprecated, s.ReplacedBy = "5.0.0", "SENTINEL REPLICAS"
	return s
}

// help is open to everybody, as the HELP of other commands is.
func (a api) help() *command.Spec {
	s := a.plain("help", "6.2.0", "O(1)", "Lists the subcommands.", help)
	s.Flags = command.FlagLoading | command.FlagStale
	return s
}

// getMasterAddr closes the connection while no master is known: an address would
// be wrong, and null ends the search of clients that know this name to exist.
// They go on with the next Sentinel instead.
func getMasterAddr(c command.Conn, v *View) resp.Value {
	m := v.master()
	if !v.MasterKnown || m == nil {
		c.CloseUnanswered()
		return resp.None
	}
	return resp.Array(resp.BulkString(m.Data.Host), resp.BulkString(m.Data.port()))
}

func master(_ command.Conn, v *View) resp.Value { return v.describeMaster() }

func (a api) masters(command.Conn, [][]byte) resp.Value {
	v := a.src.View()
	return resp.Array(v.describeMaster())
}

func replicas(_ command.Conn, v *View) resp.Value { return list(v.replicas(), v.describeReplica) }

func sentinels(_ command.Conn, v *View) resp.Value { return list(v.others(), v.describeSentinel) }

func list(nodes []Node, describe func(n *Node) resp.Value) resp.Value {
	items := make([]resp.Value, len(nodes))
	for i := range nodes {
		items[i] = describe(&nodes[i])
	}
	return resp.Array(items...)
}

func ckquorum(_ command.Conn, v *View) resp.Value {
	usable := v.usable()
	quorum, majority := usable >= v.Quorum, usable > len(v.Nodes)/2
	if !quorum || !majority {
		return resp.Err(resp.NoQuorum(usable, quorum, majority))
	}
	return resp.Simple("OK " + strconv.Itoa(usable) + " usable Sentinels. Quorum and failover authorization can be reached")
}

func (a api) myID(command.Conn, [][]byte) resp.Value {
	v := a.src.View()
	for i := range v.Nodes {
		if v.Nodes[i].ID == v.Self {
			return resp.BulkString(v.Nodes[i].RunID)
		}
	}
	return resp.BulkString("")
}

func (a api) role(command.Conn, [][]byte) resp.Value {
	v := a.src.View()
	return resp.Array(resp.BulkString("sentinel"), resp.Array(resp.BulkString(v.Name)))
}

func help(command.Conn, [][]byte) resp.Value {
	lines := []string{
		"SENTINEL <subcommand> [<arg> ...]. Subcommands are:",
		"CKQUORUM <master-name>",
		"    Tell whether enough nodes are usable for a failover.",
		"FAILOVER <master-name>",
		"    Have the master hand over to another node.",
		"GET-MASTER-ADDR-BY-NAME <master-name>",
		"    Return the address of the master. While there is none the connection is closed.",
		"MASTER <master-name>",
		"    Describe the master.",
		"MASTERS",
		"    Describe all masters; there is one.",
		"MYID",
		"    Return the id of this Sentinel.",
		"REPLICAS <master-name>",
		"    Describe the replicas of the master. SLAVES is the old name.",
		"SENTINELS <master-name>",
		"    Describe the other Sentinels.",
		"HELP",
		"    Print this help.",
	}
	reply := make([]resp.Value, len(lines))
	for i, line := range lines {
		reply[i] = resp.Simple(line)
	}
	return resp.Array(reply...)
}
