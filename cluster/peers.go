package cluster

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/internal/bell"
)

// peer is another node, as this one knows it.
type peer struct {
	id   string
	bit  uint64 // its place in the masks of rounds
	link *link

	static bool // it is in the list that this node was started with

	busy atomic.Int64 // clock.Mono when entries were last sent to it, by this node's raft

	mu struct {
		sync.Mutex
		listed, heard string // addresses: of the static list or else the configuration, and last proved by the node itself
		failed        int    // dials that failed in a row
		alive         process
		report        report        // its last answer to a ping
		asked         time.Duration // clock.Boot when that was asked, 0 before the first
		nonce         uint64        // of the ping
		acked         uint64        // index up to which it has acknowledged our log
		wall          sighting      // of its wall clock
		heardOf       contact       // its last answer to a request of raft
		caught        time.Duration // clock.Boot since when it keeps up with our log; 0 if it does not
		pledged       pledged       // what it has told of its pledges
		raft          [16]byte      // the process that raft's requests go to; zero before the first dial
	}
	beats bell.Bell // rung when a heartbeat reaches the peer
}

// process is the process that was last seen to have a peer's id.
type process struct {
	instance [16]byte
	seen     time.Duration // clock.Boot; 0 if it is known to be gone
}

// number names a process, by what it has drawn. It is 0 for none.
func (p process) number() uint64 {
	if p.instance == [16]byte{} {
		return 0
	}
	return binary.BigEndian.Uint64(p.instance[:]) | 1
}

// process names the process that was last seen to be this peer.
func (p *peer) process() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.alive.number()
}

// address is where to dial the peer next. An address it has told wins over the
// list, unless dialing it keeps failing; then they take turns.
func (p *peer) address() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.heard == "" || p.mu.failed%2 == 1 && p.mu.listed != "" {
		return p.mu.listed
	}
	return p.mu.heard
}

// configured takes note of the address that raft's configuration has for the peer.
// The static list counts more: it is what this node was told to belong to.
func (p *peer) configured(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.static && validAddr(addr) {
		p.mu.listed = addr
	}
}

// dialed takes note of how a dial ended.
func (p *peer) dialed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.mu.failed = 0
		return
	}
	p.mu.failed++
}

// announced is the address the peer has told, or else the listed one.
func (p *peer) announced() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.heard != "" {
		return p.mu.heard
	}
	return p.mu.listed
}

// meet takes note of what a proved hello says, unless another process with the
// same id has been seen within the last while.
func (p *peer) meet(h *hello, now, while time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.mu.alive
	if last.seen != 0 && last.instance != h.instance && now-last.seen < while {
		return false
	}
	p.mu.alive = process{h.instance, now}
	if validAddr(h.announce) {
		p.mu.heard = h.announce
	}
	return true
}

// sighted takes note that a process is alive.
func (p *peer) sighted(instance [16]byte, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.alive.instance == instance {
		p.mu.alive.seen = now
	}
}

// parted takes note that a connection of a process has ended: another one with
// its id may come at once.
func (p *peer) parted(instance [16]byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.alive.instance == instance {
		p.mu.alive.seen = 0
	}
}

// reported takes note of an answer to a ping asked at asked. Later pings have
// higher nonces; answers to earlier ones than the last are dropped.
func (p *peer) reported(r report, nonce uint64, asked time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if nonce < p.mu.nonce {
		return
	}
	if r.info == nil {
		r.info = p.mu.report.info
	}
	p.mu.report, p.mu.nonce, p.mu.asked = r, nonce, asked
}

// last is the last answer and when it was asked for.
func (p *peer) last() (report, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.report, p.mu.asked
}

// contact tells whether a ping asked within the last while was answered.
func (p *peer) contact(now, while time.Duration) bool {
	_, asked := p.last()
	return asked != 0 && now-asked < while
}

// acknowledged takes note that the peer holds our log up to index.
func (p *peer) acknowledged(index uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.acked = max(p.mu.acked, index)
}

// acked is the index up to which the peer has acknowledged this node's log since
// it became leader.
func (p *peer) acked() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.acked
}

// contact is a request of this node's raft that a peer has answered with success.
type contact struct {
	term uint64
	sent time.Duration // clock.Mono
}

// answered takes note that a request that raft sent as leader of term was, with success.
func (p *peer) answered(term uint64, sent time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := p.mu.heardOf; term > last.term || term == last.term && sent > last.sent {
		p.mu.heardOf = contact{term, sent}
	}
}

// lastAnswer is when the last request of a term was sent, by clock.Mono, that the peer
// has answered with success; 0 if there is none.
func (p *peer) lastAnswer(term uint64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.heardOf.term != term {
		return 0
	}
	return p.mu.heardOf.sent
}

// forgetAcks starts anew, at a change of leadership: what a follower had of an
// earlier leader's log may have been cut off since.
func (p *peer) forgetAcks() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.acked, p.mu.caught = 0, 0
}

// keepUp looks whether the peer has acknowledged our log up to goal.
func (p *peer) keepUp(goal uint64, contact bool, now time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !contact || goal == 0 || p.mu.acked < goal:
		p.mu.caught = 0
	case p.mu.caught == 0:
		p.mu.caught = now
	}
}

// keptUp is for how long the peer has kept up with our log without a break.
func (p *peer) keptUp(now time.Duration) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.caught == 0 {
		return 0
	}
	return now - p.mu.caught
}
