package cluster

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// Member is one node of raft's latest configuration.
type Member struct {
	ID    string
	Addr  string // host:port of its raft port, as the configuration has it
	Voter bool   // it counts for majorities; others only follow
}

// roster is the other nodes this one connects to. It never changes; a change of the
// configuration makes a new one, in which nodes that stay are the same *peer.
type roster struct {
	byID map[string]*peer
	list []*peer // in the order of ids
}

// peer is the node of the roster with the given id, or nil.
func (n *Node) peer(id string) *peer { return n.roster.Load().byID[id] }

// others are the nodes of the roster in the order of ids; not to be changed.
func (n *Node) others() []*peer { return n.roster.Load().list }

// places are the bits of masks. They are given out in turn: one is used again only
// after all others were, when no round that knew its last owner is left.
type places struct{ last int }

const placeCount = 64

// next is a bit that none of those in use has, and is not selfBit; 0, which never
// counts, if there is none.
func (p *places) next(used uint64) uint64 {
	if used|selfBit == math.MaxUint64 {
		return 0
	}
	for {
		p.last = (p.last + 1) % placeCount
		if bit := uint64(1) << p.last; bit != selfBit && used&bit == 0 {
			return bit
		}
	}
}

// enlist makes the roster that of the given nodes. n.config is locked, or nothing
// runs yet.
func (n *Node) enlist(members []Member) {
	old := n.roster.Load()
	next := &roster{byID: map[string]*peer{}}
	var used uint64
	if old != nil {
		for _, p := range old.list {
			used |= p.bit
		}
	}
	for _, m := range members {
		if m.ID == n.cfg.NodeID || next.byID[m.ID] != nil {
			continue
		}
		p := (*peer)(nil)
		if old != nil {
			p = old.byID[m.ID]
		}
		if p == nil || p.bit == 0 {
			p = n.newPeer(m, n.places.next(used))
			used |= p.bit
		}
		p.configured(m.Addr)
		next.byID[p.id] = p
		next.list = append(next.list, p)
	}
	slices.SortFunc(next.list, func(a, b *peer) int { return strings.Compare(a.id, b.id) })
	n.roster.Store(next)
}

// newPeer makes a peer that nobody else has yet.
func (n *Node) newPeer(m Member, bit uint64) *peer {
	p := &peer{id: m.ID, bit: bit}
	p.mu.listed = m.Addr
	for _, entry := range n.cfg.Peers {
		if entry.ID == m.ID {
			p.static, p.mu.listed = true, entry.Addr
		}
	}
	p.link = newLink(n, p)
	return p
}

// firstRoster is the roster until raft's configuration is known: the list of the
// configuration, or what the directory remembers.
func (n *Node) firstRoster() {
	id := n.identity.Load()
	list := n.cfg.sortedPeers()
	if id.Stage != stageEmpty && (id.Joined > 0 || len(n.cfg.Join) > 0) {
		list = id.Peers
	}
	members := make([]Member, 0, len(list))
	for _, p := range list {
		members = append(members, Member{ID: p.ID, Addr: p.Addr})
	}
	n.config.Lock()
	defer n.config.Unlock()
	n.enlist(members)
}

// adopt takes a configuration into account: the majorities that are needed and the
// nodes that are connected to. n.config is locked.
func (n *Node) adopt(set voterSet, commit uint64) {
	old := n.quorum.Load()
	next := old.with(set, commit)
	if n.tookPlace(old.latest(), set) {
		n.mayFail(fmt.Errorf("%w (it was removed and a new node has taken its place)", ErrRemoved))
	}
	var members []Member
	for _, s := range slices.Backward(next.sets) { // the latest word on an address counts
		members = append(members, s.members...)
	}
	if id := n.identity.Load(); set.index < id.Joined {
		// This node is still reading old configurations: those it was told of when it
		// joined are nearer to the present.
		for _, p := range id.Peers {
			members = append(members, Member{ID: p.ID, Addr: p.Addr})
		}
	}
	n.enlist(members)
	for i := range next.sets {
		next.sets[i].mask = n.mask(next.sets[i].ids)
	}
	n.quorum.Store(next)
	n.look()
}

// tookPlace tells whether this node's log goes from a configuration without it to one
// that has its id, and the directory is older than both: another one has its place.
func (n *Node) tookPlace(before, after voterSet) bool {
	_, was := find(before.members, n.cfg.NodeID)
	_, is := find(after.members, n.cfg.NodeID)
	return is && !was && after.index > before.index && before.index > n.identity.Load().Joined
}

// mask is the places of nodes.
func (n *Node) mask(ids []string) (m uint64) {
	for _, id := range ids {
		if id == n.cfg.NodeID {
			m |= selfBit
		} else if p := n.peer(id); p != nil {
			m |= p.bit
		}
	}
	return m
}

// membersOf translates raft's list.
func membersOf(c *raft.Configuration) []Member {
	list := make([]Member, 0, len(c.Servers))
	for _, s := range c.Servers {
		list = append(list, Member{ID: string(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	slices.SortFunc(list, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return list
}

// find is the member with the given id.
func find(members []Member, id string) (Member, bool) {
	i := slices.IndexFunc(members, func(m Member) bool { return m.ID == id })
	if i < 0 {
		return Member{}, false
	}
	return members[i], true
}
