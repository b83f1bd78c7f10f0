// Package config holds the directives of a node: their names, grammar, defaults
// and limits, the sources they are read from, and the values that can change
// while the node runs. Names and grammar are those of redis.conf where Redis
// has the directive (redis.io/docs/management/config). It opens no file and no
// socket, and knows nothing of what a directive is used for.
package config

import (
	"log/slog"
	"time"
)

// Config is the value of every directive. It is a record: whoever holds one may
// read it from any goroutine and nobody changes it after Load or Settings gave
// it out; its slices are shared and never changed in place.
type Config struct {
	// Where clients connect.
	Port                int      // data port, 0 for none
	Bind                []string // addresses to listen on, as written; see BindAddresses
	ProtectedMode       bool     // without a password, refuse clients that are not on this machine
	UnixSocket          string   // path of a socket that serves like the data port, "" for none
	UnixSocketPerm      int      // permissions of UnixSocket, 0 for those the process's umask leaves
	RequirePass         string   // password of the data port, "" for none
	ReplicaAnnounceIP   string   // host told to clients, "" for what AnnouncedData finds
	ReplicaAnnouncePort int      // port told to clients, 0 for Port

	// What a client may use.
	MaxClients              int
	Timeout                 time.Duration // idle clients are closed after it, 0 for never
	TCPKeepAlive            time.Duration // 0 for none
	ProtoMaxBulkLen         int64         // largest argument, bytes; at most MaxEntryBytes
	ClientQueryBufferLimit  int64         // bytes a client may have sent and not yet been served
	ClientOutputBufferLimit OutputLimits
	Databases               int
	TrackingTableMaxKeys    int
	EnableDebugCommand      string // "no", "yes", or "local" for clients on this machine

	// The Sentinel port.
	SentinelPort         int      // 0 for none
	SentinelRequirePass  string   // "" for none
	SentinelAnnounceIP   string   // "" for the data port's
	SentinelAnnouncePort int      // 0 for SentinelPort
	MasterNames          []string // under which Sentinel clients ask for the master, at least one
	// SentinelResolveHostnames has names that this node announces looked up, unless
	// SentinelAnnounceHostnames has the names themselves told to clients.
	SentinelResolveHostnames, SentinelAnnounceHostnames bool

	// The cluster.
	NodeID          string   // "n1" if neither it nor peers was given
	Peers           []Peer   // all nodes, this one included; none for a cluster of one
	Join            []string // host:port of raft ports of a cluster that takes this node in, instead of Peers
	RaftPort        int
	RaftAnnounce    string // host:port where the others reach RaftPort, "" for what AnnouncedRaft finds
	ClusterSecret   string
	ElectionTimeout time.Duration
	MaxEntryBytes   int64         // largest log entry
	ReadMode        string        // ReadQuorum, ReadLease or ReadLocal
	ReplicaMode     string        // ReplicaRedis or ReplicaForward
	ReplicaPriority int           // the lower the rather this node is master next; 0 for never
	HandoverHold    time.Duration // how long clients are served by the old master after a handover
	LogStore        string        // LogStoreWAL or LogStoreBolt
	DigestEvery     int           // log entries between two comparisons of the nodes' states, 0 for none

	// The process.
	Dir         string
	MetricsPort int // 0 for none
	Supervised  string
	LogLevel    string
	LogFile     string // "" for standard error

	// Verbosity, if not nil, is the level of the process's logger; Settings moves
	// it when loglevel changes. No directive: whoever builds the logger sets it.
	Verbosity *slog.LevelVar
	// Warnings are remarks about accepted values, for the log at start.
	Warnings []string
}

// The values of read-mode.
const (
	ReadQuorum = "quorum" // a read is confirmed by a majority
	ReadLease  = "lease"  // a read needs no message while the master's lease holds, and is confirmed as with ReadQuorum otherwise
	ReadLocal  = "local"  // a read sees whatever this node has
)

// The values of replica-mode.
const (
	ReplicaRedis   = "redis"   // a replica answers reads by itself and refuses writes
	ReplicaForward = "forward" // a replica serves its clients through the master
)

// The values of log-store.
const (
	LogStoreWAL  = "wal"
	LogStoreBolt = "boltdb"
)

// The values of enable-debug-command.
const (
	DebugNo    = "no"
	DebugYes   = "yes"
	DebugLocal = "local"
)

// The values of supervised.
const (
	SupervisedNo      = "no"
	SupervisedSystemd = "systemd"
	SupervisedAuto    = "auto" // by systemd if it has left a socket for notices
)

// Default is the configuration without any setting: a cluster of one with its
// data in ./data. The result is the caller's.
func Default() *Config {
	c := unsettled()
	c.settle()
	return c
}

// unsettled holds the defaults of the table.
func unsettled() *Config {
	c := new(Config)
	for i := range directives {
		d := &directives[i]
		if err := d.assign(c, d.Default); err != nil {
			panic("config: default of " + d.Name + ": " + err.Error()) //nolint:forbidigo // the table contradicts itself; a test sees it
		}
	}
	return c
}

// settle derives what follows from other directives.
func (c *Config) settle() {
	if c.NodeID == "" && len(c.Peers) == 0 && len(c.Join) == 0 {
		c.NodeID = loneNode
	}
	if c.ProtoMaxBulkLen > c.MaxEntryBytes {
		c.ProtoMaxBulkLen = c.MaxEntryBytes
		c.Warnings = append(c.Warnings, "proto-max-bulk-len is above max-entry-bytes, which is used instead")
	}
}

// loneNode is the id of a node that was given neither an id nor peers.
const loneNode = "n1"

// SlogLevel is the level of a logger for a value of loglevel: Redis's notice is
// slog's Info and its verbose lies between Debug and Info.
func SlogLevel(loglevel string) slog.Level {
	switch loglevel {
	case "debug":
		return slog.LevelDebug
	case "verbose":
		return slog.LevelDebug + 2
	case "warning":
		return slog.LevelWarn
	default:
		return slog.LevelInfo
	}
}
