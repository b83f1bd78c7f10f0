package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holdfast/holdfast/internal/durable"
)

// Names inside the data directory.
const (
	lockFile     = "lock"
	identityFile = "node.json"
	raftDir      = "raft"
)

// formatVersion is that of the data directory. A directory with a higher one was
// written by a newer release and is not touched.
const formatVersion = 1

// stage is how far a node has come in forming a cluster. It only ever rises.
type stage string

const (
	stageEmpty  stage = "empty"  // knows no cluster
	stageReady  stage = "ready"  // has a durable mark with list and cluster id, but raft has never run
	stageFormed stage = "formed" // raft's first configuration is durable

	// stageJoining is what a node enters instead of the last two when a cluster takes
	// it in: its log may still be empty, and it has never counted for a majority.
	stageJoining stage = "joining"
)

// identity is what identityFile holds.
type identity struct {
	Format    int    `json:"format"`
	NodeID    string `json:"node_id"`
	ClusterID string `json:"cluster_id,omitempty"` // from stageReady on
	Stage     stage  `json:"stage"`
	Peers     []Peer `json:"peers,omitempty"` // the list that was agreed on, from stageReady on
	LogStore  string `json:"log_store"`

	// Claim is the cluster whose leader has said that this empty node's id was a
	// member: it may ask to be taken in again.
	Claim string `json:"claim,omitempty"`
	// Joined is the index of the configuration that has taken this node in, 0 for
	// those that have formed the cluster. Peers are the members then.
	Joined uint64 `json:"joined,omitempty"`
	// Seeking: it was taken in and has not had a vote since; it asks for one.
	Seeking bool `json:"seeking,omitempty"`
}

// entered tells whether the node belongs to a cluster, so that raft may run.
func (id *identity) entered() bool { return id.Stage == stageFormed || id.Stage == stageJoining }

// directory is a data directory that this process holds alone.
type directory struct {
	path string
	lock *os.File
}

// openDirectory makes the data directory if it is missing and takes it. What a killed
// process left for raft is synced before anybody reads it: raft answers for entries and
// votes that it finds.
func openDirectory(path string) (*directory, error) {
	if err := os.MkdirAll(filepath.Join(path, raftDir), 0o750); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(path, lockFile), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the directory we were given
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // the reason to fail is the lock
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %s is in use by another process", path)
		}
		return nil, fmt.Errorf("lock data directory %s: %w", path, err)
	}
	d := &directory{path: path, lock: f}
	if err := durable.SyncTree(d.raft()); err != nil {
		return nil, errors.Join(fmt.Errorf("data directory: %w", err), d.release())
	}
	return d, nil
}

// release lets another process take the directory.
func (d *directory) release() error { return d.lock.Close() }

func (d *directory) raft() string { return filepath.Join(d.path, raftDir) }

// readIdentity reads what the directory is, and refuses one that is not ours. A
// fresh directory gives an identity at stageEmpty that is not yet stored.
func (d *directory) readIdentity(c *Config) (identity, error) {
	path := filepath.Join(d.path, identityFile)
	text, err := os.ReadFile(path) //nolint:gosec // a fixed name in our own directory
	if errors.Is(err, fs.ErrNotExist) {
		return identity{Format: formatVersion, NodeID: c.NodeID, Stage: stageEmpty, LogStore: c.Log.Store}, nil
	}
	if err != nil {
		return identity{}, fmt.Errorf("data directory: %w", err)
	}
	var id identity
	if err := json.Unmarshal(text, &id); err != nil {
		return identity{}, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return id, id.check(path, c)
}

func (id *identity) check(path string, c *Config) error {
	switch {
	case id.Format > formatVersion:
		return fmt.Errorf("%s has format %d, written by a newer release; this one knows %d", path, id.Format, formatVersion)
	case id.Format < 1:
		return fmt.Errorf("%s is damaged: format %d", path, id.Format)
	case id.NodeID != c.NodeID:
		return fmt.Errorf("%s belongs to node %s, not to %s", path, id.NodeID, c.NodeID)
	case id.LogStore != c.Log.Store:
		return fmt.Errorf("%s: the log is kept in %s and cannot be opened as %s", path, id.LogStore, c.Log.Store)
	case id.Stage != stageEmpty && id.Stage != stageReady && !id.entered(),
		(id.Stage == stageEmpty) != (id.ClusterID == ""):
		return fmt.Errorf("%s is damaged: stage %q with cluster id %q", path, id.Stage, id.ClusterID)
	case id.Stage == stageReady && len(c.Join) > 0:
		return fmt.Errorf("%s: this node has begun to form a cluster of its own; to join another one empty the directory", path)
	case id.Stage == stageFormed && id.Joined == 0 && len(id.Peers) == 1 && len(c.Join) > 0:
		return fmt.Errorf("%s belongs to a cluster of one node; to join another one empty the directory", path)
	case id.Stage != stageEmpty && len(id.Peers) > 1 && c.alone():
		return fmt.Errorf("%s belongs to a cluster of %d nodes; set peers", path, len(id.Peers))
	case id.Stage == stageReady && !slices.Equal(id.Peers, c.sortedPeers()):
		return fmt.Errorf("%s: formation was begun with another list of peers; restore it; or, if no node has served yet, empty the directories of all", path)
	}
	return nil
}

// writeIdentity stores id so that after a crash either the old or the new one is
// there.
func (d *directory) writeIdentity(id identity) error {
	text, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(d.path, identityFile), append(text, '\n')); err != nil {
		return fmt.Errorf("store identity: %w", err)
	}
	return nil
}

// newClusterID draws the name of a new cluster.
func newClusterID() (string, error) {
	var raw [16]byte
	if _, err := rand.Read(raw[:]); err != nil {
		return "", fmt.Errorf("draw cluster id: %w", err)
	}
	return hex.EncodeToString(raw[:]), nil
}
