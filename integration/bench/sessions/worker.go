package sessions

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

const (
	// commandLimit is how long a command may go without a reply, as in common
	// libraries.
	commandLimit = 3 * time.Second
	// giveUpAfter is how long after its due time a command is still repeated.
	giveUpAfter = 10 * time.Second
	// retryPause is the mean pause before a refused command is repeated.
	retryPause = 20 * time.Millisecond
	// lookers is how many workers look for a master at the same time: as many as
	// there are application processes that share out the connections.
	lookers = 8
)

// worker is one connection of an application: it sends its commands when they are
// due, one at a time, follows the master, and repeats what was not executed. It
// is for one goroutine.
type worker struct {
	books    *books
	follower *testkit.Follower
	schedule *schedule
	random   *rand.Rand
	blend    []share
	look     chan struct{} // held while looking for a master, shared by all
	timer    *time.Timer
}

// newWorkers connects one worker for each of the books, however long each has to look for
// the master.
func newWorkers(ctx context.Context, sentinels []string, all []*books, o Options) ([]*worker, error) {
	look := make(chan struct{}, lookers)
	workers := make([]*worker, len(all))
	for i, b := range all {
		random := rand.New(rand.NewPCG(o.Seed, uint64(i)+1)) //nolint:gosec // repeatable on purpose
		w := &worker{
			books: b, follower: testkit.NewFollower(sentinels, commandLimit), schedule: newSchedule(o, i, random),
			random: random, blend: blend(), look: look, timer: time.NewTimer(0),
		}
		wait, cancel := context.WithTimeout(ctx, masterLimit)
		err := testkit.Poll(wait, w.follower.Connect)
		cancel()
		if err != nil {
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		workers[i] = w
	}
	return workers, nil
}

// run sends everything that is due, also what is late, until the schedule or ctx ends.
func (w *worker) run(ctx context.Context, col *collector) {
	defer w.follower.Close()
	for {
		due, ok := w.schedule.next()
		if !ok {
			return
		}
		due += col.begun
		if wait := due - testkit.Now(); wait > 0 {
			if !w.pause(ctx, wait) {
				return
			}
			col.woke(testkit.Now() - due)
		}
		if ctx.Err() != nil {
			return
		}
		w.perform(ctx, choose(w.blend, w.random).build(w.books, w.random), due, col)
	}
}

// perform sends a command until its outcome is known, or cannot be. A write whose
// outcome is unknown is not repeated: it could be executed twice.
func (w *worker) perform(ctx context.Context, cmd command, due time.Duration, col *collector) {
	for {
		outcome, err := w.try(ctx, cmd, due, col)
		now := testkit.Now()
		switch {
		case err == nil:
			return
		case outcome == testkit.Done:
			col.failed(due, fmt.Errorf("%s: %w", cmd.args[0], err))
			return
		case outcome == testkit.Unknown && cmd.kind == write:
			cmd.doubtful()
			col.unknown(due, now)
			return
		case ctx.Err() != nil:
			return
		case now-due > giveUpAfter:
			col.givenUp(due)
			return
		}
		col.repeated(due)
	}
}

// try sends a command once. A refusal is followed by a pause.
func (w *worker) try(ctx context.Context, cmd command, due time.Duration, col *collector) (testkit.Outcome, error) {
	if err := w.connect(ctx); err != nil {
		return testkit.Refused, err
	}
	sent := testkit.Now()
	reply, outcome, err := w.follower.Do(cmd.args...)
	at := span{sent, testkit.Now()}
	if err == nil {
		cmd.answered(reply, at)
		col.answered(cmd.kind, due, at.done)
	} else if outcome == testkit.Refused {
		w.pause(ctx, w.retry())
	}
	return outcome, err
}

// connect finds the master if there is no connection. Few workers do that at a
// time, as the processes of an application would, and each that finds none pauses
// before the next one looks.
func (w *worker) connect(ctx context.Context) error {
	if w.follower.Connected() {
		return nil
	}
	select {
	case w.look <- struct{}{}:
		defer func() { <-w.look }()
	case <-ctx.Done():
		return ctx.Err()
	}
	err := w.follower.Connect()
	if err != nil {
		w.pause(ctx, w.retry())
	}
	return err
}

// retry is a pause of between half and one and a half times the mean.
func (w *worker) retry() time.Duration {
	return retryPause/2 + time.Duration(w.random.Int64N(int64(retryPause)))
}

// pause waits, or returns false when ctx ended first.
func (w *worker) pause(ctx context.Context, d time.Duration) bool {
	w.timer.Reset(d)
	select {
	case <-w.timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
