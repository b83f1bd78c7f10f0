package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// membership is the cluster's membership as RAFT shows and changes it.
type membership struct{ n *Node }

var _ respserver.Members = membership{}

// Bounds of a change. A replacement waits for a node to catch up.
const (
	changeBound  = 30 * time.Second
	replaceBound = 2 * time.Minute
)

// Status is this node's part in the cluster.
func (m membership) Status() []respserver.Pair {
	v, s := m.n.raft.View(), m.n.raft.Stats()
	number := func(v uint64) string { return strconv.FormatUint(v, 10) }
	vote := false
	for _, id := range v.Voters {
		vote = vote || id == v.Self
	}
	return []respserver.Pair{
		{Name: "node", Value: v.Self},
		{Name: "cluster", Value: v.Cluster},
		{Name: "state", Value: v.State},
		{Name: "waiting", Value: v.Waiting},
		{Name: "term", Value: number(v.Term)},
		{Name: "leader", Value: v.Leader},
		{Name: "established", Value: yesNo(v.IsLeader)},
		{Name: "vote", Value: yesNo(vote)},
		{Name: "voters", Value: strconv.Itoa(len(v.Voters))},
		{Name: "members", Value: strconv.Itoa(len(v.Members))},
		{Name: "quorum", Value: yesNo(v.Quorum)},
		{Name: "ready", Value: yesNo(v.Ready)},
		{Name: "last-index", Value: number(s.LastIndex)},
		{Name: "commit-index", Value: number(s.CommitIndex)},
		{Name: "applied-index", Value: number(m.n.fsm.Applied())},
		{Name: "snapshot-index", Value: number(s.SnapshotIndex)},
		{Name: "apply-level", Value: strconv.Itoa(m.n.fsm.Level())},
		{Name: "apply-level-spoken", Value: strconv.Itoa(m.n.self.Level)},
		{Name: "lease", Value: leaseText(&s.Lease)},
		{Name: "version", Value: m.n.version},
	}
}

// leaseText says whether the lease holds, and if not, why.
func leaseText(s *cluster.LeaseStats) string {
	if s.Off == "" {
		return "on"
	}
	return "off: " + s.Why
}

// Members are the nodes of the latest configuration.
func (m membership) Members() []respserver.MemberState {
	v := m.n.raft.View()
	list := make([]respserver.MemberState, 0, len(v.Members))
	for _, c := range v.Members {
		s := respserver.MemberState{ID: c.ID, Addr: c.Addr, Role: "learner"}
		if c.Voter {
			s.Role = "voter"
		}
		if c.ID == v.Leader {
			s.Role = "leader"
		}
		if c.ID == v.Self {
			s.Self, s.Contact, s.Applied = true, true, m.n.fsm.Applied()
		}
		for i := range v.Peers {
			if p := &v.Peers[i]; p.ID == c.ID {
				s.Contact, s.Age, s.Applied, s.Acked = p.Contact, p.Age.Milliseconds(), p.Applied, p.Acked
			}
		}
		list = append(list, s)
	}
	return list
}

// Change makes a change, on the master only.
func (m membership) Change(ctx context.Context, c respserver.MemberChange) error {
	bound := changeBound
	if c.Kind == respserver.ReplaceMember {
		bound = replaceBound
	}
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err := m.change(ctx, &c)
	switch {
	case errors.Is(err, cluster.ErrChangeUnknown):
		m.n.log.Warn("the outcome of a change of the membership is unknown", "err", err)
		return resp.ErrInDoubt
	case errors.Is(err, cluster.ErrNotMaster), errors.Is(err, errNotMaster):
		return m.elsewhere("change the membership")
	}
	return err
}

// change makes a change, after a handover if it takes the vote of the master.
func (m membership) change(ctx context.Context, c *respserver.MemberChange) error {
	takes := c.Kind == respserver.RemoveMember || c.Kind == respserver.ReplaceMember || c.Kind == respserver.DemoteMember
	if takes && c.ID == m.n.self.ID && m.n.roles.Role().Master {
		return m.changeSelf(ctx, c)
	}
	return m.make(ctx, c)
}

func (m membership) make(ctx context.Context, c *respserver.MemberChange) error {
	raft := m.n.raft
	switch c.Kind {
	case respserver.AddMember:
		return raft.Add(ctx, c.ID, c.Addr)
	case respserver.RemoveMember:
		return raft.Remove(ctx, c.ID)
	case respserver.ReplaceMember:
		return raft.Replace(ctx, c.ID, c.With)
	case respserver.DemoteMember:
		return raft.Demote(ctx, c.ID)
	case respserver.PromoteMember:
		return raft.Promote(ctx, c.ID)
	}
	return fmt.Errorf("no change of the membership has the number %d", c.Kind)
}

// elsewhere says where can be done what only the master can.
func (m membership) elsewhere(what string) error {
	v := m.n.raft.View()
	if at, ok := m.n.member(&v, v.Leader); ok && v.Leader != "" && v.Leader != v.Self {
		return fmt.Errorf("only the master can %s: it is %s at %s port %d", what, at.ID, at.DataHost, at.DataPort)
	}
	return fmt.Errorf("only the master can %s, and none is known here", what)
}
