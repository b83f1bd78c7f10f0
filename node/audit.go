package node

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/store"
)

// audit compares the state of this node with that of the others. At the same places
// of the log each node computes the digest of its contents, aside, and tells the
// others. Whoever finds that most nodes have another one stops.
type audit struct {
	busy  atomic.Bool // a checkpoint is in work, or none are taken
	taken chan checkpoint
	stats auditStats

	mu struct {
		sync.Mutex
		own    recent
		told   map[string]recent // by node
		alarm  string            // what was last said of differences
		agreed uint64            // the last index at which most nodes agreed with this one
	}
}

// auditStats are figures for metrics.
type auditStats struct {
	checkpoints atomic.Uint64
	took        atomic.Int64 // the last one, ns
	index       atomic.Uint64
	agreed      atomic.Uint64
	differs     atomic.Bool
}

// checkpoint is a state to be looked at.
type checkpoint struct {
	index uint64
	view  *store.Frozen // the taker releases it
}

func (a *audit) init() {
	a.taken = make(chan checkpoint, 1)
	a.mu.told = map[string]recent{}
}

// checkpoints says when the state machine offers its state.
func (n *Node) checkpoints(every int) raftfsm.Checkpoints {
	return raftfsm.Checkpoints{Every: uint64(every), Take: n.takeCheckpoint}
}

// takeCheckpoint takes the state, unless an earlier one is still in work or the node
// is catching up after its start: a node that misses a checkpoint is not compared at it.
func (n *Node) takeCheckpoint(index uint64, freeze func() *store.Frozen) {
	if n.roles.Role().Loading || !n.audit.busy.CompareAndSwap(false, true) {
		return
	}
	n.audit.taken <- checkpoint{index, freeze()} // there is room while nobody is busy
}

// kindDigest names connections on which nodes tell each other their digests.
const kindDigest = "digest"

// auditEvery is how often digests are exchanged with nodes that have not told
// theirs for the last checkpoint, auditTries how often in all.
const (
	auditEvery = time.Second
	auditTries = 60
)

// keepAudited works on checkpoints until ctx ends.
func (n *Node) keepAudited(ctx context.Context) error {
	every := time.NewTicker(auditEvery)
	defer every.Stop()
	defer n.audit.leave()
	tries := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case c := <-n.audit.taken:
			n.examine(ctx, c)
			tries = auditTries
		case <-every.C:
		}
		if tries > 0 {
			tries--
			n.exchangeDigests(ctx)
		}
	}
}

// leave takes no checkpoint any more.
func (a *audit) leave() {
	if !a.busy.Swap(true) {
		return // nobody can have taken one since
	}
	select {
	case c := <-a.taken:
		c.view.Release()
	default:
	}
}

// examine computes the digest of a state.
func (n *Node) examine(ctx context.Context, c checkpoint) {
	defer n.audit.busy.Store(false)
	defer c.view.Release()
	began := clock.Mono()
	found, err := c.view.Recompute(ctx.Err)
	if err != nil {
		return // the node stops
	}
	a := &n.audit
	a.stats.took.Store(int64(clock.Mono() - began))
	a.stats.checkpoints.Add(1)
	a.stats.index.Store(c.index)
	a.mu.Lock()
	a.mu.own = a.mu.own.add(digests{index: c.index, kept: c.view.Digest(), found: found})
	a.mu.Unlock()
	n.compareDigests()
}

// exchangeDigests asks the nodes that have not told their digest for the last
// checkpoint, and tells them this node's.
func (n *Node) exchangeDigests(ctx context.Context) {
	a := &n.audit
	a.mu.Lock()
	own, ok := a.mu.own.latest()
	a.mu.Unlock()
	if !ok {
		return
	}
	v := n.raft.View()
	for i := range v.Peers {
		p := &v.Peers[i]
		a.mu.Lock()
		_, known := a.mu.told[p.ID].at(own.index)
		a.mu.Unlock()
		if known || !p.Contact || ctx.Err() != nil {
			continue
		}
		if err := n.exchangeWith(ctx, p.ID); err != nil {
			n.log.Debug("digests could not be exchanged", "node", p.ID, "err", err)
		}
	}
	n.compareDigests()
}

// exchangeWith tells one node and hears it.
func (n *Node) exchangeWith(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, n.bound())
	defer cancel()
	conn, err := n.raft.Dial(ctx, id, kindDigest)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // a bound for what follows
	defer func() { _ = conn.Close() }()                         // nothing is left to lose
	if _, err := conn.Write(n.audit.tell()); err != nil {
		return err
	}
	list, err := readDigests(conn)
	if err != nil {
		return err
	}
	n.audit.hear(id, list)
	return nil
}

// serveDigests is the other end of exchangeWith.
func (n *Node) serveDigests(conn net.Conn, id string) {
	defer time.AfterFunc(n.bound(), func() { _ = conn.Close() }).Stop()
	list, err := readDigests(conn)
	if err != nil {
		n.log.Debug("digests could not be exchanged", "node", id, "err", err)
		return
	}
	n.audit.hear(id, list)
	if _, err := conn.Write(n.audit.tell()); err != nil {
		n.log.Debug("digests could not be exchanged", "node", id, "err", err)
	}
	n.compareDigests()
}

// hear takes note of what a node has told.
func (a *audit) hear(id string, list recent) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, d := range list {
		a.mu.told[id] = a.mu.told[id].add(d)
	}
}

// digestFormat is the version of the exchange and of the digest itself: nodes whose
// releases compute digests differently are not compared.
const digestFormat = 1

const digestSize = 3 * 8

// tell is what this node tells the others: a format, a count, and the digests.
func (a *audit) tell() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	b := []byte{digestFormat, byte(len(a.mu.own))} // at most keptRecent
	for _, d := range a.mu.own {
		for _, word := range []uint64{d.index, d.kept, d.found} {
			b = binary.BigEndian.AppendUint64(b, word)
		}
	}
	return b
}

var errDigestFormat = errors.New("another release, whose digests cannot be compared")

// readDigests reads what tell has written.
func readDigests(r io.Reader) (recent, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	if head[0] != digestFormat || head[1] > keptRecent {
		return nil, errDigestFormat
	}
	var body [keptRecent * digestSize]byte
	text := body[:int(head[1])*digestSize]
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, err
	}
	var list recent
	for ; len(text) > 0; text = text[digestSize:] {
		word := func(i int) uint64 { return binary.BigEndian.Uint64(text[8*i:]) }
		list = list.add(digests{index: word(0), kept: word(1), found: word(2)})
	}
	return list, nil
}

// errDigest is why a node stops whose state differs from that of the others.
var errDigest = errors.New("the state of this node is damaged: its digest differs from that of most nodes")

// compareDigests looks at all checkpoints that can be compared and does what follows.
func (n *Node) compareDigests() {
	c := n.audit.compare(n.self.ID, n.raft.View().Voters)
	if c.alarm != "" {
		n.log.Error("digests differ: the memory or the state of a node is damaged", "digests", c.alarm)
	}
	if c.outvoted != "" {
		n.fail(fmt.Errorf("%w: %s", errDigest, c.outvoted))
	}
}

// comparison is what follows from the digests known by now.
type comparison struct {
	alarm    string // differences that were not told before, "" for none
	outvoted string // why this node must stop, "" if it need not
}

// compare looks at all checkpoints of this node. The last one of which others have
// told their digest, or that speaks for itself, says whether there is an alarm.
func (a *audit) compare(self string, voters []string) (c comparison) {
	a.mu.Lock()
	defer a.mu.Unlock()
	said := ""
	for _, own := range a.mu.own {
		told := a.toldAtLocked(own.index)
		v := judge(self, own, told, voters)
		damaged := own.kept != own.found
		switch {
		case len(v.differ) > 0 || damaged:
			said = describe(self, own, told)
		case v.majority || len(v.agree) > 0:
			said = ""
		}
		if v.outvoted {
			c.outvoted = describe(self, own, told)
		}
		if v.majority {
			a.mu.agreed = max(a.mu.agreed, own.index)
		}
	}
	if said != a.mu.alarm {
		c.alarm, a.mu.alarm = said, said
	}
	a.stats.agreed.Store(a.mu.agreed)
	a.stats.differs.Store(said != "")
	return c
}

// toldAtLocked are the other nodes' digests at an index.
func (a *audit) toldAtLocked(index uint64) map[string]digests {
	told := map[string]digests{}
	for id, list := range a.mu.told {
		if d, ok := list.at(index); ok {
			told[id] = d
		}
	}
	return told
}

// describe says for people what the nodes have at one index.
func describe(self string, own digests, told map[string]digests) string {
	texts := []string{fmt.Sprintf("at log index %d this node, %s, has %s", own.index, self, own)}
	for _, id := range slices.Sorted(maps.Keys(told)) {
		texts = append(texts, fmt.Sprintf("%s has %s", id, told[id]))
	}
	return strings.Join(texts, "; ")
}

// String is the digest for people.
func (d digests) String() string {
	if d.kept == d.found {
		return hex64(d.found)
	}
	return hex64(d.found) + " (its own record says " + hex64(d.kept) + ": its memory has changed by itself)"
}

func hex64(n uint64) string { return fmt.Sprintf("%016x", n) }

var _ respserver.Digests = (*Node)(nil)

// Digests is what RAFT DIGEST shows.
func (n *Node) Digests() respserver.DigestStatus {
	voters := n.raft.View().Voters
	a := &n.audit
	a.mu.Lock()
	defer a.mu.Unlock()
	own, ok := a.mu.own.latest()
	s := respserver.DigestStatus{Verdict: respserver.VerdictNone, Agreed: a.mu.agreed}
	if !ok {
		return s
	}
	told := a.toldAtLocked(own.index)
	s.Index = own.index
	s.Nodes = []respserver.NodeDigest{{ID: n.self.ID, Found: hex64(own.found), Kept: hex64(own.kept)}}
	for _, id := range slices.Sorted(maps.Keys(told)) {
		s.Nodes = append(s.Nodes, respserver.NodeDigest{ID: id, Found: hex64(told[id].found), Kept: hex64(told[id].kept)})
	}
	switch v := judge(n.self.ID, own, told, voters); {
	case v.outvoted, len(v.differ) > 0, own.kept != own.found:
		s.Verdict = respserver.VerdictDiffer
	case v.majority:
		s.Verdict = respserver.VerdictAgree
	default:
		s.Verdict = respserver.VerdictWaiting
	}
	return s
}
