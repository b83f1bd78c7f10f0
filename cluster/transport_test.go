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
		n, err := raft.NewTCPTransport("127.0.0.1:0", nil, 1, time.Second, io.Discard)
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
