package raftfsm

import (
	"context"
	"fmt"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/store"
)

// Establish proposes the establishing entry of this node as leader of term, and
// returns nil once it has been applied here as an entry of that term: from then
// on the Proposer takes requests. Any other result leaves the gate shut. Being
// established in the term already is success.
func (p *Proposer) Establish(ctx context.Context, term uint64) error {
	if p.Established(term) {
		return nil
	}
	p.StepDown() // what an earlier term left behind

	x := newOp(unitEstablish)
	x.term = term
	p.mu.Lock()
	if p.mu.closed || p.mu.first != nil {
		p.mu.Unlock()
		return ErrRefused
	}
	p.mu.first = x
	era := p.mu.era
	p.mu.Unlock()
	p.stir()

	if err := p.wait(ctx, x); err != nil {
		p.shut(era)
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.mu.open || p.mu.term != term {
		return fmt.Errorf("establishing term %d: %w", term, ErrRefused)
	}
	return nil
}

// opened is the FSM's word that it has applied an establishing entry of this
// process, an entry of the given term. It opens the gate if nothing has
// happened since.
func (p *Proposer) opened(f *proposal, term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.era != p.mu.era || p.mu.closed || len(f.ops) == 0 || f.ops[0].term != term {
		return
	}
	p.mu.open, p.mu.term = true, term
	p.cfg.FSM.time.leading.Store(true)
	p.cfg.FSM.est.Store(term)
	select {
	case p.master <- struct{}{}:
	default: // RunTicks has not taken the last one yet
	}
}

// StepDown shuts the gate at once: what is waiting is refused, what is in
// raft's hands and not being applied is in doubt. The next Establish opens it.
func (p *Proposer) StepDown() {
	p.mu.Lock()
	left := p.shutLocked()
	var flying []*proposal
	for _, f := range p.mu.flying {
		switch {
		case !f.sent: // Run finds out before it sends it
			flying = append(flying, f)
		case f.give():
			f.timer.Stop()
			left.flying = append(left.flying, f)
		}
	}
	p.mu.flying = flying
	p.mu.Unlock()
	p.endLeftovers(left)
}

// shut shuts the gate if it has not been shut since era, and refuses what is
// waiting; what is in raft's hands ends as raft says.
func (p *Proposer) shut(era uint64) {
	p.mu.Lock()
	var left leftovers
	if p.mu.era == era {
		left = p.shutLocked()
	}
	p.mu.Unlock()
	p.endLeftovers(left)
}

// leftovers are what a shut gate leaves to be ended.
type leftovers struct {
	queue  []queued
	ops    []*op
	flying []*proposal // given up
}

// shutLocked shuts the gate and takes out what was waiting at it.
func (p *Proposer) shutLocked() leftovers {
	p.mu.open = false
	p.mu.era++
	p.resumeLocked()
	p.cfg.FSM.time.leading.Store(false)
	p.cfg.FSM.est.Store(0)
	left := leftovers{queue: p.mu.queue.parts, ops: append(p.mu.ticks, p.mu.ops...)}
	if p.mu.first != nil {
		left.ops = append(left.ops, p.mu.first)
	}
	p.mu.queue, p.mu.ticks, p.mu.ops, p.mu.first = line{}, nil, nil, nil
	return left
}

// endLeftovers refuses what was waiting; what is given up in raft's hands is in
// doubt.
func (p *Proposer) endLeftovers(left leftovers) {
	for _, q := range left.queue {
		p.refuse(q.part)
	}
	for _, x := range left.ops {
		x.done <- ErrRefused
	}
	for _, f := range left.flying {
		p.cfg.FSM.flights.remove(f)
		p.end(f, command.InDoubt)
	}
}

// Expire commits the removal of the victims, at most 512 in one entry, together
// with those others ask for, and returns nil once it was applied here. A victim
// whose deadline has changed, or that is not due yet, is left alone.
func (p *Proposer) Expire(ctx context.Context, victims []store.Victim) error {
	ops := ticksOf(victims)
	p.mu.Lock()
	if !p.takesLocked() {
		p.mu.Unlock()
		return ErrRefused
	}
	p.mu.ticks = append(p.mu.ticks, ops...)
	p.mu.Unlock()
	p.stir()
	for _, x := range ops {
		if err := p.wait(ctx, x); err != nil {
			return err
		}
	}
	return nil
}

// PutMember makes m what the cluster knows of the node m.ID, and returns nil
// once that was applied here.
func (p *Proposer) PutMember(ctx context.Context, m store.Member) error {
	x := newOp(unitMember)
	x.unit = appendMember([]byte{byte(unitMember)}, m)
	return p.put(ctx, x)
}

// PutSettings changes the replicated settings, all but the number of databases,
// and returns nil once that was applied here. They must be valid.
func (p *Proposer) PutSettings(ctx context.Context, s store.Settings) error {
	x := newOp(unitSettings)
	x.unit = appendSettings([]byte{byte(unitSettings)}, s)
	return p.put(ctx, x)
}

// PutHealth makes health what the cluster knows of all its nodes, and returns nil once
// that was applied here. The cluster's level must be LevelHealth at least.
func (p *Proposer) PutHealth(ctx context.Context, health map[string]store.Health) error {
	if level := p.cfg.FSM.Level(); level < LevelHealth {
		return fmt.Errorf("apply level %d has no records of health", level)
	}
	x := newOp(unitHealth)
	x.unit = appendHealth([]byte{byte(unitHealth)}, health)
	return p.put(ctx, x)
}

// RaiseLevel makes level the cluster's apply level, if it is above the present one,
// and returns nil once that was applied here. Every node must speak it: one that does
// not stops before it applies the entry.
func (p *Proposer) RaiseLevel(ctx context.Context, level int) error {
	if level > Level || level <= p.cfg.FSM.Level() {
		return fmt.Errorf("apply level %d is not between %d and %d", level, p.cfg.FSM.Level()+1, Level)
	}
	x := newOp(unitLevel)
	x.level = uint64(level)
	x.unit = []byte{byte(unitLevel)}
	return p.put(ctx, x)
}

func (p *Proposer) put(ctx context.Context, x *op) error {
	x.size = len(x.unit)
	p.mu.Lock()
	if !p.takesLocked() {
		p.mu.Unlock()
		return ErrRefused
	}
	p.mu.ops = append(p.mu.ops, x)
	p.mu.Unlock()
	p.stir()
	return p.wait(ctx, x)
}

func (p *Proposer) wait(ctx context.Context, x *op) error {
	select {
	case err := <-x.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Established tells whether requests are taken as those of the leader of term.
func (p *Proposer) Established(term uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.open && p.mu.term == term
}

// established tells whether the gate is open.
func (p *Proposer) established() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.open
}
