package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strings"

	"github.com/holdfast/holdfast/config"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1 // the node ended with an error, or is not healthy
	exitUsage  = 2 // arguments or configuration are wrong
)

// program is the process as a value, so that tests can run it.
type program struct {
	args    []string // without the program's name
	environ []string
	version string
	stdout  io.Writer
	stderr  io.Writer
	// serve runs a node until ctx ends, and returns what it ended with.
	serve func(ctx context.Context, cfg *config.Config, logger *slog.Logger, version string) error
	// again makes a node a cluster of its own, if accept is that cluster's id, and says
	// what it has found or done.
	again func(cfg *config.Config, logger *slog.Logger, accept string) (report string, err error)
}

// run does what the arguments say and returns the exit code.
func (p program) run(ctx context.Context) int {
	word, rest := "", p.args
	if len(rest) > 0 {
		word = rest[0]
	}
	switch word {
	case "version", "--version", "-v":
		fmt.Fprintf(p.stdout, "holdfast %s (%s, %s/%s)\n", p.version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
		return exitOK
	case "help", "--help", "-h":
		usage(p.stdout)
		return exitOK
	case "healthcheck":
		return p.withConfig(rest[1:], func(cfg *config.Config) int { return p.healthcheck(ctx, cfg) })
	case "recover":
		return p.recoverNode(rest[1:])
	default:
		return p.withConfig(rest, func(cfg *config.Config) int { return p.node(ctx, cfg) })
	}
}

// withConfig reads the configuration and hands it on; if it is wrong it says so.
func (p program) withConfig(args []string, use func(cfg *config.Config) int) int {
	src, err := parseArgs(args)
	if err == nil {
		src.Environ, src.ReadFile = p.environ, os.ReadFile
		var cfg *config.Config
		if cfg, err = config.Load(src); err == nil {
			return use(cfg)
		}
	}
	fmt.Fprintf(p.stderr, "holdfast: %v\nTry \"holdfast help\".\n", err)
	return exitUsage
}

// acceptLoss begins the argument that consents to recovery.
const acceptLoss = "--accept-loss="

// recoverNode makes a node whose cluster has lost its majority a cluster of its own.
// Without consent it says what that would mean.
func (p program) recoverNode(args []string) int {
	accept, rest := "", make([]string, 0, len(args))
	for _, a := range args {
		if id, ok := strings.CutPrefix(a, acceptLoss); ok {
			accept = id
			continue
		}
		rest = append(rest, a)
	}
	return p.withConfig(rest, func(cfg *config.Config) int {
		logger := slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
		report, err := p.again(cfg, logger, accept)
		fmt.Fprint(p.stdout, report)
		if err != nil {
			fmt.Fprintf(p.stderr, "holdfast: recover: %v\n", err)
			return exitFailed
		}
		return exitOK
	})
}

// node serves until ctx ends.
func (p program) node(ctx context.Context, cfg *config.Config) int {
	logger, done, err := newLogger(cfg, p.stderr)
	if err != nil {
		fmt.Fprintf(p.stderr, "holdfast: logfile: %v\n", err)
		return exitUsage
	}
	defer done()
	logger.Info("holdfast starts", "version", p.version, "node", cfg.NodeID, "nodes", max(1, len(cfg.Peers)), "dir", cfg.Dir)
	for _, warning := range cfg.Warnings {
		logger.Warn(warning)
	}
	if err := p.serve(ctx, cfg, logger, p.version); err != nil {
		logger.Error("holdfast ends", "error", err)
		return exitFailed
	}
	logger.Info("holdfast ends")
	return exitOK
}
