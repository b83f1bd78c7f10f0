// Package bell wakes all who wait for the next time that something happens.
package bell

import "sync"

// Bell wakes all who wait for it. The zero Bell is ready; it is safe for concurrent use.
type Bell struct {
	mu   sync.Mutex
	next chan struct{} // closed by Ring; nil while nobody waits
}

// Next returns a channel that is closed when the bell is rung after the call.
func (b *Bell) Next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = make(chan struct{})
	}
	return b.next
}

// Ring wakes all who have called Next since it was rung last.
func (b *Bell) Ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next != nil {
		close(b.next)
		b.next = nil
	}
}
