package respserver

import (
	"context"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/store"
)

// Submitter takes batches to the log. It ends every request of a batch exactly
// once, within a bound of its own.
type Submitter interface {
	Submit(b *command.Batch)
}

// Confirmer proves that this node is still the master.
type Confirmer interface {
	// Confirm returns nil if this node was the established master at an instant
	// after the call began.
	Confirm(ctx context.Context) error
}

// Passed tells of what this node has passed on to the master.
type Passed interface {
	// Written is a log index that covers every command that was passed on and
	// answered.
	Written() uint64
	// Versions are what the master would have WATCH remember of keys.
	Versions(ctx context.Context, db int, keys [][]byte) ([]uint64, error)
	// Acknowledged is how many replicas the master knows to have the log up to index.
	Acknowledged(ctx context.Context, index uint64) (int64, error)
}

// Data is this node's state.
type Data interface {
	// View runs fn at the present read instant with database db selected, and
	// returns the due keys that its reads met.
	View(db int, fn func(r *store.Reader)) []store.Victim
	// Freeze is a view of the present state; the caller releases it.
	Freeze() *store.Frozen
	// Expire returns nil once the removal of the victims is committed and applied here.
	Expire(ctx context.Context, victims []store.Victim) error
}

// Role is what this node believes to be, at one instant.
type Role struct {
	// Master tells that this node is the established leader as far as it knows.
	// Clients are told so only after a confirmation.
	Master bool
	// Loading tells that the state has not caught up since the start.
	Loading bool
	// MasterHost and MasterPort are where the master serves clients; empty and 0 if unknown.
	MasterHost string
	MasterPort int
	// NamedUntil is the instant, by clock.Boot, until which the master may be named; 0 for
	// no limit.
	NamedUntil time.Duration
	// DiskShort tells that this master takes no writes, because a disk has too little
	// space.
	DiskShort bool
	// LinkUp tells that this replica has recently heard from the master.
	LinkUp bool
	// Forward tells that this node, which is not the master, serves clients as if it
	// was: Submit passes on to the master what it gets, which may then be a batch of
	// reads only, and Fresh and Passed ask it.
	Forward bool
	// HandingOver tells that this node hands over, or has just handed over, its
	// leadership.
	HandingOver bool
}

// serves tells whether clients may write here, and read what is newest.
func (r *Role) serves() bool { return r.Master || r.Forward }

// Roles tells the present role; it is asked once per pipeline and must be cheap.
type Roles interface {
	Role() Role
}

// ReplicaState is a replica as the master sees it.
type ReplicaState struct {
	Host  string
	Port  int
	Acked uint64 // the log index up to which it has acknowledged entries, fsynced
	Lag   int    // whole seconds since it last answered
	Up    bool   // it answers
}

// Replication tells how far the log has come.
type Replication interface {
	// Index is the log index this node's state has reached; it covers everything that was
	// answered before the call. It is cheap.
	Index() uint64
	// History is the identity of the replicated history, 40 hex digits, the same on
	// all nodes of a cluster; empty while there is none.
	History() string
	// Replicas are the other members with a data port, in a stable order.
	Replicas() []ReplicaState
}

// Pair is a name and its value, of a setting or of a line of INFO.
type Pair struct {
	Name, Value string
}

// Settings are the parameters that CONFIG shows and changes.
type Settings interface {
	// Get returns the settings whose names match the glob pattern, without
	// regard to case, sorted by name.
	Get(pattern string) []Pair
	// Set changes all of the settings or none. The error's text is what the
	// client is told after "ERR ", unless it is a resp.Error.
	Set(ctx context.Context, pairs []Pair) error
}

// SaveStatus is what is known of snapshots.
type SaveStatus struct {
	LastUnix    int64 // when the last one was finished, s since the epoch; the node's start before the first
	LastOK      bool  // whether the last one succeeded
	LastSeconds int   // how long it took; -1 before the first
	Running     bool  // one is being made
	Saves       int64 // how many were made since the start
	Changes     int64 // commands applied since the last one
}

// Persister makes snapshots.
type Persister interface {
	// Save makes a snapshot and waits for it.
	Save(ctx context.Context) error
	// Status is cheap.
	Status() SaveStatus
}

// InfoSource gives what INFO shows and only the node knows.
type InfoSource interface {
	Info() Info
}

// Info is the part of INFO that does not come from the server itself.
type Info struct {
	Store   store.Stats
	Expired int64  // keys removed since their deadline had come, since the start
	Raft    []Pair // the lines of "# Raft"
	More    []Pair // further lines of "# Server", such as settings that differ from the cluster's
	// Sentinel writes the section "# Sentinel", heading included, on that port.
	Sentinel func() string
}

// ShutdownMode is what SHUTDOWN asked for.
type ShutdownMode struct {
	NoSave, Save, Now, Force, Abort bool
}
