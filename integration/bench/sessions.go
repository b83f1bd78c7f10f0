package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/holdfast/holdfast/integration/bench/sessions"
	"github.com/holdfast/holdfast/internal/testkit"
)

// answeredShare is how many of all commands must be answered: the writes that are
// under way when the master is killed cannot be.
const answeredShare = 0.999

// sessionOptions are the command line's after the word sessions.
type sessionOptions struct {
	load   sessions.Options
	limits sessions.Limits
	args   []string // more flags for the nodes
}

func parseSessions(args []string, progress *os.File) (sessionOptions, error) {
	o := sessionOptions{
		load:   sessions.Options{Progress: progress, Live: isTerminal(progress)},
		limits: sessions.Limits{Answered: answeredShare},
	}
	flags := flag.NewFlagSet("bench sessions", flag.ContinueOnError)
	flags.SetOutput(progress)
	flags.DurationVar(&o.load.Duration, "duration", 10*time.Minute, "length of the load")
	flags.IntVar(&o.load.Sessions, "sessions", 50_000, "live sessions")
	flags.IntVar(&o.load.Connections, "connections", 200, "client connections")
	flags.IntVar(&o.load.Rate, "rate", 5000, "commands per second of all connections together")
	flags.DurationVar(&o.load.TTL, "ttl", 30*time.Minute, "life of a session since its last write or touch")
	flags.BoolVar(&o.load.Kill, "kill", true, "kill -9 the master after 40 % of the load")
	handover := flags.String("handover", string(sessions.HandoverTransfer), "what happens to the master after 60 % of the load: "+handoverNames())
	flags.Uint64Var(&o.load.Seed, "seed", 1, "of everything random")
	flags.DurationVar(&o.limits.P99, "p99", 10*time.Millisecond, "what p99 of reads and of writes must stay below, outside the second of a kill; 0 judges none")
	extra := flags.String("args", "", "more flags for the nodes, separated by blanks")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("unexpected %q", flags.Arg(0))
	}
	o.load.Handover = sessions.Handover(*handover)
	o.args = strings.Fields(*extra)
	return o, o.load.Check()
}

func handoverNames() string {
	var names []string
	for _, h := range sessions.Handovers() {
		names = append(names, string(h))
	}
	return strings.Join(names, ", ")
}

// isTerminal tells whether lines that overwrite one another can be seen there.
func isTerminal(file *os.File) bool {
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// runSessions starts three nodes, puts the load on them, and prints the report.
// The error tells what limits were not kept.
func runSessions(opts sessionOptions, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	host := newHost(opts.load.Progress)
	defer host.close()
	return host.guard(func() error {
		cluster := testkit.StartCluster(host, testkit.ClusterOptions{Args: opts.args})
		report, err := sessions.Run(ctx, cluster, opts.load)
		if err != nil {
			return err
		}
		if err := report.Write(out); err != nil {
			return err
		}
		if failures := report.Failures(opts.limits); len(failures) > 0 {
			return errors.New(strings.Join(failures, "\n"))
		}
		return nil
	})
}
