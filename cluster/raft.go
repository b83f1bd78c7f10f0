package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// raftConfig are raft's settings.
func (n *Node) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(n.cfg.NodeID)
	c.HeartbeatTimeout = n.cfg.ElectionTimeout
	c.ElectionTimeout = n.cfg.ElectionTimeout
	c.LeaderLeaseTimeout = n.cfg.ElectionTimeout // heartbeats may wait for a follower's disk
	c.CommitTimeout = n.cfg.ElectionTimeout / 3
	c.MaxAppendEntries = 64
	c.ShutdownOnRemove = false
	c.SnapshotThreshold = math.MaxUint64 // they are made by bytes
	c.SnapshotInterval = time.Hour
	c.TrailingLogs = minTrailing
	c.NoLegacyTelemetry = true
	c.Logger = n.hclog
	return c
}

// startRaft opens raft on the stores and lets others reach it.
func (n *Node) startRaft() error {
	var trans raft.Transport
	if n.cfg.alone() {
		_, trans = raft.NewInmemTransport(raft.ServerAddress(n.cfg.NodeID))
	} else {
		trans = newTransport(n, n.streams, n.hclog)
	}
	n.adoptSnapshot()
	r, err := n.newRaft(trans)
	if err != nil {
		if c, ok := trans.(raft.WithClose); ok {
			err = errors.Join(err, c.Close())
		}
		return err
	}
	n.logs.running.Store(true)
	n.stable.running.Store(true)
	if n.ctx.Err() != nil { // it may have taken longer than anybody waits
		return r.Shutdown().Error()
	}
	seen := make(chan raft.Observation, 16)
	r.RegisterObserver(raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch data := o.Data.(type) {
		case raft.RaftState, raft.LeaderObservation:
			return true
		case raft.RequestVoteRequest:
			n.pledge.asked(&data) // raft waits for this
		}
		return false
	}))
	n.raft.Store(r)
	n.look()
	if !n.cfg.alone() {
		n.wg.Go(func() { n.settle(n.ctx) })
	}
	n.wg.Go(func() {
		for {
			select {
			case <-n.ctx.Done():
				return
			case <-seen:
				n.look()
			}
		}
	})
	return nil
}

// begun tells the stores that raft's goroutines may call them: a failure ends these
// instead of making raft panic.
func (n *Node) begun() {
	n.logs.running.Store(true)
	n.stable.running.Store(true)
}

// newRaft starts raft. Damage in the log makes raft panic while it starts; that is
// turned into the error it is.
func (n *Node) newRaft(trans raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("raft cannot start: %v", p)
		}
	}()
	r, err = raft.NewRaft(n.raftConfig(), n.cfg.FSM, n.logs, n.stable, n.snaps, trans)
	if err != nil {
		return nil, fmt.Errorf("raft cannot start: %w", err)
	}
	return r, nil
}

// raftLogger passes what raft logs on to log, from INFO on.
func raftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Off, Output: io.Discard})
	l.RegisterSink(&logSink{log: log, last: map[string]time.Duration{}})
	return l
}

// logSink is where raft's log lines go. Of each warning there is one line in a few
// seconds: raft repeats some for every heartbeat that fails.
type logSink struct {
	log *slog.Logger

	mu   sync.Mutex
	last map[string]time.Duration // clock.Mono by message; those are raft's own constants
}

var _ hclog.SinkAdapter = (*logSink)(nil)

const warnInterval = 5 * time.Second

// again tells whether a warning was logged a moment ago.
func (s *logSink) again(msg string) bool {
	now := clock.Mono()
	s.mu.Lock()
	defer s.mu.Unlock()
	if last, ok := s.last[msg]; ok && now-last < warnInterval {
		return true
	}
	s.last[msg] = now
	return false
}

// Accept logs a line.
func (s *logSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	var to slog.Level
	switch {
	case level >= hclog.Error:
		to = slog.LevelWarn // whether it is an error for the node is decided above raft
	case level == hclog.Warn:
		to = slog.LevelWarn
	case level == hclog.Info:
		to = slog.LevelInfo
	default:
		return
	}
	ctx := context.Background()
	if !s.log.Enabled(ctx, to) || to == slog.LevelWarn && s.again(msg) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			if format, ok := f[0].(string); ok {
				args[i] = fmt.Sprintf(format, f[1:]...)
			}
		}
	}
	s.log.Log(ctx, to, name+": "+msg, args...) // handed on
}
