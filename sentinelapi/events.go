package sentinelapi

import (
	"slices"
	"strconv"
	"strings"
)

// Message is an event to publish on the Sentinel port.
type Message struct{ Channel, Payload string }

// Diff is what is to be published when the cluster has become next, in order. prev is
// the view that the last call was given as next, the zero View at first. The caller
// publishes after the new master serves and SENTINEL answers from next. Names and
// payloads are those of Sentinel (redis.io/docs/management/sentinel, section Pub/Sub
// messages).
//
// A change of master is told as Sentinel tells a failover, if the views are Recorded,
// and in any case with +switch-master, followed at once by one +slave for each replica,
// the old master among them. Some of it is said once more on channels without the plus
// sign, which clients listen to by mistake. Then follows what has become of the nodes.
func Diff(prev, next View) []Message {
	was, is := prev.master(), next.master()
	if !next.MasterKnown || is == nil || was == nil {
		return nil
	}
	d := diff{prev: &prev, next: &next, moved: was.Data != is.Data}
	switch {
	case was.ID != is.ID && next.Recorded && next.Term > prev.Term:
		d.failover(was, is)
	case d.moved:
		d.switchMaster(was)
		d.plain("+switch-master")
	}
	d.departures()
	for i := range next.Nodes {
		d.node(&next.Nodes[i])
	}
	return d.list
}

// diff gathers the messages of a change.
type diff struct {
	prev, next *View
	moved      bool // another address is the master's: all replicas are announced anew
	list       []Message
}

func (d *diff) say(channel string, words ...string) {
	d.list = append(d.list, Message{channel, strings.Join(words, " ")})
}

// failover tells of a failover that is over: what Sentinels would have said meanwhile,
// and its result.
func (d *diff) failover(was, is *Node) {
	old := d.next.node(was.ID)
	lost := old != nil && old.Down
	master, chosen := d.prev.masterInstance(), d.prev.slaveInstance(is)
	if lost {
		quorum := strconv.Itoa(d.next.Quorum)
		d.say("+sdown", master)
		d.say("+odown", master, "#quorum", quorum+"/"+quorum)
	}
	d.say("+new-epoch", strconv.FormatUint(d.next.Term, 10))
	d.say("+try-failover", master)
	d.say("+elected-leader", master)
	d.say("+selected-slave", chosen)
	d.say("-role-change", chosen, "new reported role is master")
	d.say("+promoted-slave", chosen)
	for _, n := range d.next.replicas() {
		if n.ID != was.ID && !n.Down && d.prev.node(n.ID) != nil {
			d.say("+slave-reconf-done", d.prev.slaveInstance(&n))
		}
	}
	if lost {
		d.say("-odown", master)
	}
	d.say("+failover-end", master)
	d.switchMaster(was)
	d.plain("+switch-master", "+failover-end", "+selected-slave")
	if old != nil && !lost {
		d.converted(old)
	}
}

// switchMaster announces the master and its replicas.
func (d *diff) switchMaster(was *Node) {
	to := d.next.address()
	d.say("+switch-master", d.next.Name, was.Data.Host, was.Data.port(), to.Host, to.port())
	d.slaves()
}

func (d *diff) slaves() {
	for _, n := range d.next.replicas() {
		d.say("+slave", d.next.slaveInstance(&n))
	}
}

// plain repeats what was said on the channels, without their signs.
func (d *diff) plain(channels ...string) {
	for _, channel := range channels {
		i := slices.IndexFunc(d.list, func(m Message) bool { return m.Channel == channel })
		if i >= 0 {
			d.list = append(d.list, Message{channel[1:], d.list[i].Payload})
		}
	}
}

// converted says that a node follows the master that was the master itself.
func (d *diff) converted(n *Node) {
	slave := d.next.slaveInstance(n)
	d.say("+convert-to-slave", slave)
	d.say("+role-change", slave, "new reported role is slave")
}

// departures tell of nodes that are members no more, as a Sentinel does that was made to
// forget them and finds the others again.
func (d *diff) departures() {
	left := false
	for i := range d.prev.Nodes {
		n := &d.prev.Nodes[i]
		if d.next.node(n.ID) != nil {
			continue
		}
		left = true
		if !d.prev.down(n) {
			d.both("+sdown", n)
		}
	}
	if !left {
		return
	}
	d.say("+reset-master", d.next.masterInstance())
	if !d.moved {
		d.slaves()
	}
	for i := range d.next.Nodes {
		d.say("+sentinel", d.next.sentinelInstance(&d.next.Nodes[i]))
	}
}

// node tells what has become of one node.
func (d *diff) node(n *Node) {
	last := d.prev.node(n.ID)
	known := last != nil
	if !known {
		last = &Node{}
	}
	if last.Data != n.Data && n.ID != d.next.Master && !d.moved {
		d.say("+slave", d.next.slaveInstance(n))
	}
	if last.Sentinel != n.Sentinel {
		if known {
			d.say("+sentinel-address-switch", d.next.masterInstance(), "ip", n.Sentinel.Host, "port", n.Sentinel.port(), "for", n.RunID)
		}
		d.say("+sentinel", d.next.sentinelInstance(n))
	}
	if last.Process != 0 && n.Process != 0 && last.Process != n.Process {
		d.say("+reboot", d.next.instanceOf(n))
	}
	switch was, is := d.prev.down(last), d.next.down(n); {
	case !was && is:
		d.both("+sdown", n)
	case was && !is:
		d.both("-sdown", n)
		if last.Deposed && n.ID != d.next.Master {
			d.converted(n)
		}
	}
}

// both says the same of a node's data port and of its Sentinel.
func (d *diff) both(channel string, n *Node) {
	d.say(channel, d.next.instanceOf(n))
	d.say(channel, d.next.sentinelInstance(n))
}

// down tells whether subscribers are told that the node is down. The master of a view
// never is.
func (v *View) down(n *Node) bool { return n.Down && n.ID != v.Master }

// instanceOf names a node's data port as events do.
func (v *View) instanceOf(n *Node) string {
	if n.ID == v.Master {
		return v.masterInstance()
	}
	return v.slaveInstance(n)
}

func (v *View) masterInstance() string {
	m := v.address()
	return strings.Join([]string{"master", v.Name, m.Host, m.port()}, " ")
}

func (v *View) slaveInstance(n *Node) string {
	m := v.address()
	return strings.Join([]string{"slave", n.Data.String(), n.Data.Host, n.Data.port(), "@", v.Name, m.Host, m.port()}, " ")
}

func (v *View) sentinelInstance(n *Node) string {
	m := v.address()
	return strings.Join([]string{"sentinel", n.RunID, n.Sentinel.Host, n.Sentinel.port(), "@", v.Name, m.Host, m.port()}, " ")
}
