package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

const (
	rpcTimeout  = 5 * time.Second
	rpcPool     = 4       // idle connections per peer
	rpcBytes    = 8 << 20 // commands in one append; a bigger one travels alone
	resumeWait  = 10 * time.Second
	resumeTries = rpcPool + 1 // every pooled connection may have gone stale
	stallLimit  = 2 * time.Second
	heartbeats  = 2               // per election timeout, from a leader that sends nothing else
	calm        = 2 * time.Second // without entries to a peer until its heartbeats are held back
)

// streams carries raft's requests over connections that have shaken hands. raft
// names a peer by its id alone: where that is, is looked up at every dial.
type streams struct {
	node   *Node
	inbox  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

var _ raft.StreamLayer = (*streams)(nil)

func newStreams(n *Node) *streams {
	return &streams{node: n, inbox: make(chan net.Conn), closed: make(chan struct{})}
}

// deliver hands an inbound connection to raft, which owns it from then on.
func (s *streams) deliver(c *session) {
	select {
	case s.inbox <- c:
	case <-s.closed:
		closeConn(c)
	}
}

// Accept waits for a connection of another node.
func (s *streams) Accept() (net.Conn, error) {
	select {
	case c := <-s.inbox:
		return c, nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept. The listening socket is the node's.
func (s *streams) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// Addr is this node as raft names it.
func (s *streams) Addr() net.Addr { return nodeAddr(s.node.cfg.NodeID) }

// Dial opens a connection to the peer with the given id.
func (s *streams) Dial(id raft.ServerAddress, _ time.Duration) (net.Conn, error) {
	p := s.node.peer(string(id))
	if p == nil {
		return nil, fmt.Errorf("node %s is not a member", id)
	}
	c, err := s.node.dial(s.node.ctx, p, kindRaft)
	if err != nil {
		return nil, err // never a nil session in an interface
	}
	p.answersRaft(c.said.instance)
	if !s.node.listener.keep(c.Conn) {
		return nil, net.ErrClosed
	}
	return &acceptedConn{c.Conn, s.node.listener}, nil
}

// nodeAddr names a node where raft wants an address.
type nodeAddr string

// Network is a name for the log.
func (nodeAddr) Network() string { return "holdfast" }

// String is the node's id.
func (a nodeAddr) String() string { return string(a) }

// byID has raft dial ids: the addresses in its configurations are for people.
type byID struct{}

// ServerAddr returns the id.
func (byID) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raft.ServerAddress(id), nil
}

// transport is raft's network transport with the corrections it needs. It embeds
// the original so that pre-votes and Close go on to work.
type transport struct {
	*raft.NetworkTransport
	node *Node
}

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
	_ raft.WithClose   = (*transport)(nil)
)

func newTransport(n *Node, s *streams, log hclog.Logger) *transport {
	return &transport{
		NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
			ServerAddressProvider:   byID{},
			Logger:                  log,
			Stream:                  s,
			MaxPool:                 rpcPool,
			MaxRPCsInFlight:         1, // with more a follower may never resume after one error (hashicorp/raft#612)
			Timeout:                 rpcTimeout,
			MsgpackUseNewTimeFormat: true,
		}),
		node: n,
	}
}

// SetHeartbeatHandler keeps raft from its short cut for heartbeats: they go through
// its main loop like everything else. The short cut changes term and state beside
// that loop, and logs can diverge (hashicorp/raft#695). raft calls this when it has
// read its state and before it starts its goroutines.
func (t *transport) SetHeartbeatHandler(func(raft.RPC)) { t.node.begun() }

// errStalled keeps a leader that cannot write from looking alive: raft sends
// heartbeats, and empty appends, while its own append hangs (hashicorp/raft#503).
var errStalled = errors.New("nothing is sent: an append to this node's own log hangs")

// AppendEntries sends entries or a heartbeat.
func (t *transport) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if err := t.node.hooks.cut(string(id)); err != nil {
		return err
	}
	p := t.node.peer(string(id))
	if p == nil {
		return fmt.Errorf("node %s is not a member", id)
	}
	if t.node.logs.outstanding() > stallLimit {
		return errStalled
	}
	if isHeartbeat(args) {
		t.hold(p, args.Term)
		err := t.send(p, target, args, resp)
		if err == nil {
			p.beats.Ring()
		}
		return err
	}
	bound(args)
	if len(args.Entries) > 0 {
		p.busy.Store(int64(clock.Mono()))
	}
	err := t.send(p, target, args, resp)
	if err != nil {
		err = t.resume(p, target, args, resp, err)
	}
	if err == nil && resp.Success && len(args.Entries) > 0 {
		// raft counts this node for entries that may not be on its disk yet. It must not
		// count the other one before they are.
		err = t.node.logs.settle(args.Entries[len(args.Entries)-1].Index)
	}
	if r := t.node.raftNode(); err == nil && resp.Success && r != nil && r.CurrentTerm() == args.Term {
		p.acknowledged(args.PrevLogEntry + uint64(len(args.Entries)))
	}
	return err
}

// hold lets a heartbeat wait while it would tell the peer nothing: every append is as
// good, and raft sends empty ones, too. A peer that gets entries has to write them, and
// until its disk is done it answers nothing else: the answer before that should be no
// older than it must. So nothing is held back from those that lately got some. It looks
// again with every beat of the node: a timer of its own that runs out costs more than
// the heartbeat.
func (t *transport) hold(p *peer, term uint64) {
	most := t.node.cfg.ElectionTimeout / heartbeats
	alone := time.NewTimer(most) // put off by beats while the peer answers
	defer alone.Stop()
	for {
		now := clock.Mono()
		left := p.lastAnswer(term) + most - now
		if left <= 0 || now-time.Duration(p.busy.Load()) < calm {
			return
		}
		alone.Reset(left)
		select {
		case <-t.node.pulse.Next():
		case <-alone.C:
		case <-t.node.ctx.Done():
			return
		}
		if r := t.node.raftNode(); r == nil || r.State() != raft.Leader || r.CurrentTerm() != term {
			return
		}
	}
}

// send makes one request. Success counts as contact, for raft on the other node notes
// none otherwise, and prolongs this node's lease.
func (t *transport) send(p *peer, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	c, began := t.node.claim(p), clock.Mono()
	err := t.NetworkTransport.AppendEntries(raft.ServerID(p.id), target, args, resp)
	if err == nil && resp.Success {
		p.answered(args.Term, began)
		t.node.acknowledged(c, args.Term)
	}
	return err
}

// isHeartbeat tells heartbeats from appends as raft does.
func isHeartbeat(a *raft.AppendEntriesRequest) bool {
	return a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

// bound cuts the entries of an append after rpcBytes. raft counts entries only;
// it takes from the request what was sent and goes on behind it. What is told of commits
// ends there as well. raft reads its commit index after it has chosen the entries: it can
// be of later ones, and a follower takes it for all that its log has, also for entries
// of an earlier leader behind those that were compared.
func bound(a *raft.AppendEntriesRequest) {
	size := 0
	for i, e := range a.Entries {
		size += len(e.Data)
		if size > rpcBytes && i > 0 {
			a.Entries = a.Entries[:i]
			break
		}
	}
	a.LeaderCommitIndex = min(a.LeaderCommitIndex, a.PrevLogEntry+uint64(len(a.Entries)))
}

// resume repeats a failed append as soon as heartbeats reach the peer. raft would
// wait longer with every failure, up to 10 s, and a peer that is back would get
// nothing meanwhile.
func (t *transport) resume(p *peer, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse, err error) error {
	ctx, cancel := context.WithTimeout(t.node.ctx, resumeWait)
	defer cancel()
	look := time.NewTicker(50 * time.Millisecond)
	defer look.Stop()
	for range resumeTries {
		for beat := p.beats.Next(); beat != nil; {
			select {
			case <-ctx.Done():
				return err
			case <-beat:
				beat = nil
			case <-look.C:
				if r := t.node.raftNode(); r == nil || r.State() != raft.Leader || r.CurrentTerm() != args.Term {
					return err
				}
			}
		}
		*resp = raft.AppendEntriesResponse{}
		if err = t.send(p, target, args, resp); err == nil {
			return nil
		}
	}
	return err
}

// InstallSnapshot sends a snapshot.
func (t *transport) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	if err := t.node.hooks.cut(string(id)); err != nil {
		return err
	}
	return t.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
}

// RequestVote asks for a vote.
func (t *transport) RequestVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if args.LeadershipTransfer {
		t.node.transferred.Store(args.Term) // before it can be won
	}
	if err := t.node.hooks.cut(string(id)); err != nil {
		return err
	}
	if args.LeadershipTransfer && !t.node.pledge.stands(args.Term) {
		plain := *args // it is shared with the requests to others
		plain.LeadershipTransfer = false
		args = &plain
	}
	return insist(func() error { return t.NetworkTransport.RequestVote(id, target, args, resp) })
}

// TimeoutNow tells a peer to stand for election. This node has no lease from then on
// until another term, whether the peer gets to hear it or not.
func (t *transport) TimeoutNow(id raft.ServerID, target raft.ServerAddress, args *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	if err := t.node.hooks.cut(string(id)); err != nil {
		return err
	}
	p := t.node.peer(string(id))
	if p == nil {
		return fmt.Errorf("node %s is not a member", id)
	}
	term, err := t.node.yield()
	if err != nil {
		return err
	}
	if err := t.node.tellYielded(p, term); err != nil {
		return err
	}
	return insist(func() error { return t.NetworkTransport.TimeoutNow(id, target, args, resp) })
}

// RequestPreVote asks whether a vote would be given.
func (t *transport) RequestPreVote(id raft.ServerID, target raft.ServerAddress, args *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if err := t.node.hooks.cut(string(id)); err != nil {
		return err
	}
	return insist(func() error { return t.NetworkTransport.RequestPreVote(id, target, args, resp) })
}

// insist repeats a request that fails at once: the pooled connections to a node that
// was started anew are stale, and an election that loses votes to them fails.
func insist(ask func() error) error {
	began := clock.Mono()
	for try := 1; ; try++ {
		err := ask()
		if err == nil || try == resumeTries || clock.Mono()-began > insistFor {
			return err
		}
	}
}

// insistFor is how long a request is repeated.
const insistFor = 50 * time.Millisecond
