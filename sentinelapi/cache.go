package sentinelapi

import (
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// isMasterDown answers what Sentinels ask each other about the master at an address,
// and votes for nobody: who leads is decided by the nodes alone.
func (a api) isMasterDown(_ command.Conn, args [][]byte) resp.Value {
	port, err := number(args[3])
	if err == nil {
		_, err = number(args[4])
	}
	if err != nil {
		return resp.Err(err)
	}
	v := a.src.View()
	at, m := v.address(), v.master()
	down := m != nil && at.Host == string(args[2]) && int64(at.Port) == port && (!v.MasterKnown || m.Down)
	return resp.Array(resp.Flag(down), resp.BulkString("*"), resp.Zero)
}

// infoCache shows, for each known name, the age and the text of what INFO of the master
// and of each replica says, as far as pings tell it.
func (a api) infoCache(_ command.Conn, args [][]byte) resp.Value {
	v := a.src.View()
	var reply []resp.Value
	var shown []string
	for _, arg := range args[2:] {
		name := string(arg)
		if !slices.Contains(v.Names, name) || slices.Contains(shown, name) {
			continue
		}
		shown = append(shown, name)
		reply = append(reply, resp.BulkString(name), v.cached())
	}
	return resp.Array(reply...)
}

func (v *View) cached() resp.Value {
	var entries []resp.Value
	replicas := v.replicas()
	if m := v.master(); m != nil {
		entries = append(entries, resp.Array(resp.Int(m.Contact), resp.BulkString(v.masterInfo(m, replicas))))
	} else {
		entries = append(entries, resp.Array(resp.Zero, resp.Null))
	}
	for i := range replicas {
		entries = append(entries, resp.Array(resp.Int(replicas[i].Contact), resp.BulkString(v.replicaInfo(&replicas[i]))))
	}
	return resp.Array(entries...)
}

// info is a text of INFO that is being written.
type info struct{ strings.Builder }

func (b *info) line(name, value string) { b.WriteString(name + ":" + value + "\r\n") }

// about begins the text about a node.
func (b *info) about(n *Node) {
	b.WriteString("# Server\r\n")
	b.line("redis_mode", "standalone")
	b.line("run_id", n.RunID)
	b.line("tcp_port", n.Data.port())
	b.WriteString("\r\n# Replication\r\n")
}

func (v *View) masterInfo(m *Node, replicas []Node) string {
	var b info
	b.about(m)
	b.line("role", "master")
	up := slices.DeleteFunc(slices.Clone(replicas), func(n Node) bool { return n.Down })
	b.line("connected_slaves", strconv.Itoa(len(up)))
	for i := range up {
		n := &up[i]
		b.line("slave"+strconv.Itoa(i), "ip="+n.Data.Host+",port="+n.Data.port()+",state=online,offset="+
			strconv.FormatInt(n.Offset, 10)+",lag="+strconv.FormatInt(n.Contact/1000, 10))
	}
	b.line("master_repl_offset", strconv.FormatInt(m.Offset, 10))
	return b.String()
}

func (v *View) replicaInfo(n *Node) string {
	var b info
	b.about(n)
	b.line("role", "slave")
	master, status := v.address(), "up"
	if !v.MasterKnown {
		master = unknown
	}
	if !v.MasterKnown || !n.LinkUp {
		status = "down"
	}
	b.line("master_host", master.Host)
	b.line("master_port", master.port())
	b.line("master_link_status", status)
	b.line("slave_repl_offset", strconv.FormatInt(n.Offset, 10))
	b.line("slave_priority", strconv.Itoa(n.Priority))
	b.line("connected_slaves", "0")
	b.line("master_repl_offset", strconv.FormatInt(n.Offset, 10))
	return b.String()
}
