// Command bench compares Holdfast with Redis on this machine: redis-server as one
// master with two replicas at several degrees of durability, and Holdfast as
// three nodes, one after the other, under the same load from the same generator.
// It prints a table in Markdown with ratios, latencies and the processor time of
// all server processes; docs/performance.md says how to read it.
//
//	go run ./integration/bench -rounds 9
//
// With the word sessions first it puts the load of a session store on three nodes
// of Holdfast instead, with faults in the middle, and tells whether anything
// acknowledged was lost.
//
//	go run ./integration/bench sessions -duration 10m
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// options are the command line's.
type options struct {
	duration    time.Duration // of each measurement
	warmup      time.Duration // before each
	rounds      int           // how often all systems are measured in turn
	connections int
	pipelines   []int
	size        int // of a value, bytes
	keys        int
	systems     []string
	host        string   // loopback address the load goes to
	args        []string // more flags for the nodes of Holdfast
	profile     string
}

func main() {
	if err := command(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// command does what the command line says.
func command(args []string, out io.Writer, progress *os.File) error {
	if len(args) > 0 && args[0] == "sessions" {
		opts, err := parseSessions(args[1:], progress)
		if err != nil {
			return err
		}
		return runSessions(opts, out)
	}
	opts, err := parseOptions(args, progress)
	if err != nil {
		return err
	}
	return run(opts, out, progress)
}

func parseOptions(args []string, usage io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.DurationVar(&o.duration, "duration", 3*time.Second, "length of each measurement")
	flags.DurationVar(&o.warmup, "warmup", time.Second, "load before each measurement")
	flags.IntVar(&o.rounds, "rounds", 5, "how often every system is measured; the median is shown")
	flags.IntVar(&o.connections, "connections", 50, "client connections")
	flags.IntVar(&o.size, "size", 512, "bytes in a value")
	flags.IntVar(&o.keys, "keys", 100_000, "different keys")
	flags.StringVar(&o.host, "host", "127.0.0.1", "loopback address the load goes to; ::1 for IPv6")
	pipelines := flags.String("pipelines", "1,16", "commands in flight per connection, comma separated")
	systems := flags.String("systems", strings.Join(systemNames(), ","), "what to measure, comma separated; "+leased+" is known as well")
	extra := flags.String("args", "", "more flags for the nodes of Holdfast, separated by blanks")
	flags.StringVar(&o.profile, "cpuprofile", "", "write a profile of the load generator itself to this file")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	for p := range strings.SplitSeq(*pipelines, ",") {
		n, err := strconv.Atoi(p)
		if err != nil || n < 1 {
			return o, fmt.Errorf("-pipelines: %q is no positive number", p)
		}
		o.pipelines = append(o.pipelines, n)
	}
	o.systems = strings.Split(*systems, ",")
	for _, name := range o.systems {
		if !slices.Contains(knownSystems(), name) {
			return o, fmt.Errorf("-systems: no %q, only %s", name, strings.Join(knownSystems(), ", "))
		}
	}
	o.args = strings.Fields(*extra)
	if o.connections < 1 || o.size < 1 || o.keys < 1 || o.rounds < 1 || o.duration <= 0 {
		return o, fmt.Errorf("-connections, -size, -keys, -rounds and -duration must be above 0")
	}
	return o, nil
}

// run measures all systems round by round and prints the table to out.
func run(opts options, out, progress io.Writer) error {
	stop, err := startProfile(opts.profile)
	if err != nil {
		return err
	}
	defer stop()
	var all []result
	for round := range opts.rounds {
		for _, name := range opts.systems {
			results, err := measureSystem(name, opts, progress)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", name, round+1, err)
			}
			all = append(all, results...)
		}
	}
	return writeReport(out, opts, all)
}

// measureSystem starts a system, fills it, and measures every command and
// pipeline it takes part in.
func measureSystem(name string, opts options, progress io.Writer) ([]result, error) {
	host := newHost(progress)
	defer host.close()
	var results []result
	err := host.guard(func() error {
		sys := start(host, name, opts)
		if err := fill(sys, opts); err != nil {
			return fmt.Errorf("fill: %w", err)
		}
		for _, op := range sys.ops {
			for _, pipeline := range opts.pipelines {
				if op.minPipeline > pipeline {
					continue
				}
				r, err := measure(sys, op, pipeline, opts)
				if err != nil {
					return fmt.Errorf("%s, pipeline %d: %w", op.name, pipeline, err)
				}
				fmt.Fprintf(progress, "%-24s %-4s pipeline %-3d %9.0f/s\n", name, op.name, pipeline, r.perSecond)
				results = append(results, r)
			}
		}
		return nil
	})
	return results, err
}
