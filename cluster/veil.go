package cluster

import (
	"sync/atomic"
	"time"
)

// veil keeps a planned change of the leader from being told before the clients of the
// old one are ready for it. Meanwhile others go on naming the old one, which they may
// for as long as its last confirmation is not older than a window.
type veil struct {
	until   atomic.Int64  // clock.Boot, ns: this node is not named as master before
	parting atomic.Uint64 // the term in which this node led, while it goes on being named
}

func (v *veil) hides(now time.Duration) bool { return int64(now) < v.until.Load() }

// Veil keeps this node from being named as master, should it become that, until
// Unveil, but no longer than two election timeouts. It may serve as master
// meanwhile.
func (n *Node) Veil() {
	n.veil.until.Store(int64(n.cfg.Clock.Boot() + n.window()))
}

// Unveil lets this node be named.
func (n *Node) Unveil() {
	n.veil.until.Store(0)
	n.look()
}

// Part has this node, which leads, go on being named as master by others after it has
// ceased to lead: until Parted, and never after its last confirmation has become two
// election timeouts old.
func (n *Node) Part() { n.veil.parting.Store(n.View().Term) }

// Parted ends what Part began.
func (n *Node) Parted() { n.veil.parting.Store(0) }
