package sessions

import (
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// checks are the reads that compare all of the books with the server. They are
// for after the load, with no write under way.
func (b *books) checks() []command {
	var list []command
	for _, s := range b.live {
		list = append(list, b.checkLive(s), b.checkDeadline(s))
	}
	for _, d := range b.doubts {
		list = append(list, b.checkDoubt(d))
	}
	for ids := b.ended; len(ids) > 0; {
		n := min(len(ids), batchSize)
		list = append(list, b.checkEnded(ids[:n]))
		ids = ids[n:]
	}
	return list
}

func (b *books) checkLive(s session) command {
	return b.check([]string{"GET", b.values.key(s.id)}, func(r testkit.Reply, at span) { b.judge(s, r, at) })
}

// checkDeadline finds an EXPIRE that was acknowledged and lost.
func (b *books) checkDeadline(s session) command {
	return b.check([]string{"PTTL", b.values.key(s.id)}, func(r testkit.Reply, at span) {
		const missing, endless = -2, -1
		left := time.Duration(r.Int()) * time.Millisecond
		switch {
		case r.Int() == missing:
			if !s.mayBeGone(at) {
				b.finding("session %d is lost: it has no key", s.id)
			}
		case r.Int() == endless:
			b.finding("session %d has lost its deadline", s.id)
		case at.done+left < s.earliest-slack:
			b.finding("session %d ends %v earlier than was acknowledged", s.id, s.earliest-at.done-left)
		case at.sent+left > s.latest+slack:
			b.finding("session %d ends %v later than was asked for", s.id, at.sent+left-s.latest)
		}
	})
}

func (b *books) checkDoubt(d doubt) command {
	return b.check([]string{"GET", b.values.key(d.id)}, func(r testkit.Reply, at span) {
		switch {
		case r.Null:
			if !d.absent && !d.mayBeGone(at) {
				b.finding("session %d is lost: version %d was acknowledged before a write of unknown outcome", d.id, d.version)
			}
		case d.version > 0 && b.values.is(r.Text, d.id, d.version):
		case d.newer && b.values.is(r.Text, d.id, d.version+1):
		default:
			b.finding("session %d has version %d or a write of unknown outcome, but its key holds %s", d.id, d.version, b.values.describe(r.Text))
		}
	})
}

func (b *books) checkEnded(ids []int) command {
	args := []string{"MGET"}
	for _, id := range ids {
		args = append(args, b.values.key(id))
	}
	return b.check(args, func(r testkit.Reply, _ span) {
		if len(r.Elems) != len(ids) {
			b.finding("MGET of %d keys was answered with %d values", len(ids), len(r.Elems))
			return
		}
		for i, e := range r.Elems {
			if !e.Null {
				b.finding("session %d has ended and is back: %s", ids[i], b.values.describe(e.Text))
			}
		}
	})
}

// check is a read that counts as one comparison.
func (b *books) check(args []string, judge func(r testkit.Reply, at span)) command {
	return command{kind: read, args: args, answered: func(r testkit.Reply, at span) {
		b.checked++
		judge(r, at)
	}}
}
