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

// Successor is the node that is to lead after this one, "" if there is none: a voter in
// contact that has acknowledged everything that is committed, if there is one, of
// several the one of the lowest rank, and of those the one with the most of this node's
// log. A node of rank 0 is left out; nil stands for equal ranks.
//
// ready tells whether it has all that is committed.
func (n *Node) Successor(rank func(id string) int) (id string, ready bool) {
	r := n.raftNode()
	if r == nil {
		return "", false
	}
	commit, now := r.CommitIndex(), n.cfg.Clock.Boot()
	var best heir
	for _, m := range n.Members() {
		p := n.peer(m.ID)
		if p == nil || !m.Voter || !p.contact(now, n.window()) {
			continue
		}
		h := heir{id: m.ID, rank: 1, acked: p.acked()}
		h.whole = h.acked >= commit
		if rank != nil {
			h.rank = rank(m.ID)
		}
		if h.rank != 0 && h.before(&best) {
			best = h
		}
	}
	return best.id, best.whole
}

// heir is a node that may lead next.
type heir struct {
	id    string
	whole bool // it has all that is committed
	rank  int
	acked uint64
}

// before tells whether h is to be preferred to best, which may be nobody.
func (h *heir) before(best *heir) bool {
	switch {
	case best.id == "" || h.whole != best.whole:
		return best.id == "" || h.whole
	case h.whole && h.rank != best.rank:
		return h.rank < best.rank
	}
	return h.acked > best.acked
}

// CanSucceed tells why the node with the given id cannot lead after this one, nil if it can.
func (n *Node) CanSucceed(id string) error {
	m, member := find(n.Members(), id)
	p := n.peer(id)
	switch {
	case !member:
		return fmt.Errorf("%s is no member", id)
	case id == n.cfg.NodeID:
		return fmt.Errorf("%s is the master already", id)
	case !m.Voter:
		return fmt.Errorf("%s has no vote", id)
	case p == nil || !p.contact(n.cfg.Clock.Boot(), n.window()):
		return fmt.Errorf("%s is not in contact", id)
	}
	return nil
}

// AwaitFollower returns nil once the node with the given id has acknowledged what is
// committed now: only the last moments of the log can be missing there.
func (n *Node) AwaitFollower(ctx context.Context, id string) error {
	r := n.raftNode()
	if r == nil || n.peer(id) == nil {
		return ErrNoSuccessor
	}
	return n.awaitAcked(ctx, r, id, r.CommitIndex())
}

// awaitAcked waits until a node has acknowledged the log up to index, or this one does
// not lead any more.
func (n *Node) awaitAcked(ctx context.Context, r *raft.Raft, id string, index uint64) error {
	poll := time.NewTicker(transferPoll)
	defer poll.Stop()
	for {
		p := n.peer(id)
		switch {
		case p == nil:
			return ErrNoSuccessor // removed
		case p.acked() >= index, r.State() != raft.Leader:
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return fmt.Errorf("%s has not got the whole log: %w", id, ctx.Err())
		}
	}
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
	r := n.raftNode()
	if r == nil || n.peer(id) == nil || !slices.Contains(n.View().Voters, id) {
		return ErrNoSuccessor
	}
	if err := n.awaitAcked(ctx, r, id, r.LastIndex()); err != nil {
		return err
	}
	if r.State() != raft.Leader {
		return nil
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
