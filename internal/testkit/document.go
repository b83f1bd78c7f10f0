package testkit

import (
	"os"
	"path/filepath"
	"testing"
)

// CheckDocument fails the test unless the file of that name below docs is exactly
// want. With rewrite it writes the file instead.
func CheckDocument(tb testing.TB, name, want string, rewrite bool) {
	tb.Helper()
	path := filepath.Join(Root(), "docs", name)
	if rewrite {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil { //nolint:gosec // a document is for all to read
			tb.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(path) //nolint:gosec // the test names it
	if err != nil {
		tb.Fatal(err)
	}
	if string(got) != want {
		tb.Errorf("docs/%s is stale: run make docs", name)
	}
}
