package testkit

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// built holds the binaries this test process has built, one per set of tags.
var built struct {
	sync.Mutex
	dir   string            // removed by Main
	paths map[string]string // tags joined by commas -> path
}

// Main runs the tests of a package that uses Binary and then removes what was
// built. Call it from TestMain and exit with its result.
func Main(m *testing.M) int {
	code := m.Run()
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	return code
}

// Binary is the path of holdfast, built once per test process and set of build
// tags. HOLDFAST_BIN names a ready one to use instead when no tag is asked for.
func Binary(tb testing.TB, tags ...string) string {
	tb.Helper()
	if ready := os.Getenv("HOLDFAST_BIN"); ready != "" && len(tags) == 0 {
		return ready
	}
	built.Lock()
	defer built.Unlock()
	key := strings.Join(tags, ",")
	if path, ok := built.paths[key]; ok {
		return path
	}
	path := build(tb, key)
	if built.paths == nil {
		built.paths = map[string]string{}
	}
	built.paths[key] = path
	return path
}

// build compiles with the lock held. It builds with CGO_ENABLED=0 as the release
// does.
func build(tb testing.TB, tags string) string {
	tb.Helper()
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-bin-") //nolint:usetesting // outlives the test that asks first
		if err != nil {
			tb.Fatal(err)
		}
		built.dir = dir
	}
	path := filepath.Join(built.dir, "holdfast-"+strings.ReplaceAll(tags, ",", "-"))
	cmd := exec.CommandContext(context.Background(), "go", "build", "-tags", tags, "-o", path, "./cmd/holdfast") //nolint:gosec // tags are the test's
	cmd.Dir = Root()
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build ./cmd/holdfast: %v\n%s", err, out)
	}
	return path
}

// Root is the root directory of this repository.
func Root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "."
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}
