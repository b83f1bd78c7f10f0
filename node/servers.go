package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/holdfast/holdfast/adminhttp"
	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/sentinelapi"
	"github.com/holdfast/holdfast/store"
)

// redisVersion is the Redis whose behaviour clients are offered.
const redisVersion = "7.2.4"

// dataTable joins the commands of the data port.
func dataTable() (*command.Table, error) {
	var table *command.Table
	table, err := command.Join(
		command.StringSpecs(),
		command.KeySpecs(),
		command.TableSpecs(func() *command.Table { return table }),
		respserver.ConnectionSpecs(),
		respserver.TransactionSpecs(),
		respserver.ServerSpecs(),
	)
	return table, err
}

// sentinelTable joins the commands of the Sentinel port.
func sentinelTable(src sentinelapi.Source) (*command.Table, error) {
	var table *command.Table
	table, err := command.Join(
		sentinelapi.Commands(src),
		command.TableSpecs(func() *command.Table { return table }),
		respserver.SentinelPortSpecs(),
	)
	return table, err
}

// openServers builds the two servers; they serve nobody yet.
func (n *Node) openServers(cfg *config.Config, data *command.Table) error {
	sentinel, err := sentinelTable(n)
	if err != nil {
		return fmt.Errorf("command table of the Sentinel port: %w", err)
	}
	dataTuning, sentinelTuning := n.tunings(cfg)
	n.data = respserver.New(respserver.Config{
		Table:       data,
		Identity:    n.identity(cfg.Port),
		LocalReads:  cfg.ReadMode == config.ReadLocal,
		Tuning:      dataTuning,
		Submit:      n.proposer,
		Confirm:     n.raft,
		Data:        state{n.fsm, n.proposer},
		Roles:       &n.roles,
		Replication: replication{n},
		Persist:     n,
		Settings:    settings{n},
		Members:     membership{n},
		Info:        n,
		Digests:     n,
		Shutdown:    n.shutdown,
		SizeOf:      raftfsm.SizeOf,
		Clock:       n.clock,
		Log:         n.log,
	})
	n.sentinel = respserver.New(respserver.Config{
		Table:    sentinel,
		Identity: n.identity(cfg.SentinelPort),
		Sentinel: true,
		Tuning:   sentinelTuning,
		Hub:      n.hub,
		Info:     sentinelInfo{n},
		Clock:    n.clock,
		Log:      n.log,
	})
	return nil
}

func (n *Node) identity(port int) respserver.Identity {
	return respserver.Identity{
		Version:      n.version,
		RedisVersion: redisVersion,
		RunID:        n.self.RunID,
		NodeID:       n.self.ID,
		Port:         port,
	}
}

// state is the state machine as the data port reads it.
type state struct {
	*raftfsm.FSM
	proposer *raftfsm.Proposer
}

var _ respserver.Data = state{}

// Expire has the removal of due keys committed.
func (s state) Expire(ctx context.Context, victims []store.Victim) error {
	return s.proposer.Expire(ctx, victims)
}

// listener is a listening socket and who serves it.
type listener struct {
	net.Listener
	name  string
	serve func(ctx context.Context, l net.Listener) error
}

// listen opens every port that clients reach, or none.
func (n *Node) listen(ctx context.Context) ([]listener, error) {
	cfg := n.settings.Config()
	page := adminhttp.Config{Metrics: n.registry(), Ready: n.Ready, Leader: n.Leader, Log: n.log}
	ports := []struct {
		name  string
		port  int
		serve func(ctx context.Context, l net.Listener) error
	}{
		{"data port", cfg.Port, n.data.Serve},
		{"sentinel port", cfg.SentinelPort, n.serveSentinel},
		{"metrics port", cfg.MetricsPort, func(ctx context.Context, l net.Listener) error { return adminhttp.New(page).Run(ctx, l) }},
	}
	var open []listener
	for _, p := range ports {
		if p.port == 0 {
			continue
		}
		socks, err := listenOn(ctx, cfg, p.port)
		for _, l := range socks {
			open = append(open, listener{l, p.name, p.serve})
		}
		if err != nil {
			closeAll(open)
			return nil, fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return open, nil
}

// closeAll closes listeners on which nobody has been accepted.
func closeAll(list []listener) {
	for _, l := range list {
		_ = l.Close() // nobody loses anything
	}
}

// listenOn listens on a port of every address of bind. Addresses that are marked
// as optional may be missing on this machine, but not all of them.
func listenOn(ctx context.Context, cfg *config.Config, port int) ([]net.Listener, error) {
	var open []net.Listener
	var missing error
	for _, a := range cfg.BindAddresses() {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, a.Network, a.Address(port))
		switch {
		case err == nil:
			open = append(open, l)
		case a.Optional && absent(err):
			missing = err
		default:
			return open, err
		}
	}
	if len(open) == 0 {
		return nil, missing
	}
	return open, nil
}

// absent tells whether an address could not be listened on because the machine
// does not have it.
func absent(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EPROTONOSUPPORT)
}

// serveSentinel serves the Sentinel port; while this node has no contact with a
// majority, connections are closed at once, so that clients ask another node.
func (n *Node) serveSentinel(ctx context.Context, l net.Listener) error {
	return n.sentinel.Serve(ctx, gated{l, &n.roles})
}

// gated refuses connections while the node has no contact with a majority.
type gated struct {
	net.Listener
	roles *roles
}

// Accept returns the next connection that may be served.
func (g gated) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil || g.roles.quorum.Load() {
			return conn, err
		}
		_ = conn.Close() // refused
	}
}
