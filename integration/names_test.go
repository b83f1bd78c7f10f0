package integration_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast/holdfast/internal/testkit"
)

// hosts is the list of names of the machine as a sandbox sees it.
type hosts struct {
	t    testing.TB
	file string // mounted over /etc/hosts
}

// nameHosts has the names of a network's hosts resolved inside this sandbox.
func nameHosts(t testing.TB, n *testkit.Network, names []string) hosts {
	t.Helper()
	h := hosts{t: t, file: filepath.Join(t.TempDir(), "hosts")}
	h.write(n, names)
	if err := unix.Mount(h.file, "/etc/hosts", "", unix.MS_BIND, ""); err != nil {
		t.Fatalf("mount a file over /etc/hosts: %v", err)
	}
	return h
}

// write has the names lead to where the hosts are now. The file keeps its length: no
// reader sees a part of it.
func (h hosts) write(n *testkit.Network, names []string) {
	h.t.Helper()
	var text strings.Builder
	for i, name := range names {
		fmt.Fprintf(&text, "%-15s %s\n", n.Host(i).Addr(), name)
	}
	const owner = 0o644
	f, err := os.OpenFile(h.file, os.O_CREATE|os.O_WRONLY, owner)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(text.String()), 0); err != nil {
		h.t.Fatal(err)
	}
}

// P8: a node that comes back under another address is reached again by itself: names
// are resolved on each dial. First the master, while clients write; in the long form more
// of them, and then all nodes at once. (Go reads /etc/hosts again after five seconds.)
func TestNamesLeadToNewAddresses(t *testing.T) {
	if !sandboxed(t) {
		return
	}
	names := []string{"alpha.test", "beta.test", "gamma.test"}
	n := testkit.NewNetwork(t, len(names))
	table := nameHosts(t, n, names)
	c := start(t, testkit.ClusterOptions{Network: n, Names: names})
	ws := startWriters(t, c, 4, "moved")
	for range pick(1, 3) {
		i := c.WaitWhole(formLimit)
		old := n.Host(i).Addr()
		c.Nodes[i].Kill9()
		n.Move(i)
		table.write(n, names)
		c.Nodes[i].Start()
		began := testkit.Now()
		c.WaitWhole(formLimit)
		t.Logf("%s moved from %s to %s: whole after %v", names[i], old, n.Host(i).Addr(), (testkit.Now() - began).Round(time.Millisecond))
	}
	ws.end()
	ws.verify(t, master(t, c))
	t.Logf("%d writes acknowledged, none lost", ws.acknowledged())
	if !long() {
		return
	}
	for i := range c.Nodes {
		c.Nodes[i].Kill9()
		n.Move(i)
	}
	table.write(n, names)
	for _, node := range c.Nodes {
		node.Start()
	}
	began := testkit.Now()
	c.WaitWhole(formLimit)
	t.Logf("all moved: whole after %v", (testkit.Now() - began).Round(time.Millisecond))
	ws.verify(t, master(t, c))
}
