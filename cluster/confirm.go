package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// ErrNotMaster is why a round cannot be confirmed: this node is not, or no longer,
// the established leader.
var ErrNotMaster = errors.New("this node is not the established leader")

// ErrUnconfirmed is why a round ended without a majority's answers.
var ErrUnconfirmed = errors.New("no majority of the voters has answered in time")

// Bounds of how long one voter is waited for before the others are asked as well.
const (
	minLate = time.Millisecond
	maxLate = 20 * time.Millisecond
)

// confirmer makes rounds. A round asks voters for their current term. If a
// majority, counting this node, is still at the term this node leads, then no other
// leader can have been elected before the round began: its electors had stored a
// higher term before they voted, and any majority shares a node with ours (Raft
// thesis, section 6.4, with terms asked for in place of heartbeats). No clock is
// involved. An answer counts only with the nonce of its round and over a connection
// whose peer has proved its id and cluster.
//
// There is one round at a time. Who asks while it is under way waits for the next
// one, which begins when it ends: whoever reads the last answer of a round sends the
// questions of the next.
type confirmer struct {
	node *Node

	mu     sync.Mutex
	flight *round // under way
	next   *round // collects callers meanwhile; nil if there are none
	nonce  uint64
	first  *link         // the voter to ask first: the last one that answered in time
	usual  time.Duration // how long a round takes, smoothed
	timer  *time.Timer   // when the others are asked, and when a round is given up

	last  confirmed
	stats roundFigures
}

// confirmed is the last round that was.
type confirmed struct {
	term  uint64
	start time.Duration // clock.Boot when it began
}

// roundFigures count rounds.
type roundFigures struct {
	Rounds    uint64        // begun
	Confirmed uint64        // of these
	Failed    uint64        // of these
	Widened   uint64        // of these: asked more than the fewest voters
	Time      time.Duration // the confirmed ones took
}

// round is one question to the voters. Its fields are guarded by the confirmer's
// lock; err is read by waiters once done is closed.
type round struct {
	done  chan struct{}
	err   error
	term  uint64
	nonce uint64
	start time.Duration // clock.Boot
	began time.Duration // clock.Mono
	acks  uint64        // who is at term, as a mask
	asked uint64        // who was asked
	wide  bool          // everyone was asked
}

func newConfirmer(n *Node) *confirmer {
	c := &confirmer{node: n}
	c.timer = time.AfterFunc(time.Hour, c.expire)
	return c
}

// Confirm returns nil if this node was the established leader at an instant after
// the call began, so that what its state machine has applied by the time Confirm
// returns may be read. A lease proves it at once, if the node goes by leases and it holds;
// otherwise a round does. Safe for concurrent use.
func (n *Node) Confirm(ctx context.Context) error {
	if n.leased() {
		return nil
	}
	return n.Probe(ctx)
}

// Probe is Confirm by a round, whatever the clocks say. Callers share rounds.
func (n *Node) Probe(ctx context.Context) error {
	r := n.confirm.join()
	select {
	case <-r.done:
		return r.err
	default:
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join returns a round that begins after the call.
func (c *confirmer) join() *round {
	c.mu.Lock()
	if c.flight != nil {
		if c.next == nil {
			c.next = &round{done: make(chan struct{})}
		}
		r := c.next
		c.mu.Unlock()
		return r
	}
	r := &round{done: make(chan struct{})}
	ask := c.begin(r)
	c.mu.Unlock()
	c.ask(r.nonce, ask)
	return r
}

// begin starts a round while none is under way, and returns whom to ask once the
// lock is released. The round may have ended already.
func (c *confirmer) begin(r *round) []*link {
	c.nonce++
	r.nonce = c.nonce
	r.start, r.began = c.node.cfg.Clock.Boot(), clock.Mono()
	c.stats.Rounds++
	term, ok := c.node.leading()
	if !ok {
		c.finish(r, ErrNotMaster)
		return nil
	}
	r.term, r.acks = term, selfBit
	c.flight = r
	q := c.node.quorum.Load()
	if q.met(r.acks) {
		c.settle(r)
		return nil
	}
	c.timer.Reset(c.late())
	return c.fewest(r, q)
}

// late is how long the first voter is waited for.
func (c *confirmer) late() time.Duration { return min(max(2*c.usual, minLate), maxLate) }

// fewest picks voters to ask until their answers would be a majority, those first
// that have answered before.
func (c *confirmer) fewest(r *round, q *quorum) []*link {
	ask := make([]*link, 0, 4)
	take := func(l *link) {
		if l != nil && !q.met(r.acks|r.asked) && r.asked&l.peer.bit == 0 && l.up() {
			r.asked |= l.peer.bit
			ask = append(ask, l)
		}
	}
	take(c.first)
	for _, p := range c.node.others() {
		take(p.link)
	}
	return ask
}

// widen picks everyone who was not asked yet.
func (c *confirmer) widen(r *round) (ask []*link) {
	if !r.wide {
		c.stats.Widened++
	}
	r.wide = true
	for _, p := range c.node.others() {
		if r.asked&p.bit == 0 && p.link.up() {
			r.asked |= p.bit
			ask = append(ask, p.link)
		}
	}
	return ask
}

// ask sends the question. It is called without the lock.
func (c *confirmer) ask(nonce uint64, to []*link) {
	if len(to) == 0 {
		return
	}
	var frame [1 + nonceLen]byte
	frame[0] = askTerm
	binary.BigEndian.PutUint64(frame[1:], nonce)
	for _, l := range to {
		l.send(frame[:])
	}
}

// answered takes an answer that came on l.
func (c *confirmer) answered(l *link, nonce, term uint64) {
	if l.node.hooks.cut(l.peer.id) != nil {
		return
	}
	c.mu.Lock()
	r := c.flight
	if r == nil || r.nonce != nonce {
		c.mu.Unlock()
		c.node.sawTerm(term)
		return
	}
	var ask []*link
	began := r.began
	switch {
	case term > r.term:
		c.finish(r, ErrNotMaster)
	case term < r.term:
		ask = c.widen(r) // it has not heard of the election yet
	default:
		r.acks |= l.peer.bit
		if c.node.quorum.Load().met(r.acks) {
			c.first = l
			c.settle(r)
		}
	}
	confirmed := c.last.start == r.start && c.flight == nil
	if c.flight == nil && c.next != nil {
		r, c.next = c.next, nil
		ask = c.begin(r)
	}
	nonce = r.nonce
	c.mu.Unlock()
	c.ask(nonce, ask)
	c.node.sawTerm(term)
	if observe := c.node.cfg.Observe.Round; confirmed && observe != nil {
		observe(clock.Mono() - began)
	}
}

// settle ends a round that a majority has answered: it is confirmed if this node
// still leads the term.
func (c *confirmer) settle(r *round) {
	if term, ok := c.node.leading(); !ok || term != r.term {
		c.finish(r, ErrNotMaster)
		return
	}
	took := clock.Mono() - r.began
	c.usual += (took - c.usual) / 8
	if c.last.term != r.term {
		c.node.look() // it may be named from now on
	}
	c.last = confirmed{r.term, r.start}
	c.stats.Time += took
	c.finish(r, nil)
}

// finish ends a round.
func (c *confirmer) finish(r *round, err error) {
	if err != nil {
		c.stats.Failed++
	} else {
		c.stats.Confirmed++
	}
	r.err = err
	close(r.done)
	if c.flight == r {
		c.flight = nil
	}
}

// expire is called when the first voter is late, and again when the round has
// lasted for two election timeouts.
func (c *confirmer) expire() {
	c.mu.Lock()
	r := c.flight
	if r == nil {
		c.mu.Unlock()
		return
	}
	var ask []*link
	lasted := clock.Mono() - r.began
	switch late, limit := c.late(), c.node.window(); {
	case lasted >= limit:
		c.finish(r, ErrUnconfirmed)
		if c.next != nil {
			r, c.next = c.next, nil
			ask = c.begin(r)
		}
	case lasted >= late:
		ask = c.widen(r)
		c.timer.Reset(limit - lasted)
	default:
		c.timer.Reset(late - lasted)
	}
	nonce := r.nonce
	c.mu.Unlock()
	c.ask(nonce, ask)
}

// connected asks a peer whose link has just come up, if a round is under way.
func (c *confirmer) connected(l *link) {
	c.mu.Lock()
	r := c.flight
	if r == nil {
		c.mu.Unlock()
		return
	}
	r.asked |= l.peer.bit
	nonce := r.nonce
	c.mu.Unlock()
	c.ask(nonce, []*link{l})
}

// abandon ends what is under way because this node does not lead any more.
func (c *confirmer) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flight != nil {
		c.finish(c.flight, ErrNotMaster)
	}
	if c.next != nil {
		c.finish(c.next, ErrNotMaster)
		c.next = nil
	}
}

// refresh begins a round unless the last one is recent, so that an idle master's
// age stays low.
func (c *confirmer) refresh(now, recent time.Duration) {
	term, ok := c.node.leading()
	c.mu.Lock()
	last, busy := c.last, c.flight != nil
	c.mu.Unlock()
	if ok && !busy && (last.term != term || now-last.start >= recent) {
		c.join()
	}
}

// age is for how long ago this node was confirmed in term.
func (c *confirmer) age(term uint64, now time.Duration) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(0, now-c.last.start), c.last.term == term && term != 0
}

func (c *confirmer) figures() roundFigures {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// leading is the term this node leads and has established, if it does and nothing
// speaks against it.
func (n *Node) leading() (uint64, bool) {
	term, elected := n.electedIn()
	return term, elected && n.cfg.Source.Established() == term && n.highest.Load() <= term && !n.stalled.Load()
}

// electedIn is the term this node is in, and whether raft leads it.
func (n *Node) electedIn() (uint64, bool) {
	r := n.raftNode()
	if r == nil {
		return 0, false
	}
	// The term never goes down: being leader between two looks at it that agree is
	// being leader in it.
	term := r.CurrentTerm()
	return term, r.State() == raft.Leader && r.CurrentTerm() == term
}

// sawTerm takes note of a term another node is in. A higher one than this node's
// ends its claim to lead at once, before raft hears of it.
func (n *Node) sawTerm(term uint64) {
	for {
		old := n.highest.Load()
		if term <= old {
			return
		}
		if n.highest.CompareAndSwap(old, term) {
			n.look()
			return
		}
	}
}

// close ends rounds and the timer for good.
func (c *confirmer) close() {
	c.timer.Stop()
	c.abandon()
}
