package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/store"
)

// settings lets CONFIG see and change the directives.
type settings struct{ n *Node }

var _ respserver.Settings = settings{}

// Get returns the matching directives.
func (s settings) Get(pattern string) []respserver.Pair {
	return pairs(s.n.settings.Get([]string{pattern}))
}

// Set changes all or none. If it changes the cluster's settings and leadership is
// lost on the way, the outcome is unknown.
func (s settings) Set(_ context.Context, changes []respserver.Pair) error {
	list := make([][2]string, len(changes))
	for i, c := range changes {
		list[i] = [2]string{c.Name, c.Value}
	}
	err := s.n.settings.Set(list)
	s.n.adopt() // another change may have overtaken this one
	if code, ok := errors.AsType[resp.Error](err); ok {
		return code
	}
	return err
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

// takeSettings adopts the cluster's settings. Once this node has caught up after
// its start it says if they are not those it was started with.
func (n *Node) takeSettings(ready bool) {
	n.adopt()
	s, known := n.clusterSettings()
	if !ready || !known || n.roles.compared {
		return
	}
	n.roles.compared = true
	if n.differs() {
		n.log.Warn("the cluster's settings are used instead of this node's",
			"cluster", fmt.Sprintf("%+v", s), "node", fmt.Sprintf("%+v", n.configured))
	}
}

// clusterSettings are those of the state, if there are any yet.
func (n *Node) clusterSettings() (s store.Settings, known bool) {
	if sys := n.system.Load(); sys != nil {
		s = sys.Settings
	}
	return s, s != store.Settings{}
}

// differs tells whether the cluster's settings are others than this node was
// started with.
func (n *Node) differs() bool {
	s, known := n.clusterSettings()
	return known && s != n.configured
}

// adopt puts the cluster's settings in the place of this node's.
func (n *Node) adopt() {
	s, known := n.clusterSettings()
	if !known || s == replicated(n.settings.Config()) {
		return
	}
	n.settings.Adopt(func(c *config.Config) {
		s, _ := n.clusterSettings() // the latest: changes of c follow each other
		c.Databases, c.MaxEntryBytes, c.ProtoMaxBulkLen = s.Databases, s.MaxEntryBytes, s.MaxBulkBytes
	})
}

// errElsewhere is why a setting of the whole cluster was not changed here.
var errElsewhere = errors.New("only the master can change a setting of the whole cluster")

// replicate makes the replicated settings of next those of the cluster.
func (n *Node) replicate(next *config.Config) error {
	ctx, cancel := context.WithTimeout(context.Background(), n.bound())
	defer cancel()
	switch err := n.proposer.PutSettings(ctx, replicated(next)); {
	case !errors.Is(err, raftfsm.ErrRefused):
		return inDoubt(err)
	case n.relay.present() == wayHere:
		return errElsewhere
	}
	order := []string{orderSettings}
	for _, p := range n.settings.Replicated(next) {
		order = append(order, p[:]...)
	}
	index, err := n.orderMaster(ctx, order...)
	switch {
	case errors.Is(err, errNotMaster):
		return errElsewhere
	case err != nil:
		return err
	}
	return inDoubt(n.fsm.WaitApplied(ctx, index)) // from then on it is shown here
}

// inDoubt is what clients are told of a change that may still be made, if err is not nil.
func inDoubt(err error) error {
	if err != nil {
		return resp.ErrInDoubt
	}
	return nil
}

// tuneServers hands the changeable parameters to the servers.
func (n *Node) tuneServers(c *config.Config) {
	data, sentinel := n.tunings(c)
	n.data.Tune(data)
	n.sentinel.Tune(sentinel)
	n.hub.SetLimits(hubLimits(c))
	n.roles.look() // replica-mode
	n.channels.SetLimits(hubLimits(c))
}

// tunings are what the two servers take from the directives.
func (n *Node) tunings(c *config.Config) (data, sentinel respserver.Tuning) {
	data, sentinel = tuning(c, c.RequirePass), tuning(c, c.SentinelRequirePass)
	data.MaxClients, sentinel.MaxClients = share(c.MaxClients, n.files)
	if most := int64(data.MaxClients); n.clients.Swap(most) != most && data.MaxClients < c.MaxClients {
		n.log.Warn("the process may open too few files for maxclients", "maxclients", c.MaxClients,
			"data_port", data.MaxClients, "sentinel_port", sentinel.MaxClients)
	}
	return data, sentinel
}

// tuning is what a server with the given password takes from the directives.
func tuning(c *config.Config, password string) respserver.Tuning {
	return respserver.Tuning{
		Databases:     c.Databases,
		MaxEntryBytes: int(c.MaxEntryBytes),
		Password:      password,
		MaxClients:    c.MaxClients,
		Timeout:       c.Timeout,
		KeepAlive:     c.TCPKeepAlive,
		Protected:     c.ProtectedMode,
		Requests:      resp.Limits{MaxBulk: int(c.ProtoMaxBulkLen), MaxQuery: int(c.ClientQueryBufferLimit)},
		NormalOutput:  outputLimit(c.ClientOutputBufferLimit.Normal),
		PubSubOutput:  outputLimit(c.ClientOutputBufferLimit.PubSub),
		TrackingKeys:  c.TrackingTableMaxKeys,
		DebugCommand:  c.EnableDebugCommand,

		ReplicaPriority: c.ReplicaPriority,
	}
}

func outputLimit(l config.OutputLimit) respserver.OutputLimit {
	return respserver.OutputLimit{Hard: l.Hard, Soft: l.Soft, SoftFor: l.SoftFor}
}

// hubLimits bound what may wait for one subscriber, and for all of a port.
func hubLimits(c *config.Config) pubsub.Limits {
	return pubsub.Limits{Bytes: c.ClientOutputBufferLimit.PubSub.Hard, Messages: maxMessages, Total: maxHub}
}

// maxHub is what subscriptions and waiting messages of one port may take, in bytes.
const maxHub = 128 << 20

// maxMessages bounds the messages that may wait for one subscriber, whatever
// their size.
const maxMessages = 1 << 16
