package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/holdfast/holdfast/respserver"
)

// successor is the node that is to be master after this one: the one with the given id,
// or the best one if that is empty. The error says why there is none.
func (n *Node) successor(id string) (string, error) {
	switch {
	case !n.roles.Role().Master:
		return "", errNotMaster
	case n.handovers.begun.Load():
		return "", errHandingOver
	case id == "":
		best, _ := n.raft.Successor(n.rank)
		if best == "" {
			return "", errNoSuccessor
		}
		return best, nil
	}
	if err := n.raft.CanSucceed(id); err != nil {
		return "", err
	}
	if n.rank(id) == 0 {
		return "", fmt.Errorf("%s has replica-priority 0", id)
	}
	return id, nil
}

// rank is how much a node is to be preferred as the next master, the lower the more, and
// 0 for never.
func (n *Node) rank(id string) int {
	v := n.raft.View()
	return n.priority(&v, id)
}

// yieldPause is how long a node that is not to be master waits after it has tried to hand
// over.
const yieldPause = 2 * time.Second

// yield hands over the leadership if this node is not to have it, once another one that
// may is up to date. Called by the goroutine of keepMembers.
func (n *Node) yield() {
	now := n.clock.Boot()
	if n.settings.Config().ReplicaPriority != 0 || now < n.handovers.yield {
		return
	}
	id, ready := n.raft.Successor(n.rank)
	if id == "" || !ready {
		return
	}
	n.handovers.yield = now + yieldPause
	n.log.Info("the leadership is not for this node, whose replica-priority is 0", "to", id)
	if _, err := n.beginHandover(id, n.bound()); err != nil {
		n.log.Info("no handover", "to", id, "reason", err)
	}
}

// Transfer is RAFT TRANSFER: it returns nil once the node with the given id, or the best
// one if it is empty, is master.
func (m membership) Transfer(ctx context.Context, id string) error {
	n := m.n
	moved, err := n.beginHandover(id, n.bound()) //nolint:contextcheck // it goes on when the client has gone
	switch {
	case errors.Is(err, errNotMaster):
		return m.elsewhere("hand over the leadership")
	case err != nil:
		return err
	}
	select {
	case err := <-moved:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the handover goes on: %w", ctx.Err())
	}
}

// shed hands over the leadership before the membership of this node, the master, is
// changed: nil if another node is master and clients have been seen off.
func (m membership) shed(ctx context.Context) error {
	if err := m.Transfer(ctx, ""); err != nil {
		return err
	}
	for m.n.handovers.begun.Load() {
		if !pause(ctx, passPause) {
			return ctx.Err()
		}
	}
	return nil
}

// changeSelf makes a change of this node's own membership: as master it hands over first,
// and has the new master make it. With nobody to hand over to it is made here.
func (m membership) changeSelf(ctx context.Context, c *respserver.MemberChange) error {
	n := m.n
	if _, err := n.successor(""); errors.Is(err, errNoSuccessor) {
		return m.make(ctx, c)
	}
	if err := m.shed(ctx); err != nil {
		return fmt.Errorf("nothing was changed: %w", err)
	}
	order := []string{orderReplace, c.ID, c.With}
	switch c.Kind {
	case respserver.RemoveMember:
		order = []string{orderRemove, c.ID}
	case respserver.DemoteMember:
		order = []string{orderDemote, c.ID}
	default:
	}
	_, err := n.orderMaster(ctx, order...) // this node may get no more of the log
	return err
}
