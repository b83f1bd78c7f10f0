package respserver_test

import (
	"strings"
	"testing"

	"github.com/holdfast/holdfast/respserver"
)

// The walking core: reads, writes and greetings over a socket.
func TestServerAnswersReadsAndWrites(t *testing.T) {
	p := start(t).dial(t)
	p.want("PING", "PONG")
	p.want("SET a 1", "OK")
	p.want("GET a", "1")
	p.want("GET b", "null")
	p.want("INCR a", ":2")
	p.want("mget a b", "[2 null]")
	p.want("HELLO 3", "{server redis version 7.2.4 proto :3 id :1 mode standalone role master modules []}")
	p.want("GET b", "null")
}

// Replies come in the order of the commands, whatever is carried out together.
func TestPipelineKeepsOrder(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.send("GET a", "SET a 1", "GET a", "PING", "INCR a", "KEYS *", "SET a 5", "NOSUCH x", "GET a", "SELECT 1", "GET a", "SET", "INCR a")
	p.wantAll("null", "OK", "1", "PONG", ":2", ":1", "OK", "!ERR unknown command 'NOSUCH', with args beginning with: 'x' ",
		"5", "OK", "null", "!ERR wrong number of arguments for 'set' command", ":1")
	if got := r.node.batches.Load(); got != 2 {
		t.Errorf("%d batches for two runs of writes, divided by a long read", got)
	}
	if got := r.node.confirms.Load(); got != 1 {
		t.Errorf("%d confirmations for one read that does not ride", got)
	}
}

// A reply far larger than what the server may keep for a client is sent in
// parts, and arrives whole.
func TestHugeRepliesAreSentInParts(t *testing.T) {
	r := start(t, func(c *respserver.Config) { c.PendingBudget = 1 << 20 })
	p := r.dial(t)
	value := strings.Repeat("v", 1<<20)
	p.want("SET a "+value, "OK")
	for _, proto := range []string{"2", "3"} {
		p.do("HELLO " + proto)
		p.send("MULTI", "GET none", "MGET"+strings.Repeat(" a", 60), "EXEC")
		p.wantAll("OK", "QUEUED", "QUEUED")
		reply := p.read().Elems()
		if len(reply) != 2 || show(reply[0]) != "null" || len(reply[1].Elems()) != 60 {
			t.Fatalf("%d elements", len(reply))
		}
		for i, e := range reply[1].Elems() {
			if string(e.Bytes()) != value {
				t.Fatalf("element %d differs", i)
			}
		}
	}
	p.want("PING", "PONG")
}
