package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/forward"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// forwardKind names the connections between nodes that pass units on. Another wire
// format is another kind: a node that does not know one refuses it.
const forwardKind = "forward1"

// openRelay builds the way from this node's data port to the master, and lets other
// nodes come that way to this one.
func (n *Node) openRelay(table *command.Table) error {
	n.relay = newRelay(relayConfig{
		submit:   n.proposer.Submit,
		expire:   n.proposer.Expire,
		confirm:  n.raft.Confirm,
		applied:  n.fsm.WaitApplied,
		acked:    n.acknowledged,
		versions: master{n}.Versions,
		self:     n.settings.Config().NodeID,
		master:   n.master,
		parting:  func() bool { return n.handovers.present.Load() != nil },
		dial:     func(ctx context.Context, id string) (net.Conn, error) { return n.raft.Dial(ctx, id, forwardKind) },
		patience: 2 * n.settings.Config().ElectionTimeout,
	})
	server := forward.NewServer(forward.Config{
		Master:    master{n},
		Table:     table,
		Databases: func() int { return n.settings.Config().Databases },
		Answered:  n.fsm.Answered,
		Acked:     n.acknowledged,
		Veil:      n.setVeil,
		Hush:      n.hush,
		HandOver:  n.handOverFor,
		Order:     n.order,
		Log:       n.log,
	})
	return n.raft.Handle(forwardKind, server.Serve)
}

// loseSilent gives up the connections to nodes that answer no pings any more.
func (n *Node) loseSilent(v *cluster.View) {
	for i := range v.Peers {
		if !v.Peers[i].Contact {
			n.relay.lose(v.Peers[i].ID)
		}
	}
}

// setVeil keeps it back, or lets it be known, that this node is the master.
func (n *Node) setVeil(on bool) {
	if on {
		n.raft.Veil()
	} else {
		n.raft.Unveil()
	}
}

// hush keeps waiting who asks for the master, until one of a later term than term is known.
// Nobody waits for longer than two election timeouts after it.
func (n *Node) hush(term uint64) {
	n.handovers.hush.Store(&hush{term, n.clock.Boot() + n.masterBound()})
}

// acknowledged is how many replicas have the log up to index.
func (n *Node) acknowledged(index uint64) (count int64) {
	for _, r := range (replication{n}).Replicas() {
		if r.Acked >= index {
			count++
		}
	}
	return count
}

// master is this node as other nodes use it, if it is the master. It goes to the
// Proposer, never through the relay: nothing is passed on twice.
type master struct{ n *Node }

var _ forward.Master = master{}

// Submit takes a batch to the log; the Proposer refuses it if this node is not the
// master. A batch of reads only has no place there, and while the disks are short
// nothing else is taken than reads.
func (m master) Submit(b *command.Batch) {
	short := m.n.roles.Role().DiskShort
	if !short && slices.ContainsFunc(b.Requests, func(r command.Request) bool { return changes(&r) }) {
		m.n.proposer.Submit(b)
		return
	}
	b.Start()
	go m.read(b) // within the bounds of a confirmation and of proposals
}

// changes tells whether a request has to go through the log.
func changes(r *command.Request) bool {
	if r.Exec == nil {
		return r.Spec.Do.Route != command.RouteRead
	}
	return slices.ContainsFunc(r.Exec.Queue, func(q command.Queued) bool { return q.Spec.Do.Route != command.RouteRead })
}

// read answers reads, or refuses them if this node is not confirmed as master. What is
// no read is refused because the disks are short.
func (m master) read(b *command.Batch) {
	ctx, cancel := context.WithTimeout(context.Background(), passBound)
	defer cancel()
	confirmed := m.n.raft.Confirm(ctx) == nil
	for i, n := 0, len(b.Requests); i < n; i++ {
		r := &b.Requests[i]
		switch {
		case !confirmed:
			b.End(i, command.Refused, resp.Err(resp.ErrReadOnly))
		case changes(r) && r.Exec != nil:
			b.End(i, command.Refused, resp.Err(resp.ExecAborted(resp.ErrDisk)))
		case changes(r):
			b.End(i, command.Refused, resp.Err(resp.ErrDisk))
		default:
			reply, err := m.answer(ctx, r)
			if err != nil {
				b.End(i, command.Refused, resp.Err(resp.ErrMasterDown))
				continue
			}
			b.End(i, command.Replied, reply)
		}
	}
}

// frozenFrom is the size of a database from which reads over the whole of it run on a
// frozen view.
const frozenFrom = 1000

// answer runs one read.
func (m master) answer(ctx context.Context, q *command.Request) (reply resp.Value, err error) {
	defer func() {
		if p := recover(); p != nil {
			m.n.log.Error("panic in a read of another node", "cmd", q.Spec.FullName(), "type", fmt.Sprintf("%T", p))
			reply, err = resp.Err(resp.ErrInternal), nil
		}
	}()
	do, freeze := &q.Spec.Do, false
	err = m.view(ctx, q.DB, func(r *store.Reader) {
		if q.Exec != nil {
			reply = readAll(r, q.Exec)
			return
		}
		if freeze = do.Frozen != nil && r.Len() > frozenFrom; !freeze {
			reply = do.Read(r, q.Args)
		}
	})
	if err == nil && freeze {
		f := m.n.fsm.Freeze()
		defer f.Release()
		reply = do.Frozen(f, q.DB, q.Args)
	}
	return reply, err
}

// readAll is a transaction of reads.
func readAll(r *store.Reader, x *command.Exec) resp.Value {
	for i := range x.Watch {
		w := &x.Watch[i]
		r.Use(w.DB)
		r.Peek(w.Key) // a key that has become due counts as changed, once its removal is committed
		if r.Version(w.Key) != w.Version {
			return resp.NullArray
		}
	}
	replies := make([]resp.Value, len(x.Queue))
	for i := range x.Queue {
		q := &x.Queue[i]
		r.Use(q.DB)
		if err := q.Spec.Do.Check(q.Args); err != nil {
			replies[i] = resp.Err(err)
			continue
		}
		replies[i] = q.Spec.Do.Read(r, q.Args)
	}
	return resp.Array(replies...)
}

// expireRounds is how often a read is run again because it met due keys.
const expireRounds = 16

// view runs fn. Due keys that it meets are removed before it is believed, and it is run
// again.
func (m master) view(ctx context.Context, db int, fn func(r *store.Reader)) error {
	for range expireRounds {
		victims := m.n.fsm.View(db, fn)
		if len(victims) == 0 {
			return nil
		}
		if err := m.n.proposer.Expire(ctx, victims); err != nil {
			return err
		}
	}
	return errDue
}

// Versions are what WATCH remembers of keys.
func (m master) Versions(ctx context.Context, db int, keys [][]byte) (list []uint64, err error) {
	if err := m.n.raft.Confirm(ctx); err != nil {
		return nil, err
	}
	err = m.view(ctx, db, func(r *store.Reader) {
		list = list[:0]
		for _, k := range keys {
			r.Peek(k)
			list = append(list, r.Version(k))
		}
	})
	return list, err
}

// errDue is why a read is not answered that has met due keys again and again.
var errDue = errors.New("keys become due faster than they are removed")

// Index is the log index that a read needs. It is taken first: a majority confirms
// that this node was the master after that.
func (m master) Index(ctx context.Context) (uint64, error) {
	return readIndex(m.n.reign.serving.Load, m.n.fsm.Answered, func() error { return m.n.raft.Confirm(ctx) })
}

// readIndex is what answered says, if confirm tells that this node is the master of the
// term that it served in at that moment. Taken before that term was established, the index
// could lack what the master before has answered.
func readIndex(serving, answered func() uint64, confirm func() error) (uint64, error) {
	term := serving()
	index := answered()
	if err := confirm(); err != nil {
		return 0, err
	}
	if serving() != term {
		return 0, errNotMaster
	}
	return index, nil
}

// Expire commits the removal of due keys.
func (m master) Expire(ctx context.Context, victims []store.Victim) (uint64, error) {
	if len(victims) == 0 {
		return m.n.fsm.Answered(), nil
	}
	err := m.n.proposer.Expire(ctx, victims)
	return m.n.fsm.Answered(), err
}

// Await waits until this node is the confirmed master.
func (m master) Await(ctx context.Context) (uint64, error) {
	for {
		if term := m.n.reign.serving.Load(); term != 0 && m.n.raft.Confirm(ctx) == nil {
			return term, nil
		}
		if !pause(ctx, awaitPause) {
			return 0, errNotMaster
		}
	}
}

// awaitPause is how often Await looks; a handover waits for it.
const awaitPause = passPause / 2

// handOverFor begins a handover that another node asks for.
func (n *Node) handOverFor(target string) error {
	_, err := n.beginHandover(target, n.bound())
	return failoverError(err)
}
