package raftfsm_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/raftfsm"
)

// peer is a node of a raft in memory.
type peer struct {
	*rig
	id    raft.ServerID
	raft  *raft.Raft
	trans *raft.InmemTransport
	snaps *raft.InmemSnapshotStore
}

// inMemory returns three nodes connected in memory. What follows leadership is
// a few lines of the test.
func inMemory(t *testing.T) []*peer {
	t.Helper()
	var peers []*peer
	var voters []raft.Server
	for i := range 3 {
		p := &peer{rig: newFSMOn(t, clock.System{}), id: raft.ServerID(fmt.Sprint("n", i)), snaps: raft.NewInmemSnapshotStore()}
		var addr raft.ServerAddress
		addr, p.trans = raft.NewInmemTransportWithTimeout("", 50*time.Millisecond)
		voters = append(voters, raft.Server{ID: p.id, Address: addr})
		peers = append(peers, p)
	}
	for _, p := range peers {
		cfg := raft.DefaultConfig()
		cfg.LocalID = p.id
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 60*time.Millisecond, 60*time.Millisecond, 60*time.Millisecond
		cfg.CommitTimeout = 5 * time.Millisecond
		cfg.Logger = hclog.NewNullLogger()
		logs := raft.NewInmemStore()
		if err := raft.BootstrapCluster(cfg, logs, logs, p.snaps, p.trans, raft.Configuration{Servers: voters}); err != nil {
			t.Fatal(err)
		}
		var err error
		if p.raft, err = raft.NewRaft(cfg, p.fsm, logs, logs, p.snaps, p.trans); err != nil {
			t.Fatal(err)
		}
		p.prop = raftfsm.NewProposer(raftfsm.ProposerConfig{
			FSM: p.fsm, Applier: p.raft, Log: quiet(), NodeID: string(p.id), ClusterID: func() string { return "c1" }, Settings: settings,
		})
		p.follow()
	}
	for _, p := range peers {
		p.connect(peers)
	}
	return peers
}

func (p *peer) connect(peers []*peer) {
	for _, q := range peers {
		if q != p {
			p.trans.Connect(q.trans.LocalAddr(), q.trans)
			q.trans.Connect(p.trans.LocalAddr(), p.trans)
		}
	}
}

func (p *peer) cutOff(peers []*peer) {
	p.trans.DisconnectAll()
	for _, q := range peers {
		q.trans.Disconnect(p.trans.LocalAddr())
	}
}

// follow runs the Proposer and establishes it in every term its raft wins.
func (p *peer) follow() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = p.prop.Run(ctx) })
	wg.Go(func() {
		poll := time.NewTicker(2 * time.Millisecond)
		defer poll.Stop()
		for ctx.Err() == nil {
			<-poll.C
			term := p.raft.CurrentTerm()
			switch {
			case p.raft.State() != raft.Leader:
				p.prop.StepDown()
			case p.fsm.EstablishedTerm() != term:
				_ = p.prop.Establish(ctx, term)
			}
		}
	})
	p.t.Cleanup(func() {
		cancel()
		wg.Wait()
		if err := p.raft.Shutdown().Error(); err != nil {
			p.t.Error(err)
		}
	})
}

// master waits for a node that takes a write.
func master(t *testing.T, peers []*peer) *peer {
	t.Helper()
	var m *peer
	eventually(t, "a master", func() bool {
		for _, p := range peers {
			if p.raft.State() == raft.Leader && endings(p.submit(set("probe", "1")))[0] == ok {
				m = p
				return true
			}
		}
		return false
	})
	return m
}

// Property: P1 and P5 on the real raft: through partitions of the master,
// transfers and snapshots, no replied write is lost, no refused one happens, and
// all nodes end with the same digest.
func TestOnRealRaftEndingsAreTrue(t *testing.T) {
	peers := inMemory(t)
	const writers = 6
	var replied, unsure [writers]int
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			b := command.NewBatch()
			for i := w; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				b.Reset()
				b.Requests = append(b.Requests, incr(fmt.Sprint(w)), incr(fmt.Sprint(w)))
				peers[i%len(peers)].prop.Submit(b)
				waitDone(t, b)
				if b.Requests[0].Outcome == command.Refused {
					<-time.After(time.Millisecond) // somebody has to be elected meanwhile
				}
				for k := range b.Requests {
					switch b.Requests[k].Outcome {
					case command.Replied:
						replied[w]++
					case command.InDoubt:
						unsure[w]++
					default:
					}
				}
			}
		})
	}
	for round := range 4 {
		m := master(t, peers)
		if err := m.raft.Snapshot().Error(); err != nil {
			t.Log(err)
		}
		if round%2 == 0 {
			m.cutOff(peers)
			eventually(t, "stepped down", func() bool { return m.raft.State() != raft.Leader })
			m.connect(peers)
		} else if err := m.raft.LeadershipTransfer().Error(); err != nil {
			t.Log(err)
		}
	}
	master(t, peers)
	close(stop)
	wg.Wait()
	m := master(t, peers) // of now: it has applied all that was replied
	total := 0
	for w := range writers {
		n, _ := strconv.Atoi(m.value(fmt.Sprint(w)))
		if n < replied[w] || n > replied[w]+unsure[w] {
			t.Errorf("writer %d: %d replied, %d in doubt, counter %d", w, replied[w], unsure[w], n)
		}
		total += replied[w]
	}
	if total == 0 {
		t.Error("nothing was ever written")
	}
	eventually(t, "equal digests", func() bool {
		a, b, c := peers[0].fsm, peers[1].fsm, peers[2].fsm
		return a.Applied() == b.Applied() && b.Applied() == c.Applied() && a.Digest() == b.Digest() && b.Digest() == c.Digest()
	})
	eventually(t, "a snapshot of a state at rest", func() bool { // a late establishing entry may come between
		return restoreAside(t, m)
	})
}

// restoreAside restores the last snapshot of a node into a fresh one and tells whether
// the two are equal.
func restoreAside(t *testing.T, p *peer) bool {
	t.Helper()
	if err := p.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	metas, err := p.snaps.List()
	if err != nil || len(metas) == 0 {
		t.Fatal("no snapshot", err)
	}
	_, stream, err := p.snaps.Open(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	twin := newFSM(t)
	if err := twin.fsm.Restore(stream); err != nil {
		t.Fatal(err)
	}
	return twin.fsm.Digest() == p.fsm.Digest()
}

// Property: P5. When raft is shut down under load every request ends, none as
// executed that is not.
func TestShutdownOfRaftEndsEveryRequest(t *testing.T) {
	peers := inMemory(t)
	m := master(t, peers)
	var batches []*command.Batch
	for i := range 200 {
		if i == 100 {
			go m.raft.Shutdown()
		}
		b := batch(incr("n"))
		m.prop.Submit(b)
		batches = append(batches, b)
	}
	replied := 0
	for _, b := range batches {
		waitDone(t, b)
		if b.Requests[0].Outcome == command.Replied {
			replied++
		}
	}
	if n, _ := strconv.Atoi(m.value("n")); n < replied {
		t.Fatalf("%d replied, counter %d", replied, n)
	}
}
