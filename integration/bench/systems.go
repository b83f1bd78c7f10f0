package main

import (
	"net"
	"slices"
	"strconv"

	"github.com/holdfast/holdfast/internal/testkit"
)

// The systems, in the order in which they are measured and shown.
const (
	everysec  = "redis-everysec"
	always    = "redis-always"
	wait      = "redis-always-wait"
	waitBatch = "redis-always-wait-batch"
	holdfast  = "holdfast"
	leased    = "holdfast-lease" // only if it is asked for
)

// replicas is how many nodes stand beside the one that serves.
const replicas = 2

// systemNames are the systems that are measured unless others are asked for.
func systemNames() []string { return []string{everysec, always, wait, waitBatch, holdfast} }

// knownSystems are all.
func knownSystems() []string { return append(systemNames(), leased) }

// describe says in one line what a system's name means.
func describe(name string) string {
	switch name {
	case everysec:
		return "1 master + 2 replicas, appendfsync everysec"
	case always:
		return "1 master + 2 replicas, appendfsync always"
	case wait:
		return "the same, each SET followed by `WAIT 1 0`"
	case waitBatch:
		return "the same, one `WAIT 1 0` at the end of each pipeline"
	case leased:
		return "3 nodes, `read-mode lease`"
	default:
		return "3 nodes, default settings"
	}
}

// system is a running one.
type system struct {
	name string
	addr string // where the load goes
	pids []int  // of all its server processes
	ops  []op
}

// op is a command under load.
type op struct {
	name        string
	build       func(b []byte, key, value string) []byte // appends one command
	perCommand  func(b []byte) []byte                    // appended after each command, if not nil
	perBatch    func(b []byte) []byte                    // appended after each pipeline, if not nil
	minPipeline int                                      // left out below it
}

func buildSet(b []byte, key, value string) []byte {
	return testkit.AppendCommand(b, "SET", key, value)
}

func buildGet(b []byte, key, _ string) []byte { return testkit.AppendCommand(b, "GET", key) }

func appendWait(b []byte) []byte { return testkit.AppendCommand(b, "WAIT", "1", "0") }

// start starts the system with that name; it ends with the host.
func start(h *host, name string, opts options) system {
	set, get := op{name: "SET", build: buildSet}, op{name: "GET", build: buildGet}
	switch name {
	case holdfast:
		return startHoldfast(h, opts, name, []op{set, get})
	case leased:
		opts.args = append(slices.Clone(opts.args), "--read-mode", "lease")
		return startHoldfast(h, opts, name, []op{set, get})
	case wait:
		set.perCommand = appendWait
		return startRedis(h, opts, name, "always", []op{set})
	case waitBatch:
		set.perBatch, set.minPipeline = appendWait, 2
		return startRedis(h, opts, name, "always", []op{set})
	case everysec:
		return startRedis(h, opts, name, "everysec", []op{set, get})
	default:
		return startRedis(h, opts, name, "always", []op{set, get})
	}
}

func startRedis(h *host, opts options, name, fsync string, ops []op) system {
	directives := []string{"--bind", "127.0.0.1 -::1", "--appendonly", "yes", "--appendfsync", fsync}
	master := testkit.StartRedis(h, directives...)
	sys := system{name: name, addr: net.JoinHostPort(opts.host, strconv.Itoa(master.Port)), pids: []int{master.Pid()}, ops: ops}
	for range replicas {
		sys.pids = append(sys.pids, testkit.StartReplica(h, master, directives...).Pid())
	}
	return sys
}

func startHoldfast(h *host, opts options, name string, ops []op) system {
	cluster := testkit.StartCluster(h, testkit.ClusterOptions{Size: 1 + replicas, Args: opts.args, Host: opts.host})
	master, err := cluster.FindMaster()
	if err != nil {
		h.Fatal(err)
	}
	sys := system{name: name, addr: cluster.Nodes[master].Addr(), ops: ops}
	for _, n := range cluster.Nodes {
		sys.pids = append(sys.pids, n.Pid())
	}
	return sys
}
