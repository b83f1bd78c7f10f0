package respserver_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// sentinelRig is a Sentinel port: its table, no data.
func sentinelRig(t *testing.T, changes ...func(*respserver.Config)) (*rig, *pubsub.Hub) {
	t.Helper()
	hub := pubsub.NewHub(pubsub.Limits{})
	n := newFakeNode()
	base := baseConfig(n)
	cfg := respserver.Config{Identity: base.Identity, Tuning: base.Tuning, Sentinel: true, Hub: hub, Info: sentinelFacts{}}
	role := &command.Spec{
		Name: "role", Arity: 1, Flags: command.FlagFast, Group: "server",
		Do: command.Locally(func(command.Conn, [][]byte) resp.Value { return resp.Array(resp.BulkString("sentinel")) }),
	}
	var table *command.Table
	table, err := command.Join(respserver.SentinelPortSpecs(), []*command.Spec{role}, command.TableSpecs(func() *command.Table { return table }))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Table = table
	for _, change := range changes {
		change(&cfg)
	}
	return serve(t, n, cfg), hub
}

type sentinelFacts struct{}

func (sentinelFacts) Info() respserver.Info {
	return respserver.Info{Sentinel: func() string { return "# Sentinel\r\nsentinel_masters:1\r\n" }}
}

// A RESP2 connection with subscriptions gets arrays, and may only do what it
// can tell from messages.
func TestSubscribeInRESP2(t *testing.T) {
	r, hub := sentinelRig(t)
	p := r.dial(t)
	p.send("SUBSCRIBE a b a", "PSUBSCRIBE [-+]sdown")
	p.wantAll("[subscribe a :1]", "[subscribe b :2]", "[subscribe a :2]", "[psubscribe [-+]sdown :3]")
	for channel, receivers := range map[string]int{"a": 1, "+sdown": 1, "c": 0} {
		if n := hub.Publish(channel, []byte("to "+channel)); n != receivers {
			t.Errorf("%d receivers for %s", n, channel)
		}
		switch channel {
		case "a":
			p.wantAll("[message a to a]")
		case "+sdown":
			p.wantAll("[pmessage [-+]sdown +sdown to +sdown]")
		}
	}
	play(t, p, []exchange{
		{"PING", "[pong ]"},
		{"PING x", "[pong x]"},
		{"CLIENT ID", "!ERR Can't execute 'client|id': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"},
		{"UNSUBSCRIBE b", "[unsubscribe b :2]"},
		{"UNSUBSCRIBE b", "[unsubscribe b :2]"},
		{"PUNSUBSCRIBE", "[punsubscribe [-+]sdown :1]"},
		{"UNSUBSCRIBE", "[unsubscribe a :0]"},
		{"UNSUBSCRIBE", "[unsubscribe null :0]"},
		{"PING", "PONG"},
		{"CLIENT ID", ":1"},
	})
}

// A RESP3 connection gets pushes between the replies of other commands.
func TestSubscribeInRESP3(t *testing.T) {
	r, hub := sentinelRig(t)
	p := r.dial(t)
	p.want("HELLO 3", "{server redis version 7.2.4 proto :3 id :1 mode sentinel modules []}")
	p.send("UNSUBSCRIBE x y", "SUBSCRIBE +switch-master", "PING")
	p.wantAll("<unsubscribe x :0>", "<unsubscribe y :0>", "<subscribe +switch-master :1>", "PONG")
	hub.Publish("+switch-master", []byte("m 1 2 3 4"))
	p.wantAll("<message +switch-master m 1 2 3 4>")
	p.want("CLIENT ID", ":1")
	p.want("UNSUBSCRIBE", "<unsubscribe +switch-master :0>")
	if n := hub.Publish("+switch-master", nil); n != 0 {
		t.Error("UNSUBSCRIBE left a subscription")
	}
}

// Messages come in order, none is lost, and none comes after UNSUBSCRIBE has
// been answered.
func TestMessagesKeepTheirOrder(t *testing.T) {
	r, hub := sentinelRig(t)
	p := r.dial(t)
	p.want("SUBSCRIBE a", "[subscribe a :1]")
	const n = 2000
	go func() {
		for i := range n {
			hub.Publish("a", fmt.Append(nil, i))
		}
	}()
	for i := range n / 2 {
		p.wantAll(fmt.Sprintf("[message a %d]", i))
	}
	p.send("UNSUBSCRIBE a", "PING")
	next := n / 2
	for {
		got := show(p.read())
		if got == "[unsubscribe a :0]" {
			break
		}
		if got != fmt.Sprintf("[message a %d]", next) {
			t.Fatalf("got %s after message %d", got, next-1)
		}
		next++
	}
	p.wantAll("PONG")
	hub.Publish("a", []byte("late"))
	p.want("PING", "PONG")
}

// A subscriber that does not read is closed; the others get everything.
func TestSlowSubscriberIsClosed(t *testing.T) {
	r, hub := sentinelRig(t, func(c *respserver.Config) { c.Tuning.PubSubOutput.Hard = 1 << 20 })
	hub.SetLimits(pubsub.Limits{Bytes: 1 << 20})
	slow, quick := r.dial(t), r.dial(t)
	slow.want("SUBSCRIBE a", "[subscribe a :1]")
	quick.want("SUBSCRIBE b", "[subscribe b :1]")
	payload := []byte(strings.Repeat("x", 64<<10))
	eventually(t, "the slow subscriber is closed", func() bool {
		hub.Publish("a", payload)
		return r.Stats().Connected == 1
	})
	hub.Publish("b", []byte("hello"))
	quick.wantAll("[message b hello]")
	if st := r.Stats(); st.TooSlow == 0 || st.PubSub != 1 {
		t.Errorf("%+v", st)
	}
}

// Subscribers are closed with the other clients.
func TestCloseClientsClosesSubscribers(t *testing.T) {
	r, hub := sentinelRig(t)
	p := r.dial(t)
	p.want("SUBSCRIBE a", "[subscribe a :1]")
	r.CloseClients()
	p.wantClosed()
	eventually(t, "the subscription ends", func() bool { return hub.NumSub("a") == 0 })
}

// The Sentinel port has the commands of a Sentinel and no others, and what client
// libraries send to every connection.
func TestSentinelPort(t *testing.T) {
	r, _ := sentinelRig(t, withPassword)
	p := r.dial(t)
	play(t, p, []exchange{
		{"PING", noAuth},
		{"AUTH sesame", "OK"},
		{"HELLO", "[server redis version 7.2.4 proto :2 id :1 mode sentinel modules []]"},
		{"CLIENT CACHING YES", "!ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"},
		{"CLIENT TRACKING ON OPTIN", "OK"},
		{"CLIENT CACHING YES", "OK"},
		{"CLIENT GETREDIR", ":0"},
		{"CLIENT TRACKING OFF", "OK"},
		{"CLIENT TRACKING ON WHAT", "!ERR syntax error"},
		{"CLIENT GETREDIR", ":-1"},
		{"CLIENT SETINFO LIB-NAME x", "OK"},
		{"CLIENT MAINT_NOTIFICATIONS ON", "!ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP."},
		{"SELECT 0", "!ERR unknown command 'SELECT', with args beginning with: '0' "},
		{"CONFIG GET a", "!ERR unknown command 'CONFIG', with args beginning with: 'GET' 'a' "},
		{"MULTI", "!ERR unknown command 'MULTI', with args beginning with: "},
		{"ROLE", "[sentinel]"},
	})
	info := p.do("INFO")
	if !strings.HasPrefix(info, "# Server\r\n") || !strings.Contains(info, "redis_mode:sentinel\r\n") ||
		!strings.HasSuffix(info, "\r\n\r\n# Sentinel\r\nsentinel_masters:1\r\n") || strings.Contains(info, "# Replication") {
		t.Errorf("INFO: %s", info)
	}
	p.want("INFO replication", "")
	p.want("INFO sentinel", "# Sentinel\r\nsentinel_masters:1\r\n")
	p.do("HELLO 3")
	p.send("INFO sentinel")
	if v := p.read(); v.Kind() != resp.KindBulk {
		t.Errorf("INFO is of kind %v in RESP3, a real Sentinel sends a bulk string", v.Kind())
	}
}

// A data port without a hub has no SUBSCRIBE, and no trouble with it.
func TestServerWithoutHub(t *testing.T) {
	r := start(t, func(c *respserver.Config) {
		c.Hub = nil
		var err error
		if c.Table, err = command.Join(dataSpecs(), respserver.ConnectionSpecs(), respserver.ServerSpecs()); err != nil {
			t.Fatal(err)
		}
	})
	p := r.dial(t)
	p.want("SUBSCRIBE a", "!ERR unknown command 'SUBSCRIBE', with args beginning with: 'a' ")
	p.want("RESET", "RESET")
	if got := p.do("INFO stats"); !strings.Contains(got, "pubsub_channels:0\r\n") {
		t.Errorf("INFO stats: %s", got)
	}
}
