package node

import (
	"context"
	"fmt"
	"net"

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
		respserver.SubscribeSpecs(),
		respserver.ServerSpecs(),
	)
	return table, err
}

// sentinelTable joins the commands of the Sentinel port.
func sentinelTable(src sentinelapi.Source, keep sentinelapi.Keeper) (*command.Table, error) {
	var table *command.Table
	table, err := command.Join(
		sentinelapi.Commands(src, keep),
		command.TableSpecs(func() *command.Table { return table }),
		respserver.SentinelPortSpecs(),
	)
	return table, err
}

// openServers builds the two servers; they serve nobody yet.
func (n *Node) openServers(cfg *config.Config, data *command.Table) error {
	sentinel, err := sentinelTable(n, &n.keeper)
	if err != nil {
		return fmt.Errorf("command table of the Sentinel port: %w", err)
	}
	dataTuning, sentinelTuning := n.tunings(cfg)
	n.data = respserver.New(respserver.Config{
		Table:       data,
		Identity:    n.identity(cfg.Port),
		LocalReads:  cfg.ReadMode == config.ReadLocal,
		Tuning:      dataTuning,
		Submit:      n.relay,
		Confirm:     n.raft,
		Fresh:       n.relay,
		Passed:      n.relay,
		Data:        state{n.fsm, n.relay},
		Roles:       &n.roles,
		Replication: replication{n},
		Persist:     n,
		Settings:    settings{n},
		Members:     membership{n},
		Info:        n,
		Digests:     n,
		Hub:         n.channels,
		Tracking:    n.tracked,
		Shutdown:    n.shutdown,
		Failover:    n.failoverCommand,
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
		Shutdown: n.shutdown,
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
		Supervised:   n.supervisor,
	}
}

// state is the state machine as the data port reads it.
type state struct {
	*raftfsm.FSM
	relay *relay
}

var _ respserver.Data = state{}

// Expire has the removal of due keys committed.
func (s state) Expire(ctx context.Context, victims []store.Victim) error {
	return s.relay.Expire(ctx, victims)
}

// serveSentinel serves the Sentinel port; while this node has no contact with a
// majority, connections are closed at once, so that clients ask another node.
func (n *Node) serveSentinel(ctx context.Context, l net.Listener) error {
	return n.sentinel.Serve(ctx, gated{l, n})
}

// gated refuses connections while the node has no contact with a majority.
type gated struct {
	net.Listener
	node *Node
}

// Accept returns the next connection that may be served.
func (g gated) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if g.node.roles.quorum.Load() {
			g.node.watchRemote(conn)
			return conn, nil
		}
		_ = conn.Close() // refused
	}
}
