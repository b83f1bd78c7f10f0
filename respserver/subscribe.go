package respserver

import (
	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/resp"
)

// topicKind tells channels from patterns.
type topicKind struct {
	index         int // in card.subs
	add, drop     string
	join, leave   func(s *pubsub.Subscriber, name string) int
	subscriptions func(s *pubsub.Subscriber) []string
}

// channelTopics and patternTopics are the two ways to subscribe.
func channelTopics() *topicKind {
	return &topicKind{
		0, "subscribe", "unsubscribe",
		(*pubsub.Subscriber).Subscribe, (*pubsub.Subscriber).Unsubscribe, (*pubsub.Subscriber).Channels,
	}
}

func patternTopics() *topicKind {
	return &topicKind{
		1, "psubscribe", "punsubscribe",
		(*pubsub.Subscriber).PSubscribe, (*pubsub.Subscriber).PUnsubscribe, (*pubsub.Subscriber).Patterns,
	}
}

// subscriber is the client's queue of messages, made with its first
// subscription together with the goroutine that empties it.
func (c *client) subscriber() *pubsub.Subscriber {
	if c.sub == nil {
		s := c.srv.cfg.Hub.Subscriber(c.overflown)
		c.sub = s
		c.srv.conns.Go(func() { c.pump(s) })
	}
	return c.sub
}

// overflown closes a client that does not take its messages.
func (c *client) overflown() {
	c.srv.counters.tooSlow.Add(1)
	c.life.close()
}

// pump sends messages between the pipelines until the subscriber is closed.
func (c *client) pump(s *pubsub.Subscriber) {
	defer func() { c.contain(recover()) }()
	var spare []pubsub.Message
	for range s.Ready() {
		var err error
		if spare, err = c.push(s, spare); err != nil {
			c.life.close()
			return
		}
	}
}

// push sends the messages that wait.
func (c *client) push(s *pubsub.Subscriber, spare []pubsub.Message) ([]pubsub.Message, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	spare = c.deliver(s, spare)
	return spare, c.flush()
}

// deliver encodes the messages that wait. The caller holds the turn: a message
// taken from the queue is on its way before anything that is answered later.
func (c *client) deliver(s *pubsub.Subscriber, spare []pubsub.Message) []pubsub.Message {
	messages := s.Take(spare)
	for i := range messages {
		m := &messages[i]
		parts := []resp.Value{resp.BulkString("message"), resp.BulkString(m.Channel), resp.Bulk(m.Payload)}
		if m.ByPattern {
			parts = append([]resp.Value{resp.BulkString("pmessage"), resp.BulkString(m.Pattern)}, parts[1:]...)
		}
		c.write(resp.Push(parts...), false)
	}
	return messages
}

// subscribe answers once per channel.
func (k *topicKind) subscribe(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	s := c.subscriber()
	for _, name := range args[1:] {
		before := s.Count()
		n := k.join(s, string(name))
		c.card.subs[k.index].Add(int32(n - before))
		c.confirmTopic(k.add, bulkCopy(name), n)
	}
	return resp.None
}

// unsubscribe answers once per channel, whether it was subscribed to or not;
// without arguments it ends all subscriptions of its kind, and answers once if
// there are none. Messages that came before are sent before the answer: after
// it, the client may not know what to do with them.
func (k *topicKind) unsubscribe(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	names := args[1:]
	if len(names) == 0 {
		if c.sub != nil {
			for _, name := range k.subscriptions(c.sub) {
				names = append(names, []byte(name))
			}
		}
		if len(names) == 0 {
			c.confirmTopic(k.drop, resp.Null, c.subscriptions())
			return resp.None
		}
	}
	for _, name := range names {
		n := 0
		if c.sub != nil {
			before := c.sub.Count()
			n = k.leave(c.sub, string(name))
			c.card.subs[k.index].Add(int32(n - before))
			c.deliver(c.sub, nil)
		}
		c.confirmTopic(k.drop, bulkCopy(name), n)
	}
	return resp.None
}

// confirmTopic tells the client what it is subscribed to, even while replies are
// off, as in Redis.
func (c *client) confirmTopic(what string, name resp.Value, n int) {
	v := resp.Push(resp.BulkString(what), name, resp.Int(int64(n)))
	if c.inExec() {
		c.sess.late = append(c.sess.late, v)
		return
	}
	c.write(v, false)
}

// subscriptions is the number of channels and patterns subscribed to.
func (c *client) subscriptions() int {
	if c.sub == nil {
		return 0
	}
	return c.sub.Count()
}

// unsubscribeAll ends the subscriptions without a word.
func (c *client) unsubscribeAll() {
	if c.sub == nil {
		return
	}
	c.sub.Close()
	c.sub = nil
	c.card.subs[0].Store(0)
	c.card.subs[1].Store(0)
}

// SubscribeSpecs are SUBSCRIBE, PSUBSCRIBE and their opposites; a server with
// them needs Config.Hub.
func SubscribeSpecs() []*command.Spec {
	spec := func(name string, arity int, complexity string, do func(command.Conn, [][]byte) resp.Value) *command.Spec {
		return &command.Spec{
			Name: name, Arity: arity, Since: "2.0.0", Group: "pubsub", Complexity: complexity,
			Flags: command.FlagPubSub | command.FlagNoScript | command.FlagLoading | command.FlagStale | command.FlagSubscribed,
			Do:    command.Locally(do),
		}
	}
	channels, patterns := channelTopics(), patternTopics()
	sub := spec("subscribe", -2, "O(N) where N is the number of channels to subscribe to.", channels.subscribe)
	sub.Syntax, sub.Summary = "channel [channel ...]", "Has messages to the channels sent to this connection."
	unsub := spec("unsubscribe", -1, "O(N) where N is the number of clients already subscribed to a channel.", channels.unsubscribe)
	unsub.Syntax, unsub.Summary = "[channel [channel ...]]", "Ends subscriptions to channels, all of them if none is named."
	psub := spec("psubscribe", -2, "O(N) where N is the number of patterns the client is already subscribed to.", patterns.subscribe)
	psub.Syntax, psub.Summary = "pattern [pattern ...]", "Has messages to all channels that match sent to this connection."
	punsub := spec("punsubscribe", -1, "O(N+M) where N is the number of patterns the client is already subscribed and M is the number "+
		"of total patterns subscribed in the system (by any client).", patterns.unsubscribe)
	punsub.Syntax, punsub.Summary = "[pattern [pattern ...]]", "Ends subscriptions to patterns, all of them if none is named."
	return []*command.Spec{sub, unsub, psub, punsub}
}
