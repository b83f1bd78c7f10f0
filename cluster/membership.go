package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// How a node enters a cluster that exists, and how it learns that it is not in it any
// more. Questions go to any node; only a leader answers more than where the leader
// is, and only after a round that was begun for the question has confirmed it.
//
//   - An empty node asks to be taken in. If its id is that of a member, its disk was
//     lost: the leader first commits the removal of the old member, so that no vote
//     and no acknowledgement of the old disk is counted together with the new one's,
//     and nobody who lacks the removal can win an election with the help of the empty
//     node (fewer than half the nodes lack what a majority without it has committed).
//     Then it commits the node as a member without a vote, and tells it the cluster's
//     id and the leader's term; only then the node opens raft.
//   - A node that was taken in asks for a vote. The leader gives it one when the node
//     has kept up with the log for a while and says that its files would be missed.
//   - A node that another one does not know asks whether it is a member. If it is not
//     it stops.

// The questions.
const (
	askEnter  = 'E' // flag: 1 if the node was started to join; the cluster it has a claim on, or ""
	askVote   = 'V'
	askMember = 'M'
	askSpeaks = 'S' // whether these questions are understood
)

// The answers.
const (
	tellElsewhere = 'e' // id and address of the leader, or "" twice
	tellAdmitted  = 'a' // see admission
	tellOK        = 'k'
	tellRefused   = 'r' // why
	tellStranger  = 's' // the node is no member
	tellClaim     = 'c' // the cluster's id: the asking node's id is that of a member, which is a claim to be taken in
)

// admission is what a node is told that was taken in.
type admission struct {
	cluster     string
	term, index uint64 // the leader's term; the configuration that has the node
	members     []Member
}

func (a *admission) encode() []byte {
	b := appendText([]byte{tellAdmitted}, a.cluster)
	b = binary.BigEndian.AppendUint64(b, a.term)
	b = binary.BigEndian.AppendUint64(b, a.index)
	b = append(b, byte(len(a.members))) // at most maxNodes
	for _, m := range a.members {
		b = appendText(appendText(b, m.ID), m.Addr)
	}
	return b
}

func parseAdmission(f *fields) (admission, error) {
	a := admission{cluster: f.text(), term: f.uint64(), index: f.uint64()}
	count := int(f.byte())
	for i := 0; i < count && !f.bad; i++ {
		a.members = append(a.members, Member{ID: f.text(), Addr: f.text()})
	}
	if !f.done() || count > maxNodes || a.cluster == "" || len(a.cluster) > maxCluster || a.index == 0 || a.term == 0 {
		return admission{}, errFrame
	}
	for _, m := range a.members {
		if !validID(m.ID) || !validAddr(m.Addr) {
			return admission{}, errFrame
		}
	}
	return a, nil
}

// memberBound is how long a question about membership may take.
const memberBound = 15 * time.Second

// callError is a refusal in words.
type callError struct{ text string }

func (e *callError) Error() string { return e.text }

// serveMember answers one question.
func (n *Node) serveMember(c *session) {
	defer closeConn(c)
	inTime := limit(c)
	ask, err := readFrame(c, make([]byte, maxFrame))
	if !inTime() || err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(n.ctx, memberBound)
	defer cancel()
	answer := n.answerMember(ctx, &c.said, ask)
	inTime = limit(c)
	defer inTime()
	if err := writeFrame(c, answer); err != nil {
		n.log.Debug("membership: cannot answer", "node", c.said.from, "err", err)
	}
}

// answerMember is the answer to a question of a node that has proved the secret.
func (n *Node) answerMember(ctx context.Context, said *hello, ask []byte) []byte {
	f := fields{rest: ask}
	switch op := f.byte(); op {
	case askSpeaks:
		return []byte{tellOK}
	case askEnter, askVote, askMember:
		if n.Probe(ctx) != nil {
			return n.elsewhere()
		}
		return n.answerLeading(ctx, said, op, &f)
	}
	return refusedWith(errFrame)
}

// answerLeading answers a question that only the leader may answer.
func (n *Node) answerLeading(ctx context.Context, said *hello, op byte, f *fields) []byte {
	var err error
	switch op {
	case askEnter:
		return n.answerEnter(ctx, said, f.byte() == 1, f.text())
	case askVote:
		err = n.Promote(ctx, said.from)
	default:
		if _, member := find(n.Members(), said.from); !member {
			return []byte{tellStranger}
		}
	}
	if err != nil {
		return refusedWith(err)
	}
	return []byte{tellOK}
}

// answerEnter takes an empty node in that may enter: one that was started to join, or
// whose id was a member's.
func (n *Node) answerEnter(ctx context.Context, said *hello, joins bool, claim string) []byte {
	_, member := find(n.Members(), said.from)
	switch {
	case said.cluster != "":
		return refusedWith(errors.New("the node belongs to a cluster already"))
	case joins || claim == n.clusterID():
	case member:
		// It remembers that before its old place is taken away: if this leader fails in
		// between, the next one finds no trace of it.
		return appendText([]byte{tellClaim}, n.clusterID())
	default:
		return refusedWith(fmt.Errorf("%s is no member: RAFT ADD %s %s on the master takes it in", said.from, said.from, said.announce))
	}
	a, err := n.admit(ctx, said.from, said.announce)
	if err != nil {
		return refusedWith(err)
	}
	return a.encode()
}

func refusedWith(err error) []byte {
	text := err.Error()
	return appendText([]byte{tellRefused}, text[:min(len(text), maxAddr)])
}

// elsewhere says who leads, as far as this node knows.
func (n *Node) elsewhere() []byte {
	id := n.View().Leader
	p := n.peer(id)
	if p == nil {
		return appendText(appendText([]byte{tellElsewhere}, ""), "")
	}
	return appendText(appendText([]byte{tellElsewhere}, p.id), p.announced())
}

// call asks the node at addr, which must be the one with the given id unless that is
// anyNode.
func (n *Node) call(ctx context.Context, addr, id string, ask []byte) (fields, error) {
	limited, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := n.cfg.Dial(limited, "tcp", addr)
	if err != nil {
		return fields{}, err
	}
	defer closeConn(conn)
	conn = tuned(conn)
	own := n.hello()
	own.kind, own.to = kindMember, id
	stop := context.AfterFunc(ctx, func() { closeConn(conn) })
	defer stop()
	said, err := shakeOut(conn, n.key, own)
	if err != nil {
		return fields{}, err
	}
	if err := n.hooks.cut(said.from); err != nil {
		return fields{}, err
	}
	if v := compare(own.cluster, said.cluster, kindForm); v != accepted {
		return fields{}, &refusal{verdict: v, proved: true, cluster: said.cluster}
	}
	timer := time.AfterFunc(memberBound, func() { closeConn(conn) })
	defer timer.Stop()
	if err := writeFrame(conn, ask); err != nil {
		return fields{}, err
	}
	body, err := readFrame(conn, make([]byte, maxFrame))
	return fields{rest: body}, err
}

// callLeader asks the nodes at addrs one after another until a leader has answered.
// It returns the answer without its first byte. The error tells what each has said.
func (n *Node) callLeader(ctx context.Context, addrs []string, ask []byte) (tell byte, f fields, err error) {
	type place struct{ addr, id string }
	var queue []place
	for _, a := range addrs {
		queue = append(queue, place{a, anyNode})
	}
	var said []string
	for asked := map[place]bool{}; len(queue) > 0; queue = queue[1:] {
		to := queue[0]
		if asked[to] || len(asked) > 2*maxNodes {
			continue
		}
		asked[to] = true
		f, err := n.call(ctx, to.addr, to.id, ask)
		if err != nil {
			said = append(said, to.addr+": "+err.Error())
			continue
		}
		switch tell := f.byte(); tell {
		case tellElsewhere:
			id, addr := f.text(), f.text()
			if f.done() && validID(id) && validAddr(addr) {
				queue = slices.Insert(queue, 1, place{addr, id})
			} else {
				said = append(said, to.addr+": no master is confirmed")
			}
		case tellRefused:
			return tell, f, &callError{f.text()}
		default:
			return tell, f, nil
		}
	}
	return 0, fields{}, errors.New(strings.Join(said, "; "))
}

// enter asks the nodes at addrs to take this empty one in, and says what it waits for
// if they do not.
func (n *Node) enter(ctx context.Context, addrs []string, wait string) error {
	ask := []byte{askEnter, 0}
	if len(n.cfg.Join) > 0 {
		ask[1] = 1
	}
	ask = appendText(ask, n.identity.Load().Claim)
	tell, f, err := n.callLeader(ctx, addrs, ask)
	if err == nil {
		err = n.entering(tell, &f)
	}
	if fatal := (*storeError)(nil); errors.As(err, &fatal) {
		return fatal.err
	}
	if wait == "" {
		wait = "waiting for a cluster to take this node in"
	}
	if err != nil {
		n.setWaiting(wait + " (" + err.Error() + ")")
	}
	return nil
}

// storeError is that this node's own directory cannot be written.
type storeError struct{ err error }

func (e *storeError) Error() string { return e.err.Error() }

// remember stores a changed identity.
func (n *Node) remember(change func(id *identity)) error {
	id := *n.identity.Load()
	change(&id)
	if err := n.dir.writeIdentity(id); err != nil {
		return &storeError{err}
	}
	n.identity.Store(&id)
	return nil
}

// entering does what a leader's answer to an empty node says.
func (n *Node) entering(tell byte, f *fields) error {
	switch tell {
	case tellClaim:
		claim := f.text()
		if !f.done() || claim == "" || len(claim) > maxCluster {
			return errFrame
		}
		return n.remember(func(id *identity) { id.Claim = claim })
	case tellAdmitted:
	default:
		return errors.New("a node has answered in a way this release does not understand")
	}
	a, err := parseAdmission(f)
	if err != nil {
		return err
	}
	// The term first: in an earlier one this node could be taken for a voter of the
	// past.
	if err := n.stable.SetUint64([]byte(keyTerm), a.term); err != nil {
		return &storeError{err}
	}
	err = n.remember(func(id *identity) {
		id.Stage, id.ClusterID, id.Claim = stageJoining, a.cluster, ""
		id.Joined, id.Seeking, id.Peers = a.index, true, nil
		for _, m := range a.members {
			id.Peers = append(id.Peers, Peer{m.ID, m.Addr})
		}
	})
	if err == nil {
		n.firstRoster()
		n.log.Info("a cluster has taken this node in", "cluster", a.cluster, "index", a.index, "term", a.term)
	}
	return err
}

// settle lets a node that was taken in go on until it has a vote, and has one that may
// have been removed find out. It runs until the node stops.
func (n *Node) settle(ctx context.Context) {
	for sleep(ctx, n.cfg.ElectionTimeout) {
		if err := n.settleStep(ctx); err != nil {
			n.mayFail(err)
			return
		}
	}
}

// settleStep is one look of settle.
func (n *Node) settleStep(ctx context.Context) error {
	id, latest := n.identity.Load(), n.quorum.Load().latest()
	self, member := find(latest.members, n.cfg.NodeID)
	switch {
	case id.Stage == stageJoining && n.raftNode().LastIndex() > 0:
		// From now on its files would be missed: it is not started without them.
		return n.remember(func(id *identity) { id.Stage = stageFormed })
	case id.Seeking && member && self.Voter && latest.index > id.Joined:
		n.log.Info("this node has a vote")
		n.setWaiting("")
		return n.remember(func(id *identity) { id.Seeking = false })
	case n.doubt.Swap(false) && n.View().Leader != n.cfg.NodeID:
		return n.askWhetherMember(ctx)
	case id.Seeking && id.Stage == stageFormed && member && !self.Voter:
		n.askForVote(ctx)
	}
	return nil
}

// known are the addresses of the nodes this one knows.
func (n *Node) known() (addrs []string) {
	for _, p := range n.others() {
		addrs = append(addrs, p.address())
	}
	return addrs
}

// askWhetherMember returns ErrRemoved if the cluster has removed this node.
func (n *Node) askWhetherMember(ctx context.Context) error {
	tell, _, err := n.callLeader(ctx, n.known(), []byte{askMember})
	if err == nil && tell == tellStranger {
		return ErrRemoved
	}
	return nil
}

// askForVote asks the leader for a vote.
func (n *Node) askForVote(ctx context.Context) {
	if _, _, err := n.callLeader(ctx, n.known(), []byte{askVote}); err != nil {
		n.setWaiting("this node follows and has no vote yet: " + err.Error())
	}
}

// watchRemoval stops the node when its own log says for long enough that it was
// removed. A leader that has removed itself lets its last replies go meanwhile.
func (n *Node) watchRemoval(latest *voterSet, commit uint64, now time.Duration) {
	_, member := find(latest.members, n.cfg.NodeID)
	switch {
	case member || latest.index == 0 || latest.index > commit || latest.index <= n.identity.Load().Joined:
		n.goneSince = 0
	case n.goneSince == 0:
		n.goneSince = now
	case now-n.goneSince > n.window():
		n.mayFail(ErrRemoved)
	}
}
