package cluster

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/testkit"
)

// still is a source of nothing.
type still struct{}

func (still) Info() []byte        { return nil }
func (still) Established() uint64 { return 0 }
func (still) Applied() uint64     { return 0 }
func (still) Time() (int64, bool) { return 0, false }

// viewer is a node of three with a clock moved by hand and an election timeout of
// 100 ms; it is not started.
func viewer(t *testing.T) (*Node, *clock.Fake) {
	t.Helper()
	now := &clock.Fake{}
	now.Advance(time.Hour)
	n, err := Open(Config{
		NodeID: "n1", Dir: testkit.MemoryDir(t), Bind: "127.0.0.1:0", Secret: "s", Clock: now, ElectionTimeout: 100 * time.Millisecond,
		Peers: []Peer{{"n1", "127.0.0.1:1"}, {"n2", "127.0.0.1:2"}, {"n3", "127.0.0.1:3"}},
		FSM:   &raft.MockFSM{}, Source: still{},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	n.reconfigure(1, raft.Configuration{Servers: []raft.Server{{ID: "n1"}, {ID: "n2"}, {ID: "n3"}}})
	return n, now
}

// Another node is named master for two election timeouts from when its last confirmed
// round began, however old the view is that is asked: the time the answer took counts.
func TestMasterIsNamedForTwoElectionTimeouts(t *testing.T) {
	n, now := viewer(t)
	asked := now.Boot()
	now.Advance(30 * time.Millisecond) // the answer is under way
	n.peer("n2").reported(report{term: 3, master: true, age: 50 * time.Millisecond}, 1, asked)
	n.publish()
	if got := n.View().Leader; got != "n2" {
		t.Fatalf("named %q", got)
	}
	now.Advance(119 * time.Millisecond) // 30+50+119 < 200
	if got := n.View().Leader; got != "n2" {
		t.Errorf("named %q within the limit", got)
	}
	now.Advance(time.Millisecond)
	if got := n.View().Leader; got != "" {
		t.Errorf("named %q beyond the limit", got)
	}
	n.publish()
	if got := n.View().Leader; got != "" {
		t.Errorf("named %q by a new view beyond the limit", got)
	}
}

// Of two that say they are master, the one of the higher term is named; one that has
// never been confirmed is not.
func TestHighestTermIsNamed(t *testing.T) {
	n, now := viewer(t)
	n.peer("n2").reported(report{term: 3, master: true}, 1, now.Boot())
	n.peer("n3").reported(report{term: 4, master: true}, 1, now.Boot())
	n.publish()
	if got := n.View().Leader; got != "n3" {
		t.Errorf("named %q", got)
	}
	n.peer("n3").reported(report{term: 5}, 1, now.Boot())
	n.publish()
	if got := n.View().Leader; got != "n2" {
		t.Errorf("named %q when n3 is not confirmed", got)
	}
}

// An answer that comes later than the answer to a later question does not count, and
// a record that was not sent again stays.
func TestLateAnswersDoNotReplaceNewerOnes(t *testing.T) {
	n, now := viewer(t)
	p := n.peer("n2")
	p.reported(report{applied: 7, info: []byte("r")}, 2, now.Boot())
	p.reported(report{applied: 5, info: []byte("old")}, 1, now.Boot()-time.Second)
	p.reported(report{applied: 8}, 3, now.Boot())
	if rep, _ := p.last(); rep.applied != 8 || string(rep.info) != "r" {
		t.Errorf("%+v", rep)
	}
}

// A node has a quorum while pings to one of two others were answered that were sent
// within two election timeouts.
func TestQuorumLastsTwoElectionTimeouts(t *testing.T) {
	n, now := viewer(t)
	n.publish()
	if n.View().Quorum {
		t.Error("a quorum without any contact")
	}
	n.peer("n2").reported(report{}, 1, now.Boot())
	now.Advance(100 * time.Millisecond)
	n.peer("n3").reported(report{}, 1, now.Boot())
	n.publish()
	for range 199 {
		now.Advance(time.Millisecond)
		if !n.View().Quorum {
			t.Fatal("the quorum was lost early")
		}
	}
	now.Advance(time.Millisecond)
	if n.View().Quorum {
		t.Error("a quorum from old answers")
	}
}

// A change of the view is hinted at once, and only changes are.
func TestChangedHintsAtChangesOnly(t *testing.T) {
	n, now := viewer(t)
	n.publish()
	for len(n.changed) > 0 {
		<-n.changed
	}
	n.publish()
	if len(n.changed) != 0 {
		t.Error("a hint without a change")
	}
	n.peer("n2").reported(report{applied: 1}, 1, now.Boot())
	n.publish()
	n.publish()
	if len(n.changed) != 1 {
		t.Error("no hint at a new contact")
	}
	<-n.changed
	n.peer("n2").reported(report{applied: 2}, 1, now.Boot())
	n.publish()
	if len(n.changed) != 0 {
		t.Error("a hint at a mere index")
	}
}

// A view tells the processes of all nodes, and hints at another one.
func TestViewTellsProcesses(t *testing.T) {
	n, now := viewer(t)
	n.peer("n2").meet(&hello{instance: [16]byte{1}}, now.Boot(), time.Minute)
	n.publish()
	v := n.View()
	if v.Process == 0 || v.Peers[0].Process == 0 || v.Peers[0].Process == v.Process || v.Peers[1].Process != 0 {
		t.Errorf("own %d, others %d and %d", v.Process, v.Peers[0].Process, v.Peers[1].Process)
	}
	for len(n.changed) > 0 {
		<-n.changed
	}
	n.peer("n2").parted([16]byte{1})
	n.peer("n2").meet(&hello{instance: [16]byte{2}}, now.Boot(), time.Minute)
	n.publish()
	if again := n.View(); again.Peers[0].Process == v.Peers[0].Process || len(n.changed) != 1 {
		t.Error("another process is not told")
	}
}

// Answers count by majorities of every configuration that may still be in force.
func TestQuorumNeedsEveryConfigurationInForce(t *testing.T) {
	abc := voterSet{index: 1, mask: 0b111, voters: 3}
	abcde := voterSet{index: 9, mask: 0b11111, voters: 5}
	other := voterSet{index: 12, mask: 0b11011, voters: 4}
	q := (*quorum)(nil).with(abc, 0)
	for acks, want := range map[uint64]bool{0: false, 0b1: false, 0b11: true, 0b101: true, 0b11000: false} {
		if q.met(acks) != want {
			t.Errorf("three voters, acks %b: %v", acks, !want)
		}
	}
	both := q.with(abcde, 5) // not committed yet
	for acks, want := range map[uint64]bool{0b111: true, 0b11: false, 0b11001: false, 0b11011: true} {
		if both.met(acks) != want {
			t.Errorf("in transition, acks %b: %v", acks, !want)
		}
	}
	if later := both.with(other, 9); len(later.sets) != 2 || later.sets[0].index != 9 {
		t.Errorf("after the commit: %+v", later.sets)
	}
	if cut := both.with(abc, 5); len(cut.sets) != 1 || cut.sets[0].index != 1 {
		t.Errorf("after the new one was cut off: %+v", cut.sets)
	}
	if (*quorum)(nil).met(0b111) {
		t.Error("met without any configuration")
	}
	// A voter nobody knows an address of counts as one that never answers.
	strange := (*quorum)(nil).with(voterSet{index: 1, mask: 0b1, voters: 2}, 1)
	if strange.met(0b1) {
		t.Error("one of two voters is a majority")
	}
}

// A process keeps its id while it is heard of; another one may take it over when the
// connections of the first have ended or nothing was heard for a while.
func TestOneProcessHasAnID(t *testing.T) {
	const while = 100 * time.Millisecond
	a, b := &hello{instance: [16]byte{1}, announce: "a:1"}, &hello{instance: [16]byte{2}, announce: "b:1"}
	p := &peer{id: "n2"}
	p.mu.listed = "list:1"
	if !p.meet(a, time.Second, while) || p.meet(b, time.Second+while/2, while) {
		t.Fatal("two processes at a time")
	}
	if p.address() != "a:1" || p.announced() != "a:1" {
		t.Errorf("dials %s", p.address())
	}
	p.sighted(a.instance, time.Second+while)
	if p.meet(b, time.Second+3*while/2, while) {
		t.Error("a process that is heard of lost its id")
	}
	p.parted(b.instance)
	if p.meet(b, time.Second+3*while/2, while) {
		t.Error("the end of another process freed the id")
	}
	p.parted(a.instance)
	if !p.meet(b, time.Second+3*while/2, while) || p.address() != "b:1" {
		t.Error("the id was not freed")
	}
	if !p.meet(a, 2*time.Second, while) {
		t.Error("silence did not free the id")
	}
	p.dialed(errFrame)
	if p.address() != "list:1" {
		t.Errorf("after a failed dial %s is tried again", p.address())
	}
	p.dialed(nil)
	if p.address() != "a:1" {
		t.Errorf("dials %s", p.address())
	}
}

// Appends are cut by bytes, and one entry always travels.
func TestAppendsAreCutByBytes(t *testing.T) {
	half := &raft.Log{Data: make([]byte, rpcBytes/2)}
	big := &raft.Log{Data: make([]byte, 2*rpcBytes)}
	for name, tc := range map[string]struct {
		entries []*raft.Log
		want    int
	}{
		"none":          {nil, 0},
		"all fit":       {[]*raft.Log{half, half}, 2},
		"one too many":  {[]*raft.Log{half, half, half}, 2},
		"big one alone": {[]*raft.Log{big, half}, 1},
		"big one later": {[]*raft.Log{half, big}, 1},
	} {
		args := &raft.AppendEntriesRequest{Entries: tc.entries}
		if bound(args); len(args.Entries) != tc.want {
			t.Errorf("%s: %d sent", name, len(args.Entries))
		}
	}
}
