package node

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/forward"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/store"
)

// way is where a relay takes what clients ask.
type way uint8

const (
	wayHere   way = iota // to this node's Proposer, which refuses it unless this node is the master
	wayParked            // nowhere yet: the leadership is being handed over
	wayRemote            // to the master, wherever that is
)

const (
	// passBound is how long a command waits for a master that takes it.
	passBound = 2 * time.Second
	// passPause is the time between two attempts, passPauseMost that after some in vain.
	passPause     = 2 * time.Millisecond
	passPauseMost = 16 * time.Millisecond
	// lateAfter is after how long clients may have given up: hardly any is told to wait
	// for less.
	lateAfter = 100 * time.Millisecond
)

// relayConfig is what a relay is built of.
type relayConfig struct {
	submit  func(b *command.Batch)                                  // to the Proposer
	expire  func(ctx context.Context, victims []store.Victim) error // likewise
	confirm func(ctx context.Context) error                         // that this node is the master
	applied func(ctx context.Context, index uint64) error           // waits until the state has reached index
	acked   func(index uint64) int64                                // how many replicas have the log up to index, if this node is the master
	// versions are what WATCH remembers of keys, if this node is the confirmed master.
	versions func(ctx context.Context, db int, keys [][]byte) ([]uint64, error)
	self     string
	master   func() string // id of the master, "" while it is unknown
	parting  func() bool   // this node hands over its leadership, or has just done so
	dial     func(ctx context.Context, id string) (net.Conn, error)
	patience time.Duration // how long dial may take: a master that cannot be reached will soon be another
}

// relay is the way of clients' commands from the data port. On the master it leads to
// the log. While the leadership is handed over commands are parked, and afterwards, or
// always in replica-mode forward, they are passed on to the master. It is safe for
// concurrent use.
//
// A command is passed on again only if it definitely was not executed: it was never
// sent, or a node has refused it because it is not the master. Reads of the state are
// answered here, as soon as the state has reached what the master had applied when
// the read was asked for.
type relay struct {
	cfg     relayConfig
	ctx     context.Context // ends with the relay
	stop    context.CancelFunc
	wg      sync.WaitGroup // batches on their way
	written atomic.Uint64
	stats   struct{ passed, again atomic.Uint64 } // batches; attempts after a refusal

	mu struct {
		sync.RWMutex
		way    way
		parked []*command.Batch
		closed bool
	}
	links links
}

var (
	_ respserver.Submitter = (*relay)(nil)
	_ respserver.Confirmer = (*relay)(nil)
	_ respserver.Passed    = (*relay)(nil)
)

func newRelay(cfg relayConfig) *relay {
	r := &relay{cfg: cfg}
	r.ctx, r.stop = context.WithCancel(context.Background())
	r.links.open = map[string]*forward.Conn{}
	return r
}

// close ends what is on its way and waits for it. What comes later goes to the
// Proposer.
func (r *relay) close() {
	r.stop()
	r.set(wayHere)
	r.mu.Lock()
	r.mu.closed = true
	r.mu.Unlock()
	r.links.close()
	r.wg.Wait()
}

func (r *relay) present() way {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.mu.way
}

// set changes the way. What is parked takes the new one first.
func (r *relay) set(w way) {
	r.setUnless(w, func() bool { return false })
}

// setUnless changes the way unless kept says, when nobody else can change it, that it is
// not to be changed.
func (r *relay) setUnless(w way, kept func() bool) {
	if r.present() == w {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed || kept() {
		return
	}
	r.mu.way = w
	if w == wayParked {
		return
	}
	parked := r.mu.parked
	r.mu.parked = nil
	for _, b := range parked {
		if !dropped(b) {
			r.sendLocked(b)
		}
	}
}

// dropped ends a batch that was parked if its client has gone meanwhile.
func dropped(b *command.Batch) bool {
	b.Start()
	p := passage{batch: b, all: len(b.Requests)}
	return p.abandoned()
}

// Submit takes a batch on the present way.
func (r *relay) Submit(b *command.Batch) {
	r.mu.RLock()
	if r.mu.way != wayParked {
		r.sendLocked(b)
		r.mu.RUnlock()
		return
	}
	r.mu.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.way != wayParked {
		r.sendLocked(b)
		return
	}
	r.mu.parked = append(r.mu.parked, b)
}

// sendLocked sends a batch here or to the master. It does not wait.
func (r *relay) sendLocked(b *command.Batch) {
	if r.mu.way == wayHere {
		r.cfg.submit(b)
		return
	}
	b.Start()
	now := clock.Mono()
	p := passage{relay: r, batch: b, all: len(b.Requests), until: now + passBound, since: now}
	if r.cfg.parting() && p.abandoned() {
		return
	}
	r.stats.passed.Add(1)
	if id := r.cfg.master(); id != r.cfg.self {
		if p.conn = r.links.ready(id); p.conn != nil {
			p.part = p.conn.Send(b, 0) // in order
		}
	}
	r.wg.Go(p.run)
}

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
// it is not the master is to be sent again, unless something before it is in doubt.
func (p *passage) take(list []forward.Ending) {
	doubt := false
	for i, e := range list {
		if e.Outcome == command.Refused && !doubt && notMaster(list[i:]) {
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

// wrote takes note of a log index that covers what has been answered.
func (r *relay) wrote(index uint64) {
	for {
		old := r.written.Load()
		if index <= old || r.written.CompareAndSwap(old, index) {
			return
		}
	}
}

// Written is a log index that covers every command that was passed on and answered.
func (r *relay) Written() uint64 { return r.written.Load() }

// Acknowledged is how many replicas the master knows to have the log up to index.
func (r *relay) Acknowledged(ctx context.Context, index uint64) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, passBound)
	defer cancel()
	conn, self := r.reach(ctx)
	switch {
	case self: // it was not when the client began to wait
		return r.cfg.acked(index), nil
	case conn == nil:
		return 0, forward.ErrRefused
	}
	n, err := conn.Acked(ctx, index)
	return int64(n), err
}

// Versions are what WATCH remembers of keys, as the master tells.
func (r *relay) Versions(ctx context.Context, db int, keys [][]byte) (list []uint64, err error) {
	err = r.persist(ctx, func(ctx context.Context) error {
		conn, self := r.reach(ctx)
		switch {
		case self:
			list, err = r.cfg.versions(ctx, db, keys)
		case conn == nil:
			err = forward.ErrRefused
		default:
			list, err = conn.Versions(ctx, db, keys)
		}
		return err
	})
	return list, err
}

// Confirm returns nil once this node's state holds everything that had been answered
// by the master when the call began.
func (r *relay) Confirm(ctx context.Context) error {
	if r.present() == wayHere {
		err := r.cfg.confirm(ctx)
		if err == nil || r.present() == wayHere {
			return err
		}
	}
	return r.persist(ctx, func(ctx context.Context) error {
		if r.present() != wayRemote {
			return r.cfg.confirm(ctx) // it may be the master still, or again
		}
		conn, self := r.reach(ctx)
		switch {
		case self:
			return r.cfg.confirm(ctx)
		case conn == nil:
			return forward.ErrRefused
		}
		index, err := conn.Index(ctx)
		if err != nil {
			return err
		}
		return r.cfg.applied(ctx, index)
	})
}

// Expire has the removal of due keys committed, and applied here.
func (r *relay) Expire(ctx context.Context, victims []store.Victim) error {
	if r.present() == wayHere {
		err := r.cfg.expire(ctx, victims)
		if err == nil || r.present() == wayHere {
			return err
		}
	}
	return r.persist(ctx, func(ctx context.Context) error {
		if r.present() != wayRemote {
			return r.cfg.expire(ctx, victims)
		}
		conn, self := r.reach(ctx)
		switch {
		case self:
			return r.cfg.expire(ctx, victims)
		case conn == nil:
			return forward.ErrRefused
		}
		index, err := conn.Expire(ctx, victims) // removing them twice is removing them once
		if err != nil {
			return err
		}
		return r.cfg.applied(ctx, index)
	})
}

// order has the master do what words say, by here if that is this node. It is repeated
// until a master takes it; an unknown outcome is final.
func (r *relay) order(ctx context.Context, here func(ctx context.Context, words []string) (uint64, error), words []string) (index uint64, err error) {
	taken, cancel := context.WithTimeout(ctx, passBound)
	defer cancel()
	for {
		conn, self := r.reach(taken)
		switch {
		case self:
			index, err = here(ctx, words)
		case conn == nil:
			return 0, forward.ErrRefused
		default:
			index, err = conn.Order(ctx, words...)
		}
		if !errors.Is(err, forward.ErrRefused) && !errors.Is(err, errNotMaster) || !pause(taken, passPause) {
			return index, err
		}
	}
}

// persist repeats what changes nothing by being repeated until it succeeds.
func (r *relay) persist(ctx context.Context, try func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, passBound)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)() //nolint:contextcheck // the relay's end ends it, too
	for {
		err := try(ctx)
		if err == nil || !pause(ctx, passPause) {
			return err
		}
	}
}

// reach is a connection to the master, or self if that is this node; neither if none
// is found in time. It looks less and less often: while there is no master all clients
// may wait here, and the nodes need the time to elect one.
func (r *relay) reach(ctx context.Context) (conn *forward.Conn, self bool) {
	for wait := passPause; ; wait = min(2*wait, passPauseMost) {
		switch id := r.cfg.master(); id {
		case "":
		case r.cfg.self:
			return nil, true
		default:
			if conn := r.connect(ctx, id); conn != nil {
				return conn, false
			}
		}
		if !pause(ctx, wait) {
			return nil, false
		}
	}
}

// connect is a connection to a node, nil if there is none.
func (r *relay) connect(ctx context.Context, id string) *forward.Conn {
	if conn := r.links.ready(id); conn != nil {
		return conn
	}
	ctx, cancel := context.WithTimeout(ctx, r.cfg.patience)
	defer cancel()
	raw, err := r.cfg.dial(ctx, id)
	if err != nil {
		return nil
	}
	return r.links.keep(id, forward.NewConn(raw))
}

// lose gives up the connection to a node that answers no more, if there is one. What
// was sent on it is in doubt at once: the network says nothing for seconds, while there
// is another master.
func (r *relay) lose(id string) {
	r.links.mu.Lock()
	defer r.links.mu.Unlock()
	if c := r.links.open[id]; c != nil {
		delete(r.links.open, id)
		r.wg.Go(c.Close)
	}
}

// pause waits for d; false if ctx ended before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
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
