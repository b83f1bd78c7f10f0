package testkit

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Outside is where the test itself is: the clients of a Network's hosts.
const Outside = -1

// Network is a switch with a number of hosts on it, each a network namespace with an
// address of its own, and the test itself. Whatever passes between any two of them
// can be held up. Cut packets vanish, as on a real network: nobody is told. It lives
// in a Sandbox and ends with it.
type Network struct {
	tb    testing.TB
	hosts []*Host

	mu    sync.Mutex // one change after the other
	moves int        // addresses given out by Move
}

// Host is one machine on a Network.
type Host struct {
	addr string
	link string // the end of its cable at the switch
	ns   int    // its network namespace, a file descriptor
	home int    // the test's own
}

// Path is one direction between two hosts, by index; Outside is the test.
type Path struct {
	From, To int
	Loss     int // percent of the packets that vanish, all if 0
}

const (
	netPrefix = "10.83.0."
	switchOwn = netPrefix + "1" // the test's address
	netMask   = "/24"
	firstHost = 11  // last part of the first host's address
	firstMove = 101 // and of the first address after those
	hostEnd   = "eth0"
)

// NewNetwork makes a network with hosts on it.
func NewNetwork(tb testing.TB, hosts int) *Network {
	tb.Helper()
	needSandbox(tb)
	n := &Network{tb: tb}
	home, err := unix.Open("/proc/self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tool(tb, "ip", "link", "add", "switch", "type", "bridge")
	tool(tb, "ip", "addr", "add", switchOwn+netMask, "dev", "switch")
	tool(tb, "ip", "link", "set", "switch", "up")
	for i := range hosts {
		h := &Host{addr: netPrefix + number(firstHost+i), link: "port" + number(i), home: home}
		if h.ns, err = newNamespace(home); err != nil {
			tb.Fatalf("a network namespace: %v", err)
		}
		n.hosts = append(n.hosts, h)
		n.plug(h)
	}
	return n
}

// newNamespace makes a network namespace that lives as long as its descriptor.
func newNamespace(home int) (ns int, err error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return -1, err
	}
	ns, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if back := unix.Setns(home, unix.CLONE_NEWNET); back != nil {
		return -1, back // the thread stays locked: it is of no more use
	}
	runtime.UnlockOSThread()
	return ns, err
}

// plug lays the cable from the switch to a host and gives the host its address.
func (n *Network) plug(h *Host) {
	n.tb.Helper()
	far := h.link + "far"
	tool(n.tb, "ip", "link", "add", h.link, "type", "veth", "peer", "name", far)
	tool(n.tb, "ip", "link", "set", far, "netns", fmt.Sprintf("/proc/%d/fd/%d", unix.Getpid(), h.ns))
	tool(n.tb, "ip", "link", "set", h.link, "master", "switch", "up")
	h.tools(n.tb,
		[]string{"ip", "link", "set", "lo", "up"},
		[]string{"ip", "link", "set", far, "name", hostEnd},
		[]string{"ip", "addr", "add", h.addr + netMask, "dev", hostEnd},
		[]string{"ip", "link", "set", hostEnd, "up"},
	)
}

// tools runs programs inside the host.
func (h *Host) tools(tb testing.TB, commands ...[]string) {
	tb.Helper()
	for _, c := range commands {
		if err := h.Do(func() error { return run("", c...) }); err != nil {
			tb.Fatal(err)
		}
	}
}

// Host is the host with an index.
func (n *Network) Host(i int) *Host { return n.hosts[i] }

// Addr is the host's address.
func (h *Host) Addr() string { return h.addr }

// Do calls f on a thread that is inside the host: connections that f itself makes, to
// or from addresses and not names, and processes that it starts are the host's. What
// f hands to other goroutines is not. It may be called from any goroutine.
func (h *Host) Do(f func() error) error {
	runtime.LockOSThread()
	if err := unix.Setns(h.ns, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err := f()
	if back := unix.Setns(h.home, unix.CLONE_NEWNET); back != nil {
		return back // the thread stays locked: it is of no more use
	}
	runtime.UnlockOSThread()
	return err
}

// Move gives a host another address, one that nobody had before. Connections over the
// old one are dead, without a word to the other end.
func (n *Network) Move(i int) {
	n.tb.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[i]
	h.addr = netPrefix + number(firstMove+n.moves)
	n.moves++
	h.tools(n.tb,
		[]string{"ip", "addr", "flush", "dev", hostEnd},
		[]string{"ip", "addr", "add", h.addr + netMask, "dev", hostEnd},
	)
}

// Set holds up what passes along the paths, and nothing else: with none the network
// is whole. It takes effect at once and may be called from any goroutine; an error
// means that all is as before.
func (n *Network) Set(paths ...Path) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	var rules, script strings.Builder
	for _, p := range paths {
		fmt.Fprintf(&rules, "ip saddr %s ip daddr %s ", n.addr(p.From), n.addr(p.To))
		if p.Loss > 0 {
			fmt.Fprintf(&rules, "numgen random mod 100 < %d ", p.Loss)
		}
		rules.WriteString("drop\n")
	}
	script.WriteString("table bridge paths\ndelete table bridge paths\ntable bridge paths {\n")
	for _, hook := range []string{"forward", "input", "output"} {
		fmt.Fprintf(&script, "chain %s { type filter hook %s priority 0; policy accept;\n%s}\n", hook, hook, rules.String())
	}
	script.WriteString("}\n")
	cmd := exec.CommandContext(context.Background(), "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("nft (deploy/test-deps.sh installs it): %w\n%s", err, out)
	}
	return nil
}

// MustSet is Set for a test, which it fails.
func (n *Network) MustSet(paths ...Path) {
	n.tb.Helper()
	if err := n.Set(paths...); err != nil {
		n.tb.Fatal(err)
	}
}

func (n *Network) addr(i int) string {
	if i == Outside {
		return switchOwn
	}
	return n.hosts[i].addr
}

// OneWay is the way from one host to another.
func OneWay(from, to int) []Path { return []Path{{From: from, To: to}} }

// BothWays are the ways between two hosts.
func BothWays(a, b int) []Path { return []Path{{From: a, To: b}, {From: b, To: a}} }

// Alone are the ways between a host and all other hosts, but not the test.
func (n *Network) Alone(i int) []Path { return append(n.Deaf(i), n.Mute(i)...) }

// Deaf are the ways from all other hosts to a host.
func (n *Network) Deaf(i int) []Path {
	var paths []Path
	for j := range n.hosts {
		if j != i {
			paths = append(paths, Path{From: j, To: i})
		}
	}
	return paths
}

// Mute are the ways from a host to all others.
func (n *Network) Mute(i int) []Path {
	paths := n.Deaf(i)
	for k, p := range paths {
		paths[k] = Path{From: p.To, To: p.From}
	}
	return paths
}

// Lossy is a network on which so many percent of all packets between hosts vanish.
func (n *Network) Lossy(percent int) []Path {
	var paths []Path
	for i := range n.hosts {
		for _, p := range n.Deaf(i) {
			p.Loss = percent
			paths = append(paths, p)
		}
	}
	return paths
}
