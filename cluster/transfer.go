package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Why the leadership is not handed over.
var (
	// ErrNoSuccessor says that no voter that may lead next is within reach.
	ErrNoSuccessor = errors.New("no other voter is within reach")
	// ErrStuck says that raft went on refusing entries after a handover that failed
	// (hashicorp/raft#696).
	ErrStuck = errors.New("raft takes no entries since a handover of the leadership failed")
)

// transferPoll is how often a handover looks how far it has come.
const transferPoll = time.Millisecond

// Successor is the voter in contact that has the most of this node's log, ""
// if there is none.
func (n *Node) Successor() string {
	v := n.View()
	var best string
	var most uint64
	for i := range v.Peers {
		p := &v.Peers[i]
		if p.Contact && p.Voter && (best == "" || p.Acked > most) {
			best, most = p.ID, p.Acked
		}
	}
	return best
}

// Transfer has the voter with the given id elected in place of this node, which leads, and
// returns nil once this node does not lead any more. The log must not grow
// meanwhile. If it fails the voter may still be elected a moment later: nothing
// may be believed about the leadership then but what a probe round confirms, and raft
// may refuse entries until Settle has returned.
//
// The voter is told to stand only when it has all of the log: raft's own way of
// bringing it there may never end (hashicorp/raft#696).
func (n *Node) Transfer(ctx context.Context, id string) error {
	r, p := n.raftNode(), n.peer(id)
	if r == nil || p == nil || !slices.Contains(n.View().Voters, id) {
		return ErrNoSuccessor
	}
	poll := time.NewTicker(transferPoll)
	defer poll.Stop()
	for p.acked() < r.LastIndex() {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%s has not got the whole log: %w", id, ctx.Err())
		}
		if r.State() != raft.Leader {
			return nil
		}
	}
	n.log.Info("the leadership is handed over", "to", id)
	done := make(chan error, 1)
	go func() { // ends with the future; should that never resolve, with the process
		done <- r.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(id)).Error()
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Settle returns nil once raft takes entries again after a Transfer that failed and
// has committed one, so that this node leads; or an error that says why it does
// not. ErrStuck means that it never will: the process has to be started anew.
func (n *Node) Settle(ctx context.Context) error {
	const longest = rpcTimeout + 2*time.Second // its request to the other node ends by then
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	poll := time.NewTicker(10 * transferPoll)
	defer poll.Stop()
	for {
		err := n.barrier(ctx)
		switch {
		case !errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return err
		case ctx.Err() != nil:
			return ErrStuck
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
		}
	}
}

// barrier waits until an entry that means nothing has been committed.
func (n *Node) barrier(ctx context.Context) error {
	r := n.raftNode()
	if r == nil {
		return raft.ErrNotLeader
	}
	done := make(chan error, 1)
	go func() { done <- r.Barrier(n.window()).Error() }() // as in Transfer
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
