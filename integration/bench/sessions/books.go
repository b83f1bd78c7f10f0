package sessions

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

const (
	// slack is how far a deadline may be from where the books put it. The promise
	// is 250 ms; this tells a lost EXPIRE from a busy machine.
	slack = time.Second
	// manySessions is how many an MGET asks for.
	manySessions = 10
	// scanCount is the COUNT of a SCAN.
	scanCount = "100"
)

// span is when a command was sent, and when its outcome was known.
type span struct{ sent, done time.Duration }

// command is one command and what its reply means. Exactly one of the functions
// is called, at most once.
type command struct {
	kind     kind
	args     []string
	answered func(r testkit.Reply, at span) // with a reply that is no error
	doubtful func()                         // nobody can know whether it was executed; writes only
}

// session is what its only writer knows of it.
type session struct {
	id       int
	version  int           // the last acknowledged one
	earliest time.Duration // its deadline is not before this instant of testkit.Now …
	latest   time.Duration // … and not after this one
}

// mayBeGone tells whether the session's deadline may have come when a reply did.
func (s session) mayBeGone(at span) bool { return at.done >= s.earliest-slack }

// mustBeGone tells whether the deadline had passed before the command was sent.
func (s session) mustBeGone(at span) bool { return at.sent > s.latest+slack }

// doubt is a session with a write of unknown outcome. Its writer leaves it alone
// from then on: that write may be executed later than any other.
type doubt struct {
	session
	newer  bool // it may have the next version
	absent bool // it may be absent
}

// books are what one writer knows of its sessions. They are for one goroutine.
type books struct {
	values *values
	ttl    time.Duration
	quota  int // how many sessions should be live

	nextID, idStep int
	live           []session
	ended          []int // ids of sessions that were removed, or seen to have ended
	doubts         []doubt
	cursor         string // of the scan under way

	checked  int // replies that were compared with the books
	found    int // that disagreed
	findings []string
}

// maxFindings is how many disagreements are described for each writer.
const maxFindings = 5

// openBooks divides the sessions among the connections.
func openBooks(o Options) []*books {
	v := newValues(o.Seed)
	all := make([]*books, o.Connections)
	for i := range all {
		quota := o.Sessions / o.Connections
		if i < o.Sessions%o.Connections {
			quota++
		}
		all[i] = &books{values: v, ttl: o.TTL, quota: quota, nextID: i, idStep: o.Connections, cursor: "0"}
	}
	return all
}

// vacant is how many sessions are missing from the quota.
func (b *books) vacant() int { return b.quota - len(b.live) }

// finding notes a disagreement.
func (b *books) finding(format string, args ...any) {
	b.found++
	if len(b.findings) < maxFindings {
		b.findings = append(b.findings, fmt.Sprintf(format, args...))
	}
}

// remove takes a session out of the live ones. The last takes its place.
func (b *books) remove(i int) {
	last := len(b.live) - 1
	b.live[i] = b.live[last]
	b.live = b.live[:last]
}

// end notes that a session has ended and must not be seen again.
func (b *books) end(i int) {
	b.ended = append(b.ended, b.live[i].id)
	b.remove(i)
}

// inDoubt takes a session out of use.
func (b *books) inDoubt(i int, d doubt) {
	d.session = b.live[i]
	b.doubts = append(b.doubts, d)
	b.remove(i)
}

// seconds is the TTL as an argument.
func (b *books) seconds() string { return strconv.Itoa(int(b.ttl / time.Second)) }

// touched moves the deadline: it was set at some instant of the span.
func (b *books) touched(s session, at span) session {
	s.earliest, s.latest = at.sent+b.ttl, at.done+b.ttl
	return s
}

// login makes a new session.
func (b *books) login() command {
	s := session{id: b.nextID, version: 1}
	b.nextID += b.idStep
	return command{
		kind: write,
		args: []string{"SET", b.values.key(s.id), b.values.value(s.id, s.version), "EX", b.seconds()},
		answered: func(r testkit.Reply, at span) {
			b.stored(r, s)
			b.live = append(b.live, b.touched(s, at))
		},
		doubtful: func() {
			s.version = 0
			b.doubts = append(b.doubts, doubt{session: s, newer: true, absent: true})
		},
	}
}

// set logs a session in if one is missing, and writes one anew otherwise.
func (b *books) set(random *rand.Rand) command {
	if b.vacant() > 0 {
		return b.login()
	}
	i := random.IntN(len(b.live))
	s := b.live[i]
	s.version++
	return command{
		kind: write,
		args: []string{"SET", b.values.key(s.id), b.values.value(s.id, s.version), "EX", b.seconds()},
		answered: func(r testkit.Reply, at span) {
			b.stored(r, s)
			b.live[i] = b.touched(s, at)
		},
		doubtful: func() { b.inDoubt(i, doubt{newer: true}) },
	}
}

func (b *books) stored(r testkit.Reply, s session) {
	if string(r.Text) != "OK" {
		b.finding("SET of session %d was answered with %v", s.id, r)
	}
}

// get reads a session.
func (b *books) get(random *rand.Rand) command {
	if len(b.live) == 0 {
		return b.login()
	}
	i := random.IntN(len(b.live))
	return command{
		kind:     read,
		args:     []string{"GET", b.values.key(b.live[i].id)},
		answered: func(r testkit.Reply, at span) { b.seen(i, r, at) },
	}
}

// mget reads neighbouring sessions.
func (b *books) mget(random *rand.Rand) command {
	if len(b.live) == 0 {
		return b.login()
	}
	n := min(manySessions, len(b.live))
	first := random.IntN(len(b.live) - n + 1)
	args := []string{"MGET"}
	for _, s := range b.live[first : first+n] {
		args = append(args, b.values.key(s.id))
	}
	return command{kind: read, args: args, answered: func(r testkit.Reply, at span) {
		if len(r.Elems) != n {
			b.finding("MGET of %d sessions was answered with %d values", n, len(r.Elems))
			return
		}
		// Backwards, because a session that ended is replaced by a later one.
		for i := n - 1; i >= 0; i-- {
			b.seen(first+i, r.Elems[i], at)
		}
	}}
}

// seen judges what a read showed of a live session.
func (b *books) seen(i int, r testkit.Reply, at span) {
	b.checked++
	b.judge(b.live[i], r, at)
	if r.Null {
		b.end(i)
	}
}

// judge compares a session with what its key held.
func (b *books) judge(s session, r testkit.Reply, at span) {
	switch {
	case r.Null && !s.mayBeGone(at):
		b.finding("session %d is lost: version %d was acknowledged and it lives for %v more", s.id, s.version, s.earliest-at.done)
	case !r.Null && s.mustBeGone(at):
		b.finding("session %d is readable %v after its end", s.id, at.sent-s.latest)
	case !r.Null && !b.values.is(r.Text, s.id, s.version):
		b.finding("version %d of session %d was acknowledged, but its key holds %s", s.version, s.id, b.values.describe(r.Text))
	}
}

// expire moves a session's deadline.
func (b *books) expire(random *rand.Rand) command {
	if len(b.live) == 0 {
		return b.login()
	}
	i := random.IntN(len(b.live))
	return command{
		kind: write,
		args: []string{"EXPIRE", b.values.key(b.live[i].id), b.seconds()},
		answered: func(r testkit.Reply, at span) {
			if b.existed(i, r, at) {
				b.live[i] = b.touched(b.live[i], at)
			} else {
				b.end(i)
			}
		},
		doubtful: func() { b.inDoubt(i, doubt{}) },
	}
}

// del ends a session, as a logout does.
func (b *books) del(random *rand.Rand) command {
	if len(b.live) == 0 {
		return b.login()
	}
	i := random.IntN(len(b.live))
	return command{
		kind: write,
		args: []string{"DEL", b.values.key(b.live[i].id)},
		answered: func(r testkit.Reply, at span) {
			b.existed(i, r, at)
			b.end(i)
		},
		doubtful: func() { b.inDoubt(i, doubt{absent: true}) },
	}
}

// existed judges the reply of a command that counts the keys it found.
func (b *books) existed(i int, r testkit.Reply, at span) bool {
	s := b.live[i]
	b.checked++
	n := r.Int()
	switch {
	case n == 0 && !s.mayBeGone(at):
		b.finding("session %d is lost: a write did not find it, and it lives for %v more", s.id, s.earliest-at.done)
	case n != 0 && s.mustBeGone(at):
		b.finding("session %d was found by a write %v after its end", s.id, at.sent-s.latest)
	}
	return n != 0
}

// scan takes the next step through all keys of the server.
func (b *books) scan(*rand.Rand) command {
	return command{
		kind: read,
		args: []string{"SCAN", b.cursor, "COUNT", scanCount},
		answered: func(r testkit.Reply, _ span) {
			if len(r.Elems) != 2 {
				b.finding("SCAN was answered with %d elements", len(r.Elems))
				return
			}
			b.cursor = string(r.Elems[0].Text)
		},
	}
}
