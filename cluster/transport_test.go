package cluster

import (
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// P8: an append that the peer has refused keeps no heartbeat back: raft there notes no
// contact, and would begin an election.
func TestRefusedAppendsAreNoContact(t *testing.T) {
	open := func() *raft.NetworkTransport {
		n, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, 10*time.Second, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = n.Close() })
		return n
	}
	there := open()
	success := make(chan bool, 2)
	go func() { // ends with the last answer
		for range cap(success) {
			rpc := <-there.Consumer()
			rpc.Respond(&raft.AppendEntriesResponse{Term: 3, Success: <-success}, nil)
		}
	}()
	tr := &transport{NetworkTransport: open(), node: &Node{}}
	p := &peer{id: "n2"}
	for _, ok := range []bool{false, true} {
		success <- ok
		args := &raft.AppendEntriesRequest{Term: 3, PrevLogEntry: 7, PrevLogTerm: 2}
		if err := tr.send(p, there.LocalAddr(), args, &raft.AppendEntriesResponse{}); err != nil {
			t.Fatal(err)
		}
		if got := p.lastAnswer(3) != 0; got != ok {
			t.Errorf("success %v counts as contact: %v", ok, got)
		}
	}
}

// P1, P6: a follower is told of no commit beyond what the append has compared or brings:
// what it has there may be of another leader, and raft would apply it.
func TestCommitIsToldOfWhatWasComparedOnly(t *testing.T) {
	for name, c := range map[string]struct {
		prev, commit, want uint64
		entries            []*raft.Log
	}{
		"nothing new, later entries committed": {prev: 7, commit: 9, want: 7},
		"nothing new":                          {prev: 7, commit: 7, want: 7},
		"some of what is committed":            {prev: 7, entries: entries(8, 9), commit: 12, want: 9},
		"not committed yet":                    {prev: 7, entries: entries(8, 9), commit: 7, want: 7},
		"cut":                                  {prev: 7, entries: []*raft.Log{{Index: 8}, {Index: 9, Data: make([]byte, rpcBytes+1)}}, commit: 9, want: 8},
	} {
		a := &raft.AppendEntriesRequest{PrevLogEntry: c.prev, Entries: c.entries, LeaderCommitIndex: c.commit}
		bound(a)
		if a.LeaderCommitIndex != c.want {
			t.Errorf("%s: commit %d is told, want %d", name, a.LeaderCommitIndex, c.want)
		}
	}
}
