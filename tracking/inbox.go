package tracking

// Message is what one connection is told.
type Message struct {
	// Keys have changed. Connections share the slice: nobody may change it.
	Keys []string
	// All says that any key may have changed.
	All bool
	// Lost, if not 0, is the connection this one redirects its messages to: it is
	// gone, and a message was lost.
	Lost int64
	// Redirected says that the message is about another connection's reads.
	Redirected bool
}

// cost is the memory that the message takes in a queue, about, in bytes.
func (m *Message) cost() int64 {
	const overhead, perKey = 64, 16
	n := int64(overhead)
	for _, k := range m.Keys {
		n += perKey + int64(len(k))
	}
	return n
}

// keptQueue is the largest queue, in messages, whose memory is kept for reuse.
const keptQueue = 1024

// Inbox is the queue of messages of one connection. It is safe for concurrent use;
// Take is meant for one goroutine at a time.
type Inbox struct {
	table    *Table
	id       int64
	overflow func()
	ready    chan struct{} // holds a token while messages may wait; closed with the inbox

	// Guarded by the table's lock.
	queue  []Message
	bytes  int64
	closed bool
}

// Open returns the inbox of connection id, which it makes if there is none; opened
// tells whether it did. If the queue exceeds the limits the inbox is closed, and then
// overflow is called once by whoever had something to tell: it must not block.
func (t *Table) Open(id int64, overflow func()) (in *Inbox, opened bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if in := t.mu.inboxes[id]; in != nil {
		return in, false
	}
	in = &Inbox{table: t, id: id, overflow: overflow, ready: make(chan struct{}, 1)}
	t.mu.inboxes[id] = in
	return in, true
}

// Forget ends tracking by connection id and its inbox. It may be called again.
func (t *Table) Forget(id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.untrackLocked(id)
	if in := t.mu.inboxes[id]; in != nil {
		in.closeLocked()
	}
}

// Ready delivers when messages may be waiting: Take them then. It is closed together
// with the inbox.
func (in *Inbox) Ready() <-chan struct{} { return in.ready }

// Take returns all messages that wait, in their order, and empties the queue. The
// result is the caller's until it gives it back as spare to another Take, which clears
// it and queues in its memory; spare may be nil.
func (in *Inbox) Take(spare []Message) []Message {
	clear(spare)
	if cap(spare) > keptQueue {
		spare = nil
	}
	in.table.mu.Lock()
	defer in.table.mu.Unlock()
	waiting := in.queue
	in.table.mu.total -= in.bytes
	in.queue, in.bytes = spare[:0], 0
	return waiting
}

// enqueueLocked queues m and reports false if that is too much for the queue. What
// says that everything may have changed takes the place of all that is alike before it.
func (in *Inbox) enqueueLocked(m Message) bool {
	if n := len(in.queue); n > 0 && m.All && in.queue[n-1].All && in.queue[n-1].Redirected == m.Redirected {
		return true // nothing has been taken since the last one
	}
	cost, most := m.cost(), in.table.mu.limits.QueueBytes
	if most > 0 && in.bytes+cost > most || len(in.queue) >= messagesBound || in.table.crowdedLocked(in, cost) {
		return false
	}
	in.bytes += cost
	in.table.mu.total += cost
	in.queue = append(in.queue, m)
	select {
	case in.ready <- struct{}{}:
	default:
	}
	return true
}

func (in *Inbox) closeLocked() {
	if in.closed {
		return
	}
	in.closed = true
	in.table.mu.total -= in.bytes
	in.queue, in.bytes = nil, 0
	delete(in.table.mu.inboxes, in.id)
	close(in.ready)
}

// overflows are inboxes that were closed because of the limits.
type overflows []*Inbox

// add closes an inbox. The caller holds the lock of its table.
func (o *overflows) add(in *Inbox) {
	in.closeLocked()
	*o = append(*o, in)
}

// tell calls what was to be called; the table's lock is not held.
func (o overflows) tell() {
	for _, in := range o {
		if in.overflow != nil {
			in.overflow()
		}
	}
}
