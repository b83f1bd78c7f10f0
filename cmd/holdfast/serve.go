package main

import (
	"context"
	"log/slog"
	"sync"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/node"
)

// serving runs nodes under the service manager that the environment names.
type serving struct {
	environ []string
}

// run runs a node until ctx ends or the node does, and returns what it ended with.
func (s serving) run(ctx context.Context, cfg *config.Config, log *slog.Logger, version string) error {
	manager, err := newSystemd(s.environ, cfg.Supervised, log)
	if err != nil {
		log.Warn("systemd is not told of the node", "err", err)
	}
	defer manager.close()
	opened := node.Config{Directives: cfg, Log: log, Version: version}
	if manager != nil {
		opened.Supervisor = config.SupervisedSystemd
	}
	manager.opening()
	n, err := node.Open(opened) //nolint:contextcheck // opening ends by itself
	if err != nil {
		return err
	}
	follow, stop := context.WithCancel(ctx)
	var followed sync.WaitGroup
	followed.Go(func() { manager.follow(follow, n) })
	select {
	case <-ctx.Done():
	case <-n.Done():
	}
	manager.stopping()
	stop()
	err = n.Close()
	followed.Wait()
	return err
}
