package testkit

import (
	"context"
	"fmt"
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
	if built.dir != "" && os.Getenv(sandboxBuilt) == "" {
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
	path := build(tb, Root(), key, key)
	keep(key, path)
	return path
}

// BinaryAt is the path of holdfast as it was at a commit of this repository, built
// once per test process. Without the commit, in a shallow clone or an archive, the test is
// skipped.
func BinaryAt(tb testing.TB, commit string) string {
	tb.Helper()
	built.Lock()
	defer built.Unlock()
	key := "at " + commit
	if path, ok := built.paths[key]; ok {
		return path
	}
	if err := run(Root(), "git", "cat-file", "-e", commit+"^{commit}"); err != nil {
		tb.Skipf("no commit %s here to build an earlier release from: %v", commit, err)
	}
	tree := filepath.Join(tb.TempDir(), "tree")
	archive := tree + ".tar"
	for _, args := range [][]string{
		{"mkdir", tree},
		{"git", "archive", "-o", archive, commit},
		{"tar", "-xf", archive, "-C", tree},
	} {
		if err := run(Root(), args...); err != nil {
			tb.Fatal(err)
		}
	}
	path := build(tb, tree, commit, "")
	keep(key, path)
	return path
}

// run runs a program in dir to its end.
func run(dir string, args ...string) error {
	cmd := exec.CommandContext(context.Background(), args[0], args[1:]...) //nolint:gosec // the words are ours
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// keep remembers what was built, with the lock held.
func keep(key, path string) {
	if built.paths == nil {
		built.paths = map[string]string{}
	}
	built.paths[key] = path
}

// build compiles the tree at root, with the lock held. It builds with CGO_ENABLED=0 as the release
// does.
func build(tb testing.TB, root, name, tags string) string {
	tb.Helper()
	path := filepath.Join(mustBuiltDir(tb), "holdfast-"+strings.ReplaceAll(name, ",", "-"))
	if _, err := os.Stat(path); err == nil && os.Getenv(sandboxBuilt) != "" {
		return path // by another sandbox of the same test process
	}
	cmd := exec.CommandContext(context.Background(), "go", "build", "-tags", tags, "-o", path, "./cmd/holdfast") //nolint:gosec // tags are the test's
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		tb.Fatalf("go build ./cmd/holdfast: %v\n%s", err, out)
	}
	return path
}

// builtDir is where binaries are built.
func builtDir(tb testing.TB) string {
	tb.Helper()
	built.Lock()
	defer built.Unlock()
	return mustBuiltDir(tb)
}

// mustBuiltDir is builtDir with the lock held.
func mustBuiltDir(tb testing.TB) string {
	tb.Helper()
	if built.dir == "" {
		built.dir = os.Getenv(sandboxBuilt)
	}
	if built.dir == "" {
		dir, err := os.MkdirTemp("", "holdfast-bin-") //nolint:usetesting // outlives the test that asks first
		if err != nil {
			tb.Fatal(err)
		}
		built.dir = dir
	}
	return built.dir
}

// Root is the root directory of this repository.
func Root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "."
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}
