package sentinelapi

import (
	"slices"
	"strings"
)

// Message is an event to publish on the Sentinel port.
type Message struct{ Channel, Payload string }

// Diff is what is to be published when the view has become next, in order. prev
// is the view that the last call was given as next, the zero View at first. The
// caller publishes after the new master serves and SENTINEL answers from next.
//
// A change of master is announced as +switch-master, followed at once by one
// +slave for each replica, the old master among them, as Sentinel does. Then the
// same is said on a channel without the plus sign, which some clients listen to
// by mistake. A node that joined is announced as +slave.
func Diff(prev, next View) []Message {
	was, is := prev.master(), next.master()
	if !next.MasterKnown || is == nil || was == nil {
		return nil
	}
	if was.Data != is.Data {
		return switchMaster(&next, was.Data, is.Data)
	}
	return joined(&prev, &next)
}

func switchMaster(next *View, from, to Addr) []Message {
	payload := strings.Join([]string{next.Name, from.Host, from.port(), to.Host, to.port()}, " ")
	messages := []Message{{"+switch-master", payload}}
	replicas := next.replicas()
	for i := range replicas {
		messages = append(messages, next.slave(&replicas[i]))
	}
	return append(messages, Message{"switch-master", payload})
}

// joined announces the replicas whose address was not there before.
func joined(prev, next *View) []Message {
	var messages []Message
	replicas := next.replicas()
	for i := range replicas {
		known := slices.ContainsFunc(prev.Nodes, func(n Node) bool { return n.Data == replicas[i].Data })
		if !known {
			messages = append(messages, next.slave(&replicas[i]))
		}
	}
	return messages
}

// slave announces a replica of the view's master.
func (v *View) slave(n *Node) Message {
	m := v.address()
	return Message{"+slave", strings.Join([]string{
		"slave", n.Data.String(), n.Data.Host, n.Data.port(), "@", v.Name, m.Host, m.port(),
	}, " ")}
}
