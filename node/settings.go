package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/store"
)

// settings lets CONFIG see and change the directives.
type settings struct{ all *config.Settings }

var _ respserver.Settings = settings{}

// Get returns the matching directives.
func (s settings) Get(pattern string) []respserver.Pair {
	return pairs(s.all.Get([]string{pattern}))
}

// Set changes all or none.
func (s settings) Set(_ context.Context, changes []respserver.Pair) error {
	list := make([][2]string, len(changes))
	for i, c := range changes {
		list[i] = [2]string{c.Name, c.Value}
	}
	return s.all.Set(list)
}

func pairs(list [][2]string) []respserver.Pair {
	found := make([]respserver.Pair, len(list))
	for i, p := range list {
		found[i] = respserver.Pair{Name: p[0], Value: p[1]}
	}
	return found
}

// replicated are the settings of c that are the same on all nodes.
func replicated(c *config.Config) store.Settings {
	return store.Settings{
		Databases:     c.Databases,
		MaxEntryBytes: c.MaxEntryBytes,
		MaxBulkBytes:  c.ProtoMaxBulkLen,
	}
}

// takeSettings adopts the replicated settings if they may have changed.
func (n *Node) takeSettings() {
	if !n.alerts.systemChanged.CompareAndSwap(true, false) {
		return
	}
	var sys store.System
	n.fsm.View(0, func(r *store.Reader) { sys = r.System() })
	n.adopt(sys.Settings)
}

// adopt puts the cluster's replicated settings in the place of this node's, and
// says so once where they differ from what the node was started with.
func (n *Node) adopt(s store.Settings) {
	own := n.settings.Config()
	if s == (store.Settings{}) || s == replicated(own) {
		return
	}
	if n.alerts.differs.CompareAndSwap(false, true) {
		n.log.Warn("the cluster's settings are used instead of this node's",
			"cluster", fmt.Sprintf("%+v", s), "node", fmt.Sprintf("%+v", replicated(own)))
	}
	n.settings.Adopt(func(c *config.Config) {
		c.Databases, c.MaxEntryBytes, c.ProtoMaxBulkLen = s.Databases, s.MaxEntryBytes, s.MaxBulkBytes
	})
}

// replicate makes the replicated settings of next those of the cluster.
func (n *Node) replicate(next *config.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), n.bound())
	defer cancel()
	if err := n.proposer.PutSettings(ctx, replicated(next)); err != nil {
		return errors.New("only the master can change a setting of the whole cluster")
	}
	return nil
}

// tuneServers hands the changeable parameters to the servers.
func (n *Node) tuneServers(c *config.Config) {
	n.data.Tune(tuning(c, c.RequirePass))
	n.sentinel.Tune(tuning(c, c.SentinelRequirePass))
	n.hub.SetLimits(hubLimits(c))
}

// tuning is what a server with the given password takes from the directives.
func tuning(c *config.Config, password string) respserver.Tuning {
	return respserver.Tuning{
		Password:     password,
		MaxClients:   c.MaxClients,
		Timeout:      c.Timeout,
		KeepAlive:    c.TCPKeepAlive,
		Protected:    c.ProtectedMode,
		Requests:     resp.Limits{MaxBulk: int(c.ProtoMaxBulkLen), MaxQuery: int(c.ClientQueryBufferLimit)},
		NormalOutput: outputLimit(c.ClientOutputBufferLimit.Normal),
		PubSubOutput: outputLimit(c.ClientOutputBufferLimit.PubSub),
		DebugCommand: c.EnableDebugCommand,
	}
}

func outputLimit(l config.OutputLimit) respserver.OutputLimit {
	return respserver.OutputLimit{Hard: l.Hard, Soft: l.Soft, SoftFor: l.SoftFor}
}

// hubLimits bound what may wait for one subscriber.
func hubLimits(c *config.Config) pubsub.Limits {
	return pubsub.Limits{Bytes: c.ClientOutputBufferLimit.PubSub.Hard, Messages: maxMessages}
}

// maxMessages bounds the messages that may wait for one subscriber, whatever
// their size.
const maxMessages = 1 << 16
