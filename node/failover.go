package node

import (
	"context"
	"errors"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// failoverCommand is FAILOVER: it begins a handover, or gives up one whose successor was
// not told to stand yet.
func (n *Node) failoverCommand(r respserver.FailoverRequest) error {
	if r.Abort {
		if !n.handovers.abort() {
			return resp.ErrNoFailover
		}
		return nil
	}
	to := ""
	if r.Host != "" {
		var err error
		if to, err = n.replicaAt(r.Host, r.Port); err != nil {
			return err
		}
	}
	bound := r.Timeout
	if bound == 0 {
		bound = n.bound()
	}
	_, err := n.beginHandover(to, bound)
	return failoverError(err)
}

// replicaAt is the id of the replica that serves clients at an address.
func (n *Node) replicaAt(host string, port int) (string, error) {
	if !n.roles.Role().Master {
		return "", resp.ErrFailoverReplica
	}
	v := n.raft.View()
	for i := range v.Peers {
		p := &v.Peers[i]
		m, ok := n.member(&v, p.ID)
		switch {
		case !ok || !p.Voter || m.DataHost != host || m.DataPort != port:
		case !p.Contact:
			return "", resp.ErrFailoverOffline
		default:
			return p.ID, nil
		}
	}
	return "", resp.ErrFailoverTarget
}

// failoverError is what FAILOVER answers.
func failoverError(err error) error {
	switch {
	case errors.Is(err, errNotMaster):
		return resp.ErrFailoverReplica
	case errors.Is(err, errHandingOver):
		return resp.ErrFailoverBusy
	case errors.Is(err, errNoSuccessor):
		return resp.ErrFailoverAlone
	}
	return err
}

// Failover is SENTINEL FAILOVER: this node hands over if it is the master, or else
// asks the one that is.
func (n *Node) Failover() error {
	_, err := n.beginHandover("", n.bound())
	err = failoverError(err)
	if errors.Is(err, resp.ErrFailoverReplica) {
		err = n.askFailover()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, resp.ErrFailoverBusy):
		return resp.ErrInProgress
	}
	return resp.ErrNoGoodReplica
}

// askFailover asks the master to hand over.
func (n *Node) askFailover() error {
	ctx, cancel := context.WithTimeout(context.Background(), failoverTimeout)
	defer cancel()
	conn, self := n.relay.reach(ctx)
	if self || conn == nil {
		return errNotMaster
	}
	return conn.HandOver(ctx, "")
}
