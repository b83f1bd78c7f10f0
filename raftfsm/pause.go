package raftfsm

import "context"

// pause is a time in which a Proposer that is open takes nothing.
type pause struct {
	rested chan struct{} // closed once nothing is waiting or in raft's hands, or the pause is over
	closed bool
}

// Pause has the Proposer refuse whatever is submitted from now on, ticks included,
// and returns nil once everything it had taken before has been applied: the log
// does not grow any more. Any other result means that the gate is shut, or was
// while it waited, or that ctx has ended. Resume ends the pause, and so does
// shutting the gate.
func (p *Proposer) Pause(ctx context.Context) error {
	x := &pause{rested: make(chan struct{})}
	p.mu.Lock()
	if !p.takesLocked() {
		p.mu.Unlock()
		return ErrRefused
	}
	p.mu.pause = x
	p.mu.Unlock()
	p.stir()
	select {
	case <-x.rested:
	case <-ctx.Done():
		return ctx.Err()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.pause != x {
		return ErrRefused
	}
	return nil
}

// Resume has the Proposer take requests again, if its gate is open still.
func (p *Proposer) Resume() {
	p.mu.Lock()
	p.resumeLocked()
	p.mu.Unlock()
	p.stir()
}

func (p *Proposer) resumeLocked() {
	if x := p.mu.pause; x != nil {
		x.end()
		p.mu.pause = nil
	}
}

func (x *pause) end() {
	if !x.closed {
		x.closed = true
		close(x.rested)
	}
}

// takesLocked tells whether requests and operations are taken.
func (p *Proposer) takesLocked() bool { return p.mu.open && p.mu.pause == nil }

// restLocked tells whoever has asked for a pause when nothing is left.
func (p *Proposer) restLocked() {
	left := len(p.mu.flying) + len(p.mu.queue.parts) + len(p.mu.ops) + len(p.mu.ticks)
	if p.mu.pause != nil && left == 0 {
		p.mu.pause.end()
	}
}
