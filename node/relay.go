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
