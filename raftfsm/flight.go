package raftfsm

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Endings of the operations that are not client requests.
var (
	// ErrRefused says that the operation was not and will not be executed: this
	// node is not established as master.
	ErrRefused = errors.New("raftfsm: refused, this node is not established as master")
	// ErrUnknown says that leadership was lost on the way: the operation may or
	// may not have been executed.
	ErrUnknown = errors.New("raftfsm: outcome unknown, leadership was lost on the way")
)

// part is a run of requests of one batch that travel in one proposal.
type part struct {
	batch    *command.Batch
	from, to int // requests [from, to)
	all      int // length of the batch, which is the submitter's again once its last request has ended
}

// op is an operation of the server itself: a tick, the establishing entry, a
// member, settings. Its ending is delivered once on done.
type op struct {
	kind    unitKind
	victims []store.Victim // of a tick
	unit    []byte         // of a member, settings or a level, encoded
	size    int            // encoded, at most; of the establishing entry, which travels alone, 0
	term    uint64         // of the establishing entry: the term it is meant for
	level   uint64         // the cluster is to have from the entry on; 0 to leave it
	done    chan error     // buffered for the one ending
}

func newOp(kind unitKind) *op { return &op{kind: kind, done: make(chan error, 1)} }

// proposal is one entry on its way: who waits for it. Whoever turns open into
// claimed (the FSM, about to apply it) or ended (the Proposer, giving up) ends
// its requests; the other one must not touch them any more.
type proposal struct {
	id      proposalID
	ops     []*op
	opUnits int // units of the entry that belong to ops; they come first
	parts   []part
	state   atomic.Uint32
	beside  int           // batches that were waiting when it was applied
	since   time.Duration // clock.Mono when it was sent, guarded by the Proposer's lock
	sent    bool          // guarded by the Proposer's lock
	era     uint64        // the Proposer's era in which it was built
	timer   *time.Timer   // ends it in doubt; set when sent, guarded by the Proposer's lock
}

const (
	flightOpen uint32 = iota
	flightClaimed
	flightEnded
)

// claim makes the caller the one that applies the proposal.
func (p *proposal) claim() bool { return p.state.CompareAndSwap(flightOpen, flightClaimed) }

// give makes the caller the one that ends the proposal without applying it.
func (p *proposal) give() bool { return p.state.CompareAndSwap(flightOpen, flightEnded) }

// end gives everything in the proposal the ending o, Refused or InDoubt. Only
// after give. The rest of a batch that was to follow is refused by the caller.
func (p *proposal) end(o command.Outcome) {
	reply, err := endingReply(o), ErrRefused
	if o == command.InDoubt {
		err = ErrUnknown
	}
	for i := range p.parts {
		p.parts[i].end(o, reply)
	}
	for _, x := range p.ops {
		x.done <- err
	}
}

// end ends the requests of the part.
func (t *part) end(o command.Outcome, reply resp.Value) {
	for i := t.from; i < t.to; i++ {
		t.batch.End(i, o, reply)
	}
}

// rest is what follows the part in its batch.
func (t *part) rest() part {
	return part{batch: t.batch, from: t.to, to: t.all, all: t.all}
}

func endingReply(o command.Outcome) resp.Value {
	if o == command.InDoubt {
		return resp.Err(resp.ErrInDoubt)
	}
	return resp.Err(resp.ErrReadOnly)
}

// flights are the proposals of this process that are in raft's hands. It is how
// the FSM finds those that wait for an entry. Safe for concurrent use.
type flights struct {
	mu   sync.Mutex
	open map[proposalID]*proposal // guarded by mu
	// claimed and applied are told, on the FSM's goroutine, that a proposal is about
	// to be applied, and that it was; opened, before that, that an establishing entry was. Set once by
	// NewProposer, guarded by mu.
	claimed func(p *proposal)
	applied func(p *proposal)
	opened  func(p *proposal, term uint64)
}

func newFlights() *flights { return &flights{open: map[proposalID]*proposal{}} }

func (f *flights) add(p *proposal) {
	f.mu.Lock()
	f.open[p.id] = p
	f.mu.Unlock()
}

func (f *flights) remove(p *proposal) {
	f.mu.Lock()
	delete(f.open, p.id)
	f.mu.Unlock()
}

// claim is the proposal of that number, claimed, or nil if this process did not
// make it or has given it up.
func (f *flights) claim(id proposalID) *proposal {
	f.mu.Lock()
	p := f.open[id]
	delete(f.open, id)
	f.mu.Unlock()
	if p == nil || !p.claim() {
		return nil
	}
	return p
}
