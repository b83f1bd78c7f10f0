package raftfsm

import (
	"context"
	"time"

	"github.com/holdfast/holdfast/store"
)

const (
	// sweepVictims is how many due keys one look takes: the victims of two
	// ticks, so that one is committed while the other is applied.
	sweepVictims = 2 * maxVictims
	// sweepSteps bounds the looks that only move the wheel, on their way to the
	// present, in one turn. Each takes the store's lock for a bounded time.
	sweepSteps = 64
)

// RunTicks ends keys on time until ctx ends. On the master it looks for due
// keys with every beat, or after TickEvery without one, and proposes their removal,
// going on at once while there is a backlog. On every other node it only keeps the
// wheel from falling behind. beats may be nil; they spare an idle node a timer.
func (p *Proposer) RunTicks(ctx context.Context, beats <-chan struct{}) error {
	alone := time.NewTimer(p.cfg.TickEvery)
	defer alone.Stop()
	buf := make([]store.Victim, 0, sweepVictims)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.master: // what came due meanwhile waits no longer
		case <-beats:
		case <-alone.C:
		}
		p.sweep(ctx, buf)
		alone.Reset(p.cfg.TickEvery)
	}
}

// sweep ends what is due now.
func (p *Proposer) sweep(ctx context.Context, buf []store.Victim) {
	now, st := p.cfg.FSM.Instant(), p.cfg.FSM.cfg.Store
	if !p.established() {
		for steps := 0; steps < sweepSteps && !st.Advance(now); steps++ {
		}
		return
	}
	for steps := 0; steps < sweepSteps; {
		victims, done := st.Due(buf[:0], now, sweepVictims)
		if len(victims) == 0 {
			if done {
				return
			}
			steps++
			continue
		}
		// A refusal is no news: another node removes them, or this one later.
		if err := p.Expire(ctx, victims); err != nil || done {
			return
		}
	}
}
