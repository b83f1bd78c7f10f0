package sentinelapi

import (
	"slices"
	"strconv"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// Commands are the commands of the Sentinel port that show the cluster: SENTINEL
// with its subcommands, ROLE and PUBLISH.
func Commands(src Source, keep Keeper) []*command.Spec {
	a := api{src, keep}
	sentinel := &command.Spec{
		Name: "sentinel", Arity: -2, Flags: command.FlagAdmin,
		Group: "sentinel", Since: "2.8.4", Complexity: "Depends on subcommand.", PerNode: true,
		Summary: "Shows the cluster to Sentinel clients.",
	}
	sentinel.Sub = slices.Concat(a.queries(), a.changes(), []*command.Spec{help(sentinel)})
	return []*command.Spec{a.roleSpec(), publishSpec(), sentinel}
}

// api answers from what its source sees, and has keep keep what is changed.
type api struct {
	src  Source
	keep Keeper
}

// body is what a command runs.
type body = func(c command.Conn, args [][]byte) resp.Value

// queries are the subcommands that show something.
func (a api) queries() []*command.Spec {
	const perNode, perMaster = "O(N) where N is the number of nodes.", "O(N) where N is the number of masters."
	cache := a.plain("info-cache", "3.2.0", "O(N) where N is the number of instances.", "Returns what is known of the INFO of masters and their replicas.", a.infoCache)
	cache.Arity, cache.Syntax = -3, "master-name [master-name ...]"
	down := a.plain("is-master-down-by-addr", "2.8.4", "O(1)", "Tells another Sentinel whether the master at an address is down.", a.isMasterDown)
	down.Arity, down.Syntax = 6, "ip port current-epoch runid"
	return []*command.Spec{
		a.named("ckquorum", "2.8.4", perNode, "Tells whether enough nodes are usable for a failover.", ckquorum),
		a.named("get-master-addr-by-name", "2.8.4", "O(1)", "Returns the address of the master. While none is known the connection is closed.", getMasterAddr),
		cache, down,
		a.named("master", "2.8.4", "O(1)", "Describes the master.", master),
		a.plain("masters", "2.8.4", perMaster, "Describes the master under each of its names.", a.masters),
		a.plain("myid", "6.2.0", "O(1)", "Returns the id of this Sentinel.", a.myID),
		a.plain("pending-scripts", "2.8.4", "O(1)", "Returns an empty list: no scripts are run.", pendingScripts),
		a.named("replicas", "5.0.0", "O(N) where N is the number of replicas.", "Describes the replicas of a master.", replicas),
		a.named("sentinels", "2.8.4", "O(N) where N is the number of Sentinels.", "Describes the other Sentinels of a master.", sentinels),
		a.slaves(),
	}
}

// plain is a subcommand without arguments.
func (a api) plain(name, since, complexity, summary string, run body) *command.Spec {
	return &command.Spec{
		Name: name, Arity: 2, Flags: command.FlagAdmin,
		Group: "sentinel", Since: since, Complexity: complexity, Summary: summary, PerNode: true,
		Do: command.Locally(run),
	}
}

// named is a subcommand about the master with a given name. run is called only
// if that is a name of this cluster's, with the view under this name.
func (a api) named(name, since, complexity, summary string, run func(c command.Conn, v *View) resp.Value) *command.Spec {
	s := a.plain(name, since, complexity, summary, func(c command.Conn, args [][]byte) resp.Value {
		v := a.src.View()
		if shown := string(args[2]); slices.Contains(v.Names, shown) {
			v = v.For(shown)
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
func help(container *command.Spec) *command.Spec {
	return &command.Spec{
		Name: "help", Arity: 2, Flags: command.FlagLoading | command.FlagStale,
		Group: "sentinel", Since: "6.2.0", Complexity: "O(1)", Summary: "Lists the subcommands.", PerNode: true,
		Do: command.Locally(func(command.Conn, [][]byte) resp.Value { return command.Help(container) }),
	}
}

func (a api) roleSpec() *command.Spec {
	return &command.Spec{
		Name: "role", Arity: 1, Flags: command.FlagNoScript | command.FlagLoading | command.FlagStale | command.FlagFast,
		Categories: command.CatAdmin | command.CatDangerous,
		Group:      "server", Since: "2.8.12", Complexity: "O(1)", PerNode: true,
		Summary: "Tells that this is a Sentinel, and the names of the masters it watches.",
		Do:      command.Locally(a.role),
	}
}

// publishSpec is PUBLISH as a Sentinel has it: for the greetings of other Sentinels.
func publishSpec() *command.Spec {
	return &command.Spec{
		Name: "publish", Arity: 3, Flags: command.FlagPubSub | command.FlagLoading | command.FlagStale | command.FlagFast | command.FlagMayReplicate,
		Group: "pubsub", Since: "2.0.0", PerNode: true, Syntax: "channel message",
		Complexity: "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed patterns (by any client).",
		Summary:    "Accepts the greetings of other Sentinels, and nothing else.",
		Do:         command.Locally(publish),
	}
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
	items := make([]resp.Value, len(v.Names))
	for i, name := range v.Names {
		shown := v.For(name)
		items[i] = shown.describeMaster()
	}
	return resp.Array(items...)
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
	if n := v.node(v.Self); n != nil {
		return resp.BulkString(n.RunID)
	}
	return resp.BulkString("")
}

func (a api) role(command.Conn, [][]byte) resp.Value {
	v := a.src.View()
	names := make([]resp.Value, len(v.Names))
	for i, name := range v.Names {
		names[i] = resp.BulkString(name)
	}
	return resp.Array(resp.BulkString("sentinel"), resp.Array(names...))
}

func pendingScripts(command.Conn, [][]byte) resp.Value { return resp.Array() }

// helloChannel is where Sentinels greet each other.
const helloChannel = "__sentinel__:hello"

// publish takes note of no greeting: who the other nodes are is known from the
// cluster, and nobody can become one by saying so.
func publish(_ command.Conn, args [][]byte) resp.Value {
	if string(args[1]) != helloChannel {
		return resp.Err(resp.ErrHelloOnly)
	}
	return resp.One
}
