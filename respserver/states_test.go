package respserver_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/respserver"
)

// state is something a connection can be in the midst of.
type state struct {
	enter   func(t *testing.T, r *rig, p *peer)
	leave   func(r *rig) // lets go of what the connection waits for, once it is to be closed; nil if it waits for nothing
	answers []string     // what is answered before the end
	unread  bool         // the client does not read
	setUp   func(r *rig) // before the connection is made
}

func states() map[string]state {
	return map[string]state{
		"idle":           {enter: func(*testing.T, *rig, *peer) {}},
		"half a command": {enter: func(_ *testing.T, _ *rig, p *peer) { p.sendBytes([]byte("*2\r\n$3\r\nGET\r\n$5\r\nab")) }},
		"a transaction": {enter: func(_ *testing.T, _ *rig, p *peer) {
			p.send("WATCH a", "MULTI", "SET a 1")
			p.wantAll("OK", "OK", "QUEUED")
		}},
		"subscribed": {enter: func(_ *testing.T, _ *rig, p *peer) {
			p.send("SUBSCRIBE a b", "PSUBSCRIBE c*")
			p.wantAll("[subscribe a :1]", "[subscribe b :2]", "[psubscribe c* :3]")
		}},
		"silent": {enter: func(_ *testing.T, _ *rig, p *peer) {
			p.send("CLIENT REPLY OFF", "SET a 1")
		}},
		"blocked": {
			setUp: func(r *rig) { r.node.twoReplicas(0) },
			enter: func(t *testing.T, r *rig, p *peer) {
				t.Helper()
				p.send("SET a 1", "WAIT 2 0", "SET a 2")
				p.wantAll("OK")
				eventually(t, "it is blocked", func() bool { return r.Stats().Blocked == 1 })
			},
			answers: []string{"!UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"},
		},
		"waiting for the log": {
			enter: func(t *testing.T, r *rig, p *peer) {
				t.Helper()
				r.node.setHold(true)
				p.send("SET a 1", "GET a", "KEYS *", "SET a 2")
				r.node.awaitHeld(t)
			},
			leave: func(r *rig) {
				r.node.setHold(false)
				r.node.release(command.InDoubt)
			},
			answers: []string{inDoubt, inDoubt, readOnly, readOnly},
		},
		"reading nothing": {
			enter: func(t *testing.T, r *rig, p *peer) {
				t.Helper()
				p.want("SET a "+strings.Repeat("v", 1<<20), "OK")
				p.sendBytes(bytes.Repeat(encode("GET a"), 400))
				eventually(t, "much is pending", func() bool { return r.Stats().Pending > 8<<20 })
			},
			unread: true,
		},
	}
}

// Whatever a connection is in the midst of, whoever closes it: what is under way is
// answered, nothing later is executed, the connection ends soon and leaves nothing
// behind.
func TestConnectionsEndInEveryState(t *testing.T) {
	closers := map[string]func(r *rig, other *peer, id string){
		"CLIENT KILL ID": func(_ *rig, other *peer, id string) { other.want("CLIENT KILL ID "+id, ":1") },
		"CLIENT KILL TYPE": func(_ *rig, other *peer, _ string) {
			other.do("CLIENT KILL TYPE normal")
			other.do("CLIENT KILL TYPE pubsub")
		},
		"CloseClients": func(r *rig, _ *peer, _ string) { r.CloseClients() },
		"the peer":     nil,
	}
	for what, s := range states() {
		for who, closes := range closers {
			t.Run(what+"/"+who, func(t *testing.T) {
				r := start(t)
				if s.setUp != nil {
					s.setUp(r)
				}
				p := r.dial(t)
				id := strings.TrimPrefix(p.do("CLIENT ID"), ":")
				other := r.dial(t)
				other.want("PING", "PONG")
				s.enter(t, r, p)
				if closes == nil {
					_ = p.conn.Close()
				} else {
					closes(r, other, id)
				}
				if s.leave != nil {
					s.leave(r)
				}
				if closes != nil && !s.unread {
					p.wantAll(s.answers...)
					p.wantClosed()
				}
				eventually(t, "the connection has ended and left nothing behind", func() bool {
					st := r.Stats()
					return st.Connected <= 1 && st.Blocked == 0 && st.PubSub == 0 && st.Pending == 0
				})
				after := r.dial(t)
				if got := after.do("GET a"); got == "2" {
					t.Error("a command behind the end was executed")
				}
			})
		}
	}
}

// Somebody who wakes a blocked connection again and again changes nothing of the
// order and number of its replies.
func TestWakingKeepsRepliesInOrder(t *testing.T) {
	r := start(t)
	r.node.twoReplicas(0)
	p, waker := r.dial(t), r.dial(t)
	id := strings.TrimPrefix(p.do("CLIENT ID"), ":")
	const rounds = 50
	go func() {
		for i := range rounds {
			p.send("INCR n", "WAIT 2 3", fmt.Sprintf("ECHO %d", i))
		}
	}()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range rounds {
			p.wantAll(":" + fmt.Sprint(i+1))
			if got := show(p.read()); got != ":0" && !strings.HasPrefix(got, "!UNBLOCKED client unblocked") {
				t.Errorf("WAIT: %s", got)
			}
			p.wantAll(fmt.Sprint(i))
		}
	}()
	for woken := 0; ; woken++ {
		select {
		case <-done:
			return
		default:
		}
		waker.do("CLIENT UNBLOCK " + id + []string{"", " ERROR", " TIMEOUT"}[woken%3])
	}
}

// maxclients, as it is changed: who is served stays, and a place that was left is
// free again, whatever the connection was doing.
func TestMaxClientsFollowsEndings(t *testing.T) {
	r := start(t, func(c *respserver.Config) { c.Tuning.MaxClients = 3 })
	r.node.twoReplicas(0)
	for range 5 {
		a, b, c := r.dial(t), r.dial(t), r.dial(t)
		a.want("SET a 1", "OK")
		a.send("WAIT 2 0")
		b.want("SUBSCRIBE a", "[subscribe a :1]")
		c.want("MULTI", "OK")
		over := r.dial(t)
		over.wantAll("!ERR max number of clients reached")
		over.wantClosed()
		for _, p := range []*peer{a, b, c} {
			_ = p.conn.Close()
		}
		eventually(t, "all places are free", func() bool { return r.Stats().Connected == 0 })
	}
	p := r.dial(t)
	p.want("PING", "PONG")
	r.Tune(respserver.Tuning{MaxClients: 1})
	over := r.dial(t)
	over.wantAll("!ERR max number of clients reached")
	p.want("PING", "PONG")
}
