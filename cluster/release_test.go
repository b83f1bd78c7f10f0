//go:build !faults

package cluster_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// In a release the control file of faults does nothing.
func TestReleaseIgnoresTheControlFile(t *testing.T) {
	m := single(t, nil)
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	if err := os.WriteFile(filepath.Join(m.cfg.Dir, "faults.json"), []byte(`{"store":"eio"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	pause(100 * time.Millisecond)
	if err := m.node.Apply([]byte("a=b"), time.Second).Error(); err != nil {
		t.Error(err)
	}
}
