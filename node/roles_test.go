package node

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/store"
)

// still is a node that was opened but does not run: the test gives it views, and passes
// its time.
func still(t *testing.T, directives ...string) *Node {
	t.Helper()
	m := &member{tb: t, cfg: *conf(t, "n1", testkit.Ports(t), directives...)}
	n, err := open(&Config{Directives: &m.cfg, Log: m.logger(), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.close(); err != nil {
			t.Error(err)
		}
	})
	n.clock = &clock.Fake{}
	n.passes(time.Hour)
	members := map[string]store.Member{}
	for i, id := range []string{"n1", "n2", "n3"} {
		members[id] = store.Member{ID: id, RunID: strings.Repeat(id, 20), DataHost: "10.0.0." + itoa(i+1), DataPort: 6379, SentinelHost: "10.0.0." + itoa(i+1), SentinelPort: 26379}
	}
	n.system.Store(&store.System{Members: members, Settings: n.configured})
	return n
}

// passes has the time of a node that does not run pass.
func (n *Node) passes(d time.Duration) { n.clock.(*clock.Fake).Advance(d) }

// elected is the view of a node that raft has elected in term.
func elected(term uint64) cluster.View {
	return cluster.View{Self: "n1", Term: term, RaftLeader: true, Quorum: true, Voters: []string{"n1", "n2", "n3"}}
}

// openFor does what keepEstablished does when the establishing entry was applied.
func (n *Node) openFor(term uint64) { n.reign.opened.Store(&opening{term, n.reign.steps.Load()}) }

// A node becomes master when raft has elected it and its establishing entry was
// applied; then, and not earlier, it lets the cluster know. It stops when any of
// that ends.
func TestRoleFollowsTheView(t *testing.T) {
	follower := cluster.View{Self: "n1", Term: 5, Quorum: true, Ready: true, Leader: "n2", Voters: []string{"n1", "n2", "n3"}}
	established := elected(5)
	established.IsLeader, established.Ready, established.Leader = true, true, "n1"
	for name, end := range map[string]func(v *cluster.View){
		"raft has elected another": func(v *cluster.View) { *v = follower },
		"a higher term was seen":   func(v *cluster.View) { v.RaftLeader, v.IsLeader = false, false },
		"the majority is gone":     func(v *cluster.View) { v.Quorum = false },
		"an append hangs":          func(v *cluster.View) { v.IsLeader = false },
		"elected again":            func(v *cluster.View) { v.Term, v.IsLeader = 7, false },
	} {
		t.Run(name, func(t *testing.T) {
			n := still(t)
			if r := n.roles.Role(); r.Master || !r.Loading {
				t.Errorf("a new node is %+v", r)
			}
			n.follow(elected(5))
			if n.roles.Role().Master || (source{n}).Established() != 0 {
				t.Error("master before its establishing entry was applied")
			}
			n.openFor(4)
			n.follow(elected(5))
			if n.roles.Role().Master {
				t.Error("master by an entry of another term")
			}
			n.openFor(5)
			n.follow(elected(5))
			if r := n.roles.Role(); !r.Master || r.Loading {
				t.Errorf("after its establishing entry it is %+v", r)
			}
			if got := (source{n}).Established(); got != 5 {
				t.Errorf("the cluster is told of term %d", got)
			}
			n.follow(elected(5)) // the cluster has not looked yet
			n.follow(established)
			if !n.roles.Role().Master {
				t.Error("it does not stay master")
			}
			v := established
			end(&v)
			n.follow(v)
			if n.roles.Role().Master || (source{n}).Established() != 0 || n.reign.open(v.Term) {
				t.Errorf("it is still %+v", n.roles.Role())
			}
			n.follow(established) // the same term, as if nothing had been
			if n.roles.Role().Master {
				t.Error("master again although the Proposer was shut")
			}
			n.openFor(5)
			n.follow(established)
			if !n.roles.Role().Master {
				t.Error("it does not become master again")
			}
		})
	}
}

// A node whom the cluster never comes to hold for the leader does not stay master.
func TestMasterNeedsTheClustersAgreement(t *testing.T) {
	n := still(t)
	n.openFor(5)
	n.follow(elected(5))
	n.passes(n.masterBound())
	n.follow(elected(5))
	if n.roles.Role().Master {
		t.Error("it is still master")
	}
}

// A replica tells where the master is as long as one may be named.
func TestReplicaNamesTheMaster(t *testing.T) {
	n := still(t)
	v := cluster.View{Self: "n1", Term: 5, Quorum: true, Ready: true, Leader: "n2", Voters: []string{"n1", "n2", "n3"}}
	n.follow(v)
	if r := n.roles.Role(); r.Master || r.Loading || r.MasterHost != "10.0.0.2" || r.MasterPort != 6379 || !r.LinkUp {
		t.Errorf("got %+v", r)
	}
	v.Peers = []cluster.PeerView{{ID: "n2", Info: []byte(`{"ID":"n2","RunID":"` + strings.Repeat("0", 40) + `","DataHost":"10.9.9.9","DataPort":7000}`)}}
	n.follow(v)
	if r := n.roles.Role(); r.MasterHost != "10.9.9.9" || r.MasterPort != 7000 {
		t.Errorf("what the master says of itself does not count: %+v", r)
	}
	v.Leader = ""
	n.follow(v)
	if r := n.roles.Role(); r.MasterHost != "" || r.MasterPort != 0 || r.LinkUp {
		t.Errorf("without a master: %+v", r)
	}
}

// The Sentinel port shows the last master as gone while there is none, and never
// names this node as one that it cannot confirm.
func TestViewWithoutAMaster(t *testing.T) {
	n := still(t)
	v := cluster.View{Self: "n1", Term: 5, Quorum: true, Ready: true, Leader: "n2", Voters: []string{"n1", "n2", "n3"}}
	if s := n.sentinelView(&v); !s.MasterKnown || s.Master != "n2" || len(s.Nodes) != 3 || s.Quorum != 2 {
		t.Errorf("got %+v", s)
	}
	v.Leader = ""
	if s := n.sentinelView(&v); s.MasterKnown || s.Master != "n2" || s.MasterGone < 0 || s.MasterGone > time.Minute.Milliseconds() {
		t.Errorf("got %+v", s)
	}
	v.Leader, v.Voters = "n9", []string{"n1", "n9"}
	if s := n.sentinelView(&v); s.MasterKnown {
		t.Errorf("a master is known whose address nobody has told: %+v", s)
	}
	if s := n.View(); s.MasterKnown {
		t.Errorf("a node that does not run knows a master: %+v", s)
	}
}
