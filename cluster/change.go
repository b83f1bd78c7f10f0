package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Changes of the configuration. They are made on a leader that a round has confirmed
// after the call began, one at a time, and only if the nodes that are in contact are a
// majority of what it will be: none takes the cluster below what it needs.

// maxMembers is how many nodes a cluster may have; the rest of a mask is for those
// that come and go.
const maxMembers = 16

// changeBound is how long one entry of a change is waited for.
const changeBound = 10 * time.Second

// errChanging is why a change is refused while another one is made.
var errChanging = errors.New("another change of the membership is under way")

// errNotYet is why a member does not get a vote now and may get it soon.
var errNotYet = errors.New("not yet")

// ErrChangeUnknown is why a change ends whose entry may still be committed.
var ErrChangeUnknown = errors.New("it is not known whether the change of the membership was made")

// Members are the nodes of the latest configuration, in the order of ids.
func (n *Node) Members() []Member { return n.quorum.Load().latest().members }

// Add takes the node with the given id and address of its raft port into the cluster,
// without a vote until it has caught up. It has to be started with an empty directory.
func (n *Node) Add(ctx context.Context, id, addr string) error {
	if !validID(id) || id == anyNode {
		return fmt.Errorf("node id %q is not valid", id)
	}
	return n.changes(ctx, func(c *change) error {
		if m, member := c.find(id); member {
			return fmt.Errorf("%s is a member already, at %s", id, m.Addr)
		}
		return c.addNonvoter(ctx, id, addr)
	})
}

// Remove takes a node out of the cluster; this one too.
func (n *Node) Remove(ctx context.Context, id string) error {
	return n.changes(ctx, func(c *change) error { return c.remove(ctx, id) })
}

// Replace removes old once with has a vote. It waits until with has caught up.
func (n *Node) Replace(ctx context.Context, old, with string) error {
	for {
		err := n.replace(ctx, old, with)
		if !errors.Is(err, errNotYet) || !sleep(ctx, n.cfg.ElectionTimeout) {
			return err
		}
	}
}

func (n *Node) replace(ctx context.Context, old, with string) error {
	return n.changes(ctx, func(c *change) error {
		if _, member := c.find(old); !member || old == with {
			return fmt.Errorf("%s is not another member", old)
		}
		if m, _ := c.find(with); !m.Voter {
			if err := c.promote(ctx, with); err != nil {
				return err
			}
		}
		return c.remove(ctx, old)
	})
}

// Promote gives a member a vote, if it has kept up with the log for a while.
func (n *Node) Promote(ctx context.Context, id string) error {
	return n.changes(ctx, func(c *change) error { return c.promote(ctx, id) })
}

// Demote takes a member's vote away; it goes on to follow, and gets it back by Promote
// only.
func (n *Node) Demote(ctx context.Context, id string) error {
	return n.changes(ctx, func(c *change) error {
		m, member := c.find(id)
		switch {
		case !member:
			return fmt.Errorf("%s is no member", id)
		case !m.Voter:
			return fmt.Errorf("%s has no vote", id)
		}
		if err := c.enough(without(c.members, id)); err != nil {
			return err
		}
		return c.commit(ctx, "demote", id, func(r *raft.Raft) raft.IndexFuture {
			return r.DemoteVoter(raft.ServerID(id), c.index, changeBound)
		})
	})
}

// admit takes in a node that has proved to be empty. If its id is a member's, that
// member's disk is gone, and it is removed before.
func (n *Node) admit(ctx context.Context, id, addr string) (admission, error) {
	var a admission
	err := n.changes(ctx, func(c *change) error {
		if _, member := c.find(id); member {
			if p := n.peer(id); p != nil && p.contact(n.cfg.Clock.Boot(), max(patience, n.window())) {
				return fmt.Errorf("%s was in contact a moment ago: waiting whether it is really gone", id)
			}
			n.log.Warn("a member has come back with an empty disk: it is removed and taken in anew", "node", id, "addr", addr)
			if err := c.remove(ctx, id); err != nil {
				return err
			}
		}
		if err := c.addNonvoter(ctx, id, addr); err != nil {
			return err
		}
		a = admission{cluster: n.clusterID(), term: c.term, index: c.index, members: c.members}
		return nil
	})
	return a, err
}

// change is a change under way on a leader.
type change struct {
	node    *Node
	raft    *raft.Raft
	term    uint64   // in which this node was confirmed
	index   uint64   // of the configuration
	members []Member // in it
}

// changes runs f while no other change is made, on a confirmed leader whose
// configuration is committed.
func (n *Node) changes(ctx context.Context, f func(c *change) error) error {
	if n.cfg.alone() {
		return errors.New("a cluster of one without peers has no raft port: other nodes cannot enter it")
	}
	select {
	case n.changing <- struct{}{}:
	case <-ctx.Done():
		return errChanging
	}
	defer func() { <-n.changing }()
	if err := n.Probe(ctx); err != nil {
		return err
	}
	term, ok := n.leading()
	if !ok {
		return ErrNotMaster
	}
	c := &change{node: n, raft: n.raftNode(), term: term}
	if err := c.look(); err != nil {
		return err
	}
	return f(c)
}

// HoldMembers keeps the membership as it is until release is called. It waits for a
// change under way; err says that it did so in vain.
func (n *Node) HoldMembers(ctx context.Context) (release func(), err error) {
	select {
	case n.changing <- struct{}{}:
		return func() { <-n.changing }, nil
	case <-ctx.Done():
		return nil, errChanging
	}
}

// look reads the configuration. One that is not committed yet is a change under way.
func (c *change) look() error {
	s := c.node.quorum.Load().latest()
	if s.index > c.raft.CommitIndex() || !c.node.usedByRaft(c.raft, &s) {
		return errChanging
	}
	c.index, c.members = s.index, s.members
	return nil
}

func (c *change) find(id string) (Member, bool) { return find(c.members, id) }

// without are the members but one.
func without(members []Member, id string) []Member {
	return slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return m.ID == id })
}

// enough tells why the nodes in contact are no majority of the given ones, if so.
func (c *change) enough(after []Member) error {
	voters, live := 0, 0
	for _, m := range after {
		if m.Voter {
			voters++
			live += c.live(m.ID)
		}
	}
	switch {
	case voters == 0:
		return errors.New("no node with a vote would be left")
	case live <= voters/2:
		return fmt.Errorf("%d of %d votes would be in contact, and a majority is needed", live, voters)
	}
	return nil
}

func (c *change) live(id string) int {
	p := c.node.peer(id)
	if id == c.node.cfg.NodeID || p != nil && p.contact(c.node.cfg.Clock.Boot(), c.node.window()) {
		return 1
	}
	return 0
}

// addNonvoter commits a new member without a vote.
func (c *change) addNonvoter(ctx context.Context, id, addr string) error {
	switch {
	case !validAddr(addr):
		return fmt.Errorf("address %q is not host:port", addr)
	case len(c.members) >= maxMembers:
		return fmt.Errorf("a cluster has at most %d nodes", maxMembers)
	}
	for _, m := range c.members {
		if m.Addr == addr {
			return fmt.Errorf("%s is the address of %s", addr, m.ID)
		}
	}
	if err := c.allUnderstand(ctx); err != nil {
		return err
	}
	return c.commit(ctx, "add", id, func(r *raft.Raft) raft.IndexFuture {
		return r.AddNonvoter(raft.ServerID(id), raft.ServerAddress(addr), c.index, changeBound)
	})
}

// allUnderstand refuses while a member in contact runs a release whose nodes know
// those of their list only: it could not work with others.
func (c *change) allUnderstand(ctx context.Context) error {
	for _, m := range c.members {
		if m.ID == c.node.cfg.NodeID || c.live(m.ID) == 0 {
			continue
		}
		f, err := c.node.call(ctx, c.node.peer(m.ID).address(), m.ID, []byte{askSpeaks})
		if err != nil || f.byte() != tellOK {
			return fmt.Errorf("%s does not say that it can work with new members; does it run this release? (%w)", m.ID, orErr(err))
		}
	}
	return nil
}

func orErr(err error) error {
	if err == nil {
		return errFrame
	}
	return err
}

// promote commits a vote for a member that has caught up and whose files would be
// missed: one that could come back without them must not count.
func (c *change) promote(ctx context.Context, id string) error {
	m, member := c.find(id)
	p := c.node.peer(id)
	switch {
	case !member || p == nil:
		return fmt.Errorf("%s is no member", id)
	case m.Voter:
		return fmt.Errorf("%s has a vote already", id)
	}
	if least := c.node.keepsUpFor(); p.keptUp(c.node.cfg.Clock.Boot()) < least {
		return fmt.Errorf("%w: %s has not kept up with the log for %v", errNotYet, id, least)
	}
	s, err := c.node.askState(ctx, p)
	if err != nil || s.stage != stageFormed || s.cluster != c.node.clusterID() {
		return fmt.Errorf("%w: %s has not settled in", errNotYet, id)
	}
	after := append(without(c.members, id), Member{ID: id, Addr: m.Addr, Voter: true})
	if err := c.enough(after); err != nil {
		return err
	}
	return c.commit(ctx, "promote", id, func(r *raft.Raft) raft.IndexFuture {
		return r.AddVoter(raft.ServerID(id), raft.ServerAddress(m.Addr), c.index, changeBound)
	})
}

// keepsUpFor is for how long a node must keep up with the log before it gets a vote.
func (n *Node) keepsUpFor() time.Duration { return 4 * n.window() }

// remove commits the removal of a member.
func (c *change) remove(ctx context.Context, id string) error {
	if _, member := c.find(id); !member {
		return fmt.Errorf("%s is no member", id)
	}
	if err := c.enough(without(c.members, id)); err != nil {
		return err
	}
	return c.commit(ctx, "remove", id, func(r *raft.Raft) raft.IndexFuture {
		return r.RemoveServer(raft.ServerID(id), c.index, changeBound)
	})
}

// commit waits for the entry of one change and looks at the new configuration. A
// future of raft may never resolve; then the outcome is unknown.
func (c *change) commit(ctx context.Context, what, id string, f func(r *raft.Raft) raft.IndexFuture) error {
	done := make(chan error, 1)
	c.node.background(changeBound, func() error { return f(c.raft).Error() }, func(err error) { done <- err })
	var err error
	select {
	case err = <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrEnqueueTimeout), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return fmt.Errorf("%s %s: nothing was changed: %w", what, id, err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, context.Canceled), errors.Is(err, errClosed):
		return fmt.Errorf("%s %s: %w: %w", what, id, ErrChangeUnknown, err)
	case err != nil:
		return fmt.Errorf("%s %s: %w", what, id, err)
	}
	c.node.log.Info("the membership has changed", "change", what, "node", id)
	return c.look()
}
