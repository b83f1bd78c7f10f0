package cluster

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// The frames of probe connections. Those of a question have one size, and so have
// answers but for the record at the end of an answer to a ping.
//
//	term question  'T' nonce
//	term answer    't' nonce term
//	ping question  'P' nonce hash       (of the record the asker has)
//	ping answer    'p' nonce report record
//	ping answer    'q' nonce report record addition
//
// Nodes repeat a nonce as it is. An asker that understands additions sets its highest
// bit, and only then is sent one; a node of a release that knows none answers without.
// An addition begins with its length, and what a node does not know at its end is
// skipped.
const (
	askTerm  = 'T'
	tellTerm = 't'
	askPing  = 'P'
	tellPing = 'p'
	tellMore = 'q'

	moreBit = 1 << 63

	nonceLen  = 8
	termSize  = 1 + nonceLen + 8
	pingAsk   = 1 + nonceLen + 8
	pingTell  = 1 + nonceLen + reportLen + 2
	reportLen = 8 + 1 + 4 + 4 + 8 + 8 + 8 // term flags age election applied instant hash
	moreLen   = 8 + 1                     // wall flags
	maxMore   = 255
)

// report is what a node tells of itself in answer to a ping.
type report struct {
	term     uint64
	master   bool          // it is established leader
	low      bool          // its disk is; not told by a master, who sees to that itself
	age      time.Duration // since the start of its last confirmed round; valid if master
	election time.Duration
	applied  uint64
	instant  int64 // cluster time, ms
	hash     uint64
	info     []byte // nil if the asker has it already
	more     addition
}

// addition is what a report says beyond what the first release told.
type addition struct {
	wall  int64 // the wall clock, ms since the epoch; 0 if it was not told
	timed bool  // the report's instant is known to be cluster time
	keeps bool  // the node keeps the pledges that leases rest on
}

func (a *addition) append(b []byte) []byte {
	b = append(b, moreLen)
	b = binary.BigEndian.AppendUint64(b, uint64(a.wall)) // its bits
	var flags byte
	if a.timed {
		flags |= moreTimed
	}
	if a.keeps {
		flags |= moreKeeps
	}
	return append(b, flags)
}

// readAddition reads what append has written, in this release or a later one.
func readAddition(rd *bufio.Reader) (addition, error) {
	size, err := rd.ReadByte()
	if err != nil {
		return addition{}, err
	}
	var buf [maxMore]byte
	if _, err := io.ReadFull(rd, buf[:size]); err != nil {
		return addition{}, err
	}
	f := fields{rest: buf[:size]}
	a := addition{wall: int64(f.uint64())} // its bits
	flags := f.byte()
	a.timed, a.keeps = flags&moreTimed != 0, flags&moreKeeps != 0
	if f.bad {
		return addition{}, errFrame
	}
	if a.wall < 0 || a.wall > latestWall {
		a.wall = 0 // a clock as wrong as that is none
	}
	return a, nil
}

// What the flags of a report can be. They are not combined: earlier releases take a
// node for master only if its flags are flagMaster and nothing else.
const (
	flagMaster = 1
	flagLow    = 2
)

// The flags of an addition; earlier releases look at the first one only.
const (
	moreTimed = 1
	moreKeeps = 2
)

// noAge stands for a node that has never confirmed its term.
const noAge = ^uint32(0)

func (r *report) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, r.term)
	var flags byte
	age := noAge
	switch {
	case r.low && !r.master:
		flags = flagLow
	case r.master:
		flags = flagMaster
		age = uint32(min(r.age.Milliseconds()+1, int64(noAge-1))) // bounded
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, age)
	b = binary.BigEndian.AppendUint32(b, uint32(r.election.Milliseconds())) // a setting
	b = binary.BigEndian.AppendUint64(b, r.applied)
	b = binary.BigEndian.AppendUint64(b, uint64(r.instant)) // its bits
	b = binary.BigEndian.AppendUint64(b, r.hash)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.info))) // at most MaxInfo
	return append(b, r.info...)
}

// readReport reads what append has written. The record is bounded by MaxInfo.
func readReport(rd *bufio.Reader) (report, error) {
	var buf [reportLen + 2]byte
	if _, err := io.ReadFull(rd, buf[:]); err != nil {
		return report{}, err
	}
	f := fields{rest: buf[:]}
	r := report{term: f.uint64()}
	flags := f.byte()
	r.master, r.low = flags == flagMaster, flags == flagLow
	age := f.uint32()
	r.age = time.Duration(age) * time.Millisecond
	if r.master = r.master && age != noAge; !r.master {
		r.age = 0
	}
	r.election = time.Duration(f.uint32()) * time.Millisecond
	r.applied = f.uint64()
	r.instant = int64(f.uint64()) // its bits
	r.hash = f.uint64()
	size := int(f.uint16())
	if size > MaxInfo {
		return report{}, errFrame
	}
	if size == 0 {
		return r, nil
	}
	info := make([]byte, MaxInfo)[:size]
	_, err := io.ReadFull(rd, info)
	r.info = info
	return r, err
}

// link is this node's probe connection to a peer: questions go out on it, answers
// come in. It is dialed again whenever it breaks.
type link struct {
	node  *Node
	peer  *peer
	again chan struct{} // the peer is up: dial at once

	conn atomic.Pointer[session] // nil while there is none

	mu struct {
		sync.Mutex
		pings [16]ping // by nonce
		nonce uint64
		since int // regular pings since the last answer on the present connection
	}
}

// ping is a question under way.
type ping struct {
	nonce uint64
	asked time.Duration
}

func newLink(n *Node, p *peer) *link {
	l := &link{node: n, peer: p, again: make(chan struct{}, 1)}
	l.mu.nonce = moreBit
	return l
}

// redial asks for a dial at once, if the link is down.
func (l *link) redial() {
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// up tells whether questions can be sent.
func (l *link) up() bool { return l.conn.Load() != nil }

// send writes a frame, if the link is up. A connection that does not take it is
// closed.
func (l *link) send(frame []byte) {
	conn := l.conn.Load()
	if conn == nil || l.node.hooks.cut(l.peer.id) != nil {
		return
	}
	if _, err := conn.Write(frame); err != nil {
		closeConn(conn)
	}
}

// ping asks for a report.
func (l *link) ping(now time.Duration) {
	last, _ := l.peer.last()
	l.mu.Lock()
	l.mu.nonce++
	nonce := l.mu.nonce
	l.mu.pings[nonce%uint64(len(l.mu.pings))] = ping{nonce, now}
	l.mu.Unlock()
	frame := binary.BigEndian.AppendUint64([]byte{askPing}, nonce)
	l.send(binary.BigEndian.AppendUint64(frame, last.hash))
}

// asked is when the ping with the given nonce, which was answered, was sent.
func (l *link) asked(nonce uint64) (time.Duration, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.since = 0
	p := &l.mu.pings[nonce%uint64(len(l.mu.pings))]
	if p.nonce != nonce || p.asked == 0 {
		return 0, false
	}
	at := p.asked
	*p = ping{}
	return at, true
}

// run keeps the link up until ctx ends.
func (l *link) run(ctx context.Context) {
	for ctx.Err() == nil {
		c, err := l.node.dial(ctx, l.peer, kindProbe)
		if err != nil {
			t := time.NewTimer(l.node.cfg.ElectionTimeout / 2)
			select {
			case <-ctx.Done():
			case <-t.C:
			case <-l.again:
				sleep(ctx, 5*time.Millisecond) // let it finish starting
			}
			t.Stop()
			continue
		}
		l.serve(ctx, c)
	}
}

// serve reads answers until the connection ends.
func (l *link) serve(ctx context.Context, c *session) {
	stop := context.AfterFunc(ctx, func() { closeConn(c) })
	l.mu.Lock()
	l.mu.since = 0
	l.mu.Unlock()
	l.conn.Store(c)
	l.ping(l.node.cfg.Clock.Boot())
	l.node.confirm.connected(l)
	err := l.read(c)
	l.conn.Store(nil)
	stop()
	closeConn(c)
	l.peer.parted(c.said.instance)
	l.node.look()
	if ctx.Err() == nil {
		l.node.log.Debug("probe connection ended", "node", l.peer.id, "err", err)
	}
}

// read takes answers.
func (l *link) read(c *session) error {
	r := bufio.NewReader(c.Conn)
	var head [1 + nonceLen]byte
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		nonce := binary.BigEndian.Uint64(head[1:])
		switch head[0] {
		case tellTerm:
			var term [8]byte
			if _, err := io.ReadFull(r, term[:]); err != nil {
				return err
			}
			l.node.confirm.answered(l, nonce, binary.BigEndian.Uint64(term[:]))
		case tellPing, tellMore:
			rep, err := readReport(r)
			if err == nil && head[0] == tellMore {
				rep.more, err = readAddition(r)
			}
			if err != nil {
				return err
			}
			l.told(c, nonce, &rep)
		default:
			return errFrame
		}
	}
}

// told takes the answer to a ping.
func (l *link) told(c *session, nonce uint64, r *report) {
	asked, ok := l.asked(nonce)
	if !ok || l.node.hooks.cut(l.peer.id) != nil {
		return
	}
	if r.election != l.node.cfg.ElectionTimeout {
		l.node.warnElection(l.peer, r.election)
	}
	now := l.node.cfg.Clock.Boot()
	known, heard := l.peer.last()
	l.peer.reported(*r, nonce, asked)
	l.peer.sighted(c.said.instance, now)
	l.node.sawTerm(r.term)
	l.peer.pledges(pledged{c.said.instance, r.more.keeps, r.election})
	if r.master && !r.more.keeps {
		l.node.pledge.heard(r.term) // it has no lease to give up before it hands over
	}
	l.node.heardTime(l.peer, r, asked, now)
	if heard == 0 || r.info != nil || r.term != known.term || r.master != known.master || r.low != known.low || !l.node.settled() {
		l.node.look()
	}
}

// stale closes a connection on which nothing was answered for so many calls, one
// with each regular ping, so that a half-open one does not stay.
func (l *link) stale(limit int) {
	l.mu.Lock()
	l.mu.since++
	deaf := l.mu.since > limit
	l.mu.Unlock()
	if conn := l.conn.Load(); conn != nil && deaf {
		closeConn(conn)
	}
}

// serveProbe answers a peer's questions.
func (n *Node) serveProbe(c *session) {
	defer closeConn(c)
	if c.peer == nil {
		return // removed since it shook hands
	}
	defer c.peer.parted(c.said.instance)
	r := bufio.NewReader(c.Conn)
	var head [1 + nonceLen]byte
	out := make([]byte, 0, pingTell+MaxInfo+1+moreLen)
	for {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		if n.peer(c.peer.id) != c.peer {
			return // it was removed; when it asks again it is told
		}
		out = out[:0]
		switch head[0] {
		case askTerm:
			out = append(append(out, tellTerm), head[1:]...)
			out = binary.BigEndian.AppendUint64(out, n.raftNode().CurrentTerm())
		case askPing:
			var hash [8]byte
			if _, err := io.ReadFull(r, hash[:]); err != nil {
				return
			}
			c.peer.sighted(c.said.instance, n.cfg.Clock.Boot())
			rep := n.report(binary.BigEndian.Uint64(hash[:]))
			out = appendAnswer(out, head[1:], &rep)
		default:
			n.grumble("probe", slog.LevelInfo, "a node sent a malformed probe", "node", c.peer.id)
			return
		}
		if n.hooks.cut(c.peer.id) != nil {
			continue
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// appendAnswer appends the answer to a ping with the given nonce.
func appendAnswer(b, nonce []byte, r *report) []byte {
	if binary.BigEndian.Uint64(nonce)&moreBit == 0 {
		return r.append(append(append(b, tellPing), nonce...))
	}
	b = r.append(append(append(b, tellMore), nonce...))
	return r.more.append(b)
}

// errClosed is why an operation on a stopped node fails.
var errClosed = errors.New("the node has stopped")
