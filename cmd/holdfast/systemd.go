package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast/holdfast/config"
)

// How systemd is told of a service of Type=notify, see sd_notify(3): datagrams of
// lines NAME=value.
const (
	socketVariable   = "NOTIFY_SOCKET"
	watchdogVariable = "WATCHDOG_USEC"
	watchdogOwner    = "WATCHDOG_PID"
)

const (
	// lookEvery is how often it is seen whether the node is ready.
	lookEvery = 100 * time.Millisecond
	// stayEvery is how often a start that takes long asks for more time, and
	// stayFor for how much.
	stayEvery = 5 * time.Second
	stayFor   = 30 * time.Second
	// openFor is how long reading the data directory may take.
	openFor = 15 * time.Minute
	// missingFor is how long a node waits for a majority until it counts as started
	// all the same: others may be started after this one only.
	missingFor = 10 * time.Second
)

// instance is what is told to systemd of a running node.
type instance interface {
	Ready(ctx context.Context) error
	Majority() bool
	Alive(within time.Duration) error
}

// systemd tells the service manager how the node is. A nil one tells nobody.
type systemd struct {
	conn     net.Conn
	log      *slog.Logger
	watchdog time.Duration // silence after which the process is restarted, 0 for none

	lookEvery, stayEvery, missingFor time.Duration
}

// errNoSystemd is why systemd is not told although it is to be.
var errNoSystemd = errors.New("supervised is systemd, and " + socketVariable + " is not set: the service is not of Type=notify")

// newSystemd connects to the manager that environ names, if supervised allows it. An
// error is no reason not to serve.
func newSystemd(environ []string, supervised string, log *slog.Logger) (*systemd, error) {
	path := lookup(environ, socketVariable)
	switch {
	case supervised == config.SupervisedNo:
		return nil, nil //nolint:nilnil // nil tells nobody
	case path == "" && supervised == config.SupervisedSystemd:
		return nil, errNoSystemd
	case path == "":
		return nil, nil //nolint:nilnil // nil tells nobody
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", socketVariable, err)
	}
	return &systemd{
		conn: conn, log: log, watchdog: watchdogOf(environ),
		lookEvery: lookEvery, stayEvery: stayEvery, missingFor: missingFor,
	}, nil
}

// watchdogOf is the watchdog's patience, 0 if there is none or it is another
// process's.
func watchdogOf(environ []string) time.Duration {
	const longest = 1 << 50 // µs, far beyond what is ever set
	if owner := lookup(environ, watchdogOwner); owner != "" && owner != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseUint(lookup(environ, watchdogVariable), 10, 64)
	if err != nil || usec > longest {
		return 0
	}
	return time.Duration(usec) * time.Microsecond
}

// lookup is the value of a variable, "" if it is not set.
func lookup(environ []string, name string) string {
	for _, entry := range environ {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// tell sends one notice. Without a manager that listens nothing is lost.
func (s *systemd) tell(lines ...string) {
	if _, err := s.conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		s.log.Debug("systemd was not told", "err", err)
	}
}

// opening asks for time to read the data directory.
func (s *systemd) opening() {
	if s != nil {
		s.stay(openFor, "reads its data directory")
	}
}

// stay asks for more time to start.
func (s *systemd) stay(d time.Duration, why string) {
	s.tell("EXTEND_TIMEOUT_USEC="+strconv.FormatInt(d.Microseconds(), 10), "STATUS="+why)
}

// follow tells systemd that the node is ready, and then that it is alive, until ctx
// ends.
func (s *systemd) follow(ctx context.Context, n instance) {
	if s == nil {
		return
	}
	s.awaitReady(ctx, n)
	if s.watchdog == 0 {
		return
	}
	every := time.NewTicker(s.watchdog / 2) // as sd_watchdog_enabled(3) advises
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		if err := n.Alive(s.watchdog); err != nil {
			s.log.Error("systemd's watchdog is not answered", "err", err)
			continue
		}
		s.tell("WATCHDOG=1")
	}
}

// awaitReady tells that the node is ready when it is, or when it has waited for long
// enough for a majority that is not there. Until then it asks for more time.
func (s *systemd) awaitReady(ctx context.Context, n instance) {
	every := time.NewTicker(s.lookEvery)
	defer every.Stop()
	stay := time.NewTicker(s.stayEvery)
	defer stay.Stop()
	missing := time.NewTimer(s.missingFor)
	defer missing.Stop()
	for {
		err := n.Ready(ctx)
		if err == nil {
			s.tell("READY=1", "STATUS=serves clients")
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-stay.C:
			s.stay(stayFor, "waits: "+err.Error())
		case <-missing.C:
			if !n.Majority() {
				s.tell("READY=1", "STATUS=waits for a majority of the nodes")
				return
			}
			missing.Reset(s.missingFor)
		case <-every.C:
		}
	}
}

// stopping tells that the node begins to stop.
func (s *systemd) stopping() {
	if s != nil {
		s.tell("STOPPING=1")
	}
}

// close ends the connection.
func (s *systemd) close() {
	if s != nil {
		_ = s.conn.Close() // nothing waits in it
	}
}
