package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Validate checks what no directive can check alone, and the value of each, which
// need not come from Load. The error lists every problem, one a line.
func (c *Config) Validate() error {
	return errors.Join(c.validateValues(), c.validateCluster(), c.validatePorts(), c.validateSizes())
}

// validateValues has every directive read what it would show.
func (c *Config) validateValues() error {
	var errs []error
	scratch := *c
	for i := range directives {
		d := &directives[i]
		if err := d.assign(&scratch, d.kind.get(c)); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", d.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) validateCluster() error {
	if len(c.Join) > 0 {
		return c.validateJoin()
	}
	if len(c.Peers) == 0 {
		return nil
	}
	var errs []error
	if c.ClusterSecret == "" {
		errs = append(errs, errors.New("peers: a cluster needs cluster-secret, the same on every node"))
	}
	if _, ok := c.self(); !ok {
		errs = append(errs, c.notListed())
	}
	if c.RaftPort == 0 {
		errs = append(errs, errors.New("raft-port: a cluster needs one"))
	}
	return errors.Join(errs...)
}

// validateJoin checks a node that a running cluster is to take in.
func (c *Config) validateJoin() error {
	var errs []error
	if len(c.Peers) > 0 {
		errs = append(errs, errors.New("join: peers form a new cluster and join enters one; only one of them can be given"))
	}
	if c.ClusterSecret == "" {
		errs = append(errs, errors.New("join: a cluster needs cluster-secret, the same on every node"))
	}
	if c.NodeID == "" {
		errs = append(errs, errors.New("node-id: a node that joins needs one that no other node has or had"))
	}
	if c.RaftPort == 0 {
		errs = append(errs, errors.New("raft-port: a cluster needs one"))
	}
	if c.RaftAnnounce == "" && !slices.ContainsFunc(c.BindAddresses(), func(b BindAddress) bool { return !b.wildcard() }) {
		errs = append(errs, errors.New("raft-announce: a node that joins has to say where the others reach it, as bind names no address"))
	}
	return errors.Join(errs...)
}

func (c *Config) notListed() error {
	ids := make([]string, len(c.Peers))
	for i, p := range c.Peers {
		ids[i] = p.ID
	}
	if c.NodeID == "" {
		return fmt.Errorf("node-id: one of the ids in peers is needed: %s", strings.Join(ids, ", "))
	}
	return fmt.Errorf("node-id: '%s' is not in peers, which lists %s", c.NodeID, strings.Join(ids, ", "))
}

// validatePorts refuses one port for two purposes: all listen on the same addresses.
func (c *Config) validatePorts() error {
	var errs []error
	used := map[int]string{}
	for _, p := range []struct {
		name string
		port int
	}{
		{"port", c.Port},
		{"sentinel-port", c.SentinelPort},
		{"raft-port", c.RaftPort},
		{"metrics-port", c.MetricsPort},
	} {
		if other, taken := used[p.port]; taken && p.port != 0 {
			errs = append(errs, fmt.Errorf("%s: %d is %s already", p.name, p.port, other))
		}
		used[p.port] = p.name
	}
	return errors.Join(errs...)
}

func (c *Config) validateSizes() error {
	if c.ProtoMaxBulkLen > c.MaxEntryBytes {
		return fmt.Errorf("proto-max-bulk-len: at most max-entry-bytes, which is %d", c.MaxEntryBytes)
	}
	return nil
}
