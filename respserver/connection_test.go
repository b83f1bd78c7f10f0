package respserver_test

import (
	"strings"
	"testing"

	"github.com/holdfast/holdfast/respserver"
)

// withPassword sets requirepass.
func withPassword(c *respserver.Config) { c.Tuning.Password = "sesame" }

// exchange is one command with its reply as show writes it.
type exchange struct{ line, reply string }

// play sends the commands one by one over one connection.
func play(t *testing.T, p *peer, list []exchange) {
	t.Helper()
	for _, x := range list {
		p.want(x.line, x.reply)
	}
}

const noAuth = "!NOAUTH Authentication required."

// Before AUTH only the commands that authenticate are served, and RESET goes
// back to that state.
func TestPasswordGuardsEverything(t *testing.T) {
	p := start(t, withPassword).dial(t)
	play(t, p, []exchange{
		{"PING", noAuth},
		{"GET a", noAuth},
		{"CLIENT ID", noAuth},
		{"MULTI", noAuth},
		{"EXEC", "!EXECABORT Transaction discarded because of: NOAUTH Authentication required."},
		{"NOSUCH", "!ERR unknown command 'NOSUCH', with args beginning with: "},
		{"AUTH wrong", "!WRONGPASS invalid username-password pair or user is disabled."},
		{"AUTH nobody sesame", "!WRONGPASS invalid username-password pair or user is disabled."},
		{"AUTH sesame", "OK"},
		{"PING", "PONG"},
		{"RESET", "RESET"},
		{"PING", noAuth},
		{"AUTH default sesame", "OK"},
		{"PING", "PONG"},
		{"QUIT", "OK"},
	})
	p.wantClosed()
}

// HELLO authenticates, names and switches in one go, or does nothing at all.
func TestHelloIsAllOrNothing(t *testing.T) {
	p := start(t, withPassword).dial(t)
	const refused = "!NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> " +
		"option can be used to authenticate the client and select the RESP protocol version at the same time"
	play(t, p, []exchange{
		{"HELLO", refused},
		{"HELLO 3", refused},
		{"HELLO 3 SETNAME me", refused},
		{"HELLO 3 AUTH default wrong SETNAME me", "!WRONGPASS invalid username-password pair or user is disabled."},
		{"HELLO 4 AUTH default sesame", "!NOPROTO unsupported protocol version"},
		{"HELLO 3 AUTH default", "!ERR Syntax error in HELLO option 'AUTH'"},
		{"HELLO 3 AUTH default sesame SETNAME m\x01e", "!ERR Client names cannot contain spaces, newlines or special characters."},
		{"PING", noAuth},
		{"HELLO 2 AUTH default sesame SETNAME me", "[server redis version 7.2.4 proto :2 id :1 mode standalone role master modules []]"},
		{"CLIENT GETNAME", "me"},
		{"HELLO 3", "{server redis version 7.2.4 proto :3 id :1 mode standalone role master modules []}"},
		{"HELLO", "{server redis version 7.2.4 proto :3 id :1 mode standalone role master modules []}"},
	})
}

// Replies before a HELLO of the same pipeline keep the old protocol.
func TestHelloSwitchesInItsPlace(t *testing.T) {
	p := start(t).dial(t)
	p.send("GET none", "SET a 1", "CONFIG GET timeout", "HELLO 3", "CONFIG GET timeout")
	p.wantAll("null", "OK", "[timeout 0]", "{server redis version 7.2.4 proto :3 id :1 mode standalone role master modules []}", "{timeout 0}")
}

// A password that is set later leaves those in who are in.
func TestTuneKeepsAuthenticatedClients(t *testing.T) {
	r := start(t)
	old := r.dial(t)
	old.want("PING", "PONG")
	r.Tune(respserver.Tuning{Password: "sesame"})
	old.want("PING", "PONG")
	r.dial(t).want("PING", noAuth)
	r.Tune(respserver.Tuning{})
	r.dial(t).want("AUTH x", "!ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
}

// Before AUTH a command may have 10 arguments of 16 KiB; after AUTH, even one
// that came in the same packet, the normal limits hold.
func TestUnauthenticatedRequestsAreSmall(t *testing.T) {
	r := start(t, withPassword)
	p := r.dial(t)
	p.send("GET " + strings.Repeat("a ", 10))
	p.wantAll("!ERR Protocol error: unauthenticated multibulk length")
	p.wantClosed()

	p = r.dial(t)
	p.send("GET " + strings.Repeat("a", 16<<10+1))
	p.wantAll("!ERR Protocol error: unauthenticated bulk length")
	p.wantClosed()

	p = r.dial(t)
	p.send("AUTH sesame", "SET a "+strings.Repeat("v", 1<<20), "MGET "+strings.Repeat("b ", 100))
	p.wantAll("OK", "OK", "["+strings.TrimSpace(strings.Repeat("null ", 100))+"]")
}

// After QUIT nothing is carried out.
func TestQuitEndsThePipeline(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.send("SET a 1", "QUIT", "SET a 2")
	p.wantAll("OK", "OK")
	p.wantClosed()
	r.dial(t).want("GET a", "1")
}

// RESET undoes what the connection has chosen.
func TestResetForgetsEverything(t *testing.T) {
	p := start(t).dial(t)
	play(t, p, []exchange{
		{"SET k zero", "OK"},
		{"SELECT 3", "OK"},
		{"CLIENT SETNAME me", "OK"},
		{"HELLO 3", "{server redis version 7.2.4 proto :3 id :1 mode standalone role master modules []}"},
		{"WATCH k", "OK"},
		{"MULTI", "OK"},
		{"SET k three", "QUEUED"},
		{"RESET", "RESET"},
		{"GET k", "zero"},
		{"CLIENT GETNAME", "null"},
		{"CONFIG GET timeout", "[timeout 0]"},
		{"EXEC", "!ERR EXEC without MULTI"},
	})
}

// CLIENT REPLY silences what it says, and no more.
func TestClientReply(t *testing.T) {
	p := start(t).dial(t)
	p.send("CLIENT REPLY SKIP", "SET a 1", "GET a", "CLIENT REPLY OFF", "GET a", "INCR a", "NOSUCH", "CLIENT REPLY SKIP", "GET a",
		"CLIENT REPLY ON", "GET a", "CLIENT REPLY what")
	p.wantAll("1", "OK", "2", "!ERR syntax error")
}

// A line of CLIENT LIST tells what Redis's does.
func TestClientListDescribesConnections(t *testing.T) {
	r := start(t)
	p, q := r.dial(t), r.dial(t)
	q.want("SELECT 2", "OK")
	q.want("CLIENT SETNAME other", "OK")
	q.want("CLIENT SETINFO LIB-NAME lib", "OK")
	q.want("CLIENT SETINFO lib-ver 1.2", "OK")
	q.want("MULTI", "OK")
	q.want("SET a 1", "QUEUED")
	list := strings.Split(strings.TrimSpace(p.do("CLIENT LIST")), "\n")
	if len(list) != 2 {
		t.Fatalf("%d lines for two connections", len(list))
	}
	for _, field := range []string{
		"id=2 ", "addr=" + q.conn.LocalAddr().String() + " ", "laddr=" + r.addr + " ", " name=other ", " flags=x ", " db=2 ",
		" multi=1 ", " cmd=set ", " user=default ", " resp=2 ", " lib-name=lib ", " lib-ver=1.2",
	} {
		if !strings.Contains(list[1], field) {
			t.Errorf("no %q in %s", field, list[1])
		}
	}
	if own := p.do("CLIENT INFO"); !strings.Contains(own, "id=1 ") || !strings.Contains(own, " flags=N ") || !strings.Contains(own, "cmd=client|info ") {
		t.Errorf("CLIENT INFO: %s", own)
	}
	for line, n := range map[string]int{
		"CLIENT LIST ID 2 99": 1, "CLIENT LIST TYPE normal": 2, "CLIENT LIST TYPE pubsub": 0, "CLIENT LIST TYPE replica": 0,
	} {
		if got := strings.Count(p.do(line), "\n"); got != n {
			t.Errorf("%s: %d lines, want %d", line, got, n)
		}
	}
}

// CLIENT KILL closes those that match every filter, and spares the caller
// unless told otherwise.
func TestClientKillFilters(t *testing.T) {
	for _, test := range []struct{ filter, reply string }{
		{"ID 2", ":1"},
		{"TYPE normal", ":2"},
		{"TYPE normal ID 2", ":1"},
		{"USER default SKIPME yes", ":2"},
		{"LADDR here", ":2"},
		{"ADDR 1.2.3.4:5", ":0"},
		{"TYPE pubsub", ":0"},
		{"MAXAGE 1000", ":0"},
		{"MAXAGE 0", "!ERR maxage is not an integer or out of range"},
	} {
		t.Run(test.filter, func(t *testing.T) {
			r := start(t)
			p := r.dial(t)
			p.want("PING", "PONG")
			victims := []*peer{r.dial(t), r.dial(t)}
			for _, v := range victims {
				v.want("PING", "PONG")
			}
			p.want("CLIENT KILL "+strings.ReplaceAll(test.filter, "here", r.addr), test.reply)
			if test.reply == ":2" || test.reply == ":1" {
				victims[0].wantClosed()
			}
			if test.reply != ":2" {
				victims[1].want("PING", "PONG")
			}
			p.want("PING", "PONG")
		})
	}
}

// The old form names an address; a connection that kills itself is answered first.
func TestClientKillByAddress(t *testing.T) {
	r := start(t)
	p, q := r.dial(t), r.dial(t)
	q.want("PING", "PONG")
	p.want("CLIENT KILL "+q.conn.LocalAddr().String(), "OK")
	q.wantClosed()
	eventually(t, "it is forgotten", func() bool { return r.Stats().Connected == 1 })
	p.want("CLIENT KILL 1.2.3.4:5", "!ERR No such client")
	p.send("CLIENT KILL TYPE normal SKIPME no", "PING")
	p.wantAll(":1")
	p.wantClosed()
}
