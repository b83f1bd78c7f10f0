package respserver_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/respserver"
)

// teller draws pipelines and knows as much of their effect as it takes to count
// the replies.
type teller struct {
	*rand.Rand
	multi, last, silent bool
}

func (d *teller) of(words ...string) string { return words[d.IntN(len(words))] }

func (d *teller) key() string { return d.of("a", "b", "c") }

// line draws a command that is answered once, unless it is of the last pipeline
// of a connection.
func (d *teller) line() string {
	switch n := d.IntN(20); {
	case n < 8:
		return d.data()
	case n < 14:
		return d.transaction()
	case n < 16:
		return d.of("SUBSCRIBE ", "PSUBSCRIBE ", "UNSUBSCRIBE ", "PUNSUBSCRIBE ") + d.key()
	case n < 17 && d.last && !d.multi:
		d.silent = true
		return "CLIENT REPLY " + d.of("ON", "OFF", "SKIP", "maybe")
	}
	line := d.of("PING", "PING "+d.key(), "PING a b", "ECHO x", "ECHO", "HELLO", "HELLO 2", "HELLO 3", "HELLO 3", "HELLO 9", "HELLO x", "HELLO 3 BAD",
		"HELLO 2 SETNAME me", "CLIENT GETNAME", "CLIENT SETNAME me", "CLIENT SETNAME \x01", "CLIENT NO-EVICT on", "CLIENT NO-EVICT x", "CLIENT WHAT",
		"CLIENT", "CLIENT GETREDIR", "CLIENT KILL ID 0", "CLIENT KILL 1.2.3.4:5", "CLIENT UNBLOCK 9999", "CLIENT REPLY ON", "CLIENT REPLY",
		"CLIENT LIST ID x", "AUTH x", "AUTH default x", "AUTH nobody x", "AUTH a b c", "WAIT 0 0", "WAIT x 0", "READONLY", "NOSUCH a b", "post-office",
		"CONFIG WHAT", "SHUTDOWN what", "BGSAVE what", "DEBUG", "LASTSAVE x")
	if d.multi && strings.HasPrefix(line, "HELLO") {
		return "PING" // what stands before it in the reply of EXEC changes its form here
	}
	return line
}

func (d *teller) data() string {
	k := d.key()
	return d.of("GET "+k, "GET "+k, "SET "+k+" 1", "SET "+k+" "+k, "SET "+k, "SET "+k+" 1 EX 0", "SET "+k+" 1 WHAT", "INCR "+k, "INCR "+k, "APPEND "+k+" x",
		"MGET a b c", "MGET", "DEL "+k+" x", "EXISTS a b c", "DBSIZE", "STRLEN "+k, "SELECT 0", "SELECT 1", "SELECT 99", "SELECT x",
		"EXPIRE "+k+" 1000", "TTL "+k, "RENAME "+k+" b", "GETRANGE "+k+" 0 0", "SETRANGE "+k+" 2 y", "TYPE "+k, "MOVE "+k+" 1")
}

// transaction draws more commands that end a transaction than begin one: most of
// them are not in any.
func (d *teller) transaction() string {
	line := d.of("MULTI", "MULTI", "MULTI", "EXEC", "EXEC", "DISCARD", "WATCH "+d.key(), "WATCH "+d.key(), "WATCH", "UNWATCH", "EXEC x", "RESET", "MULTI x", "QUIT")
	switch line {
	case "MULTI":
		d.multi = true
	case "EXEC", "DISCARD", "EXEC x", "RESET":
		d.multi = false
	case "QUIT":
		if !d.last || d.silent { // Redis leaves a connection open that is not told
			return "UNWATCH"
		}
	}
	return line
}

// pipeline draws up to n commands. The last one of a connection ends in a way that
// is heard whatever became of it.
func (d *teller) pipeline(n int, last bool) (lines []string) {
	d.last = last
	for range 1 + d.IntN(n) {
		lines = append(lines, d.line())
	}
	if last {
		lines = append(lines, "RESET", "RESET", "ECHO the-end")
		d.multi = false
	}
	return lines
}

// tell is what distinguishes two servers and two connections in the greeting.
var tell = regexp.MustCompile(`version [0-9.]+|id :[0-9]+`)

// replies reads n replies, or all up to the end of the connection or the last word
// if n is 0.
func (p *peer) replies(n int) (list []string) {
	p.tb.Helper()
	for n == 0 || len(list) < n {
		v, err := p.tryRead(testBound)
		if err != nil {
			if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
				return append(list, "nothing")
			}
			return append(list, "closed")
		}
		list = append(list, tell.ReplaceAllString(show(v), "N"))
		if n == 0 && strings.Contains(list[len(list)-1], "the-end") {
			break
		}
	}
	return list
}

// Random pipelines of all kinds of commands, on two connections that get in each
// other's way, are answered as redis-server answers them, reply for reply.
func TestPipelinesAgreeWithRedis(t *testing.T) {
	rounds := 200
	if testing.Short() {
		rounds = 40
	}
	redis := testkit.StartRedis(t)
	w := startWhole(t)
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 17))
	for round := range rounds {
		var ours, theirs [2]*peer
		var tellers [2]*teller
		for i := range ours {
			ours[i], theirs[i], tellers[i] = w.dial(t), dialPeer(t, redis.Addr()), &teller{Rand: rnd}
		}
		for _, addr := range []string{w.addr, redis.Addr()} { // not in the pipelines: it makes EXEC fail more often than in Redis
			dialPeer(t, addr).want("FLUSHALL", "OK")
		}
		var said []string
		for turn := range 6 {
			i := turn % 2
			lines := tellers[i].pipeline(12, turn >= 4)
			said = append(said, "--- connection "+string(rune('1'+i)))
			said = append(said, lines...)
			n := len(lines)
			if turn >= 4 {
				n = 0
			}
			ours[i].send(lines...)
			theirs[i].send(lines...)
			got, want := ours[i].replies(n), theirs[i].replies(n)
			if !slices.Equal(got, want) {
				t.Fatalf("seed %d, round %d:\n%s\n\n got %s\nwant %s", seed, round, strings.Join(said, "\n"), strings.Join(got, " | "), strings.Join(want, " | "))
			}
		}
		for i := range ours {
			_ = ours[i].conn.Close()
			_ = theirs[i].conn.Close()
		}
	}
}

// dialPeer connects to any server.
func dialPeer(tb testing.TB, addr string) *peer {
	tb.Helper()
	conn, err := (&net.Dialer{Timeout: testBound}).DialContext(context.Background(), "tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = conn.Close() })
	return &peer{tb: tb, conn: conn}
}

// Each command of connections and servers answers as redis-server does, right and
// wrong, in both protocols: every line on a connection of its own.
func TestCommandsAnswerAsRedisDoes(t *testing.T) {
	redis := testkit.StartRedis(t, "--enable-debug-command", "yes")
	w := startWhole(t, func(c *respserver.Config, _ *raftfsm.ProposerConfig) { c.Tuning.DebugCommand = "yes" })
	for _, pipeline := range [][]string{
		{"PING"},
		{"PING hello"},
		{"PING a b"},
		{"ECHO"},
		{"ECHO a"},
		{"ECHO a b"},
		{"QUIT", "PING"},
		{"QUIT now", "PING"},
		{"SELECT"},
		{"SELECT 15"},
		{"SELECT 16"},
		{"SELECT -1"},
		{"SELECT 01"},
		{"SELECT +1"},
		{"SELECT 9223372036854775808"},
		{"SELECT 1 2"},
		{"HELLO"},
		{"HELLO 2"},
		{"HELLO 3"},
		{"HELLO 1"},
		{"HELLO 4"},
		{"HELLO -3"},
		{"HELLO three"},
		{"HELLO 3 AUTH"},
		{"HELLO 3 AUTH default"},
		{"HELLO 3 AUTH default any"},
		{"HELLO 3 AUTH nobody any"},
		{"HELLO 3 SETNAME"},
		{"HELLO 3 SETNAME me", "CLIENT GETNAME"},
		{"HELLO 3 SETNAME a\x01b", "CLIENT GETNAME"},
		{"HELLO 3 setname a auth default x SETNAME b", "CLIENT GETNAME"},
		{"HELLO 3 WHAT"},
		{"HELLO 2 2"},
		{"AUTH"},
		{"AUTH any"},
		{"AUTH default any"},
		{"AUTH nobody any"},
		{"AUTH a b c"},
		{"RESET"},
		{"RESET now"},
		{"CLIENT"},
		{"CLIENT WHAT"},
		{"CLIENT ID x"},
		{"CLIENT GETNAME"},
		{"CLIENT GETNAME x"},
		{"CLIENT SETNAME"},
		{"CLIENT SETNAME a", "CLIENT GETNAME"},
		{"CLIENT SETNAME a\x7fb"},
		{"CLIENT INFO x"},
		{"CLIENT LIST TYPE"},
		{"CLIENT LIST TYPE what"},
		{"CLIENT LIST TYPE master"},
		{"CLIENT LIST ID"},
		{"CLIENT LIST ID x"},
		{"CLIENT LIST ID 99999"},
		{"CLIENT LIST WHAT"},
		{"CLIENT LIST TYPE normal x"},
		{"CLIENT KILL"},
		{"CLIENT KILL x"},
		{"CLIENT KILL 1.2.3.4:5"},
		{"CLIENT KILL ID"},
		{"CLIENT KILL ID 0"},
		{"CLIENT KILL ID -1"},
		{"CLIENT KILL ID x"},
		{"CLIENT KILL ID 99999"},
		{"CLIENT KILL TYPE what"},
		{"CLIENT KILL TYPE master"},
		{"CLIENT KILL USER nobody"},
		{"CLIENT KILL ADDR 1.2.3.4:5"},
		{"CLIENT KILL LADDR 1.2.3.4:5"},
		{"CLIENT KILL SKIPME"},
		{"CLIENT KILL SKIPME maybe"},
		{"CLIENT KILL ID 99999 TYPE"},
		{"CLIENT KILL ID 99999 TYPE normal SKIPME no"},
		{"CLIENT KILL TYPE pubsub"},
		{"CLIENT UNBLOCK"},
		{"CLIENT UNBLOCK x"},
		{"CLIENT UNBLOCK 99999"},
		{"CLIENT UNBLOCK 99999 ERROR"},
		{"CLIENT UNBLOCK 99999 WHAT"},
		{"CLIENT UNBLOCK 99999 ERROR x"},
		{"CLIENT REPLY"},
		{"CLIENT REPLY ON"},
		{"CLIENT REPLY WHAT"},
		{"CLIENT REPLY OFF", "PING", "CLIENT REPLY ON", "PING"},
		{"CLIENT REPLY SKIP", "PING", "PING"},
		{"CLIENT REPLY SKIP", "NOSUCH", "PING"},
		{"CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING", "PING"},
		{"CLIENT REPLY OFF", "CLIENT REPLY SKIP", "PING", "CLIENT REPLY ON", "PING"},
		{"CLIENT NO-EVICT"},
		{"CLIENT NO-EVICT on"},
		{"CLIENT NO-EVICT OFF"},
		{"CLIENT NO-EVICT what"},
		{"CLIENT GETREDIR"},
		{"CLIENT GETREDIR x"},
		{"MULTI", "EXEC"},
		{"MULTI x"},
		{"EXEC"},
		{"EXEC x"},
		{"DISCARD"},
		{"DISCARD x"},
		{"WATCH"},
		{"UNWATCH"},
		{"UNWATCH x"},
		{"MULTI", "MULTI", "PING", "EXEC"},
		{"MULTI", "WATCH a", "PING", "EXEC"},
		{"MULTI", "NOSUCH", "EXEC", "EXEC"},
		{"MULTI", "GET", "DISCARD", "PING"},
		{"MULTI", "SHUTDOWN", "EXEC"},
		{"MULTI", "SAVE", "EXEC"},
		{"MULTI", "SELECT 99", "SELECT 3", "EXEC"},
		{"MULTI", "UNWATCH", "EXEC"},
		{"MULTI", "ECHO a", "CLIENT GETNAME", "EXEC"},
		{"MULTI", "CLIENT SETNAME \x01", "INCR x", "EXEC"},
		{"MULTI", "WAIT 5 0", "EXEC"},
		{"MULTI", "SET s x", "INCR s", "GET s", "DEL s", "EXEC"},
		{"WAIT"},
		{"WAIT 0 0"},
		{"WAIT -1 0"},
		{"WAIT x 0"},
		{"WAIT 0 x"},
		{"WAIT 0 -1"},
		{"WAIT 1 10"},
		{"SET w 1", "WAIT 1 10", "DEL w"},
		{"CONFIG"},
		{"CONFIG WHAT"},
		{"CONFIG GET"},
		{"CONFIG GET nosuch"},
		{"CONFIG GET databases"},
		{"CONFIG GET DataBases nosuch"},
		{"CONFIG SET"},
		{"CONFIG SET a"},
		{"CONFIG SET nosuch 1"},
		{"CONFIG SET a b c"},
		{"CONFIG RESETSTAT"},
		{"CONFIG RESETSTAT x"},
		{"INFO nosuch"},
		{"INFO cluster"},
		{"INFO modules"},
		{"INFO modules cluster nosuch"},
		{"ROLE x"},
		{"TIME x"},
		{"LASTSAVE x"},
		{"BGSAVE x"},
		{"BGSAVE SCHEDULE x"},
		{"SAVE x"},
		{"SHUTDOWN x"},
		{"SHUTDOWN SAVE NOSAVE"},
		{"SHUTDOWN ABORT"},
		{"SHUTDOWN ABORT NOW"},
		{"FAILOVER"},
		{"FAILOVER ABORT"},
		{"FAILOVER ABORT x"},
		{"FAILOVER x"},
		{"FAILOVER TO a 1"},
		{"FAILOVER TO a"},
		{"FAILOVER TO a x"},
		{"FAILOVER TO a 1 TO b 2"},
		{"FAILOVER FORCE"},
		{"FAILOVER FORCE FORCE"},
		{"FAILOVER TIMEOUT"},
		{"FAILOVER TIMEOUT x"},
		{"FAILOVER TIMEOUT 0"},
		{"FAILOVER TIMEOUT -1"},
		{"FAILOVER TIMEOUT 1 TIMEOUT 2"},
		{"FAILOVER TO a 1 FORCE TIMEOUT 10"},
		{"READONLY"},
		{"READWRITE"},
		{"READONLY x"},
		{"DEBUG"},
		{"DEBUG WHAT"},
		{"DEBUG SLEEP"},
		{"DEBUG SLEEP 0"},
		{"DEBUG SLEEP 0 0"},
		{"SUBSCRIBE"},
		{"SUBSCRIBE a a b", "PING", "PING x", "GET a", "UNSUBSCRIBE b", "UNSUBSCRIBE", "GET a"},
		{"PSUBSCRIBE a* a", "SUBSCRIBE a", "PUNSUBSCRIBE a", "RESET", "PING"},
		{"UNSUBSCRIBE"},
		{"PUNSUBSCRIBE"},
		{"UNSUBSCRIBE a b"},
		{"SUBSCRIBE a", "MULTI"},
		{"SUBSCRIBE a", "QUIT", "PING"},
		{"SUBSCRIBE a", "NOSUCH", "GET"},
		{"MULTI", "SUBSCRIBE a", "GET a", "EXEC", "GET a"},
		{"SUBSCRIBE a", "HELLO 2", "AUTH x", "CLIENT ID", "ECHO a"},
		{"nosuch"},
		{"nosuch a b c"},
		{"nosuch " + strings.Repeat("long ", 60)},
		{"hosts x"},
		{"SENTINEL masters"},
		{"COMMAND WHAT"},
		{"COMMAND COUNT x"},
		{"COMMAND GETKEYS"},
		{"COMMAND GETKEYS GET a"},
		{"COMMAND GETKEYS PING"},
	} {
		for _, proto := range []string{"HELLO 2", "HELLO 3"} {
			ours, theirs := w.dial(t), dialPeer(t, redis.Addr())
			lines := append([]string{proto}, pipeline...)
			lines = append(lines, "RESET", "ECHO the-end")
			ours.send(lines...)
			theirs.send(lines...)
			if got, want := ours.replies(0), theirs.replies(0); !slices.Equal(got, want) {
				t.Errorf("%s:\n got %s\nwant %s", strings.Join(lines, " | "), strings.Join(got, " | "), strings.Join(want, " | "))
			}
			_ = ours.conn.Close()
			_ = theirs.conn.Close()
		}
	}
}

// Each command that the Sentinel port shares with a real Sentinel is answered as by
// one, and those a Sentinel does not have are unknown.
func TestSentinelPortAnswersAsSentinelDoes(t *testing.T) {
	sentinel := testkit.StartSentinel(t, testkit.StartRedis(t), "mymaster")
	r, _ := sentinelRig(t)
	for _, pipeline := range [][]string{
		{"PING"},
		{"PING a"},
		{"PING a b"},
		{"AUTH"},
		{"AUTH x"},
		{"AUTH default x"},
		{"AUTH nobody x"},
		{"AUTH a b c"},
		{"HELLO"},
		{"HELLO 2"},
		{"HELLO 3"},
		{"HELLO 9"},
		{"HELLO x"},
		{"HELLO 3 AUTH nobody x"},
		{"HELLO 3 AUTH default x SETNAME me", "CLIENT GETNAME"},
		{"ECHO a"},
		{"SELECT 0"},
		{"CONFIG GET maxclients"},
		{"TIME"},
		{"MULTI", "PING", "EXEC"},
		{"CLUSTER SLOTS"},
		{"READONLY"},
		{"WAIT 0 0"},
		{"GET a"},
		{"SET a 1"},
		{"WATCH a"},
		{"DEBUG SLEEP 0"},
		{"SAVE"},
		{"LASTSAVE"},
		{"DBSIZE"},
		{"KEYS *"},
		{"nosuch a b"},
		{"CLIENT"},
		{"CLIENT WHAT"},
		{"CLIENT GETNAME"},
		{"CLIENT SETNAME a", "CLIENT GETNAME"},
		{"CLIENT SETNAME \x01"},
		{"CLIENT NO-EVICT on"},
		{"CLIENT GETREDIR"},
		{"CLIENT TRACKING"},
		{"CLIENT TRACKING ON OPTIN WHAT"},
		{"CLIENT TRACKING maybe"},
		{"CLIENT CACHING"},
		{"CLIENT CACHING yes"},
		{"CLIENT KILL ID 0"},
		{"CLIENT KILL 1.2.3.4:5"},
		{"CLIENT LIST ID 99999"},
		{"CLIENT REPLY SKIP", "PING", "PING"},
		{"CLIENT UNBLOCK 99999"},
		{"CLIENT REPLY OFF", "PING", "CLIENT REPLY ON"},
		{"CLIENT MAINT_NOTIFICATIONS on"},
		{"SUBSCRIBE"},
		{"SUBSCRIBE +switch-master", "PING", "PING x", "HELLO 3", "CLIENT GETNAME", "UNSUBSCRIBE +switch-master", "PING"},
		{"PSUBSCRIBE [-+]sdown *", "PUNSUBSCRIBE *", "PUNSUBSCRIBE nothing"},
		{"UNSUBSCRIBE"},
		{"PUNSUBSCRIBE"},
		{"UNSUBSCRIBE a b"},
		{"SUBSCRIBE a b", "PSUBSCRIBE a b", "UNSUBSCRIBE a b", "ROLE x", "PUNSUBSCRIBE a b"},
		{"INFO nosuch"},
		{"INFO keyspace"},
		{"INFO replication"},
		{"INFO commandstats"},
		{"POST x", "PING"},
		{"COMMAND WHAT"},
		{"QUIT"},
		{"RESET"},
		{"SHUTDOWN x"},
		{"SHUTDOWN SAVE NOSAVE"},
		{"CLIENT NO-TOUCH on"},
		{"CLIENT TRACKINGINFO"},
		{"CLIENT TRACKING ON NOLOOP OPTIN", "CLIENT TRACKINGINFO", "CLIENT TRACKING OFF", "CLIENT TRACKINGINFO"},
		{"CLIENT PAUSE"},
		{"CLIENT PAUSE x"},
		{"CLIENT PAUSE -1"},
		{"CLIENT PAUSE 1 SOME"},
		{"CLIENT PAUSE 1 ALL x"},
		{"CLIENT PAUSE 1", "PING"},
		{"CLIENT PAUSE 600000 WRITE", "PING", "CLIENT UNPAUSE"},
		{"CLIENT UNPAUSE x"},
		{"ACL"},
		{"ACL WHAT"},
		{"ACL WHOAMI"},
		{"ACL LIST"},
		{"ACL USERS"},
		{"ACL GETUSER default"},
		{"ACL GETUSER nobody"},
		{"ACL CAT"},
		{"ACL CAT nosuch"},
		{"ACL CAT a b"},
		{"ACL GENPASS 0"},
		{"ACL GENPASS 4097"},
		{"ACL GENPASS a"},
		{"ACL GENPASS 1 2"},
		{"ACL LOG x"},
		{"ACL LOG 1 2"},
		{"ACL LOG RESET", "ACL LOG", "ACL LOG 1"},
		{"ACL DRYRUN default PING"},
		{"ACL DRYRUN default client list"},
		{"ACL DRYRUN default client nosuch"},
		{"ACL DRYRUN default nosuch"},
		{"ACL DRYRUN nobody PING"},
		{"ACL LOAD"},
		{"ACL SAVE"},
		{"ACL DELUSER"},
		{"ACL DELUSER default"},
		{"ACL DELUSER nobody"},
		{"ACL SETUSER"},
	} {
		for _, proto := range []string{"2", "3"} {
			ours, theirs := r.dial(t), dialPeer(t, sentinel.Addr())
			for _, p := range []*peer{ours, theirs} { // before: a real Sentinel that closes lets go of what it has answered
				p.send("HELLO " + proto)
				p.read()
				p.send(append(slices.Clone(pipeline), "PING the-end")...)
			}
			if got, want := ours.replies(0), theirs.replies(0); !slices.Equal(got, want) {
				t.Errorf("RESP%s, %s:\n got %s\nwant %s", proto, strings.Join(pipeline, " | "), strings.Join(got, " | "), strings.Join(want, " | "))
			}
			_ = ours.conn.Close()
			_ = theirs.conn.Close()
		}
	}
}
