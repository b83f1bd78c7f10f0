package sentinelapi

import (
	"cmp"
	"strings"

	"github.com/holdfast/holdfast/resp"
)

// fields collects the description of one instance: names and values, all of them
// bulk strings, in the order that positional readers rely on.
type fields []resp.Value

func (f *fields) text(name, value string) {
	*f = append(*f, resp.BulkString(name), resp.BulkString(value))
}

func (f *fields) number(name string, value int64) {
	*f = append(*f, resp.BulkString(name), resp.BulkInt(value))
}

// instance is what descriptions of all kinds share.
type instance struct {
	name  string
	addr  Addr
	runID string
	kind  string // "master", "slave" or "sentinel"

	contact, downAfter int64
	sDown, oDown, cut  bool
	sDownFor, oDownFor int64
}

// flags are the words that clients filter by: for a healthy instance its kind
// and nothing else.
func (i *instance) flags() string {
	var words []string
	if i.sDown {
		words = append(words, "s_down")
	}
	if i.oDown {
		words = append(words, "o_down")
	}
	words = append(words, i.kind)
	if i.sDown || i.cut {
		words = append(words, "disconnected")
	}
	return strings.Join(words, ",")
}

// describe begins the description of an instance.
func (i *instance) describe() fields {
	f := make(fields, 0, 50)
	f.text("name", i.name)
	f.text("ip", i.addr.Host)
	f.text("port", i.addr.port())
	f.text("runid", i.runID)
	f.text("flags", i.flags())
	f.number("link-pending-commands", 0)
	f.number("link-refcount", 1)
	unanswered := int64(0) // age of the first ping without an answer
	if i.sDown {
		unanswered = i.contact
	}
	f.number("last-ping-sent", unanswered)
	f.number("last-ok-ping-reply", i.contact)
	f.number("last-ping-reply", i.contact)
	if i.sDown {
		f.number("s-down-time", i.sDownFor)
	}
	if i.oDown {
		f.number("o-down-time", i.oDownFor)
	}
	f.number("down-after-milliseconds", i.downAfter)
	return f
}

// describeMaster is the reply of SENTINEL MASTER. While no master is known it
// shows the last one, flagged as down by common consent.
func (v *View) describeMaster() resp.Value {
	i := instance{name: v.Name, addr: v.address(), kind: "master", downAfter: v.DownAfter}
	roleFor := v.MasterGone
	i.contact, i.sDownFor = v.MasterGone, v.MasterGone
	if m := v.master(); m != nil {
		i.runID, i.contact, i.cut = m.RunID, m.Contact, m.Cut
		i.sDown, i.sDownFor = m.Down, m.DownFor
		roleFor = m.RoleFor
	}
	if !v.MasterKnown {
		i.sDown, i.oDown = true, true
		i.sDownFor, i.oDownFor = max(i.sDownFor, v.MasterGone), v.MasterGone
	}
	f := i.describe()
	f.number("info-refresh", i.contact)
	f.text("role-reported", "master")
	f.number("role-reported-time", roleFor)
	f.number("config-epoch", int64(v.Term))
	f.number("num-slaves", int64(len(v.replicas())))
	f.number("num-other-sentinels", int64(len(v.others())))
	f.number("quorum", int64(v.Quorum))
	f.number("failover-timeout", v.FailoverTimeout)
	f.number("parallel-syncs", int64(cmp.Or(v.Options[v.Name].ParallelSyncs, 1)))
	return resp.Map(f...)
}

// describeReplica is one item of the reply of SENTINEL REPLICAS.
func (v *View) describeReplica(n *Node) resp.Value {
	i := n.instance(n.Data.String(), "slave", v)
	f := i.describe()
	status, down, master := "ok", int64(0), v.address()
	if !v.MasterKnown {
		master = unknown
	}
	if !v.MasterKnown || !n.LinkUp {
		status, down = "err", max(n.LinkDown, v.MasterGone)
	}
	f.number("info-refresh", n.Contact)
	f.text("role-reported", "slave")
	f.number("role-reported-time", n.RoleFor)
	f.number("master-link-down-time", down)
	f.text("master-link-status", status)
	f.text("master-host", master.Host)
	f.text("master-port", master.port())
	f.number("slave-priority", int64(n.Priority))
	f.number("slave-repl-offset", n.Offset)
	f.number("replica-announced", 1)
	return resp.Map(f...)
}

// describeSentinel is one item of the reply of SENTINEL SENTINELS.
func (v *View) describeSentinel(n *Node) resp.Value {
	i := n.instance(n.RunID, "sentinel", v)
	i.addr = n.Sentinel
	f := i.describe()
	f.number("last-hello-message", n.Contact)
	f.text("voted-leader", "?")
	f.number("voted-leader-epoch", 0)
	return resp.Map(f...)
}

func (n *Node) instance(name, kind string, v *View) instance {
	return instance{
		name: name, addr: n.Data, runID: n.RunID, kind: kind,
		contact: n.Contact, downAfter: v.DownAfter, sDown: n.Down, sDownFor: n.DownFor, cut: n.Cut,
	}
}
