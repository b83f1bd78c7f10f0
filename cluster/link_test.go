package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
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

// link1 is a link of node n1 to n2, on a clock moved by hand and an election timeout
// of 100 ms.
func link1(t *testing.T) (*link, *clock.Fake) {
	t.Helper()
	n, c := viewer(t)
	return n.peer("n2").link, c
}

// answer is what comes of the last question of a link when it is answered as the
// report says, with an addition or without.
func answer(t *testing.T, l *link, kind byte, r *report) {
	t.Helper()
	frame := binary.BigEndian.AppendUint64([]byte{kind}, l.mu.nonce)
	frame = r.append(frame)
	if kind == tellMore {
		frame = r.more.append(frame)
	}
	c := &session{Conn: script{r: bytes.NewReader(frame)}, peer: l.peer, said: hello{instance: [16]byte{1}}}
	if err := l.read(c); !errors.Is(err, io.EOF) {
		t.Fatalf("the answer is not taken: %v", err)
	}
}

// P3: nodes of the release that knew no additions are asked and answered as they
// expect: they repeat nonces as they are, and set the highest bit in none.
func TestPingsWorkWithNodesThatKnowNoAdditions(t *testing.T) {
	l, c := link1(t)
	l.ping(c.Boot())
	answer(t, l, tellPing, &report{term: 7, election: 100 * time.Millisecond})
	if rep, asked := l.peer.last(); rep.term != 7 || asked == 0 {
		t.Errorf("an answer without addition: %+v, asked %v", rep, asked)
	}
	if _, told := l.peer.wallOf(c.Boot(), time.Hour); told {
		t.Error("a clock that was not told")
	}
	r := report{term: 7, more: addition{wall: 5}}
	for _, nonce := range []uint64{3, 3 | moreBit} {
		b := appendAnswer(nil, binary.BigEndian.AppendUint64(nil, nonce), &r)
		want := byte(tellPing)
		if nonce&moreBit != 0 {
			want = tellMore
		}
		if b[0] != want || binary.BigEndian.Uint64(b[1:]) != nonce {
			t.Errorf("nonce %x is answered with %q and nonce %x", nonce, b[0], b[1:9])
		}
		if old := pingTell; want == tellPing && len(b) != old {
			t.Errorf("an answer of %d bytes to one who expects %d", len(b), old)
		}
	}
}

// A wall clock is taken as it was half way through the question's time; the quickest
// answer of the last election timeout counts, and none counts for longer than two.
func TestWallClocksOfOtherNodes(t *testing.T) {
	l, c := link1(t)
	told := func(took time.Duration, ahead int64) {
		t.Helper()
		l.ping(c.Boot())
		c.Advance(took / 2)
		r := report{election: 100 * time.Millisecond, more: addition{wall: 1_000_000 + c.Boot().Milliseconds() + ahead}}
		c.Advance(took - took/2)
		answer(t, l, tellMore, &r)
	}
	want := func(what string, want time.Duration, heard bool) {
		t.Helper()
		got, ok := l.peer.wallOf(c.Boot(), l.node.window())
		if ok != heard || ok && got != 1_000_000*time.Millisecond+want {
			t.Errorf("%s: %v, heard %v", what, got-1_000_000*time.Millisecond, ok)
		}
	}
	want("nothing yet", 0, false)
	told(40*time.Millisecond, 0)
	want("the first", 0, true)
	told(4*time.Millisecond, 3_600_000)
	want("quicker", time.Hour, true)
	told(50*time.Millisecond, 5000)
	want("slower", time.Hour, true)
	c.Advance(60 * time.Millisecond)
	told(50*time.Millisecond, 7000)
	want("the quick one is old", 7*time.Second, true)
	told(100*time.Millisecond, 9000)
	want("too slow to tell", 7*time.Second, true)
	c.Advance(60 * time.Millisecond)
	want("silence", 0, false)
}

// The master's word on the time counts while it is confirmed, and that of other nodes
// if they say that they know it; nobody else's does.
func TestWhoseTimeCounts(t *testing.T) {
	l, c := link1(t)
	var master, vouched []int64
	l.node.cfg.Observe.MasterTime = func(ms int64) { master = append(master, ms) }
	l.node.cfg.Observe.VouchedTime = func(ms int64) { vouched = append(vouched, ms) }
	for i, r := range []report{
		{master: true, instant: 1},
		{master: true, age: time.Second, instant: 2, more: addition{timed: true}},
		{instant: 3, more: addition{timed: true}},
		{instant: 4},
	} {
		r.election = 100 * time.Millisecond
		l.ping(c.Boot() + time.Duration(i+1))
		answer(t, l, tellMore, &r)
	}
	if !slices.Equal(master, []int64{1}) || !slices.Equal(vouched, []int64{3}) {
		t.Errorf("the master's %v, others' %v", master, vouched)
	}
}
