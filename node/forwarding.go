package node

import (
	"context"
	"net"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/forward"
	"github.com/holdfast/holdfast/store"
)

// forwardKind names the connections between nodes that pass units on. Another wire
// format is another kind: a node that does not know one refuses it.
const forwardKind = "forward1"

// openRelay builds the way from this node's data port to the master, and lets other
// nodes come that way to this one.
func (n *Node) openRelay(table *command.Table) error {
	n.relay = newRelay(relayConfig{
		submit:  n.proposer.Submit,
		expire:  n.proposer.Expire,
		confirm: n.raft.Confirm,
		applied: n.fsm.WaitApplied,
		self:    n.settings.Config().NodeID,
		master:  n.master,
		dial:    func(ctx context.Context, id string) (net.Conn, error) { return n.raft.Dial(ctx, id, forwardKind) },
	})
	server := forward.NewServer(forward.Config{
		Master:    master{n},
		Table:     table,
		Databases: func() int { return n.settings.Config().Databases },
		Applied:   n.fsm.Applied,
		Acked:     n.acknowledged,
		Veil:      n.setVeil,
		Log:       n.log,
	})
	return n.raft.Handle(forwardKind, server.Serve)
}

// setVeil keeps it back, or lets it be known, that this node is the master.
func (n *Node) setVeil(on bool) {
	if on {
		n.raft.Veil()
	} else {
		n.raft.Unveil()
	}
}

// acknowledged is how many replicas have the log up to index.
func (n *Node) acknowledged(index uint64) (count int64) {
	for _, r := range (replication{n}).Replicas() {
		if r.Acked >= index {
			count++
		}
	}
	return count
}

// master is this node as other nodes use it, if it is the master. It goes to the
// Proposer, never through the relay: nothing is passed on twice.
type master struct{ n *Node }

var _ forward.Master = master{}

// Submit takes a batch to the log; the Proposer refuses it if this node is not the
// master.
func (m master) Submit(b *command.Batch) { m.n.proposer.Submit(b) }

// Index is the log index that a read needs. It is taken first: a majority confirms
// that this node was the master after that.
func (m master) Index(ctx context.Context) (uint64, error) {
	index := m.n.fsm.Applied()
	return index, m.n.raft.Confirm(ctx)
}

// Expire commits the removal of due keys.
func (m master) Expire(ctx context.Context, victims []store.Victim) (uint64, error) {
	if len(victims) == 0 {
		return m.n.fsm.Applied(), nil
	}
	err := m.n.proposer.Expire(ctx, victims)
	return m.n.fsm.Applied(), err
}

// Await waits until this node is the confirmed master.
func (m master) Await(ctx context.Context) (uint64, error) {
	for {
		if term := m.n.reign.serving.Load(); term != 0 && m.n.raft.Confirm(ctx) == nil {
			return term, nil
		}
		if !pause(ctx, awaitPause) {
			return 0, errNotMaster
		}
	}
}

// awaitPause is how often Await looks; a handover waits for it.
const awaitPause = passPause / 2

// HandOver begins a handover.
func (m master) HandOver(_ context.Context, target string) error {
	return failoverError(m.n.beginHandover(target, m.n.bound()))
}
