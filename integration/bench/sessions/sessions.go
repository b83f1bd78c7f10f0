// Package sessions puts the load of a session store on a cluster of Holdfast,
// with faults in the middle, and keeps books: what was acknowledged, what is in
// doubt, and how long every command took from the instant at which it was due.
//
// Every session has one writer, so each reply can be judged exactly: a read shows
// the last acknowledged version, a session that lives by its deadline is there,
// and one that ended stays away. It is for tests and measurements only.
package sessions

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

const (
	// drainLimit is how long after the end of the load what is late may still be sent.
	drainLimit = 30 * time.Second
	// masterLimit bounds the search for a master before and after the load.
	masterLimit = 30 * time.Second
)

// Options say what load is put on the cluster. All numbers must be above 0.
type Options struct {
	Sessions    int           // live ones at any time
	Connections int           // each the only writer of its share of the sessions
	Rate        int           // commands per second of all connections together
	Duration    time.Duration // of the load; faults come at 40 % and 60 % of it
	TTL         time.Duration // of a session since its last SET or EXPIRE, whole seconds
	Kill        bool          // kill the master at 40 % of the load
	Handover    Handover      // what happens to the master at 60 %
	Seed        uint64        // of everything random
	Progress    io.Writer     // gets a line every second
	Live        bool          // Progress is a terminal: each line takes the place of the last
}

// Check tells what is wrong with the options.
func (o Options) Check() error {
	switch {
	case o.Sessions < 1 || o.Connections < 1 || o.Rate < 1 || o.Duration <= 0:
		return errors.New("sessions, connections, rate and duration must be above 0")
	case o.Sessions < o.Connections:
		return fmt.Errorf("%d sessions are too few for %d connections", o.Sessions, o.Connections)
	case o.TTL < time.Second || o.TTL%time.Second != 0:
		return fmt.Errorf("a life of %v is not in whole seconds above 0", o.TTL)
	}
	return o.Handover.check()
}

// Run fills the cluster with sessions, puts the load on it, and verifies at the
// end that nothing acknowledged is missing. The cluster must be whole. The error
// tells that the run could not be made as asked; what the cluster did wrong is in
// the report.
func Run(ctx context.Context, c *testkit.Cluster, o Options) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	addr, err := findMaster(ctx, c)
	if err != nil {
		return nil, err
	}
	if o.Handover == HandoverTransfer {
		if err := knowsTransfer(addr); err != nil {
			return nil, err
		}
	}
	all := openBooks(o)
	find := func() (string, error) {
		i, err := c.FindMaster()
		if err != nil {
			return "", err
		}
		return c.Nodes[i].Addr(), nil
	}
	fmt.Fprintf(o.Progress, "filling %d sessions\n", o.Sessions)
	if err := fill(ctx, find, all); err != nil {
		return nil, fmt.Errorf("fill: %w", err)
	}
	col, err := load(ctx, c, all, o)
	if err != nil {
		return nil, err
	}
	fmt.Fprintln(o.Progress, "verifying the books")
	if err := verify(ctx, find, all); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	return newReport(o, col, all), nil
}

// load runs one worker for each of the books, and the faults beside them.
func load(parent context.Context, c *testkit.Cluster, all []*books, o Options) (*collector, error) {
	workers, err := newWorkers(parent, c.Sentinels(), all, o)
	if err != nil {
		return nil, err
	}
	col := newCollector(testkit.Now(), o)
	ctx, cancel := context.WithTimeout(parent, o.Duration+drainLimit)
	defer cancel()
	var busy, beside sync.WaitGroup
	for _, w := range workers {
		busy.Go(func() { w.run(ctx, col) })
	}
	var fault error
	beside.Go(func() { fault = runFaults(ctx, c, col, o) })
	idle, stop := context.WithCancel(ctx)
	beside.Go(func() { showProgress(idle, col, o) })
	busy.Wait()
	stop()
	beside.Wait()
	col.end(testkit.Now())
	if err := parent.Err(); err != nil {
		return nil, err
	}
	return col, fault
}

// findMaster is the address of the node that calls itself master, waited for.
func findMaster(ctx context.Context, c *testkit.Cluster) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, masterLimit)
	defer cancel()
	var addr string
	err := testkit.Poll(ctx, func() error {
		i, err := c.FindMaster()
		if err == nil {
			addr = c.Nodes[i].Addr()
		}
		return err
	})
	return addr, err
}

// fillers is how many connections fill the cluster.
const fillers = 8

// fill logs every session in before the load begins.
func fill(ctx context.Context, find func() (string, error), all []*books) error {
	todo := make(chan *books)
	errs := make(chan error, fillers)
	var wait sync.WaitGroup
	for range fillers {
		wait.Go(func() {
			if err := fillSome(ctx, find, todo); err != nil {
				errs <- err
			}
		})
	}
	var err error
	for _, b := range all {
		select {
		case todo <- b:
			continue
		case err = <-errs:
		case <-ctx.Done():
			err = ctx.Err()
		}
		break
	}
	close(todo)
	wait.Wait()
	close(errs)
	for late := range errs {
		err = errors.Join(err, late)
	}
	return err
}

// fillSome fills books until there are no more.
func fillSome(ctx context.Context, find func() (string, error), todo <-chan *books) error {
	l := &line{find: find}
	defer l.close()
	for b := range todo {
		for b.vacant() > 0 {
			batch := make([]command, min(b.vacant(), batchSize))
			for i := range batch {
				batch[i] = b.login()
			}
			if err := l.send(ctx, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// verify compares everything in the books with what the master holds.
func verify(ctx context.Context, find func() (string, error), all []*books) error {
	l := &line{find: find}
	defer l.close()
	for _, b := range all {
		checks := b.checks()
		for len(checks) > 0 {
			n := min(len(checks), batchSize)
			if err := l.send(ctx, checks[:n]); err != nil {
				return err
			}
			checks = checks[n:]
		}
	}
	return nil
}
