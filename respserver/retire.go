package respserver

import (
	"context"
	"time"
)

// retirePolls is how often per quiet time connections are looked at.
const retirePolls = 4

// Retire closes connections that have nothing to ask any more: each once it has been
// idle for quiet, without a transaction begun or a key watched. It returns when
// none is left, or when ctx ends, which leaves the others to CloseClients. Until then
// new ones are served like those before.
func (s *Server) Retire(ctx context.Context, quiet time.Duration) {
	poll := time.NewTicker(quiet / retirePolls)
	defer poll.Stop()
	seen := make(map[*client]stillness)
	for s.connected() > 0 {
		seen = s.retire(seen, quiet)
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
}

// stillness is since when a connection has begun nothing.
type stillness struct {
	turns int64
	since time.Duration // clock.Mono
}

// retire closes the connections that have been still for long enough, and returns
// those to look at again.
func (s *Server) retire(seen map[*client]stillness, quiet time.Duration) map[*client]stillness {
	next := make(map[*client]stillness)
	at := now()
	for _, c := range s.clients() {
		before, known := seen[c]
		turns := c.life.turns.Load()
		switch {
		case !known || turns != before.turns || c.engaged():
			next[c] = stillness{turns, at}
		case at-before.since < quiet:
			next[c] = before
		default:
			c.life.doom()
		}
	}
	return next
}

// engaged tells whether something is under way or would be lost with the connection.
// It is safe for concurrent use.
func (c *client) engaged() bool {
	return c.life.bits.Load()&lifeBusy != 0 || c.card.multi.Load() >= 0 || c.card.watching.Load()
}
