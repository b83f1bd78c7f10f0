package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/forward"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/respserver"
)

// quietTime is how long a client must have been idle before its connection is closed
// after a handover.
const quietTime = 20 * time.Millisecond

// lastWords is for how long a node that stops still tells clients on its Sentinel port
// who the master is: those that were sent away ask there first.
const lastWords = 100 * time.Millisecond

// resumeBound is how long it may take to find out who leads after a handover that
// failed; Settle has a shorter bound of its own.
const resumeBound = 10 * time.Second

// Why the leadership is not handed over.
var (
	errHandingOver = errors.New("the leadership is being handed over already")
	errNoSuccessor = errors.New("no other node can take the leadership over")
)

// handover is a planned change of the master as this node, the old one, goes through
// it: what clients ask is parked, the log comes to rest, the successor is elected,
// what is parked and what comes after it is passed on to the new master, and
// connections are closed as they become idle.
//
// Roles know of it through Node.handovers. While it goes on the loss of the
// leadership closes no connection; its end does.
type handover struct {
	node  *Node
	to    string // the successor
	term  uint64 // in which this node was master
	hold  time.Duration
	still respserver.Stillness // of clients when parking began
	moved chan<- error         // see handOver; may be nil
	over  chan struct{}        // closed by the goroutine of roles once nothing of it is left
	done  atomic.Bool          // it is to be over
}

// handovers are the present handover and how to begin one.
type handovers struct {
	begun     atomic.Bool // one at a time, from when its successor is waited for
	present   atomic.Pointer[handover]
	successor atomic.Pointer[successor]
	hush      atomic.Pointer[hush]
	count     struct{ done, failed atomic.Uint64 }
	yield     time.Duration // clock.Boot before which none is begun by yield, which owns it

	mu     sync.Mutex
	cancel context.CancelFunc // of the present one until the successor is told to stand, guarded by mu
	wg     sync.WaitGroup     // those begun by beginHandover
}

// successor is a node that has said to be the master of a term.
type successor struct {
	id   string
	term uint64
}

// hush is that another node hands over its leadership: clients that it sends away are to
// learn of the new master, and not to be sent back.
type hush struct {
	term  uint64        // in which the other node was master
	until time.Duration // clock.Boot
}

// master is the node to pass commands on to, "" if it is not known.
func (n *Node) master() string {
	v := n.raft.View()
	if s := n.handovers.successor.Load(); s != nil && s.term >= v.Term && v.Leader == "" {
		return s.id
	}
	return v.Leader
}

// handOver hands the leadership over to the node with the given id, and returns nil
// once another node is master and no client that this node has served is left. With any
// other result this node may still be the master. ctx bounds how long it may take until
// the successor is told to stand; clients notice nothing before that one is up to date. A
// node that is leaving, as it stops, does not go on as master if it fails. Whoever wants
// to know when another node is master, or why that has failed, gives moved, which has to
// have room.
func (n *Node) handOver(ctx context.Context, to string, leaving bool, moved chan<- error) error {
	if !n.handovers.begun.CompareAndSwap(false, true) {
		return errHandingOver
	}
	defer n.handovers.begun.Store(false)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n.handovers.allowAbort(cancel)
	defer n.handovers.allowAbort(nil)
	release, err := n.raft.HoldMembers(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := n.raft.AwaitFollower(ctx, to); err != nil {
		return err
	}
	h := &handover{node: n, to: to, hold: n.settings.Config().HandoverHold, moved: moved, over: make(chan struct{})}
	switch {
	case !n.roles.Role().Master:
		return errNotMaster
	case !n.answers(ctx, to):
		return fmt.Errorf("%w: %s does not answer", errNoSuccessor, to)
	}
	n.handovers.present.Store(h)
	return h.carryOut(ctx, leaving)
}

// answers tells whether another node answers questions like those of a handover.
func (n *Node) answers(ctx context.Context, id string) bool {
	ctx, cancel := context.WithTimeout(ctx, n.masterBound())
	defer cancel()
	conn := n.relay.connect(ctx, id)
	if conn == nil {
		return false
	}
	_, err := conn.Acked(ctx, 0)
	return err == nil
}

// carryOut goes through the handover.
func (h *handover) carryOut(ctx context.Context, leaving bool) error {
	n := h.node
	ctx, cancel := context.WithTimeout(ctx, h.hold+n.masterBound())
	defer cancel()
	began := clock.Mono()
	n.log.Info("handover begins", "to", h.to)
	err := h.move(ctx)
	switch {
	case err == nil:
		n.log.Info("handed over", "to", h.to, "took", clock.Mono()-began)
		h.tell(nil)
		h.hush(ctx)
		h.seeOff() //nolint:contextcheck // ctx is for what lies behind
	case leaving:
		n.log.Warn("the leadership was not handed over", "to", h.to, "err", err)
	default:
		n.log.Warn("the leadership was not handed over", "to", h.to, "err", err)
		h.resume(err) //nolint:contextcheck // ctx may have ended
	}
	h.end()
	if err == nil {
		n.handovers.count.done.Add(1)
	} else {
		n.handovers.count.failed.Add(1)
	}
	return err
}

// move parks what clients ask and returns nil once another node is master and gets it.
func (h *handover) move(ctx context.Context) error {
	n := h.node
	conn := n.relay.connect(ctx, h.to)
	if conn == nil {
		return errNoSuccessor
	}
	h.still, h.term = n.data.Still(), n.raft.View().Term
	n.relay.set(wayParked)
	if err := n.proposer.Pause(ctx); err != nil {
		return fmt.Errorf("the log does not come to rest: %w", err)
	}
	n.handovers.allowAbort(nil) // from now on it may be elected
	if err := errors.Join(ctx.Err(), n.prepare(ctx, conn)); err != nil {
		return err
	}
	n.raft.Part()
	err := n.raft.Transfer(ctx, h.to)
	if err == nil {
		err = h.awaitMaster(ctx, conn)
	}
	if err != nil {
		_ = conn.Unveil(ctx) // by itself it ends in a moment
		n.raft.Parted()
		return err
	}
	return nil
}

// prepare has the successor keep it to itself that it is master, and confirms once more
// that this node is. Commands wait meanwhile: a successor that hangs is found out soon.
func (n *Node) prepare(ctx context.Context, conn *forward.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, n.masterBound()/2)
	defer cancel()
	if err := conn.Veil(ctx); err != nil {
		return fmt.Errorf("%w: it does not answer", errNoSuccessor)
	}
	return n.raft.Probe(ctx)
}

// awaitMaster waits until the successor says that it is master. It may never be, having
// stood for election: then another node is elected soon, or this one again, and it is
// an error.
func (h *handover) awaitMaster(ctx context.Context, conn *forward.Conn) error {
	n := h.node
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	said := make(chan error, 1)
	var term uint64
	n.handovers.wg.Go(func() { // ends with ctx
		var err error
		term, err = conn.AwaitMaster(ctx)
		said <- err
	})
	poll := time.NewTicker(quietTime)
	defer poll.Stop()
	for {
		select {
		case err := <-said:
			if err != nil {
				return fmt.Errorf("%s has not become master: %w", h.to, err)
			}
			n.handovers.successor.Store(&successor{h.to, term})
			return nil
		case <-poll.C:
		}
		v := n.raft.View()
		if v.IsLeader && v.Term > h.term || v.LeaderTerm > h.term && v.Leader != "" && v.Leader != h.to {
			return fmt.Errorf("another node than %s has become master", h.to)
		}
	}
}

// hush has the other nodes keep waiting who asks them for the master, and returns when
// they do. Clients that are sent away now ask at once, and some libraries try only once
// more: they must not be sent back here. What was parked goes to the new master meanwhile.
// A node that cannot be told in time goes on naming this one for a moment.
func (h *handover) hush(ctx context.Context) {
	n := h.node
	n.relay.set(wayRemote)
	ctx, cancel := context.WithTimeout(ctx, n.masterBound()/4) // the veil lasts for longer
	defer cancel()
	var told sync.WaitGroup
	v := n.raft.View()
	for i := range v.Peers {
		if p := &v.Peers[i]; p.Contact {
			told.Go(func() {
				if conn := n.relay.connect(ctx, p.ID); conn != nil {
					_ = conn.Hush(ctx, h.term) // see above
				}
			})
		}
	}
	told.Wait()
}

// seeOff passes on to the new master what clients ask, closing each connection behind
// a reply or when it has been idle for a moment, and those that are left when they have
// been held for long enough.
//
// Some libraries close all connections to the old master, commands under way or not,
// at the moment in which they hear of the new one, and ask it the same again (go-redis
// does, and lets transactions fail). So they hear of it when there is nothing under
// way any more: until then who asks for the master waits, and so does who connects to this node.
// That can last no longer than a node that is not the master may be named, and those who
// have not paused by then are likely to keep many commands under way: such libraries
// wait for what they have sent.
func (h *handover) seeOff() {
	n := h.node
	hold, cancel := context.WithTimeout(context.Background(), h.hold)
	defer cancel()
	veiled, unveil := context.WithTimeout(hold, n.masterBound()/2)
	defer unveil()
	n.data.Retire()
	n.relay.set(wayRemote)
	gone := n.data.Retired(veiled, quietTime, h.still)
	pause(hold, quietTime/2) // the last replies arrive
	n.data.Release()         // they ask, and wait where they ask
	h.reveal(hold)
	if !gone {
		n.data.Retired(hold, quietTime, nil)
	}
}

// reveal lets the new master be known and waits until it is.
func (h *handover) reveal(ctx context.Context) {
	n := h.node
	if conn := n.relay.connect(ctx, h.to); conn != nil {
		_ = conn.Unveil(ctx) // by itself it ends in a moment
	}
	n.raft.Look()
	for n.raft.View().Leader == "" && pause(ctx, passPause) { // it is named elsewhere until then, too
	}
	pause(ctx, quietTime/2) // the others look as often
	n.raft.Parted()
}

// resume ends a handover that failed for the given reason. If a majority confirms that
// this node still leads, and raft takes entries again, clients are served as before. If
// another node has become master they are sent there, as after a handover that went
// well.
func (h *handover) resume(reason error) {
	n := h.node
	ctx, cancel := context.WithTimeout(context.Background(), resumeBound)
	defer cancel()
	err := n.raft.Settle(ctx)
	if err == nil {
		err = n.raft.Probe(ctx)
	}
	n.proposer.Resume() // it takes nothing unless this node leads still
	switch {
	case errors.Is(err, cluster.ErrStuck):
		h.tell(err)
		n.fail(err)
	case err == nil:
		n.relay.set(wayHere)
		n.log.Info("this node goes on as master")
		h.tell(fmt.Errorf("the leadership was not handed over: %w", reason))
	default:
		n.log.Info("the leadership has moved")
		h.tell(fmt.Errorf("the leadership has moved, but not as planned: %w", reason))
		h.seeOff()
	}
}

// tell tells whoever waits how the change of the master has ended.
func (h *handover) tell(err error) {
	if h.moved != nil {
		h.moved <- err
	}
}

// end has the goroutine of roles end the handover and waits for it.
func (h *handover) end() {
	h.node.raft.Parted()
	h.done.Store(true)
	h.node.roles.look()
	select {
	case <-h.over:
	case <-time.After(h.hold): // roles are not followed any more: the node stops
	}
}

// endHandover ends the present handover if it is to be over: whoever is connected to a
// node that is not the master any more is sent away. Called by the goroutine of
// roles.
func (n *Node) endHandover() {
	h := n.handovers.present.Load()
	if h == nil || !h.done.Load() {
		return
	}
	if !n.roles.Role().Master {
		n.data.CloseClients()
	}
	n.data.Stay()
	n.handovers.present.Store(nil)
	close(h.over)
}

// stepAside ends this node's time as master within a handover: its clients stay, and
// what they ask is passed on.
func (n *Node) stepAside() {
	n.reign.serving.Store(0)
	n.proposer.StepDown()
	n.reign.steps.Add(1)
	n.roles.current.Store(&asideRole)
}

// allowAbort makes cancel what abort calls; nil for nothing.
func (h *handovers) allowAbort(cancel context.CancelFunc) {
	h.mu.Lock()
	h.cancel = cancel
	h.mu.Unlock()
}

// abort gives up the present handover and tells whether there was one that has not
// gone too far.
func (h *handovers) abort() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cancel == nil {
		return false
	}
	h.cancel()
	return true
}

// beginHandover hands over the leadership in the background, to the node with the given id
// or the best one if it is empty, within bound until that one is told to stand. It
// returns why it cannot begin. What it returns else tells nil once another node is
// master, or why that has failed.
func (n *Node) beginHandover(to string, bound time.Duration) (moved <-chan error, err error) {
	to, err = n.successor(to)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	n.handovers.wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), bound)
		defer cancel()
		if err := n.handOver(ctx, to, false, ended); err != nil {
			n.log.Info("no handover", "to", to, "reason", err)
			select {
			case ended <- err: // it has not begun
			default:
			}
		}
	})
	return ended, nil
}

// leave hands over the leadership before this node stops, if it is the master and
// another node can take it. SHUTDOWN NOW does not wait for that.
func (n *Node) leave() {
	if n.alerts.inHaste.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.settings.Config().HandoverHold+n.masterBound())
	defer cancel()
	if n.handovers.present.Load() == nil {
		n.handovers.abort() // one that only waits
	}
	for n.handovers.begun.Load() && pause(ctx, passPause) { // a command has asked for it
	}
	to, err := n.successor("")
	if err == nil {
		err = n.handOver(ctx, to, true, nil)
	}
	switch {
	case err == nil:
		pause(context.Background(), lastWords)
	case !errors.Is(err, errNotMaster):
		n.log.Info("the node stops without a handover", "reason", err)
	}
}
