package main

import (
	"io"
	"log/slog"
	"os"

	"github.com/holdfast/holdfast/config"
)

// newLogger builds the process's logger: text lines to standard error or
// appended to logfile, at loglevel, which can change later through
// cfg.Verbosity. done closes what was opened.
func newLogger(cfg *config.Config, stderr io.Writer) (logger *slog.Logger, done func(), err error) {
	out, done := stderr, func() {}
	if cfg.LogFile != "" {
		const readableByGroup = 0o640
		file, err := os.OpenFile(cfg.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, readableByGroup)
		if err != nil {
			return nil, nil, err
		}
		out, done = file, func() { _ = file.Close() }
	}
	cfg.Verbosity = new(slog.LevelVar)
	cfg.Verbosity.Set(config.SlogLevel(cfg.LogLevel))
	return slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: cfg.Verbosity})), done, nil
}
