package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// group is goroutines that stop together.
type group struct {
	ctx   context.Context
	stop  context.CancelFunc
	ended func() // called when a part ends
	wg    sync.WaitGroup

	mu   sync.Mutex
	errs []error // of the parts that failed, guarded by mu
}

// newGroup is a group that is told to stop when ctx ends. ended is called when a
// part ends, whatever the reason: no part does without.
func newGroup(ctx context.Context, ended func()) *group {
	g := &group{ended: ended}
	g.ctx, g.stop = context.WithCancel(ctx)
	return g
}

// start runs a part, which has a name for its errors, until the group stops.
func (g *group) start(name string, run func(ctx context.Context) error) {
	g.wg.Go(func() {
		if err := run(g.ctx); err != nil {
			g.mu.Lock()
			g.errs = append(g.errs, fmt.Errorf("%s: %w", name, err))
			g.mu.Unlock()
		}
		g.ended()
	})
}

// failed tells whether a part has ended with an error.
func (g *group) failed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.errs) > 0
}

// wait stops the group and returns when every part has ended: what those that
// failed say, the first one first.
func (g *group) wait() error {
	g.stop()
	g.wg.Wait()
	return errors.Join(g.errs...)
}
