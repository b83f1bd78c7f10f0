package respserver

import (
	"strings"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// FailoverRequest is what FAILOVER asked for.
type FailoverRequest struct {
	Host    string // of the data port of the node to become master, "" for any
	Port    int
	Timeout time.Duration // until the other node is told to stand, 0 for a default
	Abort   bool
}

// failoverArgs is FAILOVER as it was written.
type failoverArgs struct {
	FailoverRequest
	to, force bool
}

// parseFailover reads the options in any order, each once; ABORT stands alone.
func parseFailover(args [][]byte) (f failoverArgs, err error) {
	for i := 0; i < len(args); i++ {
		more := len(args) - i - 1
		switch word := strings.ToUpper(string(args[i])); {
		case word == "ABORT" && len(args) == 1:
			f.Abort = true
		case word == "TIMEOUT" && more >= 1 && f.Timeout == 0:
			i++
			ms, err := parseInt(args[i])
			switch {
			case err != nil:
				return f, err
			case ms <= 0:
				return f, resp.ErrFailoverTimeout
			}
			f.Timeout = time.Duration(min(ms, int64(maxFailover/time.Millisecond))) * time.Millisecond
		case word == "TO" && more >= 2 && !f.to:
			port, err := parseInt(args[i+2])
			if err != nil {
				return f, err
			}
			f.to, f.Host, f.Port = true, string(args[i+1]), int(port)
			i += 2
		case word == "FORCE" && !f.force:
			f.force = true
		default:
			return f, resp.ErrSyntax
		}
	}
	return f, nil
}

// maxFailover is the longest time FAILOVER may be given.
const maxFailover = time.Hour

// failover begins a handover, or gives up the one that has begun. With FORCE it
// does no more than without: a node that lacks a part of the log is never elected.
func failover(conn command.Conn, args [][]byte) resp.Value {
	s := conn.(*client).srv
	f, err := parseFailover(args[1:])
	switch {
	case err != nil:
		return resp.Err(err)
	case s.cfg.Failover == nil && f.Abort:
		return resp.Err(resp.ErrNoFailover)
	case s.cfg.Failover == nil:
		return resp.Err(resp.ErrFailoverAlone)
	case f.force && (f.Timeout == 0 || !f.to):
		return resp.Err(resp.ErrFailoverForce)
	}
	if err := s.cfg.Failover(f.FailoverRequest); err != nil {
		return resp.Err(err)
	}
	return resp.OK
}

func failoverSpec() *command.Spec {
	const flags = command.FlagAdmin | command.FlagNoScript | command.FlagStale
	return said(serverSpec("failover", -1, flags, "6.2.0", failover),
		"[TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]", "Hands the role of the master over to another node.")
}
