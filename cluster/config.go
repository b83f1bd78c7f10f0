package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// Peer is one node of the static list.
type Peer struct {
	ID   string
	Addr string // host:port of its raft port; names are resolved on every dial
}

// The log stores that can be chosen.
const (
	LogStoreWAL  = "wal"
	LogStoreBolt = "boltdb"
)

// Config is what a node is opened with. It is not changed after Open.
type Config struct {
	NodeID   string   // letters, digits and ._- ; at most 64
	Dir      string   // data directory of this node alone; made if it is missing
	Peers    []Peer   // the nodes that form a cluster, this one included; empty for a cluster of one
	Join     []string // host:port of raft ports of a cluster that is to take this node in, instead of Peers
	Bind     string   // host:port to listen on; unused without other peers, or with Listen
	Announce string   // host:port where the others reach this node; "" for its entry in Peers
	Secret   string   // proved by every connection between nodes

	ElectionTimeout time.Duration // 0 for 250 ms
	Lease           bool          // Confirm goes by leases while they hold
	Log             LogConfig
	Space           SpaceConfig
	FSM             raft.FSM
	Source          Source
	Clock           clock.Clock // nil for the machine's
	Logger          *slog.Logger
	Observe         Observe

	// Listen opens what to listen on for other nodes; nil for TCP at Bind. With an
	// error it may return what it has opened until then.
	Listen func() ([]net.Listener, error)
	// Dial opens connections to other nodes; nil for TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Flip is asked to damage one value of a database, in builds with the tag
	// "faults" only; nil if that cannot be done.
	Flip func(db int, key []byte) bool
}

// LogConfig says how the log is kept. Zero values stand for the defaults.
type LogConfig struct {
	Store         string // LogStoreWAL or LogStoreBolt; "" for the former
	MaxEntryBytes int64  // largest command; 0 for 32 MiB, at most 60 MiB
	SnapshotBytes int64  // log bytes that lead to a snapshot; 0 for 512 MiB
	TrailingBytes int64  // log bytes kept behind a snapshot for slow followers; 0 for 128 MiB
	// Check tells why this release cannot apply a command that is in the log. It is
	// asked about those behind the last snapshot before raft starts: the node is not
	// started over a log that it could not apply. Nil for no check.
	Check func(cmd []byte) error
	// DatasetBytes is roughly how big a snapshot is: one is not made before the
	// log has grown by as much. Nil for 0. Called from a goroutine of the node.
	DatasetBytes func() int64
}

// Source is what the node above knows and the cluster has to tell others or
// check. All methods are cheap and safe for concurrent use.
type Source interface {
	// Info is this node's record for the other nodes, opaque here, at most
	// MaxInfo bytes. It is not changed afterwards.
	Info() []byte
	// Established is the term of the last establishing entry the state machine
	// has applied.
	Established() uint64
	// Applied is the index of the last entry the state machine has applied.
	Applied() uint64
	// Time is this node's estimate of cluster time, ms, and whether it is known to
	// be right: after a start a node has yet to hear it.
	Time() (instant int64, known bool)
}

// Observe are callbacks for what happens; nil ones are not called. They must be
// fast and safe for concurrent use.
type Observe struct {
	StoreLogs func(time.Duration) // one append to the log, fsync included
	Round     func(time.Duration) // one confirmed round
	Snapshot  func(took time.Duration, err error)
	Beat      func() // after the view was made anew for no other reason than the passing of time
	// MasterTime is the cluster time, ms, that the confirmed master has just told.
	MasterTime func(ms int64)
	// VouchedTime is the cluster time, ms, that another node has just told which is
	// not the confirmed master, but knows it.
	VouchedTime func(ms int64)
}

// MaxInfo is the largest record Source.Info may return, bytes.
const MaxInfo = 2048

const (
	maxID         = 64
	minElection   = 20 * time.Millisecond
	defaultEntry  = 32 << 20
	maxEntry      = 60 << 20 // raft-wal cannot read entries over 64 MiB
	defaultSnap   = 512 << 20
	defaultTrail  = 128 << 20
	defaultTiming = 250 * time.Millisecond
)

// errSecret is why a list of peers alone is not enough.
var errSecret = errors.New("other nodes are set but no cluster secret: anyone who reaches the raft port could join")

// withDefaults fills in what is left out, and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	c.Clock = orDefault(c.Clock, clock.Clock(clock.System{}))
	c.Logger = orDefault(c.Logger, slog.New(slog.DiscardHandler))
	c.ElectionTimeout = orDefault(c.ElectionTimeout, defaultTiming)
	c.Log.Store = orDefault(c.Log.Store, LogStoreWAL)
	c.Log.MaxEntryBytes = orDefault(c.Log.MaxEntryBytes, defaultEntry)
	c.Log.SnapshotBytes = orDefault(c.Log.SnapshotBytes, defaultSnap)
	c.Log.TrailingBytes = orDefault(c.Log.TrailingBytes, defaultTrail)
	if c.Log.DatasetBytes == nil {
		c.Log.DatasetBytes = func() int64 { return 0 }
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Listen == nil {
		c.Listen = c.listenAtBind
	}
	return c, c.check()
}

func (c *Config) listenAtBind() ([]net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(context.Background(), "tcp", c.Bind)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// check refuses what cannot work.
func (c *Config) check() error {
	switch {
	case !validID(c.NodeID):
		return fmt.Errorf("node id %q: 1 to %d letters, digits and ._-", c.NodeID, maxID)
	case c.Dir == "":
		return errors.New("no data directory")
	case c.ElectionTimeout < minElection:
		return fmt.Errorf("election timeout %v is below %v", c.ElectionTimeout, minElection)
	case c.Log.Store != LogStoreWAL && c.Log.Store != LogStoreBolt:
		return fmt.Errorf("log store %q: %s or %s", c.Log.Store, LogStoreWAL, LogStoreBolt)
	case c.Log.MaxEntryBytes < 1 || c.Log.MaxEntryBytes > maxEntry:
		return fmt.Errorf("largest entry %d: 1 to %d bytes", c.Log.MaxEntryBytes, maxEntry)
	case c.NodeID == anyNode:
		return fmt.Errorf("node id %q is reserved", c.NodeID)
	case len(c.Join) > 0:
		return c.checkJoin()
	case len(c.Peers) == 0:
		return nil
	}
	return c.checkPeers()
}

func (c *Config) checkJoin() error {
	for _, addr := range c.Join {
		if !validAddr(addr) {
			return fmt.Errorf("join: address %q is not host:port", addr)
		}
	}
	switch {
	case len(c.Peers) > 0:
		return errors.New("peers form a cluster and join enters one: only one of them can be given")
	case c.Secret == "":
		return errSecret
	case !validAddr(c.Announce):
		return fmt.Errorf("a node that joins has to say where it is reached: announced address %q is not host:port", c.Announce)
	}
	return nil
}

func (c *Config) checkPeers() error {
	if len(c.Peers) > maxNodes {
		return fmt.Errorf("%d peers are more than %d", len(c.Peers), maxNodes)
	}
	seen := map[string]bool{}
	for _, p := range c.Peers {
		switch {
		case !validID(p.ID):
			return fmt.Errorf("peer id %q: 1 to %d letters, digits and ._-", p.ID, maxID)
		case seen[p.ID]:
			return fmt.Errorf("peer %s is listed twice", p.ID)
		case !validAddr(p.Addr):
			return fmt.Errorf("peer %s: address %q is not host:port", p.ID, p.Addr)
		}
		seen[p.ID] = true
	}
	told := state{stage: stageReady, cluster: strings.Repeat("c", maxCluster), peers: c.Peers}
	switch {
	case len(told.encode()) > maxFrame:
		return errors.New("the list of peers is too long for nodes to tell each other: use shorter names")
	case !seen[c.NodeID]:
		return fmt.Errorf("node id %s is not among the peers", c.NodeID)
	case !c.alone() && c.Secret == "":
		return errSecret
	case c.Announce != "" && !validAddr(c.Announce):
		return fmt.Errorf("announced address %q is not host:port", c.Announce)
	}
	return nil
}

// alone tells whether this is a cluster of one.
func (c *Config) alone() bool { return len(c.Peers) <= 1 && len(c.Join) == 0 }

// announced is where the others reach this node.
func (c *Config) announced() string {
	if c.Announce != "" {
		return c.Announce
	}
	for _, p := range c.Peers {
		if p.ID == c.NodeID {
			return p.Addr
		}
	}
	return c.NodeID // a cluster of one is reached by nobody
}

// sortedPeers is the static list in the order of ids.
func (c *Config) sortedPeers() []Peer {
	list := slices.Clone(c.Peers)
	if len(list) == 0 {
		list = []Peer{{ID: c.NodeID, Addr: c.announced()}}
	}
	slices.SortFunc(list, func(a, b Peer) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return list
}

func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '.' && r != '_' && r != '-' {
			return false
		}
	}
	return true
}

func validAddr(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	return err == nil && host != "" && port != "" && len(addr) <= maxAddr
}
