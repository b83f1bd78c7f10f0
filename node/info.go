package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/sentinelapi"
)

var _ respserver.InfoSource = (*Node)(nil)

// Info is what INFO on the data port shows of this node.
func (n *Node) Info() respserver.Info {
	v := n.raft.View()
	info := respserver.Info{
		Store:   n.state.Stats(n.fsm.Instant()),
		Expired: int64(n.fsm.Stats().Expired),
		Raft:    n.raftLines(&v),
	}
	if n.differs() {
		info.More = append(info.More, respserver.Pair{Name: "settings_differ_from_cluster", Value: "1"})
	}
	return info
}

// raftLines are the lines of "# Raft".
func (n *Node) raftLines(v *cluster.View) []respserver.Pair {
	role := "follower"
	if v.RaftLeader {
		role = "leader"
	}
	lines := []respserver.Pair{
		{Name: "raft_node_id", Value: v.Self},
		{Name: "raft_role", Value: role},
		{Name: "raft_state", Value: v.State},
		{Name: "raft_term", Value: strconv.FormatUint(v.Term, 10)},
		{Name: "raft_leader_id", Value: v.Leader},
		{Name: "raft_established", Value: yesNo(v.IsLeader)},
		{Name: "raft_ready", Value: yesNo(v.Ready)},
		{Name: "raft_quorum", Value: yesNo(v.Quorum)},
		{Name: "raft_applied_index", Value: strconv.FormatUint(n.fsm.Applied(), 10)},
		{Name: "raft_digest", Value: strconv.FormatUint(n.fsm.Digest(), 16)},
		{Name: "raft_apply_level", Value: strconv.Itoa(n.fsm.Level())},
		{Name: "raft_apply_level_spoken", Value: strconv.Itoa(n.self.Level)},
		{Name: "raft_voters", Value: strconv.Itoa(len(v.Voters))},
	}
	for i := range v.Peers {
		p := &v.Peers[i]
		lines = append(lines, respserver.Pair{
			Name:  "raft_peer" + strconv.Itoa(i),
			Value: "id=" + p.ID + ",addr=" + p.Addr + ",contact=" + yesNo(p.Contact) + ",applied=" + strconv.FormatUint(p.Applied, 10),
		})
	}
	return lines
}

func yesNo(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// replication is how far the log has come, as ROLE, INFO and WAIT show it.
type replication struct{ n *Node }

var _ respserver.Replication = replication{}

// Index is the log index this node's state has reached: it covers what was answered.
func (r replication) Index() uint64 { return r.n.fsm.Answered() }

// History names the replicated history after the cluster's id.
func (r replication) History() string {
	id := r.n.raft.View().Cluster // with the incarnation: recovery begins another history
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])[:40]
}

// Replicas are the other nodes in the order of their ids.
func (r replication) Replicas() []respserver.ReplicaState {
	v := r.n.raft.View()
	var list []respserver.ReplicaState
	for i := range v.Peers {
		p := &v.Peers[i]
		m, ok := r.n.member(&v, p.ID)
		if !ok {
			continue
		}
		list = append(list, respserver.ReplicaState{
			Host: m.DataHost, Port: m.DataPort,
			Acked: p.Acked, Lag: int(p.Age.Seconds()), Up: p.Contact,
		})
	}
	return list
}

// sentinelInfo is what INFO on the Sentinel port shows.
type sentinelInfo struct{ n *Node }

// Info is empty but for the section about the master.
func (s sentinelInfo) Info() respserver.Info {
	return respserver.Info{Sentinel: func() string { return sentinelapi.InfoSection(s.n.View()) }}
}

// errNotReady and errNotMaster are what the HTTP checks say.
var (
	errNotReady  = errors.New("the state has not caught up with the cluster")
	errNotMaster = errors.New("this node is not the master")
)

// Ready is nil if this node can serve clients.
func (n *Node) Ready(context.Context) error {
	switch v := n.raft.View(); {
	case !v.Ready:
		return errNotReady
	case v.Leader == "":
		return errors.New("no master is known")
	}
	return nil
}

// Leader is nil if this node was the master after the call began.
func (n *Node) Leader(ctx context.Context) error {
	if !n.roles.Role().Master || n.raft.Confirm(ctx) != nil {
		return errNotMaster
	}
	return nil
}
