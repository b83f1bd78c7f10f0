package raftfsm

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Applier is the one thing the Proposer asks of raft.
type Applier interface {
	// Apply hands an entry to raft; see raft.Raft.Apply. The timeout bounds the
	// wait until raft takes it.
	Apply(cmd []byte, timeout time.Duration) raft.ApplyFuture
}

// Limits of one entry, and of proposals in raft's hands.
const (
	maxRequests = 1024      // client requests in one entry, riding reads included
	maxBytes    = 512 << 10 // encoded size; a bigger request travels alone
	maxVictims  = 512       // keys one tick removes
	maxOps      = 64        // operations of the server itself in one entry, ticks left out
	maxOpBytes  = 128 << 10 // their encoded size beside requests; a bigger one travels alone
	maxFlying   = 2         // more would make batches smaller, not commits faster

	// mostBytes is the size no entry may exceed: the log store cannot read
	// bigger ones back. Requests above max-entry-bytes, which is smaller, should
	// have been refused before they were submitted.
	mostBytes = 61 << 20
)

// ProposerConfig is what a Proposer is built of. FSM, Applier and Log must be set.
type ProposerConfig struct {
	FSM     *FSM
	Applier Applier
	Log     *slog.Logger
	NodeID  string
	// Timeout bounds the life of a proposal: after it the outcome is unknown.
	// Raft's futures may never resolve. 5 s if zero.
	Timeout time.Duration
	// ClusterID and Settings seed the system state in a cluster's first
	// establishing entry; HashSeed too, drawn at random if it is zero. ClusterID
	// is asked when this node becomes master: it was formed by then.
	ClusterID func() string
	HashSeed  [2]uint64
	Settings  store.Settings
	// Health, if set, is the health of all nodes as this one sees it when it becomes
	// master: its establishing entry records it, from LevelHealth on. It must not block.
	Health    func() map[string]store.Health
	TickEvery time.Duration // that RunTicks waits at most; 100 ms if zero
}

// Proposer makes log entries of what connections submit. It is the only one to
// call raft's Apply: one goroutine (Run) takes whatever is waiting, proposes it
// as one entry, and has at most two entries in raft's hands. All methods are
// safe for concurrent use.
//
// Two entries in raft's hands never hold requests of the same batch: the part
// of a batch that did not fit waits until the part before it was applied, and
// is refused if that one was not. So a refused entry cannot be overtaken by a
// later request of the same connection.
type Proposer struct {
	cfg     ProposerConfig
	process uint64        // random, names this process in proposals
	wake    chan struct{} // Run has something to look at
	master  chan struct{} // the gate was opened; for RunTicks
	stats   proposerStats

	mu struct {
		sync.Mutex
		open   bool   // established: client requests are taken
		closed bool   // Run has ended
		era    uint64 // counts openings and closings of the gate
		term   uint64 // of the last opening
		seq    uint64
		queue  line
		pace   pace
		ticks  []*op
		ops    []*op // members and settings
		first  *op   // the establishing entry waiting to be sent
		flying []*proposal
		pause  *pause // nil unless nothing more is taken

		requestsFirst bool // the last entry had no room for the request that was next
	}
}

// NewProposer returns a Proposer for the FSM, which can have one only.
func NewProposer(cfg ProposerConfig) *Proposer {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.TickEvery <= 0 {
		cfg.TickEvery = 100 * time.Millisecond
	}
	if cfg.HashSeed == [2]uint64{} {
		cfg.HashSeed = [2]uint64{random64(), random64()}
	}
	p := &Proposer{cfg: cfg, process: random64(), wake: make(chan struct{}, 1), master: make(chan struct{}, 1)}
	fl := cfg.FSM.flights
	fl.mu.Lock()
	fl.applied, fl.opened, fl.claimed = p.finish, p.opened, p.meet
	fl.mu.Unlock()
	return p
}

func random64() uint64 {
	var b [8]byte
	_, _ = crand.Read(b[:]) // never fails
	return binary.LittleEndian.Uint64(b[:])
}

// Submit takes the requests of b, which must not be empty, and ends each of
// them exactly once: Replied; Refused, if this node is not established as
// master or its leadership ended before the request was sent; InDoubt, if it
// ended after. It does not block on raft.
func (p *Proposer) Submit(b *command.Batch) {
	b.Start()
	all := part{batch: b, to: len(b.Requests), all: len(b.Requests)}
	size, most := measure(all)
	if err := p.admit(b, most); err != nil {
		p.stats.refused.Add(uint64(all.to))
		all.end(command.Refused, resp.Err(err))
		return
	}
	p.mu.Lock()
	if !p.takesLocked() {
		p.mu.Unlock()
		p.refuse(all)
		return
	}
	p.mu.queue.push(all, size)
	ready := p.readyLocked()
	p.mu.Unlock()
	if ready {
		p.stir()
	}
}

// admit tells why a batch can never be proposed: an entry that no log store can
// hold, or that no state machine can apply, would stop every node.
func (p *Proposer) admit(b *command.Batch, most int) error {
	if most > mostBytes {
		return resp.ErrEntryTooBig
	}
	for i := range b.Requests {
		r := &b.Requests[i]
		known := r.Exec != nil || p.knows(r.Spec)
		if r.Exec != nil {
			for k := range r.Exec.Queue {
				known = known && p.knows(r.Exec.Queue[k].Spec)
			}
		}
		if !known {
			p.cfg.Log.Error("a command that cannot be replicated was submitted", "cmd", r.Spec.FullName())
			return resp.ErrInternal
		}
	}
	return nil
}

// knows tells whether the FSM would find the command, as every other node's.
func (p *Proposer) knows(spec *command.Spec) bool {
	return runs(spec) && p.cfg.FSM.cfg.Lookup(spec.FullName()) == spec
}

// Run proposes until ctx ends. What is waiting then is refused, what is in
// raft's hands is in doubt, and nothing is taken any more.
func (p *Proposer) Run(ctx context.Context) error {
	for {
		next := p.next()
		if next != nil {
			p.propose(next)
			continue
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			p.mu.Lock()
			p.mu.closed = true
			p.mu.Unlock()
			p.StepDown()
			return nil
		}
	}
}

// stir wakes Run; several calls are one.
func (p *Proposer) stir() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// readyLocked tells whether something is waiting that can go now.
func (p *Proposer) readyLocked() bool {
	switch {
	case len(p.mu.flying) >= maxFlying:
		return false
	case p.mu.first != nil:
		return true
	case !p.mu.open:
		return false
	}
	return len(p.mu.ops)+len(p.mu.ticks) > 0 || p.mu.pace.ready(&p.mu.queue, len(p.mu.flying))
}

// next makes a proposal of what is waiting, nil if nothing can go now.
func (p *Proposer) next() *proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.readyLocked() {
		p.restLocked()
		return nil
	}
	f := &proposal{era: p.mu.era}
	if p.mu.first != nil {
		f.ops = []*op{p.mu.first}
		p.mu.first = nil
	} else {
		p.fillLocked(f)
		p.mu.pace.sent()
	}
	p.mu.seq++
	f.id = proposalID{process: p.process, seq: p.mu.seq}
	p.mu.flying = append(p.mu.flying, f)
	return f
}

// propose hands one proposal to raft and has its ending seen to.
func (p *Proposer) propose(f *proposal) {
	data := p.encode(f)
	p.cfg.FSM.flights.add(f)
	if !p.launch(f) {
		p.cfg.FSM.flights.remove(f)
		p.end(f, command.Refused)
		return
	}
	p.stats.entries.Add(1)
	p.stats.bytes.Add(uint64(len(data)))
	future := p.cfg.Applier.Apply(data, p.cfg.Timeout/2)
	go p.await(f, future)
}

// encode makes the entry of a proposal. The slice is raft's from here on.
func (p *Proposer) encode(f *proposal) []byte {
	h := entryHead{level: p.levelOf(f.ops), proposal: f.id, seed: rand.Uint64()} //nolint:gosec // replicas must agree on it, nobody need be unable to guess it
	if len(f.ops) > 0 && f.ops[0].kind == unitEstablish {
		h.stamp = p.cfg.FSM.time.first(p.cfg.FSM.clocks())
	} else {
		h.stamp = p.cfg.FSM.time.instant()
	}
	var own []byte
	own, f.opUnits = p.encodeOps(f.ops)
	units, size := f.opUnits, headSize+len(own)
	f.eachUnit(func(r *command.Request) {
		units++
		size += unitSize(r)
	})
	data := appendHead(make([]byte, 0, size), h, units)
	data = append(data, own...)
	f.eachUnit(func(r *command.Request) { data = appendRequest(data, r) })
	return data
}

// levelOf is the level of an entry with these operations: the cluster's, or that which
// it is to have from then on.
func (p *Proposer) levelOf(ops []*op) uint64 {
	level := p.cfg.FSM.level.Load()
	for _, x := range ops {
		level = max(level, x.level)
	}
	return level
}

// eachUnit calls fn with the requests that have a unit in the entry, in order.
func (f *proposal) eachUnit(fn func(r *command.Request)) {
	for _, t := range f.parts {
		for i := t.from; i < t.to; i++ {
			r := &t.batch.Requests[i]
			if r.Exec != nil || r.Spec.Do.Route != command.RouteRead {
				fn(r)
			}
		}
	}
}

func (f *proposal) requests() (n int) {
	for _, t := range f.parts {
		n += t.to - t.from
	}
	return n
}

// encodeOps encodes the server's own operations, all ticks as one.
func (p *Proposer) encodeOps(ops []*op) (data []byte, units int) {
	var victims []store.Victim
	for _, x := range ops {
		switch x.kind {
		case unitTick:
			victims = append(victims, x.victims...)
			continue
		case unitEstablish:
			data = appendEstablish(data, establishment{
				node: p.cfg.NodeID, clusterID: p.cfg.ClusterID(), hashSeed: p.cfg.HashSeed, settings: p.cfg.Settings,
			})
			if p.cfg.Health != nil && p.cfg.FSM.Level() >= LevelHealth {
				data = appendHealth(append(data, byte(unitHealth)), p.cfg.Health())
				units++
			}
		default:
			data = append(data, x.unit...)
		}
		units++
	}
	if len(victims) > 0 {
		data = appendTick(data, victims)
		units++
		p.stats.ticks.Add(1)
	}
	return data, units
}

// launch marks the proposal as sent and starts its time limit, unless the gate
// has been shut since it was made.
func (p *Proposer) launch(f *proposal) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.era != p.mu.era {
		p.landLocked(f)
		return false
	}
	f.sent, f.since = true, clock.Mono()
	f.timer = time.AfterFunc(p.cfg.Timeout, func() {
		p.stats.timeouts.Add(1)
		p.fail(f, command.InDoubt)
	})
	return true
}

// landLocked takes the proposal out of those in raft's hands.
func (p *Proposer) landLocked(f *proposal) {
	for i, x := range p.mu.flying {
		if x == f {
			p.mu.flying = append(p.mu.flying[:i], p.mu.flying[i+1:]...)
			return
		}
	}
}

// await sees to the ending of a proposal that the FSM does not apply. It
// outlives Run if raft never resolves the future.
func (p *Proposer) await(f *proposal, future raft.ApplyFuture) {
	err := future.Error()
	if err == nil {
		// Applied, and ended by the FSM, unless that has stopped or lost it.
		if p.fail(f, command.InDoubt) {
			p.shut(f.era)
		}
		return
	}
	p.fail(f, endingOf(err, future.Index()))
	if !errors.Is(err, raft.ErrEnqueueTimeout) && !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		p.shut(f.era)
	}
}

// endingOf is what an error of raft's Apply says about the entry. index is that
// of the future; raft has given it to every entry it has begun to store. Errors
// nobody foresaw leave the outcome unknown.
func endingOf(err error, index uint64) command.Outcome {
	switch {
	case errors.Is(err, raft.ErrNotLeader),
		errors.Is(err, raft.ErrEnqueueTimeout),
		errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrRaftShutdown) && index == 0:
		return command.Refused
	default:
		return command.InDoubt
	}
}

// fail ends a proposal that was not applied, if nobody else has, and tells
// whether it did.
func (p *Proposer) fail(f *proposal, o command.Outcome) bool {
	if !f.give() {
		return false
	}
	p.cfg.FSM.flights.remove(f)
	p.mu.Lock()
	p.landLocked(f)
	f.timer.Stop()
	p.mu.Unlock()
	p.end(f, o)
	p.stir()
	return true
}

// end ends a given-up proposal and refuses what was to follow it.
func (p *Proposer) end(f *proposal, o command.Outcome) {
	if o == command.InDoubt {
		p.stats.inDoubt.Add(uint64(f.requests()))
	} else {
		p.stats.refused.Add(uint64(f.requests()))
	}
	f.end(o)
	for i := range f.parts {
		p.refuse(f.parts[i].rest())
	}
}

func (p *Proposer) refuse(t part) {
	if t.from < t.to {
		p.stats.refused.Add(uint64(t.to - t.from))
		t.end(command.Refused, endingReply(command.Refused))
	}
}

// meet is the FSM's word that it is about to apply a proposal.
func (p *Proposer) meet(f *proposal) {
	p.mu.Lock()
	f.beside = len(p.mu.queue.parts)
	p.mu.Unlock()
}

// finish is the FSM's word that it has applied a proposal and ended its requests.
func (p *Proposer) finish(f *proposal) {
	p.stats.requests.Add(uint64(f.requests()))
	p.mu.Lock()
	f.timer.Stop()
	p.landLocked(f)
	if len(p.mu.flying) == 0 && len(f.parts) > 0 {
		p.mu.pace.landed(len(f.parts)+f.beside, clock.Mono()-f.since, p.stir)
	}
	var refused []part
	for i := range f.parts {
		rest := f.parts[i].rest()
		switch {
		case rest.from == rest.to:
		case p.mu.open && f.era == p.mu.era:
			size, _ := measure(rest)
			p.mu.queue.push(rest, size)
		default:
			refused = append(refused, rest)
		}
	}
	p.mu.Unlock()
	for _, t := range refused {
		p.refuse(t)
	}
	for _, x := range f.ops {
		x.done <- nil
	}
	p.stir()
}

// ProposerStats are counts since the start, and the present load.
type ProposerStats struct {
	Entries, Bytes   uint64 // handed to raft
	Requests         uint64 // client requests applied
	Refused, InDoubt uint64 // client requests that ended so
	Timeouts         uint64 // proposals raft did not resolve in time
	Ticks            uint64 // proposed
	Queued, Flying   int    // batches waiting, entries in raft's hands
}

type proposerStats struct {
	entries, bytes, requests, refused, inDoubt, timeouts, ticks atomic.Uint64
}

// Stats returns the counts.
func (p *Proposer) Stats() ProposerStats {
	p.mu.Lock()
	queued, flying := len(p.mu.queue.parts), len(p.mu.flying)
	p.mu.Unlock()
	return ProposerStats{
		Entries:  p.stats.entries.Load(),
		Bytes:    p.stats.bytes.Load(),
		Requests: p.stats.requests.Load(),
		Refused:  p.stats.refused.Load(),
		InDoubt:  p.stats.inDoubt.Load(),
		Timeouts: p.stats.timeouts.Load(),
		Ticks:    p.stats.ticks.Load(),
		Queued:   queued,
		Flying:   flying,
	}
}
