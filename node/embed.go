package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/store"
)

// Config is what Open makes a node from. The zero Config is a cluster of one with the
// default directives: its data in ./data, on the ports of Redis.
type Config struct {
	// Directives are the node's settings; nil for config.Default. Open takes a copy,
	// so that several nodes can be opened from variations of one. What it refers to
	// may not be changed any more.
	Directives *config.Config
	// Data, Sentinel and Metrics are where clients connect. Directives such as
	// unixsocket, bind and those of announced addresses count for all of them.
	Data, Sentinel, Metrics Endpoint
	// Raft is where the other nodes connect; nil for raft-port. The node owns the
	// listeners from Open on. Their address must be the one in peers or
	// raft-announce.
	Raft []net.Listener
	// Log is told what happens; nil for nobody.
	Log *slog.Logger
	// Version is what INFO and the metrics show as this node's, "embedded" if empty.
	Version string
	// Supervisor is who watches the process, such as "systemd", for INFO; "" for nobody.
	Supervisor string
}

// directives are the node's own copy of its settings.
func (c *Config) directives() (*config.Config, error) {
	if c.Version == "" {
		c.Version = "embedded"
	}
	if c.Directives == nil {
		return config.Default(), nil
	}
	if err := c.Directives.Validate(); err != nil {
		return nil, fmt.Errorf("directives: %w", err)
	}
	own := *c.Directives
	return &own, nil
}

func (c *Config) logger() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// listeners are those the program has given.
func (c *Config) listeners() []net.Listener {
	return slices.Concat(c.Data.given, c.Sentinel.given, c.Metrics.given, c.Raft)
}

// Instance is a node that runs inside this program. Its methods are safe for
// concurrent use, Close included.
type Instance struct {
	node *Node
	stop context.CancelFunc
	done chan struct{} // closed when the node has ended
	err  error         // why it has ended, nil if it was told to; read after done
}

// Open starts a node: it takes the data directory, listens, and serves until Close.
// It returns as soon as that has begun; WaitReady waits until clients are served.
// When it fails, nothing is left open.
func Open(cfg Config) (*Instance, error) {
	n, err := open(&cfg)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	i := &Instance{node: n, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(i.done)
		i.err = n.serve(ctx)
	}()
	return i, nil
}

// Run is Open, and Close when ctx ends or the node does. The error is why the node
// could not start or had to stop.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger, version string) error {
	i, err := Open(Config{Directives: cfg, Log: log, Version: version}) //nolint:contextcheck // opening ends by itself
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
	case <-i.Done():
	}
	return i.Close()
}

// Close stops the node as SIGTERM stops the process, and returns when nothing of it
// is left: commands under way are answered, connections and listeners closed, the data
// directory is free. The error is why it had to stop before, if it had. Further calls
// do nothing and return the same.
func (i *Instance) Close() error {
	i.stop()
	<-i.done
	return i.err
}

// Done is closed when the node has ended: after Close, after SHUTDOWN, or by itself
// because it could not go on. Close tells why.
func (i *Instance) Done() <-chan struct{} { return i.done }

// errEnded is what is said of a node that has ended.
var errEnded = errors.New("the node has ended")

// Ready is nil if this node has caught up with its cluster and knows the master, which
// may be itself.
func (i *Instance) Ready(ctx context.Context) error {
	select {
	case <-i.done:
		return errEnded
	default:
		return i.node.Ready(ctx)
	}
}

// readyPause is how often WaitReady looks.
const readyPause = 5 * time.Millisecond

// WaitReady waits until Ready is nil. It fails when ctx or the node ends before, with
// what was missing.
func (i *Instance) WaitReady(ctx context.Context) error {
	every := time.NewTicker(readyPause)
	defer every.Stop()
	for {
		err := i.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-i.done:
			return errors.Join(errEnded, i.err)
		case <-every.C:
		}
	}
}

// Leader is nil if this node was the master after the call began, as a majority has
// confirmed.
func (i *Instance) Leader(ctx context.Context) error { return i.node.Leader(ctx) }

// Majority tells whether this node has contact with enough others to serve.
func (i *Instance) Majority() bool { return i.node.raft.View().Quorum }

// Alive is nil if what the node does all the time was done within the given time, and
// its state can be read; it waits for that. The node may still be without a master.
func (i *Instance) Alive(within time.Duration) error { return i.node.alive(within) }

// Dial connects to the data port without any network; whatever listeners the node
// has, or none. Such a client counts as one of this machine. A client library takes it
// as its dialer. Dial fails with net.ErrClosed after Close.
func (i *Instance) Dial(ctx context.Context) (net.Conn, error) {
	return i.node.sockets.inward.dial(ctx)
}

// HTTPHandler serves /metrics, /healthz, /readyz and /leader in an HTTP server of the
// program's own.
func (i *Instance) HTTPHandler() http.Handler { return i.node.handler() }

// DataAddr is where applications connect, the first address if there are several, nil
// if there is none.
func (i *Instance) DataAddr() net.Addr { return first(i.node.sockets.data) }

// SentinelAddr is where Sentinel-aware clients connect; see DataAddr.
func (i *Instance) SentinelAddr() net.Addr { return first(i.node.sockets.sentinel) }

// MetricsAddr is where the HTTP pages are; see DataAddr.
func (i *Instance) MetricsAddr() net.Addr { return first(i.node.sockets.metrics) }

// RaftAddr is where the other nodes connect, nil in a cluster of one.
func (i *Instance) RaftAddr() net.Addr { return i.node.raft.Addr() }

func first(list []net.Listener) net.Addr {
	if len(list) == 0 {
		return nil
	}
	return list[0].Addr()
}

// errStuck is why a node does not count as alive.
var errStuck = errors.New("the node has not looked at its cluster for too long")

// alive looks at what every node does all the time, whatever its role.
func (n *Node) alive(within time.Duration) error {
	if last := n.roles.looked.Load(); n.clock.Boot()-time.Duration(last) > within {
		return errStuck
	}
	n.state.View(0, 0, func(*store.Reader) {}) // waits for whoever holds the state
	return nil
}
