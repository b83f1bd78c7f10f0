package config

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Directive is everything about one directive. Directives are values and never
// change.
type Directive struct {
	Name    string
	Aliases []string // older names Redis still accepts
	Group   string   // heading in documents
	Default string
	// Mutable says that CONFIG SET changes it while the node runs.
	Mutable bool
	// Replicated says that all nodes use one value: the first master's, until
	// CONFIG SET changes it everywhere.
	Replicated bool
	// Secret says that its value appears in no log line and no error. Hidden says
	// that CONFIG GET leaves it out, too.
	Secret, Hidden bool
	Short          string // one line
	Long           string // more about it, for documents
	kind           kind
}

// Kind says in a few words what may be written as a value.
func (d *Directive) Kind() string { return d.kind.name() }

// assign gives the directive a value written as one string.
func (d *Directive) assign(c *Config, value string) error {
	if !d.kind.multi() {
		return d.kind.set(c, []string{value})
	}
	words, err := splitWords(value)
	if err != nil {
		return err
	}
	return d.kind.set(c, words)
}

// Directives are all directives, grouped as in documents. The result is the caller's.
func Directives() []Directive { return slices.Clone(directives) }

// find is the directive with this name or alias, in any case, or nil.
func find(name string) *Directive {
	for i := range directives {
		d := &directives[i]
		if strings.EqualFold(d.Name, name) || slices.ContainsFunc(d.Aliases, func(a string) bool { return strings.EqualFold(a, name) }) {
			return d
		}
	}
	return nil
}

// Limits of directives.
const (
	mib = 1 << 20
	// maxEntry keeps an entry readable: the log store accepts more than 64 MiB
	// and can never read it again.
	maxEntry = 60 * mib
	// minBulk is the least Redis accepts for buffers and arguments.
	minBulk = mib
	// maxDatabases bounds what an empty node allocates.
	maxDatabases = 1024
	// allPermissions is the largest value of unixsocketperm.
	allPermissions = 0o777
	minElection    = 50 * time.Millisecond
	maxElection    = 10 * time.Second
	// maxHold keeps a node that was told to stop from being killed for taking too long.
	minHold = 50 * time.Millisecond
	maxHold = 5 * time.Second
)

// Headings of the documents.
const (
	groupNetwork  = "Listening and passwords"
	groupClients  = "Limits on clients"
	groupSentinel = "The Sentinel port"
	groupCluster  = "The cluster"
	groupProcess  = "The process"
)

// directives is the table. Order is that of the documents.
var directives = slices.Concat(networkDirectives, clientDirectives, sentinelDirectives, clusterDirectives, processDirectives)

var networkDirectives = []Directive{
	{
		Name: "port", Group: groupNetwork, Default: "6379",
		Short: "Port for applications and redis-cli.",
		Long:  "0 listens on none.",
		kind:  ports(func(c *Config) *int { return &c.Port }),
	},
	{
		Name: "bind", Group: groupNetwork, Default: "* -::*",
		Short: "Addresses on which every port listens.",
		Long:  "`*` is every IPv4 address and `::*` every IPv6 address. With a minus in front, an address that the machine does not have is passed over.",
		kind:  bindList{},
	},
	{
		Name: "unixsocket", Group: groupNetwork,
		Short: "Path of a socket on which programs of this machine reach the data port.",
		Long:  "It serves like `port`, and clients on it pass `protected-mode`. A socket that nobody listens on any more is replaced; anything else at that path is left alone, and the node does not start.",
		kind:  texts("path", func(c *Config) *string { return &c.UnixSocket }, checkSocket),
	},
	{
		Name: "unixsocketperm", Group: groupNetwork, Default: "0",
		Short: "Permissions of `unixsocket`, octal.",
		Long:  "0 leaves them to the umask of the process. Connecting takes the permission to write: 770 is for the group of the node's user, 777 for everybody.",
		kind:  octals(func(c *Config) *int { return &c.UnixSocketPerm }, allPermissions),
	},
	{
		Name: "protected-mode", Group: groupNetwork, Default: "yes", Mutable: true,
		Short: "Without a password, serve only clients on the same machine.",
		Long:  "It concerns the data port. Set `requirepass` to serve other machines.",
		kind:  flags(func(c *Config) *bool { return &c.ProtectedMode }),
	},
	{
		Name: "requirepass", Group: groupNetwork, Mutable: true, Secret: true,
		Short: "Password of the data port.",
		Long:  "Use the same on all nodes. Give it in the environment or in a file: flags can be seen by every user of the machine.",
		kind:  texts("text", func(c *Config) *string { return &c.RequirePass }, nil),
	},
	{
		Name: "replica-announce-ip", Aliases: []string{"slave-announce-ip"}, Group: groupNetwork,
		Mutable: true,
		Short:   "Host under which clients are told to find this node.",
		Long:    "Without it: the host of `raft-announce`, else of this node's entry in `peers`, else the first single address of `bind`, else 127.0.0.1. Some clients compare it with the address they are connected to, so prefer an IP address. The nodes reach each other at `raft-announce` or `peers` whatever is announced here: give clients outside a container network the address that is forwarded to this node.",
		kind:    texts("host", func(c *Config) *string { return &c.ReplicaAnnounceIP }, checkHost),
	},
	{
		Name: "replica-announce-port", Aliases: []string{"slave-announce-port"}, Group: groupNetwork, Default: "0", Mutable: true,
		Short: "Port under which clients are told to find this node.",
		Long:  "0 means `port`.",
		kind:  ports(func(c *Config) *int { return &c.ReplicaAnnouncePort }),
	},
}

var clientDirectives = []Directive{
	{
		Name: "maxclients", Group: groupClients, Default: "10000", Mutable: true,
		Short: "How many clients may be connected to a port at once.",
		kind:  integers(func(c *Config) *int { return &c.MaxClients }, 1, math.MaxUint32),
	},
	{
		Name: "timeout", Group: groupClients, Default: "0", Mutable: true,
		Short: "Close a client that was idle for so many seconds.",
		Long:  "0 never does. Subscribed clients are left alone.",
		kind:  seconds(func(c *Config) *time.Duration { return &c.Timeout }),
	},
	{
		Name: "tcp-keepalive", Group: groupClients, Default: "300", Mutable: true,
		Short: "Seconds between keepalive probes on idle connections.",
		Long:  "0 sends none. A new value is for connections made afterwards.",
		kind:  seconds(func(c *Config) *time.Duration { return &c.TCPKeepAlive }),
	},
	{
		Name: "databases", Group: groupClients, Default: "16", Replicated: true,
		Short: "Number of databases.",
		Long:  "It is fixed when the cluster is formed.",
		kind:  integers(func(c *Config) *int { return &c.Databases }, 1, maxDatabases),
	},
	{
		Name: "proto-max-bulk-len", Group: groupClients, Default: "32mb", Mutable: true, Replicated: true,
		Short: "Largest single argument of a command.",
		Long:  "At most `max-entry-bytes`, which takes its place if it is lower.",
		kind:  memories(func(c *Config) *int64 { return &c.ProtoMaxBulkLen }, minBulk, math.MaxInt64),
	},
	{
		Name: "client-query-buffer-limit", Group: groupClients, Default: "1gb", Mutable: true,
		Short: "How much of a client's unfinished input is kept.",
		kind:  memories(func(c *Config) *int64 { return &c.ClientQueryBufferLimit }, minBulk, math.MaxInt64),
	},
	{
		Name: "client-output-buffer-limit", Group: groupClients, Mutable: true,
		Default: "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
		Short:   "How much output may wait for a client before it is closed.",
		Long:    "Groups of class (`normal`, `replica` or `slave`, `pubsub`), hard limit, soft limit, and seconds for which the soft limit may be exceeded. Classes that are not named keep theirs. The class of replicas is accepted because Redis has it, and has no effect: nodes replicate over the raft port.",
		kind:    outputLimits{},
	},
	{
		Name: "tracking-table-max-keys", Group: groupClients, Default: "1000000", Mutable: true,
		Short: "How many keys are remembered for clients that track what they read (CLIENT TRACKING).",
		Long:  "Beyond it keys are dropped at random, and who had read them is told as if they had changed. 0 is any number; but the table never takes more than about 256 MiB.",
		kind:  integers(func(c *Config) *int { return &c.TrackingTableMaxKeys }, 0, math.MaxInt),
	},
	{
		Name: "enable-debug-command", Group: groupClients, Default: DebugNo,
		Short: "Who may use DEBUG.",
		Long:  "`local` is for clients on the same machine.",
		kind:  choices(func(c *Config) *string { return &c.EnableDebugCommand }, DebugNo, DebugYes, DebugLocal),
	},
}

var sentinelDirectives = []Directive{
	{
		Name: "sentinel-port", Group: groupSentinel, Default: "26379",
		Short: "Port on which Sentinel-aware clients ask for the master.",
		Long:  "0 listens on none.",
		kind:  ports(func(c *Config) *int { return &c.SentinelPort }),
	},
	{
		Name: "sentinel-requirepass", Group: groupSentinel, Mutable: true, Secret: true,
		Short: "Password of the Sentinel port.",
		Long:  "Clients give it apart from the data port's, usually as `sentinelPassword`.",
		kind:  texts("text", func(c *Config) *string { return &c.SentinelRequirePass }, nil),
	},
	{
		Name: "sentinel-announce-ip", Group: groupSentinel, Mutable: true,
		Short: "Host under which clients are told to find this node's Sentinel port.",
		Long:  "Without it, the host announced for the data port.",
		kind:  texts("host", func(c *Config) *string { return &c.SentinelAnnounceIP }, checkHost),
	},
	{
		Name: "sentinel-announce-port", Group: groupSentinel, Default: "0", Mutable: true,
		Short: "Port under which clients are told to find this node's Sentinel port.",
		Long:  "0 means `sentinel-port`.",
		kind:  ports(func(c *Config) *int { return &c.SentinelAnnouncePort }),
	},
	{
		Name: "sentinel-resolve-hostnames", Group: groupSentinel, Default: "no", Mutable: true,
		Short: "Look up the address of a host name that this node announces.",
		Long:  "With `yes` clients are told the IP address that the name stands for on this node, looked up again every 30 seconds, unless `sentinel-announce-hostnames` is set. With `no` they are told what the directives say.",
		kind:  flags(func(c *Config) *bool { return &c.SentinelResolveHostnames }),
	},
	{
		Name: "sentinel-announce-hostnames", Group: groupSentinel, Default: "no", Mutable: true,
		Short: "Tell clients the host names of the nodes instead of IP addresses.",
		Long:  "For certificates that hold names, and for clients that reach a name at another address than the nodes do. It concerns hosts that the directives give as names; an IP address stays one.",
		kind:  flags(func(c *Config) *bool { return &c.SentinelAnnounceHostnames }),
	},
	{
		Name: "master-name", Group: groupSentinel, Default: "mymaster",
		Short: "Names under which Sentinel clients ask for the master.",
		Long:  "One, or several separated by commas or blanks: all of them stand for this cluster. The same on every node.",
		kind:  nameList{},
	},
}

var clusterDirectives = []Directive{
	{
		Name: "node-id", Group: groupCluster,
		Short: "Name of this node within the cluster.",
		Long:  "Needed with `peers`, where it must be listed, and with `join`; never give two nodes the same. Without both it is n1.",
		kind:  texts("id", func(c *Config) *string { return &c.NodeID }, checkNodeID),
	},
	{
		Name: "peers", Group: groupCluster,
		Short: "All nodes of the cluster, this one included.",
		Long:  "The same list on every node; `n1=10.0.0.1:16379,n2=10.0.0.2:16379,n3=10.0.0.3:16379`. The addresses are those of the raft ports. IPv6 addresses stand in brackets. Without it the node is a cluster of one.",
		kind:  peerList{},
	},
	{
		Name: "join", Group: groupCluster,
		Short: "Nodes of a running cluster that this node asks to take it in.",
		Long:  "Instead of `peers`, for a node with an empty directory: `10.0.0.1:16379,10.0.0.2:16379`. The addresses are those of the raft ports; one that answers is enough. The node gets a vote once it has caught up. Needs `node-id` and `cluster-secret`, and `raft-announce` unless `bind` names an address. Later starts find the cluster by what is in the directory; the directive may stay.",
		kind:  joinList{},
	},
	{
		Name: "raft-port", Group: groupCluster, Default: "16379",
		Short: "Port for the other nodes.",
		kind:  ports(func(c *Config) *int { return &c.RaftPort }),
	},
	{
		Name: "raft-announce", Group: groupCluster,
		Short: "Address (host:port) at which the other nodes reach this one.",
		Long:  "Without it, this node's entry in `peers`, or the address in `bind`.",
		kind:  texts("host:port", func(c *Config) *string { return &c.RaftAnnounce }, checkOptionalAddr),
	},
	{
		Name: "cluster-secret", Group: groupCluster, Secret: true, Hidden: true,
		Short: "Secret that the nodes prove to each other before they talk.",
		Long:  "The same on every node, and needed with `peers` and `join`. It proves who is there and encrypts nothing: keep the raft port on a network you trust. Give it in the environment or in a file: flags can be seen by every user of the machine.",
		kind:  texts("text", func(c *Config) *string { return &c.ClusterSecret }, nil),
	},
	{
		Name: "election-timeout", Group: groupCluster, Default: "250ms",
		Short: "How long a silent master is waited for before another is elected.",
		Long:  "The same on every node. A failover takes two to three times as long. Raise it if the metrics show disks whose slowest syncs take more than a quarter of it.",
		kind:  durations(func(c *Config) *time.Duration { return &c.ElectionTimeout }, minElection, maxElection),
	},
	{
		Name: "max-entry-bytes", Group: groupCluster, Default: "32mb", Replicated: true,
		Short: "Largest entry of the log, and so the largest command, transaction and value.",
		Long:  "At most 60mb. Larger commands are refused before anything is done.",
		kind:  memories(func(c *Config) *int64 { return &c.MaxEntryBytes }, minBulk, maxEntry),
	},
	{
		Name: "read-mode", Group: groupCluster, Default: ReadQuorum,
		Short: "What a read on the master may be answered with.",
		Long:  "With `quorum` a majority of the nodes confirms that this node is still the master, so no read is ever old. With `lease` the same holds without a message for each read, as long as the nodes' clocks run about equally fast and no machine is stopped by its hypervisor; see docs/consistency.md. With `local` the node answers at once with what it has, as Redis does.",
		kind:  choices(func(c *Config) *string { return &c.ReadMode }, ReadQuorum, ReadLease, ReadLocal),
	},
	{
		Name: "replica-mode", Group: groupCluster, Default: ReplicaRedis, Mutable: true,
		Short: "What a node that is not the master does for its clients.",
		Long:  "With `redis` it answers reads from its own state, which may be a little old, and refuses writes, as a Redis replica does. With `forward` it passes commands on to the master, so that a client that knows a single address, or a load balancer, works with any node; reads are as new as the master's. ROLE says slave in both.",
		kind:  choices(func(c *Config) *string { return &c.ReplicaMode }, ReplicaRedis, ReplicaForward),
	},
	{
		Name: "replica-priority", Aliases: []string{"slave-priority"}, Group: groupCluster, Default: "100", Mutable: true,
		Short: "How much this node is preferred as the next master in a planned handover; the lower the more.",
		Long:  "Of the nodes that have the whole log the one with the lowest value is chosen. With 0 it never is, and should the node be elected all the same it hands over as soon as another one is up to date.",
		kind:  integers(func(c *Config) *int { return &c.ReplicaPriority }, 0, math.MaxInt32),
	},
	{
		Name: "handover-hold", Group: groupCluster, Default: "1s", Mutable: true,
		Short: "How long a node that has handed over its leadership still serves the clients it has.",
		Long:  "Their commands go to the new master. A connection is closed when it has been idle for 20 ms, at the latest after this time.",
		kind:  durations(func(c *Config) *time.Duration { return &c.HandoverHold }, minHold, maxHold),
	},
	{
		Name: "log-store", Group: groupCluster, Default: LogStoreWAL,
		Short: "File format of the log.",
		Long:  "`wal` is the faster one. A directory written with one is not opened with the other.",
		kind:  choices(func(c *Config) *string { return &c.LogStore }, LogStoreWAL, LogStoreBolt),
	},
	{
		Name: "digest-every", Group: groupCluster, Default: "50000",
		Short: "How many entries of the log lie between two comparisons of the nodes' states.",
		Long:  "The same on every node: they are compared where their checkpoints are at the same entries. With more than 64 MiB of keys and values the distance doubles for each doubling. A node whose state differs from that of most others stops. 0 compares nothing.",
		kind:  integers(func(c *Config) *int { return &c.DigestEvery }, 0, math.MaxInt32),
	},
}

var processDirectives = []Directive{
	{
		Name: "dir", Group: groupProcess, Default: "./data",
		Short: "Directory of the node's files.",
		Long:  "It is made if it does not exist. No two nodes may share one.",
		kind:  texts("path", func(c *Config) *string { return &c.Dir }, checkPath),
	},
	{
		Name: "metrics-port", Group: groupProcess, Default: "9121",
		Short: "HTTP port for /metrics, /healthz, /readyz and /leader.",
		Long:  "0 listens on none.",
		kind:  ports(func(c *Config) *int { return &c.MetricsPort }),
	},
	{
		Name: "supervised", Group: groupProcess, Default: SupervisedAuto,
		Short: "Whether systemd is told when the node is ready, stops, and is alive.",
		Long:  "With `auto` it is if the service is of `Type=notify`; with `systemd` the log warns if it is not. [deploy/holdfast.service](../deploy/holdfast.service) is such a service.",
		kind:  choices(func(c *Config) *string { return &c.Supervised }, SupervisedNo, SupervisedSystemd, SupervisedAuto),
	},
	{
		Name: "loglevel", Group: groupProcess, Default: "notice", Mutable: true,
		Short: "How much is logged.",
		kind:  choices(func(c *Config) *string { return &c.LogLevel }, "debug", "verbose", "notice", "warning"),
	},
	{
		Name: "logfile", Group: groupProcess,
		Short: "File the log is appended to.",
		Long:  "Without it the log goes to standard error.",
		kind:  texts("path", func(c *Config) *string { return &c.LogFile }, nil),
	},
}

func checkNodeID(id string) error {
	if id == "" {
		return nil
	}
	return checkID(id)
}

func checkOptionalAddr(addr string) error {
	if addr == "" {
		return nil
	}
	return checkAddr(addr)
}

// checkSocket accepts "" and the path of a unix socket. One that begins with @ would
// name a socket without a file, and so without permissions.
func checkSocket(path string) error {
	const longest = 107 // bytes that fit the kernel's address, see unix(7)
	if len(path) > longest || strings.ContainsRune(path, 0) || strings.HasPrefix(path, "@") {
		return fmt.Errorf("a path of at most %d bytes that does not begin with @ is needed", longest)
	}
	return nil
}

func checkPath(path string) error {
	if path == "" || strings.ContainsRune(path, 0) {
		return errors.New("a path is needed")
	}
	return nil
}
