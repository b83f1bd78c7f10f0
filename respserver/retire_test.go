package respserver_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

const quiet = 20 * time.Millisecond

// P8: clients that are sent away get the reply they wait for, and the end of the
// connection behind it; idle ones get the end.
func TestRetiringClosesBehindReplies(t *testing.T) {
	r := start(t)
	busy, idle := r.dial(t), r.dial(t)
	idle.want("PING", "PONG")
	r.node.setHold(true)
	busy.send("SET a 1")
	r.node.awaitHeld(t)
	r.Retire()
	gone := make(chan bool, 1)
	go func() { gone <- r.Retired(t.Context(), quiet, nil) }()
	idle.wantClosed()
	select {
	case <-gone:
		t.Error("a connection was closed whose command is under way")
	default:
	}
	r.node.release(command.Replied)
	busy.wantAll("OK")
	busy.wantClosed()
	if !<-gone {
		t.Error("it says that some are left")
	}
}

// What a client has sent in addition is answered before its connection is closed.
func TestRetiringAnswersWhatHasArrived(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	r.node.setHold(true)
	p.send("SET a 1")
	r.node.awaitHeld(t)
	p.send("SET a 2")
	eventually(t, "it has arrived", p.arrived)
	r.Retire()
	r.node.setHold(false)
	r.node.release(command.Replied)
	p.wantAll("OK", "OK")
	p.wantClosed()
}

// arrived tells whether the server's kernel has all that was sent.
func (p *peer) arrived() bool {
	raw, err := p.conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return false
	}
	left := 1
	_ = raw.Control(func(fd uintptr) {
		if left, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
			left = 1
		}
	})
	return left == 0
}

// P8: the same goes for what a client has sent while one of its commands was blocked.
func TestRetiringAnswersWhatWasReadAhead(t *testing.T) {
	r := start(t)
	r.node.twoReplicas(0)
	p := r.dial(t)
	p.want("CLIENT ID", ":1")
	p.want("SET a 1", "OK")
	p.send("WAIT 1 0")
	eventually(t, "the connection is blocked", func() bool { return r.Stats().Blocked == 1 })
	other := r.dial(t)
	other.want("PING", "PONG")
	p.send("SET a 2")
	r.Retire()
	other.send("CLIENT UNBLOCK 1")
	other.wantAll(":1")
	p.wantAll(":0", "OK")
	p.wantClosed()
}

// P8: a client that reads slowly gets all of its replies before its connection is closed
// as idle.
func TestRetiringLetsSlowReadersFinish(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	const times, size = 40, 1 << 20
	p.want("SET a "+strings.Repeat("x", size), "OK")
	for range times {
		p.send("GET a")
	}
	eventually(t, "all is executed", func() bool { return r.Stats().Commands == times+1 && r.Stats().Pending > 0 })
	r.Retire()
	ctx, cancel := context.WithTimeout(t.Context(), 5*quiet)
	defer cancel()
	if r.Retired(ctx, quiet, r.Still()) {
		t.Error("the connection was closed before its replies were sent")
	}
	for i := range times {
		v, err := p.tryRead(testBound)
		if err != nil || len(v.Bytes()) != size {
			t.Fatalf("reply %d: %d bytes, %v", i, len(v.Bytes()), err)
		}
	}
	if !r.Retired(t.Context(), quiet, nil) {
		t.Error("it says that some are left")
	}
	p.wantClosed()
}

// A transaction that has been begun, and keys that are watched, keep a connection until
// it has been carried out.
func TestRetiringWaitsForTransactions(t *testing.T) {
	for name, first := range map[string]string{"begun": "MULTI", "watched": "WATCH a"} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			p := r.dial(t)
			p.want(first, "OK")
			r.Retire()
			ctx, cancel := context.WithTimeout(t.Context(), 5*quiet)
			defer cancel()
			if r.Retired(ctx, quiet, r.Still()) {
				t.Error("the connection was closed")
			}
			if first != "MULTI" {
				p.want("MULTI", "OK")
			}
			p.want("SET a 1", "QUEUED")
			p.want("EXEC", "[OK]")
			p.wantClosed()
		})
	}
}

// Connections that come meanwhile wait; nothing of theirs is carried out. Once it is
// over clients are served as before.
func TestRetiringKeepsNewcomersWaiting(t *testing.T) {
	r := start(t)
	r.Retire()
	p := r.dial(t)
	p.send("SET a 1")
	r.dial(t)
	eventually(t, "the connection before the last one waits", func() bool { return r.Stats().Received == 2 })
	if _, err := p.tryRead(5 * quiet); !errors.Is(err, context.DeadlineExceeded) && !timedOut(err) {
		t.Errorf("it was answered: %v", err)
	}
	if !r.Retired(t.Context(), quiet, nil) {
		t.Error("who waits counts")
	}
	r.Release()
	p.wantClosed()
	if n := len(r.node.batchSizes()); n != 0 {
		t.Errorf("%d batches were carried out", n)
	}
	late := r.dial(t)
	late.want("PING", "PONG")
	late.want("SET a 1", "OK")
	late.wantClosed() // behind its reply
	r.Stay()
	p = r.dial(t)
	p.want("SET a 1", "OK")
	p.want("GET a", "1")
}

// P8: a client that has begun with AUTH, HELLO, SELECT or PING goes on: its connection is
// closed behind what it is wanted for, or when nothing comes.
func TestRetiringLetsClientsIntroduceThemselves(t *testing.T) {
	r := start(t)
	p, silent := r.dial(t), r.dial(t)
	p.want("PING", "PONG")
	silent.want("PING", "PONG")
	r.Retire()
	for _, first := range []struct{ line, reply string }{
		{"PING", "PONG"}, {"SELECT 1", "OK"}, {"CLIENT SETNAME me", "OK"}, {"ECHO a", "a"}, {"AUTH default any", "OK"},
	} {
		p.want(first.line, first.reply)
	}
	p.want("SET a 1", "OK")
	p.wantClosed()
	silent.want("PING", "PONG")
	if !r.Retired(t.Context(), quiet, nil) {
		t.Error("clients are left")
	}
	silent.wantClosed()
}

// P8: who is sent away sees the end of the connection, and no reset: not if the client
// sends something at that very moment, nor if it has waited with a command unread. None
// of that is carried out, and the server does not wait for such clients.
func TestSentAwayClientsSeeNoReset(t *testing.T) {
	// The server is patient for goodbye, a second, with clients that it sends away: what
	// comes later is judged in another try. A reset before that is not excused.
	testkit.Tries(t, 5, func(try testing.TB) {
		const prompt = time.Second / 2
		r := start(try)
		idle, held := r.dial(try), r.dial(try)
		idle.want("PING", "PONG")
		held.want("PING", "PONG")
		r.Retire()
		held = r.dial(try)
		held.send("AUTH secret")
		r.dial(try)
		eventually(try, "the connection before the last one waits", func() bool { return r.Stats().Received == 4 })
		began := time.Now()
		if !r.Retired(t.Context(), quiet, r.Still()) {
			t.Fatal("clients are left")
		}
		r.Release()
		var faults []error
		for name, p := range map[string]*peer{"idle": idle, "held": held} {
			if err := p.seeTheEnd(); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", name, err))
			}
		}
		if n := len(r.node.batchSizes()); n != 0 {
			t.Errorf("%d batches were carried out", n)
		}
		if took := time.Since(began); took > prompt {
			try.Fatalf("%v are too long to judge by; seen: %v", took, faults)
		}
		for _, err := range faults {
			t.Error(err)
		}
		began = time.Now()
		r.stop(try)
		if took := time.Since(began); took > prompt {
			try.Errorf("the server took %v to stop", took)
		}
	})
}

// seeTheEnd sends commands before and after it has read the end of the connection, which
// would fail after a reset.
func (p *peer) seeTheEnd() error {
	commands := bytes.Repeat(encode("SET a 1"), 3)
	_ = p.conn.SetWriteDeadline(time.Now().Add(testBound))
	_, before := p.conn.Write(commands)
	v, end := p.tryRead(testBound)
	if before != nil || !errors.Is(end, io.EOF) {
		return fmt.Errorf("sending: %v; read %s, %v, want the end", before, show(v), end) //nolint:errorlint // only shown
	}
	for range 3 {
		if _, err := p.conn.Write(commands); err != nil {
			return fmt.Errorf("sending behind the end: %w", err)
		}
	}
	return nil
}

func timedOut(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// passed is a master that is asked.
type passed struct{ versions, acked error }

func (p passed) Written() uint64 { return 9 }

func (p passed) Versions(_ context.Context, _ int, keys [][]byte) ([]uint64, error) {
	return make([]uint64, len(keys)), p.versions
}

func (p passed) Acknowledged(_ context.Context, index uint64) (int64, error) {
	return int64(index), p.acked
}

// forwarding makes the fake node one that passes on to the master.
func forwarding(p passed) func(*respserver.Config) {
	return func(c *respserver.Config) {
		c.Passed = p
		c.Roles.(*fakeNode).setRole(respserver.Role{Forward: true, MasterHost: "m", MasterPort: 1, LinkUp: true})
	}
}

// narrow is a way to the master on which the replies of a batch have room for so many;
// that of the key huge has none.
type narrow struct {
	*fakeNode
	room int
}

func (n narrow) Submit(b *command.Batch) {
	b.Start()
	for i := range len(b.Requests) {
		if r := &b.Requests[i]; i >= n.room || string(r.Args[1]) == "huge" {
			b.End(i, command.Refused, resp.Err(resp.ErrReplyTooBig))
		} else {
			b.End(i, command.Replied, n.apply(r))
		}
	}
}

// Reads that a client sends together are answered whatever they come to together; only one
// whose own reply is too long is refused.
func TestReadsPassedOnNeedNotFitTogether(t *testing.T) {
	r := start(t, forwarding(passed{}), func(c *respserver.Config) { c.Submit = narrow{c.Submit.(*fakeNode), 2} })
	p := r.dial(t)
	p.want("SET a 1", "OK")
	p.send("GET a", "GET a", "GET a", "GET huge", "NOSUCH", "GET a", "GET a", "GET a", "GET huge", "PING")
	tooBig := "!" + string(resp.ErrReplyTooBig)
	p.wantAll("1", "1", "1", tooBig, "!ERR unknown command 'NOSUCH', with args beginning with: ", "1", "1", "1", tooBig, "PONG")
}

// A node that passes on takes writes, and sends reads, too, on their way; it says that
// it is a replica.
func TestForwardingNodePassesReadsAndWritesOn(t *testing.T) {
	r := start(t, forwarding(passed{}))
	p := r.dial(t)
	p.want("SET a 1", "OK")
	p.want("GET a", "1")
	if n, views := len(r.node.batchSizes()), r.node.views.Load(); n != 2 || views != 0 {
		t.Errorf("%d batches, %d reads of the own state", n, views)
	}
	if got := p.do("ROLE"); !strings.HasPrefix(got, "[slave m :1 connected") {
		t.Errorf("ROLE says %s", got)
	}
	if got := p.do("INFO replication"); !strings.Contains(got, "role:slave") || !strings.Contains(got, "master_failover_state:no-failover") {
		t.Errorf("INFO says %s", got)
	}
	for _, unit := range []struct{ first, reply string }{{"PING", "[1 PONG 1]"}, {"WATCH a b", "null[]"}} {
		p.do(unit.first) // a has been written: the version that is told is an old one
		p.want("MULTI", "OK")
		p.want("GET a", "QUEUED")
		p.want("PING", "QUEUED")
		p.want("GET a", "QUEUED")
		p.want("EXEC", unit.reply)
	}
	p.want("WAIT 3 0", ":9")
}

// If the master cannot be asked nothing is watched, and nobody counts as having
// acknowledged.
func TestForwardingNodeWithoutMaster(t *testing.T) {
	r := start(t, forwarding(passed{errNotMaster, errNotMaster}))
	p := r.dial(t)
	if got := p.do("WATCH a"); !strings.HasPrefix(got, "!MASTERDOWN") {
		t.Errorf("WATCH answers %s", got)
	}
	p.want("SET a 1", "OK")
	p.want("WAIT 1 10", ":0")
	r.node.setRole(respserver.Role{Forward: true, HandingOver: true})
	if got := p.do("INFO replication"); !strings.Contains(got, "master_failover_state:failover-in-progress") {
		t.Errorf("INFO says %s", got)
	}
}

// FAILOVER hands on what was asked for, once it is well formed.
func TestFailoverCommand(t *testing.T) {
	var asked []respserver.FailoverRequest
	var answer error
	r := start(t, func(c *respserver.Config) {
		c.Failover = func(f respserver.FailoverRequest) error {
			asked = append(asked, f)
			return answer
		}
	})
	p := r.dial(t)
	p.want("FAILOVER", "OK")
	p.want("FAILOVER TO h 7 TIMEOUT 1500", "OK")
	p.want("failover timeout 20 force to h 7", "OK")
	p.want("FAILOVER ABORT", "OK")
	want := []respserver.FailoverRequest{
		{}, {Host: "h", Port: 7, Timeout: 1500 * time.Millisecond}, {Host: "h", Port: 7, Timeout: 20 * time.Millisecond}, {Abort: true},
	}
	for i := range want {
		if i >= len(asked) || asked[i] != want[i] {
			t.Errorf("asked for %+v, want %+v", asked, want)
			break
		}
	}
	for _, line := range []string{"FAILOVER FORCE", "FAILOVER TO h 7 FORCE", "FAILOVER TIMEOUT 5 FORCE"} {
		p.want(line, "!"+string(resp.ErrFailoverForce))
	}
	answer = resp.ErrFailoverBusy
	p.want("FAILOVER", "!"+string(resp.ErrFailoverBusy))
	if len(asked) != 5 {
		t.Errorf("asked %d times", len(asked))
	}
}
