package node

import (
	"context"
	"errors"
	"fmt"
)

// successor is the node that is to be master after this one: the one with the given id,
// or the best one if that is empty. The error says why there is none.
func (n *Node) successor(id string) (string, error) {
	switch {
	case !n.roles.Role().Master:
		return "", errNotMaster
	case n.handovers.present.Load() != nil:
		return "", errHandingOver
	case id != "":
		return id, n.raft.CanSucceed(id)
	}
	if id = n.raft.Successor(nil); id == "" {
		return "", errNoSuccessor
	}
	return id, nil
}

// Transfer is RAFT TRANSFER: it returns nil once the node with the given id, or the best
// one if it is empty, is master.
func (m membership) Transfer(ctx context.Context, id string) error {
	n := m.n
	moved, err := n.beginHandover(id, n.bound())
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
