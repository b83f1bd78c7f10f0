package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/quiet"
)

// The kinds of connections between nodes.
const (
	kindForm  = "form"  // one exchange of formation states
	kindRaft  = "raft"  // raft's own requests
	kindProbe = "probe" // term probes and pings, for as long as both live

	kindMember = "member" // one question about membership
	kindYield  = "yield"  // one word of a leader that it has given up its lease
)

const (
	maxShaking  = 64 // inbound handshakes at one time; with more the oldest gives way
	dialTimeout = 500 * time.Millisecond
	keepAlive   = 5 * time.Second
	userTimeout = 2000 // ms until unacknowledged bytes end a connection
)

// session is a connection whose peer has proved who it is.
type session struct {
	net.Conn
	peer *peer // nil if this node does not know it, as some kinds allow
	said hello // by the peer
}

// listener is the listening sockets and the connections they gave.
type listener struct {
	sockets []net.Listener // at least one

	mu struct {
		sync.Mutex
		conns   map[net.Conn]struct{}
		shaking []net.Conn // of conns: whose handshake is under way, the oldest first
		closed  bool
	}
}

// listen opens the raft port with open, at every address or none.
func listen(open func() ([]net.Listener, error)) (*listener, error) {
	sockets, err := open()
	ln := &listener{sockets: sockets}
	ln.mu.conns = map[net.Conn]struct{}{}
	if err == nil && len(sockets) == 0 {
		err = errors.New("there is no address to listen on")
	}
	if err != nil {
		ln.shutdown()
		return nil, fmt.Errorf("raft port: %w", err)
	}
	return ln, nil
}

// keep takes note of a connection that shutdown has to close. It is closed and
// refused if that has begun.
func (l *listener) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		closeConn(c)
		return false
	}
	l.mu.conns[c] = struct{}{}
	return true
}

func (l *listener) drop(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.conns, c)
}

// shake takes note of a handshake that begins. If there are too many, the oldest one
// has to give way: those of nodes are over in a moment, those of strangers are not.
func (l *listener) shake(c net.Conn) (crowded bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if crowded = len(l.mu.shaking) == maxShaking; crowded {
		closeConn(l.mu.shaking[0])
		l.mu.shaking = slices.Delete(l.mu.shaking, 0, 1)
	}
	l.mu.shaking = append(l.mu.shaking, c)
	return crowded
}

// shaken takes note of a handshake that has ended.
func (l *listener) shaken(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.mu.shaking, c); i >= 0 {
		l.mu.shaking = slices.Delete(l.mu.shaking, i, i+1)
	}
}

// shutdown closes the sockets and every connection.
func (l *listener) shutdown() {
	for _, s := range l.sockets {
		_ = s.Close() // it is closed in any case
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.closed = true
	for c := range l.mu.conns {
		closeConn(c)
	}
}

// accepted is a connection that its listener forgets when it is closed.
type acceptedConn struct {
	net.Conn
	from *listener
}

// Close closes the connection.
func (c *acceptedConn) Close() error {
	c.from.drop(c.Conn)
	return c.Conn.Close()
}

// acceptLoop takes connections until the socket is closed.
func (n *Node) acceptLoop(ctx context.Context, socket net.Listener) {
	for {
		conn, err := socket.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			n.grumble("accept", slog.LevelWarn, "cannot accept a connection from another node", "err", err)
			if !sleep(ctx, 50*time.Millisecond) {
				return
			}
			continue
		}
		conn = tuned(conn)
		if !n.listener.keep(conn) {
			return
		}
		if n.listener.shake(conn) {
			n.grumble("shaking", slog.LevelWarn, "too many handshakes at once; the oldest one was ended", "newest_from", conn.RemoteAddr())
		}
		n.wg.Go(func() { n.receive(conn) })
	}
}

// receive shakes hands and hands the connection to whoever serves its kind.
func (n *Node) receive(raw net.Conn) {
	conn := &acceptedConn{raw, n.listener}
	said, err := shakeIn(conn, n.key, n.hello(), n.judge)
	n.listener.shaken(raw)
	if err != nil {
		n.refused(conn, &said, err)
		closeConn(conn)
		return
	}
	p := n.peer(said.from)
	if p != nil {
		p.link.redial()
	}
	n.handler(said.kind)(&session{conn, p, said})
}

// refused logs why an inbound connection came to nothing.
func (n *Node) refused(conn net.Conn, said *hello, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		n.grumble("handshake", slog.LevelInfo, "a connection to the raft port failed its handshake", "from", conn.RemoteAddr(), "err", err)
		return
	}
	if r.verdict == notServingYet || r.verdict == unformed {
		return // passes by itself
	}
	n.grumble(r.Error(), slog.LevelWarn, "refused a connection from another node",
		"from", conn.RemoteAddr(), "node", said.from, "kind", said.kind, "reason", r.Error())
}

// hello is what this node says of itself.
func (n *Node) hello() hello {
	return hello{
		from:     n.cfg.NodeID,
		cluster:  n.clusterID(),
		announce: n.cfg.announced(),
		election: n.cfg.ElectionTimeout,
		instance: n.instance,
	}
}

// judge decides about a dialer that knows the secret.
func (n *Node) judge(h hello) verdict {
	own := n.clusterID()
	p := n.peer(h.from)
	clusters := compare(own, h.cluster, h.kind)
	switch {
	case h.from == n.cfg.NodeID:
		return ownID
	case h.to != n.cfg.NodeID && (h.to != anyNode || h.kind != kindMember):
		return wrongNode
	case p == nil && !n.hearsStranger(&h, own):
		return unknownNode
	case clusters != accepted:
		return clusters
	case p != nil && !p.meet(&h, n.cfg.Clock.Boot(), n.window()):
		return duplicate
	case n.handler(h.kind) == nil:
		return unknownKind
	case (h.kind == kindRaft || h.kind == kindProbe || h.kind == kindMember) && n.raftNode() == nil:
		return notServingYet
	}
	return accepted
}

// hearsStranger tells whether a node that this one does not know may connect.
// Everyone who knows the secret may ask about membership. raft's own requests are
// heard from every node of the cluster, because this node may be behind and learn of
// the leader's being a member from the leader only; raft itself heeds no candidate
// that is not a member.
func (n *Node) hearsStranger(h *hello, own string) bool {
	return h.kind == kindMember || h.kind == kindRaft && own != "" && h.cluster == own
}

// dial opens a proved connection to a peer.
func (n *Node) dial(ctx context.Context, p *peer, kind string) (*session, error) {
	if err := n.hooks.cut(p.id); err != nil {
		return nil, err
	}
	addr := p.address()
	limited, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := n.cfg.Dial(limited, "tcp", addr)
	if err != nil {
		p.dialed(err)
		return nil, err
	}
	conn = tuned(conn)
	own := n.hello()
	own.kind, own.to = kind, p.id
	stop := context.AfterFunc(ctx, func() { closeConn(conn) })
	said, err := shakeOut(conn, n.key, own)
	stop()
	p.dialed(err)
	if v := compare(n.clusterID(), said.cluster, kind); err == nil && v != accepted {
		err = &refusal{verdict: v, proved: true, cluster: said.cluster}
	}
	if err == nil && !p.meet(&said, n.cfg.Clock.Boot(), n.window()) {
		err = fmt.Errorf("two processes have the id %s", p.id)
		n.grumble("two "+p.id, slog.LevelWarn, "two processes have the id of one node", "node", p.id, "addr", addr)
	}
	if err != nil {
		closeConn(conn)
		n.notAdmitted(p, addr, err)
		return nil, err
	}
	n.admitted(p)
	return &session{conn, p, said}, nil
}

// compare judges by clusters alone; "" is none. A node that is forming may say that it
// has none and belong to one a moment later, before it judges: that is no reason to
// take it for a stranger. A node without one may ask one that has about membership.
func compare(own, other, kind string) verdict {
	switch {
	case own != "" && other != "" && own != other:
		return wrongCluster
	case (own == "" || other == "") && kind != kindForm && (own == "" || kind != kindMember):
		return unformed
	}
	return accepted
}

// tuned is a connection between nodes with its options set.
func tuned(conn net.Conn) net.Conn {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return conn
	}
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive, Count: 3}) // it works without
	socket, err := quiet.NewSocket(tcp)
	if err != nil {
		return conn
	}
	_ = socket.Control(func(fd uintptr) { // it works without
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout) // it works without
	})
	return &quietConn{conn, socket}
}

// sleep waits for d; false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// grumbles limits repeated log lines: one of each sort per second.
type grumbles struct {
	mu   sync.Mutex
	last map[string]time.Duration // clock.Mono by sort; those are few and not chosen by others
}

// grumble logs, but no more than one line of a sort per second.
func (n *Node) grumble(sort string, level slog.Level, msg string, args ...any) {
	now := clock.Mono()
	n.grumbles.mu.Lock()
	last, again := n.grumbles.last[sort]
	if again && now-last < time.Second {
		n.grumbles.mu.Unlock()
		return
	}
	n.grumbles.last[sort] = now
	n.grumbles.mu.Unlock()
	if level >= slog.LevelWarn {
		n.log.Warn(msg, args...)
		return
	}
	n.log.Info(msg, args...)
}
