package cluster

import "testing"

// What a follower acknowledged to an earlier leader's term says nothing of the log of
// this one: no view counts it, even if nobody looked while another node led.
func TestAcknowledgementsEndWithTheTerm(t *testing.T) {
	p := &peer{id: "n2"}
	n := &Node{}
	n.roster.Store(&roster{byID: map[string]*peer{"n2": p}, list: []*peer{p}})
	p.link = newLink(n, p)
	look := func(term uint64, leads bool) uint64 {
		v := &View{Term: term, RaftLeader: leads}
		n.sawOwnTerm(v, 0)
		return n.peerViews(v, 0)[0].Acked
	}
	look(1, true)
	p.acknowledged(100)
	if got := look(1, true); got != 100 {
		t.Errorf("in the same term: %d", got)
	}
	if got := look(3, true); got != 0 {
		t.Errorf("in a later term: %d", got)
	}
	p.acknowledged(50)
	if got := look(3, false); got != 0 {
		t.Errorf("as a follower: %d", got)
	}
	if got := look(5, true); got != 0 {
		t.Errorf("after another leader: %d", got)
	}
}
