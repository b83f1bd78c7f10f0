// Package ttl is the index of deadlines: a hierarchical timing wheel that tells
// which items are due. It knows no clock and no keys: instants are handed in,
// items are opaque.
//
// The wheel is the one of G. Varghese and T. Lauck, "Hashed and Hierarchical
// Timing Wheels" (SOSP 1987), scheme 7, with the level of a timer chosen by the
// highest byte in which its deadline differs from the wheel's instant. Two
// things are added: a timer that is moved to a later deadline stays where it
// stands until its slot comes up, and occupancy bitmaps lead over empty time.
package ttl

import "math/bits"

const (
	slotBits  = 8             // a slot of level n spans 2^(8n) ms
	slots     = 1 << slotBits // per level
	levels    = 64 / slotBits // enough for every int64: nothing is ever too far
	wordSlots = 64            // slots per word of an occupancy bitmap
)

// Timer is the place of one item in an Index. The zero Timer is not armed. A
// Timer belongs to at most one Index, must not be copied while armed, and is
// guarded by whatever guards the Index.
type Timer[T any] struct {
	Item T // set by the owner before the first Arm

	next *Timer[T]
	link **Timer[T] // what points to this timer: a list's head or a neighbour's next; nil if not armed
	// at is the start of the slot the timer stands in, ms; 0 in the due list.
	// at <= deadline, so that the slot never comes up too late.
	at       int64
	deadline int64 // the real deadline, ms; 0 if not armed
}

// Deadline is the instant the timer is armed for, in ms, or 0.
func (t *Timer[T]) Deadline() int64 { return t.deadline }

// Index is a set of armed timers ordered by deadline, coarsely: arming,
// re-arming and disarming are O(1) and allocate nothing (but for the slots of a
// level, once, when it is first used). A later deadline only changes a number,
// and the wheel looks at it when the slot comes up. The zero Index is not
// ready; use New. It is not safe for concurrent use.
//
// Invariants: every timer whose slot starts at or before now stands in passing
// or in due; every slot of level n with its bit set lies after now and agrees
// with now in all bytes above n. Hence the lowest level with a bit set holds the
// earliest slot. A bit may outlive the last timer of its slot.
type Index[T any] struct {
	now     int64 // where the wheel stands, ms; at most goal
	goal    int64 // the latest instant handed in, ms
	armed   int   // number of armed timers
	wheel   [levels]*level[T]
	passing *Timer[T]  // timers of the slot that came up last, not yet sorted anew
	due     *Timer[T]  // timers found due, oldest first; some may have been re-armed since
	dueTail **Timer[T] // the last next of due, or &due
}

// level is one wheel: the lists of its slots, and which may be occupied.
type level[T any] struct {
	occupied [slots / wordSlots]uint64
	slot     [slots]*Timer[T]
}

// New returns an empty index whose wheel stands at the instant 0.
func New[T any]() *Index[T] {
	x := &Index[T]{}
	x.dueTail = &x.due
	return x
}

// Len is the number of armed timers.
func (x *Index[T]) Len() int { return x.armed }

// Arm sets the deadline of t, in ms, above 0; t may be armed already.
func (x *Index[T]) Arm(t *Timer[T], deadline int64) {
	switch {
	case t.link == nil:
		x.armed++
	case deadline >= t.at:
		t.deadline = deadline
		return
	default:
		x.unlink(t)
	}
	t.deadline = deadline
	x.place(t)
}

// Disarm takes t out; it does nothing if t is not armed.
func (x *Index[T]) Disarm(t *Timer[T]) {
	if t.link == nil {
		return
	}
	x.unlink(t)
	t.at, t.deadline = 0, 0
	x.armed--
}

// Advance moves the wheel towards now, in ms, doing at most budget steps of
// work (a step is a slot looked at or a timer moved), and returns the steps
// left over: if there are any, the wheel has reached now. Over time in which
// nothing stands, and for an empty index, it moves at once. An instant before
// an earlier one counts as that one.
func (x *Index[T]) Advance(now int64, budget int) (left int) {
	x.goal = max(x.goal, now)
	if x.armed == 0 {
		x.clear()
		x.now = x.goal
	}
	for ; budget > 0; budget-- {
		if t := x.passing; t != nil {
			x.unlink(t)
			x.place(t)
			continue
		}
		n, slot, start := x.nextSlot()
		if n == levels || start > x.goal {
			x.now = x.goal
			break
		}
		x.enter(n, slot, start)
	}
	return budget
}

// Due moves the wheel towards now, in ms, as Advance does, and appends to dst
// at most limit timers whose deadline is at or before the instant reached. Both
// together are at most budget steps of work (telling a timer is a step too), of
// which moving leaves enough for telling. The timers stay armed: those not
// disarmed are told again by later calls, the oldest first. The second result
// tells whether the wheel has reached now and nothing due was left out.
func (x *Index[T]) Due(dst []*Timer[T], now int64, limit, budget int) ([]*Timer[T], bool) {
	kept := min(limit, budget/2)
	left := x.Advance(now, budget-kept)
	reached := left > 0
	left += kept
	for t := x.due; t != nil; left-- {
		if limit == 0 || left == 0 {
			return dst, false
		}
		next := t.next
		if t.deadline > x.now {
			x.unlink(t)
			x.place(t)
		} else {
			dst = append(dst, t)
			limit--
		}
		t = next
	}
	return dst, reached
}

// place puts an unlinked timer where its deadline belongs.
func (x *Index[T]) place(t *Timer[T]) {
	if t.deadline <= x.now {
		t.at = 0
		t.next, t.link = nil, x.dueTail
		*x.dueTail = t
		x.dueTail = &t.next
		return
	}
	n := (bits.Len64(uint64(x.now^t.deadline)) - 1) / slotBits
	if x.wheel[n] == nil {
		x.wheel[n] = new(level[T])
	}
	l, slot := x.wheel[n], int(t.deadline>>(n*slotBits))%slots
	t.at = t.deadline >> (n * slotBits) << (n * slotBits)
	l.occupied[slot/wordSlots] |= 1 << (slot % wordSlots)
	push(&l.slot[slot], t)
}

// unlink takes t out of the list it stands in.
func (x *Index[T]) unlink(t *Timer[T]) {
	*t.link = t.next
	if t.next != nil {
		t.next.link = t.link
	} else if x.dueTail == &t.next {
		x.dueTail = t.link
	}
	t.next, t.link = nil, nil
}

// nextSlot finds the earliest slot whose bit is set; n is levels if there is none.
func (x *Index[T]) nextSlot() (n, slot int, start int64) {
	for n, l := range x.wheel {
		if l == nil {
			continue
		}
		for i, word := range l.occupied {
			if word == 0 {
				continue
			}
			slot = i*wordSlots + bits.TrailingZeros64(word)
			above := x.now >> (n * slotBits) &^ (slots - 1)
			return n, slot, (above | int64(slot)) << (n * slotBits)
		}
	}
	return levels, 0, 0
}

// enter moves the wheel to the start of a slot, whose timers are now passing.
func (x *Index[T]) enter(n, slot int, start int64) {
	l := x.wheel[n]
	x.now = start
	l.occupied[slot/wordSlots] &^= 1 << (slot % wordSlots)
	x.passing, l.slot[slot] = l.slot[slot], nil
	if x.passing != nil {
		x.passing.link = &x.passing
	}
}

// clear forgets the bits that outlived their timers.
func (x *Index[T]) clear() {
	for _, l := range x.wheel {
		if l != nil {
			clear(l.occupied[:])
		}
	}
}

// push puts t in front of a list.
func push[T any](head **Timer[T], t *Timer[T]) {
	t.next, t.link = *head, head
	if t.next != nil {
		t.next.link = &t.next
	}
	*head = t
}
