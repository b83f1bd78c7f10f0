package cluster

import (
	"errors"
	"reflect"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// BreakLog makes appends to a node's log fail with err. Called before Run.
func (n *Node) BreakLog(err func() error) {
	n.logs.back = failingBackend{n.logs.back, err}
}

type failingBackend struct {
	backend
	err func() error
}

func (b failingBackend) StoreLogs(entries []*raft.Log) error {
	if err := b.err(); err != nil {
		return err
	}
	return b.backend.StoreLogs(entries)
}

func (b failingBackend) IsMonotonic() bool {
	m, ok := b.backend.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// HeartbeatsStopped tells whether this node would send no heartbeat now.
func (n *Node) HeartbeatsStopped() bool { return n.logs.outstanding() > stallLimit }

// RaftAddress is what raft's configuration says of a node.
func (n *Node) RaftAddress(id string) string {
	f := n.raftNode().GetConfiguration()
	if f.Error() != nil {
		return ""
	}
	for _, s := range f.Configuration().Servers {
		if string(s.ID) == id {
			return string(s.Address)
		}
	}
	return ""
}

// Seeking tells whether the node's directory says that it wants a vote.
func (n *Node) Seeking() bool { return n.identity.Load().Seeking }

// Formed tells whether raft was ever started on this node.
func (n *Node) Formed() bool { return n.raftNode() != nil }

// PreVote tells whether the transport of nodes lets raft ask before it votes.
func PreVote() bool {
	_, ok := any(&transport{}).(raft.WithPreVote)
	return ok
}

// Disturbable tells whether this build obeys the control file of faults.
func Disturbable() bool { return reflect.TypeFor[hooks]().NumField() > 0 }

// MayVote tells why the node must not vote for a candidate now.
func (n *Node) MayVote(term uint64, candidate string) error {
	return n.mayVote(vote{term, candidate})
}

// Acked is up to where a node has acknowledged this one's log.
func (n *Node) Acked(id string) uint64 { return n.peer(id).acked() }

// HandOver has raft hand over the leadership.
func (n *Node) HandOver(id string) error {
	return n.raftNode().LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)).Error()
}

// OrderToStand sends the order to stand for election alone, as it may arrive after a
// delay.
func (n *Node) OrderToStand(id string) error {
	t := newTransport(n, newStreams(n), n.hclog)
	err := t.NetworkTransport.TimeoutNow(raft.ServerID(id), raft.ServerAddress(id),
		&raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}, &raft.TimeoutNowResponse{})
	return errors.Join(err, t.Close())
}

// Silent is for how long raft has heard from no leader.
func (n *Node) Silent() time.Duration { return clock.Since(n.raftNode().LastContact()) }
