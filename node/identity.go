package node

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast/holdfast/internal/durable"
)

// runIDFile holds the run id of the node: 40 hex digits, as clients know them
// from Redis and Sentinel. It is made at the first start and kept, because
// Sentinel clients tell nodes apart by it.
const runIDFile = "run-id"

// runID reads the node's run id from dir, or makes one and stores it there.
func runID(dir string) (string, error) {
	path := filepath.Join(dir, runIDFile)
	text, err := os.ReadFile(path) //nolint:gosec // a fixed name in our own directory
	switch {
	case err == nil:
		id := strings.TrimSpace(string(text))
		if raw, err := hex.DecodeString(id); err != nil || len(raw) != 20 {
			return "", fmt.Errorf("%s does not hold 40 hex digits", path)
		}
		return id, nil
	case !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read run id: %w", err)
	}
	raw := make([]byte, 20)
	if _, err := rand.Read(raw); err != nil {
		return "", fmt.Errorf("make run id: %w", err)
	}
	id := hex.EncodeToString(raw)
	if err := durable.WriteFile(path, []byte(id+"\n")); err != nil {
		return "", fmt.Errorf("store run id: %w", err)
	}
	return id, nil
}
