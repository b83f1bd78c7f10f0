// Package node is the composition root: it builds the parts of a node, connects
// them, starts and stops them in order, and turns changes of leadership into
// what clients see. What the parts do is their own affair.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/sentinelapi"
	"github.com/holdfast/holdfast/store"
)

// Node is one node of a cluster.
type Node struct {
	log      *slog.Logger
	version  string
	settings *config.Settings
	clock    clock.Clock

	state    *store.Store
	fsm      *raftfsm.FSM
	proposer *raftfsm.Proposer
	raft     *cluster.Node
	data     *respserver.Server
	sentinel *respserver.Server
	hub      *pubsub.Hub // of the Sentinel port

	self    store.Member  // how this node announces itself
	started time.Duration // by clock.Boot
	roles   roles
	saves   saves
	timings *timings
	alerts  alerts
}

// alerts are what parts tell the node from goroutines of their own.
type alerts struct {
	failed        chan error    // why the node must stop
	stopAsked     chan struct{} // SHUTDOWN
	systemChanged atomic.Bool   // the replicated settings or members may have changed
	differs       atomic.Bool   // the cluster's settings differ from this node's, and that was said
}

// Run builds a node from cfg, serves until ctx ends, and stops it. The error is
// why the node could not start or had to stop.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger, version string) error {
	n, err := open(cfg, log, version)
	if err != nil {
		return err
	}
	return errors.Join(n.run(ctx), n.raft.Close())
}

// open builds the parts, from the bottom up. Nothing is served yet.
func open(cfg *config.Config, log *slog.Logger, version string) (*Node, error) {
	n := &Node{
		log:      log,
		version:  version,
		settings: config.NewSettings(cfg),
		clock:    clock.System{},
		state:    store.New(cfg.Databases),
		hub:      pubsub.NewHub(hubLimits(cfg)),
		timings:  newTimings(),
		alerts:   alerts{failed: make(chan error, 1), stopAsked: make(chan struct{}, 1)},
	}
	n.started = n.clock.Boot()
	n.roles.init()
	n.saves.init(n.clock.WallMilli() / 1000)
	table, err := dataTable()
	if err != nil {
		return nil, fmt.Errorf("command table: %w", err)
	}
	if err := n.openState(cfg, table); err != nil {
		return nil, err
	}
	if n.self, err = n.announce(cfg); err != nil {
		return nil, errors.Join(err, n.raft.Close())
	}
	if err := n.openServers(cfg, table); err != nil {
		return nil, errors.Join(err, n.raft.Close())
	}
	n.settings.Replicate(n.replicate)
	n.settings.OnChange(n.tuneServers)
	return n, nil
}

// bound is how long this node waits for the log on its own behalf.
func (n *Node) bound() time.Duration {
	const elections = 20
	return elections * n.settings.Config().ElectionTimeout
}

// run starts everything that lives as long as the node, and waits until ctx
// ends or a part fails; then it stops them all.
func (n *Node) run(ctx context.Context) error {
	listeners, err := n.listen()
	if err != nil {
		return err
	}
	g := newGroup(ctx)
	g.start("watch", n.watchAlerts)
	g.start("raft", n.raft.Run)
	g.start("proposer", n.proposer.Run)
	g.start("ticks", n.proposer.RunTicks)
	g.start("roles", n.watchRoles)
	g.start("members", n.keepMembers)
	for _, l := range listeners {
		g.start(l.name, func(ctx context.Context) error { return l.serve(ctx, l.Listener) })
	}
	return g.wait()
}

// watchAlerts ends the node when a part that has no goroutine of its own fails,
// or when SHUTDOWN asks for it.
func (n *Node) watchAlerts(ctx context.Context) error {
	select {
	case err := <-n.alerts.failed:
		return err
	case <-n.alerts.stopAsked:
		n.log.Info("SHUTDOWN was asked for")
		return nil
	case <-ctx.Done():
		return nil
	}
}

// group is the goroutines of a node: when one fails all are told to stop.
type group struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup
}

func newGroup(ctx context.Context) *group {
	g := &group{}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	return g
}

// start runs a part until the group stops. A part that ends earlier stops the
// group, with an error or not.
func (g *group) start(name string, run func(ctx context.Context) error) {
	g.wg.Go(func() {
		if err := run(g.ctx); err != nil {
			g.cancel(fmt.Errorf("%s: %w", name, err))
			return
		}
		g.cancel(nil)
	})
}

// wait returns when every part has stopped: nil if they were told to, otherwise
// why the first one failed.
func (g *group) wait() error {
	g.wg.Wait()
	if err := context.Cause(g.ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

var _ sentinelapi.Source = (*Node)(nil)
