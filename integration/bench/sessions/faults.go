package sessions

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// Handover is what happens to the master at 60 % of the load.
type Handover string

// The ways of a handover.
const (
	HandoverNone     Handover = "none"     // nothing
	HandoverKill     Handover = "kill"     // no handover but a second kill -9
	HandoverTerm     Handover = "term"     // SIGTERM; the node is started again
	HandoverTransfer Handover = "transfer" // RAFT TRANSFER, refused if the server does not know it
)

// Handovers are all of them.
func Handovers() []Handover {
	return []Handover{HandoverNone, HandoverKill, HandoverTerm, HandoverTransfer}
}

func (h Handover) check() error {
	if slices.Contains(Handovers(), h) {
		return nil
	}
	return fmt.Errorf("no handover %q, only %v", h, Handovers())
}

const (
	// killAt and handoverAt say when the faults come, in parts of the load.
	killAt     = 0.4
	handoverAt = 0.6
	// downFor is how long a node that was killed stays down: at most this, and a
	// tenth of the load.
	downFor = 10 * time.Second
	// exitLimit is how long a node may take to end after SIGTERM.
	exitLimit = 20 * time.Second
	// askLimit bounds a question to a node.
	askLimit = 2 * time.Second
	// transferLimit bounds RAFT TRANSFER, and how long it is repeated when it is refused.
	transferLimit = 10 * time.Second
	// askTimes is how often a question is asked that gets no answer.
	askTimes = 5
)

// faults does to the cluster what was asked for.
type faults struct {
	cluster *testkit.Cluster
	col     *collector
	opts    Options
}

// runFaults does everything at its time and returns when it is done. When ctx ends
// it begins nothing new.
func runFaults(ctx context.Context, c *testkit.Cluster, col *collector, o Options) error {
	f := &faults{cluster: c, col: col, opts: o}
	if o.Kill {
		if err := f.waitUntil(ctx, killAt); err != nil {
			return err
		}
		if err := f.kill(ctx); err != nil {
			return fmt.Errorf("kill: %w", err)
		}
	}
	if o.Handover == HandoverNone {
		return nil
	}
	if err := f.waitUntil(ctx, handoverAt); err != nil {
		return err
	}
	if err := f.waitWhole(ctx); err != nil {
		return fmt.Errorf("no handover: the cluster was not whole in time: %w", err)
	}
	var err error
	switch o.Handover {
	case HandoverKill:
		err = f.kill(ctx)
	case HandoverTerm:
		err = f.terminate(ctx)
	default:
		err = f.transfer(ctx)
	}
	if err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	return nil
}

// waitUntil waits for a part of the load to have passed. It errors if ctx ended first.
func (f *faults) waitUntil(ctx context.Context, part float64) error {
	at := f.col.begun + time.Duration(part*float64(f.opts.Duration))
	testkit.Pause(ctx, at-testkit.Now())
	return ctx.Err()
}

// master is the node that calls itself master, waited for until the end of the load.
func (f *faults) master(ctx context.Context) (*testkit.Node, error) {
	ctx, cancel := f.untilEnd(ctx)
	defer cancel()
	var node *testkit.Node
	err := testkit.Poll(ctx, func() error {
		i, err := f.cluster.FindMaster()
		if err == nil {
			node = f.cluster.Nodes[i]
		}
		return err
	})
	return node, err
}

// untilEnd is ctx until the end of the load.
func (f *faults) untilEnd(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, f.col.begun+f.opts.Duration-testkit.Now())
}

// waitWhole waits until the master has all others connected.
func (f *faults) waitWhole(ctx context.Context) error {
	ctx, cancel := f.untilEnd(ctx)
	defer cancel()
	return testkit.Poll(ctx, func() error {
		node, err := f.master(ctx)
		if err != nil {
			return err
		}
		info, err := ask(node.Addr(), askLimit, "INFO", "replication")
		if err != nil {
			return err
		}
		want := fmt.Sprint(len(f.cluster.Nodes) - 1)
		got := testkit.ParseInfo(string(info.Text))["connected_slaves"]
		return testkit.Check(got == want, "%s of %s replicas are connected", got, want)
	})
}

// kill kills the master and starts it again later.
func (f *faults) kill(ctx context.Context) error {
	node, err := f.master(ctx)
	if err != nil {
		return err
	}
	f.col.begin("kill -9 of the master, "+node.ID, killed, testkit.Now())
	node.Kill9()
	testkit.Pause(ctx, min(downFor, f.opts.Duration/10))
	return f.restart(node)
}

func (f *faults) restart(node *testkit.Node) error {
	f.col.begin(node.ID+" is started again", started, testkit.Now())
	return node.TryStart()
}

// terminate asks the master to end and starts it again.
func (f *faults) terminate(ctx context.Context) error {
	node, err := f.master(ctx)
	if err != nil {
		return err
	}
	f.col.begin("SIGTERM of the master, "+node.ID, handover, testkit.Now())
	node.Signal(syscall.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, exitLimit)
	defer cancel()
	err = testkit.Poll(ctx, func() error { return testkit.Check(!node.Running(), "%s still runs", node.ID) })
	if err != nil {
		return err
	}
	return f.restart(node)
}

// transfer has the master hand over to whom it likes.
func (f *faults) transfer(ctx context.Context) error {
	node, err := f.master(ctx)
	if err != nil {
		return err
	}
	f.col.begin("RAFT TRANSFER on the master, "+node.ID, handover, testkit.Now())
	limited, cancel := context.WithTimeout(ctx, transferLimit)
	defer cancel()
	return testkit.Poll(limited, func() error {
		node, err := f.master(ctx)
		if err != nil {
			return err
		}
		_, err = ask(node.Addr(), transferLimit, "RAFT", "TRANSFER")
		return err
	})
}

// knowsTransfer tells whether a server has a planned handover.
func knowsTransfer(addr string) error {
	var r testkit.Reply
	var err error
	for range askTimes {
		r, err = ask(addr, askLimit, "COMMAND", "INFO", "raft|transfer")
		if told := testkit.ReplyError(""); err == nil || errors.As(err, &told) {
			break
		}
	}
	if err != nil {
		return err
	}
	if len(r.Elems) == 1 && len(r.Elems[0].Elems) > 0 && strings.EqualFold(string(r.Elems[0].Elems[0].Text), "raft|transfer") {
		return nil
	}
	return errors.New("this server has no RAFT TRANSFER; choose another handover")
}

// ask sends one command on a connection of its own.
func ask(addr string, limit time.Duration, args ...string) (testkit.Reply, error) {
	client, err := testkit.Dial(addr, limit)
	if err != nil {
		return testkit.Reply{}, err
	}
	defer client.Close()
	return client.Do(args...)
}
