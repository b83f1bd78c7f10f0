package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"testing"
)

// host stands in for a test: testkit's helpers start processes for it and hand
// over what must be done at the end. It is for one goroutine.
type host struct {
	testing.TB // nil: only the methods below are ever called

	out      io.Writer
	cleanups []func()
	failed   bool
}

// errFatal carries a helper's failure out of guard.
var errFatal = errors.New("failed")

func newHost(out io.Writer) *host { return &host{out: out} }

// Helper does nothing: there are no line numbers to report.
func (h *host) Helper() {}

// Failed tells whether a helper has failed.
func (h *host) Failed() bool { return h.failed }

// Cleanup keeps f for close.
func (h *host) Cleanup(f func()) { h.cleanups = append(h.cleanups, f) }

// Logf writes a line.
func (h *host) Logf(format string, args ...any) { fmt.Fprintf(h.out, format+"\n", args...) }

// Fatal ends the function that runs under guard.
func (h *host) Fatal(args ...any) { h.fail(fmt.Sprint(args...)) }

// Fatalf ends the function that runs under guard.
func (h *host) Fatalf(format string, args ...any) { h.fail(fmt.Sprintf(format, args...)) }

func (h *host) fail(text string) {
	h.failed = true
	panic(fmt.Errorf("%w: %s", errFatal, text)) //nolint:forbidigo // caught by guard: helpers do not return after Fatal
}

// TempDir is a new directory, removed by close.
func (h *host) TempDir() string {
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// guard runs f and returns what it or a helper's Fatal says.
func (h *host) guard(f func() error) (err error) {
	defer func() {
		switch v := recover().(type) {
		case nil:
		case error:
			if !errors.Is(v, errFatal) {
				panic(v) //nolint:forbidigo // not ours
			}
			err = v
		default:
			panic(v) //nolint:forbidigo // not ours
		}
	}()
	return f()
}

// close undoes what the helpers did, last first.
func (h *host) close() {
	for len(h.cleanups) > 0 {
		last := len(h.cleanups) - 1
		f := h.cleanups[last]
		h.cleanups = h.cleanups[:last]
		f()
	}
}

// startProfile begins a profile of this process if path is not empty.
func startProfile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	file, err := os.Create(path) //nolint:gosec // the user's own path
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		_ = file.Close()
	}, nil
}
