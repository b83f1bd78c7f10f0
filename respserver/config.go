package respserver

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/tracking"
)

// Config is what a Server is built from. On the Sentinel port Submit, Confirm,
// Data, Roles and the others that serve data stay nil: its table has no command
// that asks for them.
type Config struct {
	// Table are the commands of this port. Tables do not share specs, but two
	// servers may share a table.
	Table *command.Table
	// Identity is what INFO and HELLO say of the node.
	Identity Identity
	// Sentinel tells that this is the Sentinel port.
	Sentinel bool
	// LocalReads leaves reads unconfirmed (read-mode local).
	LocalReads bool
	// Tuning is where the changeable parameters start; see Server.Tune.
	Tuning Tuning

	Submit  Submitter
	Confirm Confirmer
	// Fresh lets reads be answered: it returns nil once this node's state holds all
	// that had been answered by the master when the call began. On the master it is
	// what Confirm is, and the default.
	Fresh       Confirmer
	Passed      Passed // needed if a Role may say Forward
	Data        Data
	Roles       Roles
	Replication Replication
	Persist     Persister
	Settings    Settings
	Members     Members
	Info        InfoSource
	Digests     Digests
	Hub         *pubsub.Hub // for SUBSCRIBE
	// Tracking is what NewChanges tells of changes; nil for a table of the server's
	// own, which hears of none.
	Tracking *tracking.Table

	// Shutdown is told what SHUTDOWN asked for, once per command. If it returns
	// nil the connection ends without a reply; with Abort a nil cancels one.
	Shutdown func(mode ShutdownMode) error

	// Failover begins what FAILOVER asked for, or says why not; nil on a node that
	// has no other to hand over to.
	Failover func(r FailoverRequest) error

	// SizeOf is the size of the log entry a request would make; Tuning says which
	// are too large. No SizeOf, no refusal.
	SizeOf func(r *command.Request) int

	// CommandBound is how long the log or a confirmation may keep a connection
	// waiting before it is given up and closed. It is a second line: both have
	// bounds of their own, which should be shorter. 0 means 15 s.
	CommandBound time.Duration
	// WriteBound is how long a client may leave replies unread, not taking a
	// single byte, before it is closed. 0 means 60 s.
	WriteBound time.Duration
	// PendingBudget bounds the memory that replies to all slow readers
	// together take before further ones wait. 0 means 512 MiB.
	PendingBudget int64

	Clock clock.Clock  // nil for the machine's
	Log   *slog.Logger // nil for none
}

// Identity is what stays the same while a node runs.
type Identity struct {
	Version      string // Holdfast's
	RedisVersion string // whose behaviour is offered
	RunID        string // 40 hex digits, of this node
	NodeID       string
	Port         int // of this server
	ConfigFile   string
	Supervised   string // by whom the process is watched; "" for nobody
}

// Tuning are the parameters that can change while the server runs.
type Tuning struct {
	// Password is requirepass (on the Sentinel port sentinel-requirepass); empty for none.
	Password string
	// Databases is the number of databases; 0 counts as 1.
	Databases int
	// MaxEntryBytes is the size of log entries above which a request is refused.
	MaxEntryBytes int
	// MaxClients is how many connections are served at once; 0 for 10,000.
	MaxClients int
	// Timeout is how long a normal connection may stay idle; 0 for ever.
	Timeout time.Duration
	// KeepAlive is the TCP keepalive period; 0 switches it off.
	KeepAlive time.Duration
	// Protected refuses peers beyond this machine while there is no password.
	Protected bool
	// Requests bounds what a client may send; what is 0 is as in resp.DefaultLimits.
	Requests resp.Limits
	// NormalOutput and PubSubOutput bound what may wait for a slow reader.
	NormalOutput, PubSubOutput OutputLimit
	// TrackingKeys is how many keys are remembered for clients that track; 0 for any
	// number.
	TrackingKeys int
	// DebugCommand allows DEBUG: "yes", "local" or anything else for no.
	DebugCommand string
	// ReplicaPriority is what INFO of a replica shows as slave_priority.
	ReplicaPriority int
}

// OutputLimit is one class of client-output-buffer-limit: a client is closed
// when more than Hard bytes wait for it, or more than Soft for longer than
// SoftFor. 0 stands for no such limit.
type OutputLimit struct {
	Hard, Soft int64
	SoftFor    time.Duration
}

const (
	defaultMaxClients    = 10_000
	defaultCommandBound  = 15 * time.Second
	defaultWriteBound    = 60 * time.Second
	defaultPendingBudget = 512 << 20
)

// withDefaults fills what was left open.
func (c Config) withDefaults() Config {
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Fresh == nil {
		c.Fresh = c.Confirm
	}
	if c.CommandBound == 0 {
		c.CommandBound = defaultCommandBound
	}
	if c.WriteBound == 0 {
		c.WriteBound = defaultWriteBound
	}
	if c.PendingBudget == 0 {
		c.PendingBudget = defaultPendingBudget
	}
	return c
}

func (t Tuning) withDefaults() Tuning {
	if t.MaxClients == 0 {
		t.MaxClients = defaultMaxClients
	}
	t.Databases = max(t.Databases, 1)
	redis := resp.DefaultLimits()
	t.Requests.MaxBulk = cmp.Or(t.Requests.MaxBulk, redis.MaxBulk)
	t.Requests.MaxArgs = cmp.Or(t.Requests.MaxArgs, redis.MaxArgs)
	t.Requests.MaxQuery = cmp.Or(t.Requests.MaxQuery, redis.MaxQuery)
	return t
}
