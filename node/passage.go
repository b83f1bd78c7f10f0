package node

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/forward"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/resp"
)

// passage is a batch on its way to the master.
type passage struct {
	relay *relay
	batch *command.Batch
	all   int           // requests of it: the batch is not ours once the last one has ended
	from  int           // the first that has not ended
	until time.Duration // clock.Mono: no new attempt is made after it
	since time.Duration // clock.Mono: when it came, or the last part ended
	wait  time.Duration // before the last attempt
	conn  *forward.Conn
	part  *forward.Part // nil if nothing is sent
}

// late tells whether the client may have given up: it has waited for a while, or hears of
// a new master. Others may end their side of the connection when they have sent
// everything, and read the replies.
func (p *passage) late() bool {
	return p.relay.cfg.parting() || clock.Mono() > p.since+lateAfter
}

// abandoned ends what has not ended, and is not under way, of a batch whose client has
// ended its connection. Clients do so when they hear of a new master, and ask that one
// the same again: what waited here must not be carried out as well. Nothing else that
// the client had sent is carried out either, as after anything in doubt.
func (p *passage) abandoned() bool {
	if p.batch.Abandoned == nil || !p.batch.Abandoned() {
		return false
	}
	p.end(p.all, command.InDoubt, resp.Err(resp.ErrInDoubt))
	return true
}

// run ends every request of the batch.
func (p *passage) run() {
	for p.from < p.all {
		if p.part == nil && !p.send() {
			return
		}
		index, list, err := p.part.Wait(p.conn)
		final, told := errors.AsType[resp.Error](err)
		switch {
		case err == nil:
			p.relay.wrote(index)
			p.take(list)
		case told:
			p.end(p.all, command.Refused, resp.Err(final))
		case errors.Is(err, forward.ErrUnknown):
			p.end(p.part.To, command.InDoubt, resp.Err(resp.ErrInDoubt))
			p.refuse()
		default:
			p.rest()
		}
		p.part = nil
	}
}

// rest waits before what was refused is sent again, longer and longer: while the master
// changes as planned the old one is named for a while, and refuses everybody.
func (p *passage) rest() {
	p.relay.stats.again.Add(1)
	p.wait = min(max(2*p.wait, passPause), passPauseMost)
	pause(p.relay.ctx, p.wait)
}

// send sends what has not ended. If nobody takes it in time it is refused; false then,
// if the client has gone, and if the batch has gone to this node's Proposer.
func (p *passage) send() bool {
	r := p.relay
	ctx, cancel := context.WithTimeout(r.ctx, max(0, p.until-clock.Mono()))
	defer cancel()
	conn, self := r.reach(ctx)
	switch {
	case p.late() && p.abandoned():
		return false
	case self && p.from == 0:
		r.cfg.submit(p.batch)
		return false
	case conn == nil:
		p.refuse()
		return false
	}
	p.conn, p.part = conn, conn.Send(p.batch, p.from)
	return true
}

// take ends the requests of the part as the master says. What it has refused because
// it is not the master is to be sent again, unless something before it is in doubt or the
// client has waited long enough.
func (p *passage) take(list []forward.Ending) {
	doubt := false
	for i, e := range list {
		if e.Outcome == command.Refused && !doubt && notMaster(list[i:]) {
			if i > 0 {
				p.since = clock.Mono()
			}
			if clock.Mono() >= p.since+passBound {
				p.refuse()
				return
			}
			p.rest()
			return
		}
		doubt = doubt || e.Outcome == command.InDoubt
		p.end(p.from+1, e.Outcome, e.Reply)
	}
	p.since = clock.Mono()
	if doubt {
		p.refuse()
	}
}

// notMaster tells whether all was refused by a node that is not the master.
func notMaster(list []forward.Ending) bool {
	for _, e := range list {
		if e.Outcome != command.Refused || string(e.Reply.Bytes()) != string(resp.ErrReadOnly) {
			return false
		}
	}
	return true
}

// refuse refuses what has not ended.
func (p *passage) refuse() {
	for p.from < p.all {
		why := resp.ErrReadOnly
		if r := &p.batch.Requests[p.from]; r.Exec == nil && r.Spec.Do.Route == command.RouteRead {
			why = resp.ErrMasterDown
		}
		p.end(p.from+1, command.Refused, resp.Err(why))
	}
}

// end ends the requests up to to.
func (p *passage) end(to int, o command.Outcome, reply resp.Value) {
	for p.from < to {
		p.from++
		p.batch.End(p.from-1, o, reply)
	}
}

// links are the connections to other nodes, one for each.
type links struct {
	mu     sync.Mutex
	open   map[string]*forward.Conn
	closed bool
}

// ready is the connection to a node if it is up, or nil.
func (l *links) ready(id string) *forward.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.open[id]; c != nil && !c.Broken() {
		return c
	}
	return nil
}

// keep makes c the connection to a node, unless there is one already, which is
// returned then.
func (l *links) keep(id string, c *forward.Conn) *forward.Conn {
	l.mu.Lock()
	old := l.open[id]
	drop := old
	switch {
	case l.closed:
		drop, c = c, nil
	case old != nil && !old.Broken():
		drop, c = c, old
	default:
		l.open[id] = c
	}
	l.mu.Unlock()
	if drop != nil {
		drop.Close()
	}
	return c
}

// close closes all.
func (l *links) close() {
	l.mu.Lock()
	l.closed = true
	open := l.open
	l.open = nil
	l.mu.Unlock()
	for _, c := range open {
		c.Close()
	}
}
