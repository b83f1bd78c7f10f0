package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/hashicorp/raft"
)

// Recovery is what a directory holds from which a cluster whose majority is lost can
// be begun again.
type Recovery struct {
	Cluster     string   // its id, with the incarnation
	Index, Term uint64   // of the last entry
	Members     []Member // of its latest configuration
}

// ErrNoConsent is why Recover has changed nothing: accept was not the cluster's id.
var ErrNoConsent = errors.New("nothing was changed")

// Recover makes the node of a directory, which no process uses, a cluster of its own:
// it is the only member from then on, and the cluster's id has a new incarnation, so
// that no node of the old one can connect, vote, acknowledge or be counted. Whatever
// the directory lacks of what others have acknowledged is lost, and entries it has
// that were never acknowledged stand. That is done only if accept is the cluster's
// present id; otherwise the error is ErrNoConsent, and what was found is returned
// with it. An attempt that was interrupted can be repeated.
func Recover(cfg Config, accept string) (found Recovery, err error) {
	if cfg, err = cfg.withDefaults(); err != nil {
		return Recovery{}, err
	}
	n := &Node{cfg: cfg, log: cfg.Logger, hclog: raftLogger(cfg.Logger)}
	defer func() { err = errors.Join(err, n.closeStorage()) }()
	if n.dir, err = openDirectory(cfg.Dir); err != nil {
		return Recovery{}, err
	}
	id, err := n.dir.readIdentity(&cfg)
	switch {
	case err != nil:
		return Recovery{}, err
	case id.Stage != stageFormed:
		return Recovery{}, fmt.Errorf("%s holds no node of a cluster", cfg.Dir)
	}
	n.identity.Store(&id)
	if err := n.checkFiles(); err != nil {
		return Recovery{}, err
	}
	if err := n.openForRecovery(); err != nil {
		return Recovery{}, err
	}
	if found, err = n.lookBack(); err != nil || accept != id.ClusterID {
		return found, errors.Join(err, ErrNoConsent)
	}
	return n.beginAgain(&found)
}

// openForRecovery opens the stores.
func (n *Node) openForRecovery() error {
	fail := func(error) {} // the errors are returned as well
	var err error
	if n.stable, err = openStable(filepath.Join(n.dir.raft(), stableFile), fail); err != nil {
		return fmt.Errorf("term and vote: %w", err)
	}
	back, err := openBackend(n.cfg.Log.Store, n.dir.raft(), n.hclog)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	n.logs = &logStore{back: back}
	if n.snaps, err = raft.NewFileSnapshotStoreWithLogger(n.dir.raft(), 2, n.hclog); err != nil {
		return fmt.Errorf("snapshots: %w", err)
	}
	return n.checkState()
}

// lookBack finds the end of the log and its latest configuration.
func (n *Node) lookBack() (Recovery, error) {
	r := Recovery{Cluster: n.identity.Load().ClusterID}
	snapshots, err := n.snaps.List()
	if err != nil {
		return r, fmt.Errorf("snapshots: %w", err)
	}
	if len(snapshots) > 0 {
		s := snapshots[0]
		r.Index, r.Term, r.Members = s.Index, s.Term, membersOf(&s.Configuration)
	}
	last, err := n.logs.back.LastIndex()
	if err != nil {
		return r, fmt.Errorf("log: %w", err)
	}
	for i := r.Index + 1; i <= last; i++ {
		var e raft.Log
		if err := n.logs.back.GetLog(i, &e); err != nil {
			return r, fmt.Errorf("entry %d of the log: %w", i, err)
		}
		r.Index, r.Term = e.Index, e.Term
		if e.Type == raft.LogConfiguration {
			c := raft.DecodeConfiguration(e.Data)
			r.Members = membersOf(&c)
		}
	}
	return r, nil
}

// beginAgain writes what makes the node a cluster of its own. The new incarnation
// comes first: without the rest the node finds no majority, and with the rest alone it
// would be a second cluster of the same name.
func (n *Node) beginAgain(found *Recovery) (Recovery, error) {
	term, err := n.stable.GetUint64([]byte(keyTerm))
	if err != nil {
		return *found, fmt.Errorf("term and vote: %w", err)
	}
	var drawn [8]byte
	if _, err := rand.Read(drawn[:]); err != nil {
		return *found, fmt.Errorf("draw incarnation: %w", err)
	}
	base, _, _ := strings.Cut(found.Cluster, incarnationMark)
	self := Member{ID: n.cfg.NodeID, Addr: n.cfg.announced(), Voter: true}
	next := Recovery{
		Cluster: base + incarnationMark + hex.EncodeToString(drawn[:]),
		Index:   found.Index + 1, Term: max(term, found.Term) + 1, Members: []Member{self},
	}
	id := *n.identity.Load()
	id.ClusterID, id.Joined, id.Seeking = next.Cluster, next.Index, false
	id.Peers = []Peer{{self.ID, self.Addr}}
	if err := n.dir.writeIdentity(id); err != nil {
		return *found, err
	}
	if err := n.stable.SetUint64([]byte(keyTerm), next.Term); err != nil {
		return next, fmt.Errorf("term and vote: %w", err)
	}
	only := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(self.ID), Address: raft.ServerAddress(self.Addr)}}}
	err = n.logs.back.StoreLog(&raft.Log{Index: next.Index, Term: next.Term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(only)})
	if err != nil {
		return next, fmt.Errorf("log: %w", err)
	}
	return next, nil
}

// incarnationMark stands between the name a cluster was formed with and the
// incarnation that recovery has given it.
const incarnationMark = "."

// BaseID is a cluster's id without the incarnation: what its state was formed with.
func BaseID(cluster string) string {
	base, _, _ := strings.Cut(cluster, incarnationMark)
	return base
}
