package node

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/internal/bell"
	"github.com/holdfast/holdfast/respserver"
)

// roles is what this node is to its clients. It follows the cluster's View,
// which is a level: every hint leads to another look at the whole.
type roles struct {
	current    atomic.Pointer[respserver.Role]
	hint       chan struct{}                // something other than the View may have changed
	beat       chan struct{}                // time has passed
	recording  chan struct{}                // keepMembers is to look
	quorum     atomic.Bool                  // this node has contact with a majority
	lastMaster atomic.Pointer[sighting]     // the last master that was named
	followed   atomic.Pointer[cluster.View] // what the role was made of
	masterless atomic.Int64                 // clock.Boot since when no master is known, 0 while one is
	turned     bell.Bell                    // rung after each look

	recordedIn uint64       // term in which this node has last recorded the health of all; of the goroutine of keepMembers
	looked     atomic.Int64 // clock.Boot of the last look

	// The rest belongs to the goroutine of watchRoles.
	since    time.Duration // clock.Boot when this node last became master
	agreed   bool          // the cluster has held it for the established leader since then
	compared bool          // its settings were compared with the cluster's
}

func (r *roles) init() {
	r.hint, r.beat, r.recording = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
	r.current.Store(&respserver.Role{Loading: true})
}

// Role is the present role. It is one atomic load.
func (r *roles) Role() respserver.Role { return *r.current.Load() }

// look asks for another look.
func (r *roles) look() { poke(r.hint) }

// watchRoles follows the View until ctx ends. At the end it lets go of what
// leadership there is: what is unsent is refused, what is sent is in doubt. As ages
// pass without a hint it looks with every beat of the cluster, whose timer serves all
// who look again and again: an idle node pays for each time it wakes. Should beats fail
// to come it looks by itself.
func (n *Node) watchRoles(ctx context.Context) error {
	missed := n.settings.Config().ElectionTimeout
	alone := time.NewTimer(missed)
	defer alone.Stop()
	defer n.proposer.StepDown()
	for turn := 0; ; {
		n.follow(n.raft.View())
		n.roles.looked.Store(int64(n.clock.Boot()))
		select {
		case <-ctx.Done():
			return nil
		case <-n.raft.Changed():
			continue
		case <-n.roles.hint:
			continue
		case <-n.roles.beat:
		case <-alone.C:
		}
		alone.Reset(missed)
		n.remind(turn)
		turn++
	}
}

// recordTurns is how many turns lie between two looks at the members' records.
const recordTurns = 4

// remind has those look again who work for the master, if there may be something to
// do.
func (n *Node) remind(turn int) {
	v := n.raft.View()
	if v.RaftLeader && !n.proposer.Established(v.Term) {
		n.reign.look() // the Proposer may have shut itself
	}
	if n.roles.Role().Master && turn%recordTurns == 0 {
		poke(n.roles.recording)
	}
}

// follow makes the role what the view says it is. What ends comes first and
// waits for nothing.
func (n *Node) follow(v cluster.View) {
	n.reign.follow(&v)
	n.endHandover()
	serves := n.serves(&v)
	last := n.roles.Role()
	if last.Master && (!serves || n.reign.serving.Load() != v.Term) {
		if n.handovers.present.Load() != nil {
			n.stepAside()
		} else {
			n.stepDown()
		}
		serves = false // the Proposer has to be opened anew
	}
	n.followRelay(serves)
	n.loseSilent(&v)
	n.followQuorum(&v)
	n.takeSettings(v.Ready)
	next := n.roleOf(&v, serves)
	if next != n.roles.Role() {
		n.roles.current.Store(&next)
	}
	if serves && !last.Master {
		n.ascend(v.Term)
	}
	if next.Master != last.Master || next.Loading != last.Loading {
		n.log.Info("role", "master", next.Master, "loading", next.Loading, "term", v.Term, "leader", v.Leader)
	}
	if next.Master && (n.unrecorded(&v) || !last.Master) {
		poke(n.roles.recording)
	}
	n.roles.followed.Store(&v)
	if v.Leader != "" {
		n.roles.masterless.Store(0)
	} else {
		n.roles.masterless.CompareAndSwap(0, int64(n.clock.Boot()))
	}
	n.roles.turned.Ring()
	poke(n.news.hint)
}

// serves tells whether this node is to be master. The cluster agrees as soon as
// it has looked, unless something speaks against it, such as an append to the log
// that hangs.
func (n *Node) serves(v *cluster.View) bool {
	if !v.RaftLeader || !v.Quorum || !n.reign.open(v.Term) {
		return false
	}
	if n.reign.serving.Load() != v.Term {
		return true // it becomes master now
	}
	n.roles.agreed = n.roles.agreed || v.IsLeader
	return v.IsLeader || !n.roles.agreed && n.clock.Boot()-n.roles.since < n.masterBound()
}

// ascend lets the cluster know that this node serves as master of term.
func (n *Node) ascend(term uint64) {
	n.roles.since, n.roles.agreed = n.clock.Boot(), false
	n.reign.serving.Store(term)
	n.raft.Look()
}

// stepDown ends this node's time as master. Connections end before the role
// changes: a client that was served by the master is never served by a replica
// on the same connection.
func (n *Node) stepDown() {
	n.data.CloseClients()
	n.reign.serving.Store(0)
	n.proposer.StepDown()
	n.reign.steps.Add(1) // what was opened before is shut
	n.roles.current.Store(&respserver.Role{})
	n.data.CloseClients() // those who came in between
}

// roleOf is what clients are told for a view. A master has caught up: it has
// applied the first entry of its own term.
func (n *Node) roleOf(v *cluster.View, serves bool) respserver.Role {
	handing := n.handovers.present.Load() != nil
	r := respserver.Role{
		Master: serves, Loading: !v.Ready && !serves, DiskShort: serves && v.DiskShort,
		HandingOver: handing, Forward: !serves && (handing || n.forwards()),
	}
	if v.Leader == "" || v.Leader == v.Self {
		return r
	}
	if m, ok := n.member(v, v.Leader); ok {
		r.MasterHost, r.MasterPort, r.LinkUp = m.DataHost, m.DataPort, true
		r.NamedUntil = v.LeaderUntil()
	}
	return r
}

// asideRole is that of a node that has just handed over its leadership.
var asideRole = respserver.Role{Forward: true, HandingOver: true}

// forwards tells whether this node passes on to the master what plain clients ask.
func (n *Node) forwards() bool { return n.settings.Config().ReplicaMode == config.ReplicaForward }

// followRelay has what clients ask take the way that goes with the role. While the
// leadership is handed over that is not decided here, also if that has just begun.
func (n *Node) followRelay(serves bool) {
	w := wayRemote
	if serves || !n.forwards() {
		w = wayHere
	}
	n.relay.setUnless(w, n.relay.cfg.parting)
}

// followQuorum closes the Sentinel clients of a node that has lost the majority,
// so that they ask another one.
func (n *Node) followQuorum(v *cluster.View) {
	had := n.roles.quorum.Swap(v.Quorum)
	if v.Quorum {
		return
	}
	if had {
		n.log.Warn("contact with the majority lost; Sentinel clients are sent away")
	}
	n.sentinel.CloseClients() // and those who came in between
}
