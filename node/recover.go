package node

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/config"
)

// Recover makes the node that cfg describes, which must not run, a cluster of its own,
// for when a majority of its cluster's disks is lost for good. It changes nothing
// unless accept is the cluster's present id. The report says what was found or done,
// for people.
func Recover(cfg *config.Config, log *slog.Logger, accept string) (report string, err error) {
	c := cluster.Config{
		NodeID: cfg.NodeID, Dir: cfg.Dir, Announce: cfg.AnnouncedRaft(), Secret: cfg.ClusterSecret, Join: cfg.Join,
		ElectionTimeout: cfg.ElectionTimeout, Logger: log,
		Log: cluster.LogConfig{Store: cfg.LogStore, MaxEntryBytes: mostEntryBytes},
	}
	for _, p := range cfg.Peers {
		c.Peers = append(c.Peers, cluster.Peer(p))
	}
	found, err := cluster.Recover(c, accept)
	switch {
	case errors.Is(err, cluster.ErrNoConsent):
		return proposal(cfg, &found), err
	case err != nil:
		return "", err
	}
	return fmt.Sprintf(`%s is a cluster of its own now: %s, from entry %d in term %d on.
Start it. Empty the directories of all other nodes and start them with join, under their old ids or new ones.
`, cfg.NodeID, found.Cluster, found.Index, found.Term), nil
}

// proposal says what recovery would mean.
func proposal(cfg *config.Config, found *cluster.Recovery) string {
	var members []string
	for _, m := range found.Members {
		members = append(members, m.ID)
	}
	return fmt.Sprintf(`%s holds node %s of cluster %s, with the log up to entry %d of term %d.
The members are %s.

Recovery makes this node the only member. Everything the log here lacks is lost, although it may have been acknowledged;
and what it has stands, although it may never have been acknowledged. Do it only if a majority of the members
cannot come back: stop those that are left, run this command on each without consent, and choose the one whose last entry has the
highest term, and among those the highest entry. The others can never be part of this cluster again with the directories they have: empty
them before they are started.

To consent, add --accept-loss=%[3]s
`, cfg.Dir, cfg.NodeID, found.Cluster, found.Index, found.Term, strings.Join(members, ", "))
}
