package command

import (
	"sync/atomic"

	"github.com/holdfast/holdfast/resp"
)

// Outcome is how a request ended.
type Outcome uint8

// The endings of a request. Exactly one of the last three is set, before
// Batch.Done delivers.
const (
	Pending Outcome = iota // on its way
	Replied                // Reply holds what apply (or the read beside it) answered
	Refused                // definitely not executed and never will be; Reply holds the error
	InDoubt                // may or may not have been executed; Reply holds resp.ErrInDoubt
)

// Request is one unit on its way through the log: a command of route Write or
// Replicated, an EXEC, or a Read riding beside the entry of its neighbours.
//
// Args, Exec and what they point to are borrowed from the submitter until the
// batch is done and must not change before; the submitter may not reuse their
// memory if it stops waiting earlier.
type Request struct {
	Spec *Spec    // what to run; for an EXEC the spec of EXEC itself
	DB   int      // the database selected on the connection
	Args [][]byte // the whole command, its name first; nil for an EXEC
	Exec *Exec    // not nil only for an EXEC

	Reply   resp.Value // the answer, once Outcome says there is one
	Outcome Outcome
}

// Exec is the body of a transaction: its commands run as one unit unless a
// watched key has changed.
type Exec struct {
	Queue []Queued
	Watch []Watched
}

// Queued is one command of a transaction.
type Queued struct {
	Spec *Spec
	DB   int // the database the command would have found selected, SELECTs inside MULTI included
	Args [][]byte
}

// Watched is a key as WATCH saw it: the transaction runs only if the version
// in the database is still the same when EXEC is applied.
type Watched struct {
	DB      int
	Key     []byte
	Version uint64
}

// Batch is what one connection submits at once: the writes of a pipeline and
// the reads between them, in order. A Batch is used by one submitter at a time
// and may be reused after Done delivered.
type Batch struct {
	Requests []Request
	// Abandoned, if not nil, tells whether the client has ended its connection: a
	// batch that is kept waiting need not be carried out then. Once it has said so it
	// goes on to. It is safe for concurrent use until the batch is done, and belongs to the
	// submitter, like Requests.
	Abandoned func() bool
	// Origin is the connection on this node that submits the batch, 0 for none.
	Origin int64

	left atomic.Int32
	done chan struct{}
}

// NewBatch returns an empty batch.
func NewBatch() *Batch { return &Batch{done: make(chan struct{}, 1)} }

// Reset empties the batch for reuse; it must not be on its way.
func (b *Batch) Reset() {
	clear(b.Requests)
	b.Requests = b.Requests[:0]
}

// Start marks the batch as submitted. The Submitter calls it once, before the
// first request can end.
func (b *Batch) Start() { b.left.Store(int32(len(b.Requests))) }

// End gives request i its ending. Each request is ended exactly once, by one
// goroutine at a time per request; the last ending delivers Done.
func (b *Batch) End(i int, o Outcome, reply resp.Value) {
	b.Requests[i].Reply, b.Requests[i].Outcome = reply, o
	if b.left.Add(-1) == 0 {
		b.done <- struct{}{}
	}
}

// Done delivers once when every request of the batch has ended.
func (b *Batch) Done() <-chan struct{} { return b.done }
