package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// What a node pledges itself to, whether or not any leader goes by leases: after it has
// heard from a leader it votes for nobody, itself included, for one election timeout.
// raft's own rule, that no vote is given while a leader is known, is not enough: raft
// forgets the leader at a restart and at some changes of its state. So it is enforced
// where a vote is stored, by what raft notes when it acknowledges: the last contact.
// raft also notes one when it gives a vote and when it ceases to lead; that withholds
// more than was pledged, never less.
//
//   - A process that has just started does not know what the one before it has
//     acknowledged: it does not vote for an election timeout, or for the one the node
//     had before, if that was longer.
//   - A handover of the leadership sets the pledge aside. The leader gives up its lease
//     for the rest of its term, tells the successor so, and only then tells it to
//     stand. One of a release that knows no leases has none, and tells nothing: its
//     answers to pings show it. The successor marks its requests for votes as raft does (LeadershipTransfer)
//     only for the very next term, so a TimeoutNow that was delayed on the way does not
//     end the lease of a later leader.
//
// Time is measured by the clock that stands still while the machine is suspended: that
// makes pledges longer only.

// pledge is what this node owes to leaders. Safe for concurrent use.
type pledge struct {
	opened   time.Duration // clock.Mono, once the directory was taken; what an earlier process has pledged began before it
	withheld atomic.Uint64 // votes

	mu struct {
		sync.Mutex
		first    time.Duration // for how long from opened on nothing is voted for
		yielded  uint64        // the last term whose leader has told that it has given up its lease
		transfer vote          // the last one that was asked for in a handover
	}
}

// keyElection is under which the stable store keeps the longest election timeout, ms,
// with which this node may have pledged itself.
const keyElection = "ElectionTimeout"

// recall prepares the pledge of a process that has just taken the directory: the one
// before it has ended.
func (n *Node) recall() error {
	n.pledge.opened = clock.Mono()
	before, err := n.stable.GetUint64([]byte(keyElection))
	if err != nil {
		return fmt.Errorf("term and vote: %w", err)
	}
	own := uint64(n.cfg.ElectionTimeout.Milliseconds()) // of a setting
	first := max(n.cfg.ElectionTimeout, time.Duration(min(before, uint64(time.Hour.Milliseconds())))*time.Millisecond)
	n.pledge.mu.Lock()
	n.pledge.mu.first = first
	n.pledge.mu.Unlock()
	if before >= own {
		return nil // a longer one is forgotten with the first vote
	}
	if err := n.stable.SetUint64([]byte(keyElection), own); err != nil {
		return fmt.Errorf("term and vote: %w", err)
	}
	return nil
}

// errPledged is why a vote is withheld.
var errPledged = errors.New("this node has lately heard from a leader, or may have before it was started")

// mayVote tells why a vote must not be given now. raft calls it from its main loop,
// on which it notes contacts as well.
func (n *Node) mayVote(v vote) error {
	if n.pledge.setAside(v, n.cfg.NodeID) {
		return nil
	}
	r := n.raftNode()
	if r == nil || n.pledge.forbids(clock.Mono(), clock.Since(r.LastContact()), n.cfg.ElectionTimeout) {
		n.pledge.withheld.Add(1)
		return errPledged
	}
	if !n.pledge.forgets(n.cfg.ElectionTimeout) {
		return nil
	}
	return n.stable.SetUint64([]byte(keyElection), uint64(n.cfg.ElectionTimeout.Milliseconds())) // of a setting
}

// forbids tells whether this node may have pledged itself not to vote at now (clock.Mono),
// a while after raft's last contact.
func (p *pledge) forbids(now, silent, election time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return silent < election || now-p.opened < p.mu.first
}

// forgets tells whether an earlier process may have pledged itself for longer than this
// one does. That time is over then, and it is told once.
func (p *pledge) forgets(election time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	longer := p.mu.first > election
	p.mu.first = min(p.mu.first, election)
	return longer
}

// setAside tells whether a vote belongs to a handover.
func (p *pledge) setAside(v vote, self string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if v.candidate == self {
		return p.mu.yielded+1 == v.term
	}
	return p.mu.transfer == v
}

// stands tells whether this node may stand in a term because the leader of the one before
// has told it to.
func (p *pledge) stands(term uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.yielded+1 == term
}

// asked takes note of a request for a vote before raft looks at it.
func (p *pledge) asked(r *raft.RequestVoteRequest) {
	if !r.LeadershipTransfer {
		return
	}
	candidate := r.Addr
	if len(candidate) == 0 {
		candidate = r.Candidate //nolint:staticcheck // what raft takes if there is no address
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.transfer = vote{r.Term, string(candidate)}
}

// heard takes note that the leader of a term has given up its lease, or goes by none.
func (p *pledge) heard(term uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.yielded = max(p.mu.yielded, term)
}

// tellYielded tells p that this node has given up its lease in a term. A node of a
// release that knows no leases does not understand, and need not.
func (n *Node) tellYielded(p *peer, term uint64) error {
	ctx, cancel := context.WithTimeout(n.ctx, n.window())
	defer cancel()
	c, err := n.dial(ctx, p, kindYield)
	var r *refusal
	if errors.As(err, &r) && r.verdict == unknownKind && r.proved {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeConn(c)
	stop := context.AfterFunc(ctx, func() { closeConn(c) })
	defer stop()
	if err := writeFrame(c, binary.BigEndian.AppendUint64(nil, term)); err != nil {
		return err
	}
	_, err = readFrame(c, make([]byte, 1))
	return err
}

// serveYield hears that a leader has given up its lease.
func (n *Node) serveYield(c *session) {
	defer closeConn(c)
	inTime := limit(c)
	defer inTime()
	said, err := readFrame(c, make([]byte, 8))
	f := fields{rest: said}
	term := f.uint64()
	if err != nil || !f.done() || n.hooks.cut(c.said.from) != nil {
		return
	}
	n.pledge.heard(term)
	if err := writeFrame(c, []byte{1}); err != nil {
		n.log.Debug("the end of a lease: cannot answer", "node", c.said.from, "err", err)
	}
}

// pledged is what a peer has told of its pledges.
type pledged struct {
	process  [16]byte // that has told; zero if none has
	keeps    bool     // it knows the rules above
	election time.Duration
}

// unpledged says why the peer's acknowledgements do not count with an election timeout,
// "" if they do.
func (p *peer) unpledged(election time.Duration) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch told := &p.mu.pledged; {
	case told.process == [16]byte{}:
		return "has not answered yet"
	case !told.keeps:
		return "is of a release that knows no leases"
	case told.election.Milliseconds() != election.Milliseconds():
		return fmt.Sprintf("has an election timeout of %v", told.election)
	}
	return ""
}

// pledgedProcess is the process that answers raft's requests, zero if it is not known to
// pledge itself for that election timeout.
func (p *peer) pledgedProcess(election time.Duration) [16]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	told := &p.mu.pledged
	if !told.keeps || told.process != p.mu.raft || told.election.Milliseconds() != election.Milliseconds() {
		return [16]byte{}
	}
	return told.process
}

// pledges takes note of what a process with the peer's id has told.
func (p *peer) pledges(told pledged) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.pledged = told
}

// answersRaft takes note of the process that a connection for raft's requests was
// dialed to. It has to be known before one is sent.
func (p *peer) answersRaft(process [16]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.raft = process
}
