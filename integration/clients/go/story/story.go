// Package story is what the client programs of every language do, so that the
// tests can compare their libraries: increment a counter ten times a second and
// say how that went, while nodes are killed and the master moves.
//
// It knows no library. The settings come from the environment, orders come line by
// line on standard input, and every line of standard output is one event:
//
//	ready N          found the master, incremented the counter and read N back
//	ack N            an increment was acknowledged, with N
//	fail TEXT        an increment was not, or nobody knows
//	read N           the order "read": what the master holds
//	replica N        the order "replica": what replicas hold, "none" if the library asks no replicas
//	read fail TEXT   the order was not carried out, and may be given again; so for "replica"
//	done             the order "quit", or the end of standard input
package story

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	// beat is the time from one increment to the next, if the library is not slower.
	beat = 100 * time.Millisecond
	// patience bounds what the library may do for one command.
	patience = 5 * time.Second
	// replicaReads is how many reads answer one order, as some libraries choose among
	// the nodes anew for each.
	replicaReads = 20
)

// Settings are where the servers are and how to get in.
type Settings struct {
	Sentinels        []string // host:port each; some may be dead
	MasterName       string
	Password         string // of the data ports
	SentinelPassword string // of the Sentinel ports
	Key              string // of the counter
}

// FromEnvironment reads the settings.
func FromEnvironment() Settings {
	return Settings{
		Sentinels:        strings.Split(os.Getenv("SENTINELS"), ","),
		MasterName:       os.Getenv("MASTER_NAME"),
		Password:         os.Getenv("REDIS_PASSWORD"),
		SentinelPassword: os.Getenv("SENTINEL_PASSWORD"),
		Key:              os.Getenv("COUNTER_KEY"),
	}
}

// Client is what the story needs of a library.
type Client struct {
	Increment   func(ctx context.Context) (int64, error)
	Read        func(ctx context.Context) (int64, error)
	ReadReplica func(ctx context.Context) (int64, error) // nil if the library asks no replicas
}

// Run tells the story on the process's standard input and output and returns the
// exit code.
func Run(c Client) int {
	if err := c.tell(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (c Client) tell(in io.Reader, out io.Writer) error {
	if _, err := bounded(c.Increment); err != nil {
		return err
	}
	n, err := bounded(c.Read)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ready", n)
	orders := lines(in)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			report(out, "ack", "fail", c.Increment)
		case order, open := <-orders:
			if !open || order == "quit" {
				fmt.Fprintln(out, "done")
				return nil
			}
			c.obey(out, order)
		}
	}
}

// obey answers one order.
func (c Client) obey(out io.Writer, order string) {
	switch {
	case order == "read":
		report(out, order, order+" fail", c.Read)
	case c.ReadReplica == nil:
		fmt.Fprintln(out, "replica none")
	default:
		for range replicaReads - 1 {
			_, _ = bounded(c.ReadReplica)
		}
		report(out, order, order+" fail", c.ReadReplica)
	}
}

// report does one thing and says how it went, with one word or the other.
func report(out io.Writer, event, failed string, f func(context.Context) (int64, error)) {
	n, err := bounded(f)
	if err != nil {
		fmt.Fprintln(out, failed, strings.ReplaceAll(err.Error(), "\n", " "))
		return
	}
	fmt.Fprintln(out, event, n)
}

func bounded(f func(context.Context) (int64, error)) (int64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return f(ctx)
}

// lines hands out the lines of in until its end.
func lines(in io.Reader) <-chan string {
	list := make(chan string)
	go func() {
		defer close(list)
		for scanner := bufio.NewScanner(in); scanner.Scan(); {
			list <- strings.TrimSpace(scanner.Text())
		}
	}()
	return list
}
