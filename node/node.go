// Package node is the composition root: it builds the parts of a node, connects
// them, starts and stops them in order, and turns changes of leadership into
// what clients see. What the parts do is their own affair.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/holdfast/holdfast/tracking"
)

// Node is one node of a cluster.
type Node struct {
	core
	front

	log      *slog.Logger
	version  string
	settings *config.Settings
	clock    clock.Clock
	started  time.Duration // by clock.Boot
	self     store.Member  // who this node is; see own for how it announces itself

	configured store.Settings               // the replicated settings this node was started with
	system     atomic.Pointer[store.System] // the replicated system state; nil before the first entry

	roles     roles
	told      told
	reign     reign
	news      news
	handovers handovers
	saves     saves
	timings   *timings
	steering  chan struct{} // time has passed: cluster time is to be looked at
	ticking   chan struct{} // time has passed: keys may be due
	alerts    alerts
}

// core is the replicated state and what changes it.
type core struct {
	state    *store.Store
	fsm      *raftfsm.FSM
	proposer *raftfsm.Proposer
	raft     *cluster.Node
	audit    audit
	relay    *relay // from the data port to the Proposer of the master
}

// front is what clients reach.
type front struct {
	data     *respserver.Server
	sentinel *respserver.Server
	hub      *pubsub.Hub     // of the Sentinel port
	channels *pubsub.Hub     // of the data port
	tracked  *tracking.Table // by clients of the data port
	sockets  sockets

	announced announcement
	keeper    keeper

	supervisor string // who watches the process, for INFO

	files   int          // open files left to clients
	clients atomic.Int64 // that the data port may serve, as far as the log has told
}

// alerts are what parts tell the node from goroutines of their own.
type alerts struct {
	failed    chan error    // why the node must stop
	stopAsked chan struct{} // SHUTDOWN
	inHaste   atomic.Bool   // SHUTDOWN NOW
}

// serve lives until ctx ends or a part fails, and closes what open has opened.
func (n *Node) serve(ctx context.Context) error {
	return errors.Join(n.run(ctx), n.close())
}

// open builds the parts and listens. Nothing is served yet. When it fails nothing
// stays open.
func open(cfg *Config) (*Node, error) {
	c, err := cfg.directives()
	if err != nil {
		closeAll(cfg.listeners())
		return nil, err
	}
	n := &Node{
		log:        cfg.logger(),
		version:    cfg.Version,
		settings:   config.NewSettings(c),
		clock:      clock.System{},
		configured: replicated(c),
		timings:    newTimings(),
		alerts:     alerts{failed: make(chan error, 1), stopAsked: make(chan struct{}, 1)},
	}
	n.supervisor = cfg.Supervisor
	n.sockets.given = cfg.listeners()
	if err := n.build(cfg); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// build builds the parts, from the bottom up.
func (n *Node) build(cfg *Config) error {
	c := n.settings.Config()
	n.state = store.New(c.Databases)
	n.hub, n.channels = pubsub.NewHub(hubLimits(c)), pubsub.NewHub(hubLimits(c))
	n.tracked = tracking.New(tracking.Limits{})
	n.files = clientFiles()
	n.started = n.clock.Boot()
	n.roles.init()
	n.steering, n.ticking = make(chan struct{}, 1), make(chan struct{}, 1)
	n.reign.init()
	n.news.init()
	n.saves.init(n.clock.WallMilli() / 1000)
	n.audit.init()
	n.announced.init()
	n.keeper.n = n
	table, err := dataTable()
	if err != nil {
		return fmt.Errorf("command table: %w", err)
	}
	if err := n.openState(c, cfg.Raft, table); err != nil {
		return err
	}
	if err := n.openRelay(table); err != nil {
		return err
	}
	if err := n.listen(cfg); err != nil {
		return err
	}
	c = n.settings.Config() // with the ports that are listened on
	if n.self, err = n.identify(c); err != nil {
		return err
	}
	n.lookAnnounced(context.Background())
	if err := n.openServers(c, table); err != nil {
		return err
	}
	n.settings.Replicate(n.replicate)
	n.settings.OnChange(n.tuneServers)
	n.settings.OnChange(func(*config.Config) { poke(n.announced.hint) })
	return nil
}

// close gives back what build has taken and what the program gave. Parts have ended.
func (n *Node) close() error {
	closeAll(n.sockets.all())
	if n.raft == nil {
		return nil
	}
	return n.raft.Close()
}

// bound is how long this node waits for the log on its own behalf.
func (n *Node) bound() time.Duration {
	const elections = 20
	return elections * n.settings.Config().ElectionTimeout
}

// masterBound is for how long after its last confirmation a node may be named
// master: two election timeouts.
func (n *Node) masterBound() time.Duration { return 2 * n.settings.Config().ElectionTimeout }

// run starts everything that lives as long as the node, and waits until ctx
// ends, SHUTDOWN is asked for, or a part fails. Then what clients reach stops
// first: a master hands over to another node, and while the last commands are
// answered the core still commits.
func (n *Node) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	inner := newGroup(context.WithoutCancel(ctx), stop)
	inner.start("raft", n.raft.Run)
	inner.start("proposer", n.proposer.Run)
	inner.start("ticks", func(ctx context.Context) error { return n.proposer.RunTicks(ctx, n.ticking) })
	inner.start("reign", n.keepEstablished)
	inner.start("roles", n.watchRoles)
	inner.start("members", n.keepMembers)
	inner.start("announced", n.keepAnnounced)
	inner.start("news", n.tellNews)
	inner.start("time", n.keepTime)
	inner.start("audit", n.keepAudited)
	inner.start("alerts", n.watchAlerts)
	outer := newGroup(context.WithoutCancel(ctx), stop)
	for _, l := range n.served() {
		outer.start(l.name, func(ctx context.Context) error { return l.serve(ctx, l.Listener) })
	}
	<-ctx.Done()
	n.log.Info("the node stops")
	if !inner.failed() { // what such a node holds may be damaged: nobody is to be served from it
		n.leave() //nolint:contextcheck // it begins when ctx has ended, and has bounds of its own
	}
	err := outer.wait()
	n.handovers.wg.Wait()
	n.relay.close()
	return errors.Join(err, inner.wait())
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

var _ sentinelapi.Source = (*Node)(nil)
