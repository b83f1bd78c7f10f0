package node

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// openState builds the state machine, the raft node beneath it and the Proposer
// above it. own is what to listen on for the other nodes, nil for raft-port.
func (n *Node) openState(cfg *config.Config, own []net.Listener, table *command.Table) error {
	n.fsm = raftfsm.New(raftfsm.Config{
		Store:     n.state,
		Lookup:    table.ByName,
		Clock:     n.clock,
		Log:       n.log,
		Sink:      n,
		Fatal:     n.fail,
		Restoring: n.restoring,
		ClusterID: n.clusterID,
	})
	c := n.clusterConfig(cfg)
	if own != nil {
		c.Listen = func() ([]net.Listener, error) { return own, nil }
	}
	var err error
	if n.raft, err = cluster.Open(c); err != nil {
		return fmt.Errorf("open cluster node: %w", err)
	}
	n.proposer = raftfsm.NewProposer(raftfsm.ProposerConfig{
		FSM:       n.fsm,
		Applier:   n.raft,
		Log:       n.log,
		NodeID:    cfg.NodeID,
		ClusterID: n.clusterID,
		Settings:  replicated(cfg),
	})
	return nil
}

// clusterID is the id of the cluster, "" before it was formed.
func (n *Node) clusterID() string {
	if n.raft == nil { // it restores its snapshot while it is opened
		return ""
	}
	return n.raft.View().Cluster
}

func (n *Node) clusterConfig(cfg *config.Config) cluster.Config {
	c := cluster.Config{
		NodeID:          cfg.NodeID,
		Dir:             cfg.Dir,
		Listen:          func() ([]net.Listener, error) { return listenOn(context.Background(), cfg, cfg.RaftPort) },
		Announce:        cfg.RaftAnnounce,
		Secret:          cfg.ClusterSecret,
		ElectionTimeout: cfg.ElectionTimeout,
		Log: cluster.LogConfig{
			Store:         cfg.LogStore,
			MaxEntryBytes: mostEntryBytes, // the cluster's setting may be any below
			Check:         raftfsm.CheckEntry,
			DatasetBytes:  func() int64 { return n.state.Stats(0).UsedBytes },
		},
		FSM:     n.fsm,
		Source:  source{n},
		Clock:   n.clock,
		Logger:  n.log,
		Observe: n.observe(),
		Flip:    flip(n.state),
	}
	for _, p := range cfg.Peers {
		c.Peers = append(c.Peers, cluster.Peer(p))
	}
	return c
}

// observe are the callbacks of the cluster.
func (n *Node) observe() cluster.Observe {
	o := n.timings.observe(n.saved)
	o.MasterTime = n.fsm.Observe
	o.Beat = func() { poke(n.roles.beat) }
	return o
}

// mostEntryBytes is the largest value of max-entry-bytes.
const mostEntryBytes = 60 << 20

// source is what the cluster asks of the node above it.
type source struct{ n *Node }

var _ cluster.Source = source{}

// Established is the term in which this node serves as master, 0 if it does not:
// nobody is told of a master that would not serve.
func (s source) Established() uint64 { return s.n.reign.serving.Load() }

// Applied is the index of the last entry that was applied.
func (s source) Applied() uint64 { return s.n.fsm.Applied() }

// Instant is the present cluster time, ms.
func (s source) Instant() int64 { return s.n.fsm.Instant() }

var _ raftfsm.Sink = (*Node)(nil)

// Applied hears of each applied entry, on the state machine's goroutine.
func (n *Node) Applied(u raftfsm.Update) {
	if !u.SystemChanged {
		return
	}
	var sys store.System
	n.fsm.View(0, func(r *store.Reader) { sys = r.System() })
	n.system.Store(&sys)
	n.roles.look()
}

// errState is why a node stops whose state machine cannot go on.
var errState = errors.New("the state machine cannot go on")

// fail stops the node.
func (n *Node) fail(err error) {
	select {
	case n.alerts.failed <- fmt.Errorf("%w: %w", errState, err):
	default: // it is stopping already
	}
}

// restoring is called before a snapshot takes the place of the state: whoever
// watches this node's keys would miss what happened in between.
func (n *Node) restoring() {
	n.log.Info("a snapshot takes the place of the state")
}
