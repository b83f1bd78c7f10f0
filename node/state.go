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
	"github.com/holdfast/holdfast/respserver"
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
		Watch:     respserver.NewChanges(n.tracked),
		Fatal:     n.fail,
		Restoring: n.restoring,
		ClusterID: n.clusterID,
		Clocks:    n.clocks,

		Checkpoints: n.checkpoints(cfg.DigestEvery),
	})
	c := n.clusterConfig(cfg)
	if own != nil {
		c.Listen = func() ([]net.Listener, error) { return own, nil }
	}
	var err error
	if n.raft, err = cluster.Open(c); err != nil {
		return fmt.Errorf("open cluster node: %w", err)
	}
	if err := n.raft.Handle(kindDigest, n.serveDigests); err != nil {
		return errors.Join(err, n.raft.Close())
	}
	n.proposer = raftfsm.NewProposer(raftfsm.ProposerConfig{
		FSM:       n.fsm,
		Applier:   n.raft,
		Log:       n.log,
		NodeID:    cfg.NodeID,
		ClusterID: n.clusterID,
		Settings:  replicated(cfg),
		Health:    n.healthAtElection,
	})
	return nil
}

// clusterID is the id the cluster was formed with, "" before it was.
func (n *Node) clusterID() string {
	if n.raft == nil { // it restores its snapshot while it is opened
		return ""
	}
	return cluster.BaseID(n.raft.View().Cluster)
}

func (n *Node) clusterConfig(cfg *config.Config) cluster.Config {
	c := cluster.Config{
		NodeID:          cfg.NodeID,
		Dir:             cfg.Dir,
		Listen:          func() ([]net.Listener, error) { return listenOn(context.Background(), cfg, cfg.RaftPort) },
		Announce:        cfg.RaftAnnounce,
		Join:            cfg.Join,
		Secret:          cfg.ClusterSecret,
		ElectionTimeout: cfg.ElectionTimeout,
		Lease:           cfg.ReadMode == config.ReadLease,
		Log: cluster.LogConfig{
			Store:         cfg.LogStore,
			MaxEntryBytes: mostEntryBytes, // the cluster's setting may be any below
			Check:         raftfsm.CheckEntry,
			DatasetBytes:  func() int64 { return n.state.Stats(0).UsedBytes },
		},
		Space:   cluster.SpaceConfig{Mark: lowDisk, Reserve: diskReserve},
		FSM:     n.fsm,
		Source:  source{n},
		Clock:   n.clock,
		Logger:  n.log,
		Observe: n.observe(),
		Flip:    flip(n.state),
	}
	if len(c.Join) > 0 {
		c.Announce = cfg.AnnouncedRaft()
	}
	for _, p := range cfg.Peers {
		c.Peers = append(c.Peers, cluster.Peer(p))
	}
	return c
}

// observe are the callbacks of the cluster.
func (n *Node) observe() cluster.Observe {
	o := n.timings.observe(n.saved)
	o.MasterTime, o.VouchedTime = n.fsm.Observe, n.fsm.Vouched
	o.Beat = func() {
		poke(n.roles.beat)
		poke(n.steering)
		poke(n.ticking)
	}
	return o
}

// A disk is low with less than this free beside the reserve, which holds two
// segments of the log.
const (
	lowDisk     = 256 << 20
	diskReserve = 128 << 20
)

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

// Time is the present cluster time, ms, and whether this node knows it.
func (s source) Time() (instant int64, known bool) { return s.n.fsm.Instant(), s.n.fsm.TimeKnown() }

var _ raftfsm.Sink = (*Node)(nil)

// Applied hears of each applied entry, on the state machine's goroutine.
func (n *Node) Applied(u raftfsm.Update) {
	if u.Restored {
		n.closeTracking() // those who came in between
	}
	if !u.SystemChanged {
		return
	}
	var sys store.System
	n.fsm.View(0, func(r *store.Reader) { sys = r.System() })
	n.system.Store(&sys)
	n.news.applied(&u, &sys, n.clock.Boot())
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
	n.closeTracking()
}

// closeTracking closes the clients that wait to be told of changes.
func (n *Node) closeTracking() {
	if n.data != nil { // otherwise nobody is served yet
		n.data.CloseTracking()
	}
}
