package cluster

import (
	"net"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
)

// sink is a connection that takes everything and answers nothing.
type sink struct {
	net.Conn
	closed bool
}

func (s *sink) Write(b []byte) (int, error) { return len(b), nil }
func (s *sink) Close() error                { s.closed = true; return nil }

// P3: a connection on which pings go out and no answer comes back is given up, so that
// another one is dialed; one that answers, however late, is not.
func TestSilentProbeConnectionIsGivenUp(t *testing.T) {
	for name, answers := range map[string]bool{"silent": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			const election, limit, late = 200 * time.Millisecond, 40, 12
			p := &peer{id: "n2"}
			n := &Node{cfg: Config{ElectionTimeout: election, Clock: clock.System{}}}
			n.view.Store(&View{})
			l := newLink(n, p)
			conn := &sink{}
			c := &session{Conn: conn, peer: p}
			l.conn.Store(c)
			for i := range 10 * limit {
				l.ping(time.Duration(i+1) * election / 4)
				l.stale(limit)
				if answers && l.mu.nonce > late {
					l.told(c, l.mu.nonce-late, &report{election: election})
				}
			}
			if conn.closed == answers {
				t.Errorf("closed: %v", conn.closed)
			}
		})
	}
}
