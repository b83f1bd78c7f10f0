package respserver_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/respserver"
)

const execAbort = "!EXECABORT Transaction discarded because of previous errors."

// A transaction with a write is one request, its reads included.
func TestExecWithWritesIsOneEntry(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.send("MULTI", "SET a 1", "GET a", "KEYS *", "INCR a", "EXEC", "GET a")
	p.wantAll("OK", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "[OK 1 :1 :2]", "2")
	if got := r.node.batchSizes(); !slices.Equal(got, []int{2}) {
		t.Errorf("batches of %v, want the EXEC with the GET behind it", got)
	}
}

// Several transactions of one pipeline are submitted together.
func TestPipelinedTransactionsTravelTogether(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.send("MULTI", "INCR a", "EXEC", "MULTI", "INCR a", "INCR a", "EXEC", "GET a")
	p.wantAll("OK", "QUEUED", "[:1]", "OK", "QUEUED", "QUEUED", "[:2 :3]", "3")
	if got := r.node.batchSizes(); !slices.Equal(got, []int{3}) {
		t.Errorf("batches of %v", got)
	}
}

// A transaction of reads is a read: one confirmation, nothing in the log, and
// on a replica neither.
func TestExecWithReadsIsARead(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.want("SET a 1", "OK")
	lines := []string{"MULTI", "GET a", "PING", "MGET a b", "EXEC"}
	replies := []string{"OK", "QUEUED", "QUEUED", "QUEUED", "[1 PONG [1 null]]"}
	p.send(lines...)
	p.wantAll(replies...)
	if b, c := r.node.batches.Load(), r.node.confirms.Load(); b != 1 || c != 1 {
		t.Errorf("%d batches, %d confirmations", b, c)
	}
	r.node.setRole(respserver.Role{LinkUp: true})
	p.send(lines...)
	p.wantAll(replies...)
	if c := r.node.confirms.Load(); c != 1 {
		t.Error("a replica asked for a confirmation")
	}
	r.node.setRole(respserver.Role{Master: true})
	r.node.loseTerm(errNotMaster)
	p.send(lines...)
	p.wantAll(append(slices.Clone(replies[:4]), masterDown)...)
}

// Local commands take their places among the replies, and do not run if the
// transaction does not.
func TestLocalCommandsInsideMulti(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.send("MULTI", "PING", "SET a zero", "SELECT 1", "SET a one", "SELECT 99", "CLIENT SETNAME me", "GET a", "ECHO x", "EXEC", "GET a", "CLIENT GETNAME")
	p.wantAll("OK", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "QUEUED",
		"[PONG OK OK OK !ERR DB index is out of range OK one x]", "one", "me")

	p.want("SELECT 0", "OK")
	p.want("WATCH a", "OK")
	r.dial(t).want("SET a other", "OK")
	p.send("MULTI", "SELECT 2", "SET a 1", "CLIENT SETNAME changed", "EXEC", "GET a", "CLIENT GETNAME")
	p.wantAll("OK", "QUEUED", "QUEUED", "QUEUED", "null[]", "other", "me")

	p.send("MULTI", "SELECT 3", "PING", "EXEC", "GET a", "SELECT 0", "MULTI", "EXEC")
	p.wantAll("OK", "QUEUED", "QUEUED", "[OK PONG]", "null", "OK", "OK", "[]")
}

// On a replica a write is refused when it is queued, and the EXEC with it.
func TestMultiOnReplica(t *testing.T) {
	r := start(t)
	r.node.setRole(respserver.Role{LinkUp: true})
	p := r.dial(t)
	p.send("MULTI", "SET a 1", "GET a", "EXEC", "GET a")
	p.wantAll("OK", readOnly, "QUEUED", execAbort, "null")
}

// What EXEC, DISCARD and errors leave behind.
func TestMultiBookkeeping(t *testing.T) {
	p := start(t).dial(t)
	play(t, p, []exchange{
		{"EXEC", "!ERR EXEC without MULTI"},
		{"DISCARD", "!ERR DISCARD without MULTI"},
		{"EXEC x", "!EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command"},
		{"MULTI", "OK"},
		{"MULTI", "!ERR MULTI calls can not be nested"},
		{"WATCH a", "!ERR WATCH inside MULTI is not allowed"},
		{"SET a 1", "QUEUED"},
		{"EXEC", "[OK]"},
		{"MULTI", "OK"},
		{"SET a 2", "QUEUED"},
		{"NOSUCH", "!ERR unknown command 'NOSUCH', with args beginning with: "},
		{"SET a 3", "QUEUED"},
		{"EXEC", execAbort},
		{"EXEC", "!ERR EXEC without MULTI"},
		{"GET a", "1"},
		{"MULTI", "OK"},
		{"SAVE", "!ERR Command not allowed inside a transaction"},
		{"EXEC", execAbort},
		{"MULTI", "OK"},
		{"SET a 1 EX", "QUEUED"},
		{"SET b x", "QUEUED"},
		{"INCR b", "QUEUED"},
		{"EXEC", "[!ERR syntax error OK !ERR value is not an integer or out of range]"},
		{"GET b", "x"},
		{"MULTI", "OK"},
		{"GET b", "QUEUED"},
		{"DISCARD", "OK"},
		{"GET b", "x"},
	})
}

// WATCH sees changes by anybody, by flushes of due keys too, and EXEC, DISCARD
// and UNWATCH forget it.
func TestWatch(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(r *rig, p, other *peer)
		reply  string
	}{
		{"nothing happens", func(*rig, *peer, *peer) {}, "[1]"},
		{"another writes", func(_ *rig, _, other *peer) { other.want("SET a 2", "OK") }, "null[]"},
		{"own write", func(_ *rig, p, _ *peer) { p.want("SET a 2", "OK") }, "null[]"},
		{"the same value", func(_ *rig, _, other *peer) { other.want("SET a 1", "OK") }, "null[]"},
		{"another key", func(_ *rig, _, other *peer) { other.want("SET z 2", "OK") }, "[1]"},
		{"unwatch", func(_ *rig, p, other *peer) { other.want("SET a 1", "OK"); p.want("UNWATCH", "OK") }, "[1]"},
		{"the key comes due", func(r *rig, _, _ *peer) { r.node.clock.Advance(time.Minute) }, "null[]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, write := range []string{"", "SET b 1"} {
				r := start(t)
				p, other := r.dial(t), r.dial(t)
				p.want("SET a 1 PX 30000", "OK")
				p.want("WATCH a none", "OK")
				test.before(r, p, other)
				p.want("MULTI", "OK")
				p.want("GET a", "QUEUED")
				reply := test.reply
				if write != "" {
					p.want(write, "QUEUED")
					reply = strings.Replace(reply, "]", " OK]", 1)
					reply = strings.Replace(reply, "null[ OK]", "null[]", 1)
				}
				p.want("EXEC", reply)
				p.send("MULTI", "PING", "EXEC")
				p.wantAll("OK", "QUEUED", "[PONG]")
			}
		})
	}
}

// WATCH sees the writes before it in its pipeline.
func TestWatchWaitsItsTurn(t *testing.T) {
	p := start(t).dial(t)
	p.send("SET a 1", "WATCH a", "MULTI", "INCR a", "EXEC", "GET a")
	p.wantAll("OK", "OK", "OK", "QUEUED", "[:2]", "2")
}

// The queue is bounded, and what is queued is a copy.
func TestQueueIsBoundedAndCopied(t *testing.T) {
	r := start(t, func(c *respserver.Config) { c.Tuning.MaxEntryBytes = 10_000 })
	p := r.dial(t)
	p.want("MULTI", "OK")
	p.want("SET a first", "QUEUED")
	p.want("SET b "+strings.Repeat("x", 900), "QUEUED") // overwrites the reader's buffer
	p.want("EXEC", "[OK OK]")
	p.want("GET a", "first")
	p.want("MULTI", "OK")
	replies := map[string]int{}
	for range 20 {
		replies[p.do("SET c "+strings.Repeat("x", 900))]++
	}
	if replies["!ERR command exceeds max-entry-bytes"] != 1 || len(replies) != 2 {
		t.Errorf("replies %v", replies)
	}
	p.want("EXEC", execAbort)
}

// An EXEC whose entry ends INDOUBT says so, once.
func TestExecInDoubt(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	r.node.setOutcome(command.InDoubt)
	p.send("MULTI", "SET a 1", "PING", "EXEC")
	p.wantAll("OK", "QUEUED", "QUEUED", inDoubt)
	p.wantClosed()
}
