package command

import (
	"math"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// unit is what a number that names a life or an instant counts.
type unit uint8

const (
	lifeSeconds unit = iota + 1
	lifeMillis
	instantSeconds
	instantMillis
)

func (u unit) inSeconds() bool { return u == lifeSeconds || u == instantSeconds }

func (u unit) isLife() bool { return u == lifeSeconds || u == lifeMillis }

// moment is a deadline as a command states it: an instant of cluster time, or a
// life that begins when the command is applied. The zero moment states none.
type moment struct {
	milli   int64
	isLife  bool
	given   bool
	command string // whose error it is if the deadline is beyond all numbers
}

// parseMoment reads a number of units. Negative ones are right only for the
// EXPIRE family, which is lenient.
func parseMoment(command string, text []byte, u unit, lenient bool) (moment, error) {
	n, ok := parseInt(text)
	if !ok {
		return moment{}, resp.ErrNotInteger
	}
	if !lenient && n <= 0 {
		return moment{}, resp.ExpireTime(command)
	}
	if u.inSeconds() {
		if n > math.MaxInt64/1000 || n < math.MinInt64/1000 {
			return moment{}, resp.ExpireTime(command)
		}
		n *= 1000
	}
	return moment{milli: n, isLife: u.isLife(), given: true, command: command}, nil
}

// deadline is the moment as an instant, if now is when the command is applied;
// 0 without a moment.
func (m *moment) deadline(now int64) (int64, error) {
	switch {
	case !m.given:
		return 0, nil
	case !m.isLife:
		return m.milli, nil
	case m.milli > math.MaxInt64-now:
		return 0, resp.ExpireTime(m.command)
	}
	return m.milli + now, nil
}

// notifyDeadline records the event of a key having got a deadline. One that has
// passed already took the key away, which ends it as any other expiry.
func notifyDeadline(tx *store.Tx, key []byte, deadline int64) {
	tx.Notify(store.ClassGeneric, "expire", key)
	if deadline <= tx.Now() {
		tx.Notify(store.ClassExpired, "expired", key)
	}
}
