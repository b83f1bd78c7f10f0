package cluster

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"testing"
)

// A place in masks is nobody's twice at one time, never this node's, and is not given
// out again before all others were; with none left a node has no place and never counts.
func TestPlacesAreGivenOutInTurn(t *testing.T) {
	var p places
	var used uint64
	seen := map[uint64]bool{}
	for range placeCount - 1 {
		bit := p.next(used)
		if bits.OnesCount64(bit) != 1 || bit == selfBit || seen[bit] {
			t.Fatalf("place %x after %d others", bit, len(seen))
		}
		seen[bit] = true
	}
	if again := p.next(used); !seen[again] {
		t.Errorf("place %x is new", again)
	}
	used = math.MaxUint64 &^ selfBit
	if bit := p.next(used); bit != 0 {
		t.Errorf("place %x although all are in use", bit)
	}
	if bit := p.next(used &^ 8); bit != 8 {
		t.Errorf("place %x, the free one is 8", bit)
	}
}

// Nodes that stay keep their place and what is known of them through changes of the
// configuration; majorities are those of the configurations that still count.
func TestRosterFollowsTheConfiguration(t *testing.T) {
	n := &Node{cfg: Config{NodeID: "n1"}}
	n.hint = make(chan struct{}, 1)
	n.identity.Store(&identity{Stage: stageFormed})
	set := func(index uint64, ids ...string) voterSet {
		s := voterSet{index: index, ids: ids, voters: len(ids)}
		for _, id := range ids {
			s.members = append(s.members, Member{ID: id, Addr: id + ":1", Voter: true})
		}
		return s
	}
	names := func() (list []string) {
		for _, p := range n.others() {
			list = append(list, p.id)
		}
		return list
	}
	n.adopt(set(1, "n1", "n2", "n3"), 1)
	stays := n.peer("n2")
	n.adopt(set(5, "n1", "n2", "n4"), 4) // not committed: both count
	if got := names(); !slices.Equal(got, []string{"n2", "n3", "n4"}) || n.peer("n2") != stays {
		t.Errorf("while it is not committed: %v", got)
	}
	q := n.quorum.Load()
	if !q.met(selfBit|stays.bit) || q.met(selfBit|n.peer("n3").bit) || q.met(selfBit|n.peer("n4").bit) {
		t.Error("a majority of one of two configurations is enough")
	}
	gone := n.peer("n3").bit
	n.adopt(set(5, "n1", "n2", "n4"), 5)
	if got := names(); !slices.Equal(got, []string{"n2", "n4"}) || n.quorum.Load().met(selfBit|gone) {
		t.Errorf("once it is committed: %v", got)
	}
	n.cutOff(5)
	if got := n.quorum.Load().latest().index; got != 0 {
		t.Errorf("the configuration at %d was cut off", got)
	}
}

// A node that reads old configurations while it catches up goes on to know those it was
// told of when it joined.
func TestJoinerKnowsThePresentMembersWhileItReadsThePast(t *testing.T) {
	n := &Node{cfg: Config{NodeID: "n5"}}
	n.hint = make(chan struct{}, 1)
	n.identity.Store(&identity{Stage: stageJoining, Joined: 40, Peers: []Peer{{"n4", "d:1"}, {"n5", "e:1"}}})
	past := voterSet{index: 3, ids: []string{"n1"}, voters: 1, members: []Member{{"n1", "a:1", true}}}
	n.adopt(past, 0)
	if n.peer("n4") == nil || n.peer("n1") == nil {
		t.Errorf("it knows %v", n.roster.Load().byID)
	}
}

// What a leader tells a node that it takes in arrives whole; no other bytes are taken.
func FuzzAdmission(f *testing.F) {
	a := admission{cluster: "c", term: 3, index: 9, members: []Member{{ID: "n1", Addr: "a:1"}, {ID: "n2", Addr: "[::1]:2"}}}
	f.Add(a.encode()[1:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseAdmission(&fields{rest: b})
		if err != nil {
			return
		}
		again, err := parseAdmission(&fields{rest: got.encode()[1:]})
		if err != nil || fmt.Sprint(again) != fmt.Sprint(got) {
			t.Errorf("%+v became %+v, %v", got, again, err)
		}
	})
}

// P7: no question of a node that knows the secret breaks one that leads nothing.
func FuzzMemberQuestions(f *testing.F) {
	for _, seed := range [][]byte{{askSpeaks}, {askEnter, 1, 0}, {askVote}, {askMember}, {}, {'x', 255}} {
		f.Add(seed)
	}
	n := &Node{cfg: Config{NodeID: "n1"}}
	n.changed, n.hint = make(chan struct{}, 1), make(chan struct{}, 1)
	n.cfg, _ = Config{NodeID: "n1", Dir: "unused"}.withDefaults()
	n.roster.Store(&roster{})
	n.view.Store(&View{Self: "n1"})
	n.identity.Store(&identity{Stage: stageFormed, ClusterID: "c"})
	n.confirm = newConfirmer(n)
	defer n.confirm.close()
	f.Fuzz(func(t *testing.T, b []byte) {
		said := hello{from: "n9", announce: "a:1"}
		if answer := n.answerMember(t.Context(), &said, b); len(answer) == 0 || answer[0] == tellAdmitted || answer[0] == tellStranger {
			t.Errorf("it answers %q", answer)
		}
	})
}
