package pubsub

import (
	"maps"
	"slices"

	"github.com/holdfast/holdfast/internal/glob"
)

// keptQueue is the largest queue, in messages, whose memory is kept for reuse.
const keptQueue = 1024

// Subscriber is one receiver of messages with its subscriptions and its queue. It
// is safe for concurrent use; Take is meant for one goroutine.
type Subscriber struct {
	hub      *Hub
	overflow func()
	ready    chan struct{} // holds a token while messages may wait; closed with the subscriber

	// Guarded by the hub's lock.
	channels, patterns map[string]struct{}
	names              int64 // what these cost
	queue              []Message
	bytes              int64
	closed             bool
	round              uint64    // the message that left is about
	left               glob.Work // what matching its patterns may still cost
}

// Subscriber returns a receiver without subscriptions. If it exceeds the limits
// it is closed, and then overflow, if not nil, is called once, by the publisher or
// by who subscribed: it must not block. The caller closes the subscriber.
func (h *Hub) Subscriber(overflow func()) *Subscriber {
	return &Subscriber{
		hub:      h,
		overflow: overflow,
		ready:    make(chan struct{}, 1),
		channels: map[string]struct{}{},
		patterns: map[string]struct{}{},
	}
}

// Subscribe adds a subscription to a channel, unless there is one. Like the
// other three it returns the number of channels and patterns that the subscriber
// then has, which is what the reply to the client says; 0 once it is closed.
func (s *Subscriber) Subscribe(channel string) int {
	return s.join(s.channels, s.hub.channels, channel, func(*topic) {})
}

// Unsubscribe ends a subscription to a channel, if there is one.
func (s *Subscriber) Unsubscribe(channel string) int {
	return s.leave(s.channels, s.hub.channels, channel)
}

// PSubscribe adds a subscription to all channels that match pattern.
func (s *Subscriber) PSubscribe(pattern string) int {
	return s.join(s.patterns, s.hub.patterns, pattern, func(t *topic) {
		if t.place == nil {
			t.place = s.hub.order.PushBack(t)
		}
	})
}

// PUnsubscribe ends a subscription to a pattern, if there is one.
func (s *Subscriber) PUnsubscribe(pattern string) int {
	return s.leave(s.patterns, s.hub.patterns, pattern)
}

// join adds a subscription of either kind, own those of s and topics those of
// all; joined is told the topic.
func (s *Subscriber) join(own map[string]struct{}, topics map[string]*topic, name string, joined func(t *topic)) int {
	s.hub.mu.Lock()
	overflown := false
	if _, ok := own[name]; !ok && !s.closed {
		t := s.hub.joinLocked(s, topics, name)
		joined(t)
		own[t.name] = struct{}{}
		crowded := s.hub.crowdedLocked(s, cost(name))
		s.names += cost(name)
		s.hub.total += cost(name)
		overflown = (crowded || s.hub.limits.exceeded(s.names, 0)) && s.closeLocked()
	}
	n := s.countLocked()
	s.hub.mu.Unlock()
	if overflown {
		s.overflown()
	}
	return n
}

// leave ends a subscription of either kind, if there is one.
func (s *Subscriber) leave(own map[string]struct{}, topics map[string]*topic, name string) int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if _, ok := own[name]; ok {
		s.hub.leaveLocked(s, topics, name)
		delete(own, name)
		s.names -= cost(name)
		s.hub.total -= cost(name)
	}
	return s.countLocked()
}

// overflown says that s was closed because of the limits.
func (s *Subscriber) overflown() {
	if s.overflow != nil {
		s.overflow()
	}
}

// Channels are the channels subscribed to, sorted.
func (s *Subscriber) Channels() []string {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return slices.Sorted(maps.Keys(s.channels))
}

// Patterns are the patterns subscribed to, sorted.
func (s *Subscriber) Patterns() []string {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return slices.Sorted(maps.Keys(s.patterns))
}

// Count is the number of channels and patterns subscribed to.
func (s *Subscriber) Count() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return s.countLocked()
}

func (s *Subscriber) countLocked() int { return len(s.channels) + len(s.patterns) }

// Ready delivers when messages may be waiting: Take them then. It is closed
// together with the subscriber.
func (s *Subscriber) Ready() <-chan struct{} { return s.ready }

// Take returns all messages that wait, in the order of publication, and empties
// the queue. The result is the caller's until it gives it back as spare to
// another Take, which clears it and queues in its memory; spare may be nil.
func (s *Subscriber) Take(spare []Message) []Message {
	clear(spare)
	if cap(spare) > keptQueue {
		spare = nil
	}
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	waiting := s.queue
	s.hub.total -= s.bytes
	s.queue, s.bytes = spare[:0], 0
	return waiting
}

// Pending is what waits in the queue.
func (s *Subscriber) Pending() (messages int, bytes int64) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return len(s.queue), s.bytes
}

// Close ends all subscriptions and drops what waits. It may be called again.
func (s *Subscriber) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.closeLocked()
}

// closeLocked reports whether the subscriber was open.
func (s *Subscriber) closeLocked() bool {
	if s.closed {
		return false
	}
	for channel := range s.channels {
		s.hub.leaveLocked(s, s.hub.channels, channel)
	}
	for pattern := range s.patterns {
		s.hub.leaveLocked(s, s.hub.patterns, pattern)
	}
	clear(s.channels)
	clear(s.patterns)
	s.hub.total -= s.bytes + s.names
	s.queue, s.bytes, s.names, s.closed = nil, 0, 0, true
	close(s.ready)
	return true
}

// enqueueLocked queues m for an open subscriber. It reports false if the queue
// is too long for it.
func (s *Subscriber) enqueueLocked(m Message) bool {
	bytes := s.bytes + m.cost()
	if s.hub.limits.exceeded(bytes, len(s.queue)+1) || s.hub.crowdedLocked(s, m.cost()) {
		return false
	}
	s.queue, s.bytes = append(s.queue, m), bytes
	s.hub.total += m.cost()
	select {
	case s.ready <- struct{}{}:
	default:
	}
	return true
}
