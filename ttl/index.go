// Package ttl is the index of deadlines: a hierarchical timing wheel that tells
// which items are due. It knows no clock and no keys: instants are handed in,
// items are opaque.
package ttl

// Timer is the place of one item in an Index. The zero Timer is not armed. A
// Timer belongs to at most one Index and is guarded by whatever guards that.
type Timer[T any] struct {
	Item T // set by the owner before the first Arm
	// place in the wheel; see Index
	next, prev *Timer[T]
	at         int64 // the instant of the slot it stands in, ms; 0 if not armed
	deadline   int64 // the real deadline, ms; at <= deadline (rounded to the slot)
}

// Deadline is the instant the timer is armed for, in ms, or 0.
func (t *Timer[T]) Deadline() int64 { return t.deadline }

// Index is a set of armed timers ordered by deadline, coarsely: arming,
// re-arming and disarming are O(1) and allocate nothing; a later deadline only
// changes a number, and the wheel looks at it when the slot fires. The zero
// Index is not ready; use New. It is not safe for concurrent use.
type Index[T any] struct {
	armed int // number of armed timers
}

// New returns an empty index whose wheel stands at the instant 0.
func New[T any]() *Index[T] { panic("stub") }

// Len is the number of armed timers.
func (x *Index[T]) Len() int { return x.armed }

// Arm sets the deadline of t, in ms, above 0; t may be armed already.
func (x *Index[T]) Arm(t *Timer[T], deadline int64) { panic("stub") }

// Disarm takes t out; it does nothing if t is not armed.
func (x *Index[T]) Disarm(t *Timer[T]) { panic("stub") }

// Due moves the wheel towards now, in ms, and appends to dst at most limit
// timers whose deadline is at or before now, doing at most budget steps of work
// (a step is a slot looked at or a timer moved). The timers stay armed: those
// not disarmed are told again by later calls. The second result tells whether
// the wheel has reached now and nothing due was left out. An instant before an
// earlier one counts as that one.
func (x *Index[T]) Due(dst []*Timer[T], now int64, limit, budget int) ([]*Timer[T], bool) {
	panic("stub")
}
