package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"sync"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// identify is what does not change in this node's record: who it is.
func (n *Node) identify(cfg *config.Config) (store.Member, error) {
	id, err := runID(cfg.Dir)
	return store.Member{ID: cfg.NodeID, RunID: id, Version: n.version, Level: raftfsm.Level}, err
}

// published is a record as nodes tell it: what clients of the whole cluster are to
// know, and what only other nodes need. Releases skip what they do not know.
type published struct {
	store.Member
	Priority *int `json:",omitempty"` // replica-priority; nil from a release that has none
}

// defaultPriority is the replica-priority of a node that has told none.
const defaultPriority = 100

// Info is this node's record as the other nodes are told it.
func (s source) Info() []byte {
	text, err := json.Marshal(published{s.n.own(), &s.n.settings.Config().ReplicaPriority})
	if err != nil {
		panic(fmt.Sprintf("node: own record: %v", err)) //nolint:forbidigo // plain strings and numbers always encode
	}
	return text
}

// told are the records that other nodes have told of themselves, by id. Views are
// looked at many times a second and records hardly ever change, so each is read once.
type told struct{ last sync.Map } // of *record

// record is what a node told, and what that says.
type record struct {
	text     []byte
	member   store.Member
	priority int
	ok       bool
}

// of is the record that node id has told.
func (t *told) of(id string, info []byte) *record {
	if last, _ := t.last.Load(id); last != nil {
		if r, ok := last.(*record); ok && bytes.Equal(r.text, info) {
			return r
		}
	}
	r := parseRecord(id, info)
	t.last.Store(id, r)
	return r
}

// parseRecord reads the record another node told. The cluster has proved who
// that is: a record with another id is not its own.
func parseRecord(id string, info []byte) *record {
	r := &record{text: info, priority: defaultPriority}
	var a published
	if len(info) == 0 || json.Unmarshal(info, &a) != nil || a.ID != id || len(a.RunID) != 40 {
		return r
	}
	if r.member, r.ok = a.Member, true; a.Priority != nil {
		r.priority = max(*a.Priority, 0)
	}
	return r
}

// priority is the replica-priority of node id.
func (n *Node) priority(v *cluster.View, id string) int {
	if id == n.self.ID {
		return n.settings.Config().ReplicaPriority
	}
	for i := range v.Peers {
		if v.Peers[i].ID == id {
			return n.told.of(id, v.Peers[i].Info).priority
		}
	}
	return defaultPriority
}

// members are the replicated records of all nodes.
func (n *Node) members() map[string]store.Member {
	if sys := n.system.Load(); sys != nil {
		return sys.Members
	}
	return nil
}

// member is what is known of node id: what it told this node itself, or else
// the replicated record.
func (n *Node) member(v *cluster.View, id string) (store.Member, bool) {
	if id == n.self.ID {
		return n.own(), true
	}
	for i := range v.Peers {
		if v.Peers[i].ID == id {
			if r := n.told.of(id, v.Peers[i].Info); r.ok {
				return r.member, true
			}
		}
	}
	m, ok := n.members()[id]
	return m, ok
}

// keepMembers has the master put into the log what nodes tell of themselves,
// until ctx ends. It looks when watchRoles asks for it.
func (n *Node) keepMembers(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.roles.recording:
		}
		if n.roles.Role().Master {
			v := n.raft.View()
			n.recordMembers(ctx, &v)
			n.recordHealth(ctx, &v)
			n.raiseLevel(ctx, &v)
			n.yield() //nolint:contextcheck // a handover has bounds of its own
		}
	}
}

// recordMembers commits the records that differ from the replicated ones.
func (n *Node) recordMembers(ctx context.Context, v *cluster.View) {
	ctx, cancel := context.WithTimeout(ctx, n.bound())
	defer cancel()
	for _, id := range v.Voters {
		told, ok := n.member(v, id)
		if !ok || n.members()[id] == told {
			continue
		}
		if n.proposer.PutMember(ctx, told) != nil {
			return // another master does it, or this one at the next turn
		}
		n.log.Info("member recorded", "node", id, "data", told.DataHost, "port", told.DataPort)
	}
}
