package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// MasterName is the name under which the nodes show their cluster to Sentinel clients.
const MasterName = "mymaster"

// formLimit bounds how long a cluster may take until it has a master, with both
// processors busy.
const formLimit = 30 * time.Second

// maxNodes is how many nodes fit a block of ports, an uninvited one included.
const maxNodes = 4

// ClusterOptions say how a cluster differs from the plain one of three nodes.
type ClusterOptions struct {
	Size int      // number of nodes, 3 if 0; 1 is a cluster of one without peers
	Tags []string // build tags of the binary
	Path string   // an executable to use instead
	Args []string // more flags for every node
	Host string   // address on loopback on which all ports listen, 127.0.0.1 if empty
	// Network has each node run on a host of its own, with the same index and in place
	// of Host.
	Network *Network
	// Names are what the nodes are called, instead of by their hosts' addresses, by
	// their peers and clients. They listen on every address of their hosts then.
	Names []string
	// NodeArgs gives more flags for the node with this index, if not nil.
	NodeArgs func(i int) []string
}

// Cluster is a set of holdfast processes, on loopback or a Network. Its methods are for the
// test's goroutine unless they say otherwise.
type Cluster struct {
	Nodes []*Node

	tb     testing.TB
	secret string
	first  int // the first port of its block
	opts   ClusterOptions
}

// Node is one process of a cluster. Its ports and directory stay the same over restarts.
type Node struct {
	*Process
	ID                                        string
	DataDir                                   string
	host                                      string
	machine                                   *Host // nil for this one
	Port, SentinelPort, RaftPort, MetricsPort int
}

// Addr is the data port's address.
func (n *Node) Addr() string { return hostPort(n.host, n.Port) }

// SentinelAddr is the Sentinel port's address.
func (n *Node) SentinelAddr() string { return hostPort(n.host, n.SentinelPort) }

// MetricsURL is where the node's HTTP pages begin, without a slash at the end.
func (n *Node) MetricsURL() string { return "http://" + hostPort(n.host, n.MetricsPort) }

// StartCluster starts a cluster, waits until it has a master with every other
// node connected to it, and ends it with the test.
func StartCluster(tb testing.TB, opts ClusterOptions) *Cluster {
	tb.Helper()
	c := NewCluster(tb, opts)
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitWhole(formLimit)
	return c
}

// NewCluster prepares a cluster and starts none of it.
func NewCluster(tb testing.TB, opts ClusterOptions) *Cluster {
	tb.Helper()
	if opts.Size == 0 {
		opts.Size = 3
	}
	if opts.Host == "" {
		opts.Host = "127.0.0.1"
	}
	c := &Cluster{tb: tb, secret: "integration-" + strconv.Itoa(os.Getpid()), first: Ports(tb), opts: opts}
	for i := range opts.Size {
		var own []string
		if opts.NodeArgs != nil {
			own = opts.NodeArgs(i)
		}
		c.Nodes = append(c.Nodes, c.newNode(i, own))
	}
	return c
}

// NewNode prepares a process that is told the cluster's peers but is not one of
// its nodes: with an id, ports and a directory of its own, started with flags
// that come last and so win over the cluster's.
func (c *Cluster) NewNode(flags ...string) *Node {
	c.tb.Helper()
	return c.newNode(maxNodes-1, flags)
}

// NewJoiner prepares a process with the given id that asks the cluster to take it in,
// through the nodes given. It has a directory and a block of ports of its own and is
// not among the cluster's Nodes.
func (c *Cluster) NewJoiner(id string, through ...*Node) *Node {
	c.tb.Helper()
	first := Ports(c.tb)
	n := &Node{ID: id, host: c.opts.Host, Port: first, SentinelPort: first + 1, RaftPort: first + 2, MetricsPort: first + 3}
	addrs := make([]string, len(through))
	for i, o := range through {
		addrs[i] = Loopback(o.RaftPort)
	}
	c.prepare(n, "--cluster-secret", c.secret, "--join", strings.Join(addrs, ","))
	return n
}

func (c *Cluster) newNode(i int, own []string) *Node {
	n := &Node{
		ID: fmt.Sprintf("n%d", i+1), host: c.host(i),
		Port: c.first + i, SentinelPort: c.first + maxNodes + i,
		RaftPort: c.first + 2*maxNodes + i, MetricsPort: c.first + 3*maxNodes + i,
	}
	if c.opts.Size > 1 {
		own = append([]string{"--cluster-secret", c.secret, "--peers", c.peers()}, append(slices.Clone(c.opts.Args), own...)...)
	} else {
		own = append(slices.Clone(c.opts.Args), own...)
	}
	if c.opts.Names != nil {
		own = append([]string{"--bind", "0.0.0.0"}, own...)
	}
	if c.opts.Network != nil {
		n.machine = c.opts.Network.Host(i)
		own = append([]string{"--protected-mode", "no"}, own...) // there is nobody else on that network
	}
	c.prepare(n, own...)
	return n
}

// host is how the node with an index is called.
func (c *Cluster) host(i int) string {
	switch {
	case i < len(c.opts.Names):
		return c.opts.Names[i]
	case c.opts.Network != nil:
		return c.opts.Network.Host(i).Addr()
	default:
		return c.opts.Host
	}
}

// prepare gives a node its directory and its process.
func (c *Cluster) prepare(n *Node, own ...string) {
	dir := c.tb.TempDir()
	n.DataDir = filepath.Join(dir, "data")
	args := []string{
		"--node-id", n.ID, "--dir", n.DataDir, "--bind", n.host,
		"--port", strconv.Itoa(n.Port), "--sentinel-port", strconv.Itoa(n.SentinelPort),
		"--raft-port", strconv.Itoa(n.RaftPort), "--metrics-port", strconv.Itoa(n.MetricsPort),
	}
	path := c.opts.Path
	if path == "" {
		path = Binary(c.tb, c.opts.Tags...)
	}
	n.Process = NewProcess(c.tb, Command{
		Name: n.ID, Path: path, Args: append(args, own...), Dir: dir, Host: n.machine,
	})
}

func (c *Cluster) peers() string {
	list := make([]string, c.opts.Size)
	for i := range list {
		list[i] = fmt.Sprintf("n%d=%s", i+1, hostPort(c.host(i), c.first+2*maxNodes+i))
	}
	return strings.Join(list, ",")
}

// Secret is the cluster's secret.
func (c *Cluster) Secret() string { return c.secret }

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// Sentinels are the addresses of all Sentinel ports.
func (c *Cluster) Sentinels() []string {
	list := make([]string, len(c.Nodes))
	for i, n := range c.Nodes {
		list[i] = n.SentinelAddr()
	}
	return list
}

// errNoMaster says that no node calls itself master.
var errNoMaster = errors.New("no node says it is master")

// FindMaster is the index of the node that calls itself master. It may be called
// from any goroutine.
func (c *Cluster) FindMaster() (int, error) {
	for i, n := range c.Nodes {
		if role, err := Role(n.Addr()); err == nil && role == "master" {
			return i, nil
		}
	}
	return -1, errNoMaster
}

// Role asks the node at addr for its role: "master", "slave", "sentinel".
func Role(addr string) (string, error) {
	c, err := Dial(addr, 500*time.Millisecond)
	if err != nil {
		return "", err
	}
	defer c.Close()
	r, err := c.Do("ROLE")
	if err != nil {
		return "", err
	}
	if len(r.Elems) == 0 {
		return "", fmt.Errorf("ROLE answers %v", r)
	}
	return string(r.Elems[0].Text), nil
}

// WaitMaster waits until a node calls itself master and returns its index.
func (c *Cluster) WaitMaster(limit time.Duration) int {
	c.tb.Helper()
	master := -1
	Eventually(c.tb, limit, "a master", func() error {
		var err error
		master, err = c.FindMaster()
		return err
	})
	return master
}

// WaitWhole waits until there is a master, every other node has caught up with it
// and serves as its replica, and every Sentinel port shows all of them in good
// health. It returns the master's index.
func (c *Cluster) WaitWhole(limit time.Duration) int {
	c.tb.Helper()
	master := -1
	Eventually(c.tb, limit, "the whole cluster", func() error {
		var err error
		if master, err = c.FindMaster(); err != nil {
			return err
		}
		for i := range c.Nodes {
			if err := c.healthy(i, master); err != nil {
				return fmt.Errorf("%s: %w", c.Nodes[i].ID, err)
			}
		}
		return nil
	})
	return master
}

// healthy tells what is missing to a node's health, given the master.
func (c *Cluster) healthy(i, master int) error {
	info, err := infoOf(c.Nodes[i].Addr())
	if err != nil {
		return err
	}
	want := map[string]string{"loading": "0", "role": "slave", "master_link_status": "up"}
	replicas := strconv.Itoa(len(c.Nodes) - 1)
	if i == master {
		want = map[string]string{"loading": "0", "role": "master", "connected_slaves": replicas}
	}
	for field, value := range want {
		if info[field] != value {
			return fmt.Errorf("INFO says %s:%s, want %s", field, info[field], value)
		}
	}
	return c.shows(c.Nodes[i].SentinelAddr(), map[string]string{
		"port": strconv.Itoa(c.Nodes[master].Port), "flags": "master", "num-slaves": replicas, "num-other-sentinels": replicas,
	})
}

// shows tells what a Sentinel port shows of the master that is not as wanted.
func (c *Cluster) shows(sentinel string, want map[string]string) error {
	client, err := Dial(sentinel, time.Second)
	if err != nil {
		return err
	}
	defer client.Close()
	r, err := client.Do("SENTINEL", "MASTER", MasterName)
	if err != nil {
		return err
	}
	for field, value := range want {
		if got := string(r.Map()[field].Text); got != value {
			return fmt.Errorf("its Sentinel port shows %s %s, want %s", field, got, value)
		}
	}
	return nil
}

// infoOf is INFO of the node at addr.
func infoOf(addr string) (map[string]string, error) {
	c, err := Dial(addr, time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r, err := c.Do("INFO")
	if err != nil {
		return nil, err
	}
	return ParseInfo(string(r.Text)), nil
}

// ParseInfo is the text of INFO by field name.
func ParseInfo(text string) map[string]string {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimRight(line, "\r\n"), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// Alive are the indexes of the nodes whose processes run.
func (c *Cluster) Alive() []int {
	var list []int
	for i, n := range c.Nodes {
		if n.Running() {
			list = append(list, i)
		}
	}
	return list
}
