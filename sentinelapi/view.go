// Package sentinelapi shows the cluster as a Redis Sentinel shows the masters it
// watches (redis.io/docs/management/sentinel): the SENTINEL commands, ROLE and
// INFO of the Sentinel port, and the events published there. It is pure: it
// renders the View it is given, and knows neither Raft nor sockets nor clocks.
package sentinelapi

import (
	"cmp"
	"net"
	"slices"
	"strconv"
)

// View is the cluster as one node sees it at an instant. Whoever builds it sees
// to it that it is true: while MasterKnown, the master was confirmed to be the
// master not longer ago than the promise about naming it allows. A View is a
// value that nobody changes once it is handed over; ages are in ms.
type View struct {
	// Name is the name the master is shown under, one of Names; see For.
	Name  string
	Names []string // all names of the master, in the order in which they are listed
	Term  uint64   // shown as config-epoch
	Self  string   // id of the node that shows the view
	// Master is the id of the master, or of the last one known while there is
	// none; empty if none was ever known.
	Master      string
	MasterKnown bool
	MasterGone  int64 // while not MasterKnown: for how long
	// Nodes are the members, in a stable order. The last known master stays among
	// them until another is known.
	Nodes []Node
	// Recorded: the nodes and their states are what the log says, so that all nodes see
	// the same and Diff can tell how the master has changed.
	Recorded bool
	Quorum   int // usable nodes that a failover needs
	// DownAfter is the age of contact from which a node counts as down.
	DownAfter int64
	// FailoverTimeout is the bound within which a failover is over.
	FailoverTimeout int64
	// Election is how long a silent master is waited for before another is elected.
	Election int64
	// Options are what SENTINEL SET has changed on this node, by the master's name.
	Options map[string]Options
}

// Options are the numbers of a master that SENTINEL SET changes. They are shown, and
// the quorum is what CKQUORUM asks for; when a master is given up and another elected
// does not depend on any of them. 0 stands for one that was not set.
type Options struct {
	DownAfter       int64 // ms
	FailoverTimeout int64 // ms
	ParallelSyncs   int
	Quorum          int
}

// For is the view as it is shown under one of its names.
func (v *View) For(name string) View {
	shown := *v
	shown.Name = name
	o := v.Options[name]
	shown.DownAfter = cmp.Or(o.DownAfter, v.DownAfter)
	shown.FailoverTimeout = cmp.Or(o.FailoverTimeout, v.FailoverTimeout)
	shown.Quorum = cmp.Or(o.Quorum, v.Quorum)
	return shown
}

// Node is one member of the cluster: a data server and a Sentinel in one.
type Node struct {
	ID       string
	RunID    string // 40 hex digits, the same as long as the node's data directory lives
	Data     Addr   // where clients reach its data port
	Sentinel Addr   // where they reach its Sentinel port
	Contact  int64  // age of the last answered ping; 0 of the node itself
	Down     bool   // no contact for longer than DownAfter, or known to be stopped
	DownFor  int64  // while Down: for how long
	Deposed  bool   // it was the master when it went Down, and has been Down since
	Process  uint64 // another one after each start of the node; 0 if unknown
	RoleFor  int64  // for how long it has had its role
	Offset   int64  // how far its state has come, shown as slave-repl-offset
	Cut      bool   // the connection to it has ended, and it may be down: shown as disconnected
	LinkUp   bool   // as a replica: it follows the master
	LinkDown int64  // while not LinkUp: for how long
	Priority int    // shown as slave-priority; 0 if it is never to be master
}

// Addr is an address as it is announced to clients.
type Addr struct {
	Host string // an address or a name, an IPv6 address without brackets
	Port int
}

// String is host:port, an IPv6 address in brackets.
func (a Addr) String() string { return net.JoinHostPort(a.Host, a.port()) }

func (a Addr) port() string { return strconv.Itoa(a.Port) }

// unknown stands for an address nobody knows, as in Redis.
var unknown = Addr{Host: "?"}

// Source has the current view.
type Source interface {
	// View returns the view to answer from. If the node itself is the master, it
	// is confirmed after the call began, or the view has no master; the call may
	// wait for that, within a bound of its own. It is safe for concurrent use.
	View() View
	// Failover has the master hand over to another node. An error is the one to tell
	// the client. It does not wait for the end of it, and is safe for concurrent use.
	Failover() error
}

// master is the master, known or last known, or nil if there never was one.
func (v *View) master() *Node { return v.node(v.Master) }

// node is the node with an id, or nil.
func (v *View) node(id string) *Node {
	i := slices.IndexFunc(v.Nodes, func(n Node) bool { return n.ID == id })
	if i < 0 || id == "" {
		return nil
	}
	return &v.Nodes[i]
}

// address is where the master is or was.
func (v *View) address() Addr {
	if m := v.master(); m != nil {
		return m.Data
	}
	return unknown
}

// replicas are the nodes but the master.
func (v *View) replicas() []Node { return v.without(v.Master) }

// others are the nodes but the one that shows the view.
func (v *View) others() []Node { return v.without(v.Self) }

func (v *View) without(id string) []Node {
	return slices.DeleteFunc(slices.Clone(v.Nodes), func(n Node) bool { return n.ID == id })
}

// usable is the number of nodes that are not down.
func (v *View) usable() int {
	n := 0
	for i := range v.Nodes {
		if !v.Nodes[i].Down {
			n++
		}
	}
	return n
}

// status is the state of the master as INFO tells it.
func (v *View) status() string {
	m := v.master()
	switch {
	case !v.MasterKnown || m == nil:
		return "odown"
	case m.Down:
		return "sdown"
	}
	return "ok"
}
