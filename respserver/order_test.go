package respserver_test

import (
	"strings"
	"testing"
)

// Replies stand where their commands stood, also those of commands that change
// how the connection is answered.
func TestRepliesOfModeChangesStandInTheirPlaces(t *testing.T) {
	for name, c := range map[string]struct{ pipeline, replies []string }{
		"RESET ends silence": {
			[]string{"CLIENT REPLY OFF", "PING", "RESET", "PING"},
			[]string{"RESET", "PONG"},
		},
		"a skipped RESET is skipped": {
			[]string{"CLIENT REPLY SKIP", "RESET", "PING"},
			[]string{"PONG"},
		},
		"CLIENT REPLY ON inside EXEC": {
			[]string{"MULTI", "CLIENT REPLY ON", "PING", "EXEC", "PING"},
			[]string{"OK", "QUEUED", "QUEUED", "[OK PONG]", "PONG"},
		},
		"CLIENT REPLY ON inside an EXEC that writes": {
			[]string{"MULTI", "SET a 1", "CLIENT REPLY ON", "GET a", "EXEC", "PING"},
			[]string{"OK", "QUEUED", "QUEUED", "QUEUED", "[OK OK 1]", "PONG"},
		},
		"SUBSCRIBE inside EXEC": {
			[]string{"MULTI", "SUBSCRIBE a", "UNSUBSCRIBE a", "EXEC", "PING"},
			[]string{"OK", "QUEUED", "QUEUED", "[[subscribe a :1] [unsubscribe a :0]]", "PONG"},
		},
		"SUBSCRIBE to several channels inside EXEC": {
			[]string{"MULTI", "SUBSCRIBE a b", "EXEC", "PING"},
			[]string{"OK", "QUEUED", "[[subscribe a :1]]", "[subscribe b :2]", "[pong ]"},
		},
		"SUBSCRIBE inside an EXEC that writes, behind a write": {
			[]string{"SET k 1", "MULTI", "SUBSCRIBE a b", "INCR k", "EXEC", "PING"},
			[]string{"OK", "OK", "QUEUED", "QUEUED", "[[subscribe a :1] :2]", "[subscribe b :2]", "[pong ]"},
		},
		"what is subscribed to is told even in silence": {
			[]string{"CLIENT REPLY OFF", "SUBSCRIBE a", "UNSUBSCRIBE a", "CLIENT REPLY ON"},
			[]string{"[subscribe a :1]", "[unsubscribe a :0]", "OK"},
		},
		"what is subscribed to is not skipped": {
			[]string{"CLIENT REPLY SKIP", "SUBSCRIBE a", "UNSUBSCRIBE a"},
			[]string{"[subscribe a :1]", "[unsubscribe a :0]"},
		},
		"HELLO inside EXEC": {
			[]string{"MULTI", "HELLO 3", "GET none", "EXEC", "GET none"},
			[]string{"OK", "QUEUED", "QUEUED", "hello-null", "null"},
		},
		"AUTH inside EXEC": {
			[]string{"MULTI", "AUTH x", "EXEC"},
			[]string{"OK", "QUEUED", "[!ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?]"},
		},
		"QUIT inside MULTI": {
			[]string{"MULTI", "SET a 1", "QUIT", "EXEC"},
			[]string{"OK", "QUEUED", "OK", "closed"},
		},
		"RESET inside MULTI": {
			[]string{"WATCH a", "SELECT 3", "MULTI", "SET a 1", "RESET", "EXEC", "GET a"},
			[]string{"OK", "OK", "OK", "QUEUED", "RESET", "!ERR EXEC without MULTI", "null"},
		},
		"an EXEC with arguments ends the transaction": {
			[]string{"MULTI", "SET a 1", "EXEC x", "GET a", "EXEC"},
			[]string{
				"OK", "QUEUED", "!EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command",
				"null", "!ERR EXEC without MULTI",
			},
		},
		"SELECT between reads and writes": {
			[]string{"SET a 0", "SELECT 1", "SET a 1", "GET a", "SELECT 0", "GET a", "SELECT 1", "KEYS *"},
			[]string{"OK", "OK", "OK", "1", "OK", "0", "OK", ":1"},
		},
	} {
		for _, proto := range []string{"2", "3"} {
			t.Run(name+" in RESP"+proto, func(t *testing.T) {
				p := start(t).dial(t)
				if proto == "3" {
					p.do("HELLO 3")
				}
				p.send(c.pipeline...)
				for i, want := range c.replies {
					want = inProto(want, proto)
					if want == "closed" {
						p.wantClosed()
						return
					}
					got := show(p.read())
					if want == "hello-null" && strings.HasPrefix(got, "[{server redis") && strings.HasSuffix(got, " null]") {
						continue
					}
					if got != want {
						t.Errorf("reply %d\n got %s\nwant %s", i, got, want)
					}
				}
				p.send("ECHO end")
				if got := show(p.read()); got != "end" && !strings.HasPrefix(got, "!ERR Can't execute 'echo'") {
					t.Errorf("after the pipeline: %s", got)
				}
			})
		}
	}
}

// inProto is a reply as the protocol shows it: what is subscribed to is pushed in
// RESP3, and a PING there is answered as ever.
func inProto(reply, proto string) string {
	if proto == "2" {
		return reply
	}
	if reply == "[pong ]" {
		return "PONG"
	}
	for _, word := range []string{"subscribe", "unsubscribe"} {
		for _, tail := range []string{" a :0", " a :1", " b :2"} {
			reply = strings.ReplaceAll(reply, "["+word+tail+"]", "<"+word+tail+">")
		}
	}
	return reply
}

// A web page or a server-side request cannot be made to send commands: what looks
// like HTTP is not answered, nothing of it is carried out, and what came before is.
func TestHTTPIsNoClient(t *testing.T) {
	for name, request := range map[string]string{
		"POST":            "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nSET a 1\r\n",
		"GET with a Host": "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nSET a 1\r\n",
		"as an array":     string(encode("post x")) + "SET a 1\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t)
			p := r.dial(t)
			p.sendBytes([]byte("SET b 1\r\n" + request))
			p.wantAll("OK")
			if strings.HasPrefix(request, "GET") {
				p.wantAll("!ERR wrong number of arguments for 'get' command")
			}
			p.wantClosed()
			r.dial(t).want("MGET a b", "[null 1]")
		})
	}
}
