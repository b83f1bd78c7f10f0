// Package pubsub delivers messages to the subscribers of channels and patterns
// within one node. It knows neither connections nor the wire: a subscriber is a
// bounded queue that somebody empties.
package pubsub

import (
	"container/list"
	"slices"
	"strings"
	"sync"

	"github.com/holdfast/holdfast/internal/glob"
)

// Message is one message as one subscription receives it. All receivers share
// the payload: nobody may change it.
type Message struct {
	// Pattern is the pattern that matched, if ByPattern; otherwise the subscription
	// is one to the channel itself.
	Pattern   string
	ByPattern bool
	Channel   string
	Payload   []byte
}

// cost is the memory that the message takes in a queue, in bytes.
func (m *Message) cost() int64 {
	const overhead = 64 // the Message itself
	return overhead + int64(len(m.Pattern)+len(m.Channel)+len(m.Payload))
}

// Limits bound what one subscriber may cost: what waits in its queue, and apart
// from that what it is subscribed to. A number of 0 is no limit.
type Limits struct {
	Bytes    int64 // of channels, patterns and payloads, and a constant for each message or subscription
	Messages int
	// Total bounds the bytes of all subscribers together: beyond it those are closed that
	// would add to their own and have more than Share.
	Total int64
}

// Share is what a subscriber may cost in bytes, queue and subscriptions together, however
// much the others do.
const Share = 16 << 10

func (l Limits) exceeded(bytes int64, messages int) bool {
	return (l.Bytes > 0 && bytes > l.Bytes) || (l.Messages > 0 && messages > l.Messages)
}

// Hub knows who is subscribed to what. It is safe for concurrent use, and all
// subscribers see messages in the same order.
type Hub struct {
	mu       sync.Mutex // guards what is below, and the subscribers' fields that say so
	limits   Limits
	channels map[string]*topic
	patterns map[string]*topic
	total    int64     // what all subscribers cost, in bytes
	round    uint64    // counts the messages
	order    list.List // of the patterns' topics, as they were first subscribed to: the order of delivery
}

// topic is a channel or a pattern that somebody is subscribed to.
type topic struct {
	name    string
	members map[*Subscriber]struct{}
	place   *list.Element // of a pattern, in the order of delivery
}

// nameOverhead is what a subscription costs beside its name, in bytes, about.
const nameOverhead = 300

// cost is the memory that a subscription to a topic of that name takes, in bytes.
func cost(name string) int64 { return nameOverhead + int64(len(name)) }

// What matching may cost, in all and for each byte of the channel's name: more
// than any pattern that means no harm needs, and than so easy ones take that they
// are not counted. Those of one subscriber that are counted may together take
// twice as much as one.
const (
	matchWork    = 1 << 16
	matchPerByte = 64
	easyWork     = 32
	easyPerByte  = 4
)

// NewHub returns a hub without subscribers.
func NewHub(limits Limits) *Hub {
	return &Hub{limits: limits, channels: map[string]*topic{}, patterns: map[string]*topic{}}
}

// SetLimits changes the bounds of the queues, from the next message on.
func (h *Hub) SetLimits(limits Limits) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limits = limits
}

// Publish hands payload to every subscription that it concerns and returns how
// many these are; a subscriber counts once for the channel and once for each
// pattern that matches. A subscriber whose queue would exceed the limits is
// closed instead, and so is one whose patterns take too long to match.
// Publish never waits for a subscriber. The hub keeps payload until all have
// taken it; it must not be changed any more.
func (h *Hub) Publish(channel string, payload []byte) (receivers int) {
	var overflown []*Subscriber
	h.mu.Lock()
	deliver := func(t *topic, m Message) {
		receivers += len(t.members)
		for s := range t.members {
			if !s.enqueueLocked(m) {
				overflown = append(overflown, s)
			}
		}
	}
	if t := h.channels[channel]; t != nil {
		deliver(t, Message{Channel: channel, Payload: payload})
	}
	h.round++
	most, easy := glob.Work(matchWork+matchPerByte*len(channel)), glob.Work(easyWork+easyPerByte*len(channel))
	for e := h.order.Front(); e != nil; e = e.Next() {
		t := e.Value.(*topic)
		if len(overflown) > 0 && h.tiredLocked(t) {
			continue
		}
		work := most
		if glob.MatchWithin(&work, t.name, channel) {
			deliver(t, Message{Pattern: t.name, ByPattern: true, Channel: channel, Payload: payload})
		}
		if spent := most - work; spent > easy {
			overflown = append(overflown, h.chargeLocked(t, spent, 2*most)...)
		}
	}
	overflown = slices.DeleteFunc(overflown, func(s *Subscriber) bool { return !s.closeLocked() })
	h.mu.Unlock()
	for _, s := range overflown {
		s.overflown()
	}
	return receivers
}

// chargeLocked counts what matching a pattern has cost against everybody who is
// subscribed to it, and returns those for whom it is too much for one message.
func (h *Hub) chargeLocked(t *topic, spent, most glob.Work) (over []*Subscriber) {
	for s := range t.members {
		if s.round != h.round {
			s.round, s.left = h.round, most
		}
		s.left -= spent
		if 2*spent >= most { // this pattern alone was too hard
			s.left = 0
		}
		if s.left <= 0 {
			over = append(over, s)
		}
	}
	return over
}

// tiredLocked tells whether nobody is left who may have the pattern matched: all
// who are subscribed to it are to be closed for what matching has cost.
func (h *Hub) tiredLocked(t *topic) bool {
	for s := range t.members {
		if s.round != h.round || s.left > 0 {
			return false
		}
	}
	return true
}

// crowdedLocked tells whether a subscriber that has this much more to keep would be too
// much for the hub.
func (h *Hub) crowdedLocked(s *Subscriber, more int64) bool {
	return h.limits.Total > 0 && h.total+more > h.limits.Total && s.bytes+s.names+more > Share
}

// Cost is what all subscribers cost at present, in bytes.
func (h *Hub) Cost() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.total
}

// Channels are the channels with subscribers whose names match pattern, sorted;
// all of them if pattern is empty.
func (h *Hub) Channels(pattern string) []string {
	h.mu.Lock()
	var names []string
	for name := range h.channels {
		if pattern == "" || glob.Match(pattern, name) {
			names = append(names, name)
		}
	}
	h.mu.Unlock()
	slices.Sort(names)
	return names
}

// NumSub is the number of subscribers of a channel, patterns left out.
func (h *Hub) NumSub(channel string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.channels[channel]; t != nil {
		return len(t.members)
	}
	return 0
}

// NumPat is the number of different patterns that have subscribers.
func (h *Hub) NumPat() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.order.Len()
}

// joinLocked makes s a member of the topic of that name, which it creates if need
// be, and tells that topic.
func (h *Hub) joinLocked(s *Subscriber, topics map[string]*topic, name string) *topic {
	t := topics[name]
	if t == nil {
		t = &topic{name: strings.Clone(name), members: map[*Subscriber]struct{}{}}
		topics[t.name] = t
	}
	t.members[s] = struct{}{}
	return t
}

// leaveLocked ends what joinLocked began, and forgets the topic if nobody is left.
func (h *Hub) leaveLocked(s *Subscriber, topics map[string]*topic, name string) {
	t := topics[name]
	delete(t.members, s)
	if len(t.members) > 0 {
		return
	}
	delete(topics, name)
	if t.place != nil {
		h.order.Remove(t.place)
	}
}
