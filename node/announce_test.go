package node

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/internal/testkit"
)

// announcer is a node that does nothing but announce itself, with a resolver that knows
// the given names.
func announcer(t *testing.T, names map[string][]string, directives ...string) (*Node, *member) {
	t.Helper()
	m := &member{tb: t}
	n := &Node{settings: config.NewSettings(conf(t, "n1", 7000, directives...)), log: m.logger()}
	n.self.ID = "n1"
	n.announced.init()
	n.announced.lookup = func(_ context.Context, _, host string) ([]netip.Addr, error) {
		var list []netip.Addr
		for _, addr := range names[host] {
			list = append(list, netip.MustParseAddr(addr))
		}
		if len(list) == 0 {
			return nil, errors.New("no such host")
		}
		return list, nil
	}
	return n, m
}

func (n *Node) hosts() [2]string { return [2]string{n.own().DataHost, n.own().SentinelHost} }

// Names are announced as the directives say: themselves, or the best address they
// stand for; IP addresses stay what they are.
func TestNamesAreAnnouncedAsTheDirectivesSay(t *testing.T) {
	names := map[string][]string{
		"data.example":     {"127.0.1.1", "2001:db8::5", "::ffff:192.0.2.5", "192.0.2.6"},
		"sentinel.example": {"2001:db8::6"},
	}
	given := []string{"replica-announce-ip", "data.example", "sentinel-announce-ip", "sentinel.example"}
	for _, tt := range []struct {
		directives []string
		want       [2]string
		again      bool
	}{
		{nil, [2]string{"data.example", "sentinel.example"}, false},
		{[]string{"sentinel-resolve-hostnames", "yes"}, [2]string{"192.0.2.5", "2001:db8::6"}, true},
		{[]string{"sentinel-announce-hostnames", "yes"}, [2]string{"data.example", "sentinel.example"}, false},
		{[]string{"sentinel-resolve-hostnames", "yes", "sentinel-announce-hostnames", "yes"}, [2]string{"data.example", "sentinel.example"}, false},
		{[]string{"sentinel-resolve-hostnames", "yes", "replica-announce-ip", "fe80::1%eth0", "sentinel-announce-ip", "192.0.2.9"}, [2]string{"fe80::1%eth0", "192.0.2.9"}, false},
	} {
		n, _ := announcer(t, names, append(slices.Clone(given), tt.directives...)...)
		again := n.lookAnnounced(t.Context())
		if n.hosts() != tt.want || (again > 0) != tt.again {
			t.Errorf("%v: announced %v, to look again in %v, want %v", tt.directives, n.hosts(), again, tt.want)
		}
	}
}

// A name that cannot be looked up leaves the last address announced, at first the name
// itself, and is asked for again soon; an address is kept while the name has it.
func TestAnnouncedAddressFollowsItsName(t *testing.T) {
	names := map[string][]string{}
	n, m := announcer(t, names, "replica-announce-ip", "h", "sentinel-resolve-hostnames", "yes")
	for _, step := range []struct {
		addrs []string
		want  string
		soon  bool
	}{
		{nil, "h", true},
		{[]string{"192.0.2.1", "192.0.2.2"}, "192.0.2.1", false},
		{[]string{"192.0.2.2", "192.0.2.1"}, "192.0.2.1", false},
		{nil, "192.0.2.1", true},
		{nil, "192.0.2.1", true},
		{[]string{"192.0.2.2"}, "192.0.2.2", false},
	} {
		names["h"] = step.addrs
		again := n.lookAnnounced(t.Context())
		if n.hosts() != [2]string{step.want, step.want} || (again == lookupAgain) != step.soon {
			t.Errorf("%v: announced %v, to look again in %v, want %s", step.addrs, n.hosts(), again, step.want)
		}
	}
	if got := strings.Count(m.log.String(), "cannot look up"); got != 2 {
		t.Errorf("%d warnings about two failures:\n%s", got, m.log)
	}
}

// fromTo is a connection between two addresses.
type fromTo struct {
	net.Conn
	from, to string
}

func (c fromTo) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.from))
}

func (c fromTo) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(c.to)) }

// An address that leads other machines to themselves is warned of, once: when other
// nodes are on other machines, or when a client of another machine asks; and not
// before.
func TestLocalAddressesAreWarnedOf(t *testing.T) {
	const warning = "an address is announced that leads other machines to themselves"
	peers := func(addr string) []string {
		return []string{"cluster-secret", "s", "peers", "n1=127.0.0.1:7002,n2=" + addr}
	}
	near, own, far := fromTo{nil, "127.0.0.1:9", "127.0.0.1:1"}, fromTo{nil, "192.0.2.1:9", "192.0.2.1:1"}, fromTo{nil, "192.0.2.8:9", "192.0.2.1:1"}
	for name, tt := range map[string]struct {
		directives []string
		client     fromTo
		want       int
	}{
		"alone, asked from here":          {nil, near, 0},
		"alone, asked by its own address": {nil, own, 0},
		"alone, asked from elsewhere":     {nil, far, 1},
		"all nodes here":                  {peers("[::1]:7002"), near, 0},
		"a node elsewhere":                {peers("192.0.2.2:7002"), near, 1},
		"a node elsewhere, asked too":     {peers("192.0.2.2:7002"), far, 1},
		"a good address":                  {append(peers("192.0.2.2:7002"), "replica-announce-ip", "192.0.2.1"), far, 0},
		"a bad one for Sentinel":          {append(peers("192.0.2.2:7002"), "replica-announce-ip", "192.0.2.1", "sentinel-announce-ip", "localhost"), far, 1},
		"unspecified":                     {[]string{"replica-announce-ip", "::"}, far, 1},
	} {
		n, m := announcer(t, nil, tt.directives...)
		for range 2 {
			n.lookAnnounced(t.Context())
			n.watchRemote(tt.client)
		}
		if got := strings.Count(m.log.String(), warning); got != tt.want || n.misleading() != (tt.want > 0) {
			t.Errorf("%s: %d warnings, want %d; the metric says %t\n%s", name, got, tt.want, n.misleading(), m.log)
		}
	}
}

// CONFIG SET and SENTINEL CONFIG SET change what is announced, here and on the other
// nodes, without a restart; subscribers hear of the move under every name.
func TestAnnouncedAddressesChangeAtRunTime(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, append([]string{"master-name", "mymaster,sessions"}, times...)...)
		master := waitMaster(t, all...)
		watcher := others(all, master)[0]
		events := testkit.MustDial(t, watcher.sentinel())
		events.MustDo(t, "SUBSCRIBE", "+switch-master")
		master.dial().MustDo(t, "CONFIG", "SET", "replica-announce-ip", "192.0.2.7", "replica-announce-port", "7000")
		sentinel := testkit.MustDial(t, master.sentinel())
		sentinel.MustDo(t, "SENTINEL", "CONFIG", "SET", "announce-ip", "sentinel.example", "announce-port", "7001")
		for _, name := range []string{"mymaster", "sessions"} {
			moved, err := events.ReadWithin(soon)
			if want := name + " 127.0.0.1 " + itoa(master.cfg.Port) + " 192.0.2.7 7000"; err != nil || string(moved.Elems[2].Text) != want {
				t.Errorf("published %v, %v, want %s", moved, err, want)
			}
		}
		testkit.Eventually(t, soon, "the new addresses are told everywhere and in the log", func() error {
			r, err := ask(watcher.sentinel(), "SENTINEL", "GET-MASTER-ADDR-BY-NAME", "sessions")
			if err != nil {
				return err
			}
			list, err := ask(watcher.sentinel(), "SENTINEL", "SENTINELS", "mymaster")
			if err != nil {
				return err
			}
			recorded := watcher.node.members()[master.cfg.NodeID]
			return errors.Join(
				testkit.Check(slices.Equal(r.Strings(), []string{"192.0.2.7", "7000"}), "the master is at %v", r),
				testkit.Check(strings.Contains(list.String(), `"sentinel.example" $"port" $"7001"`), "the Sentinels are %v", list),
				testkit.Check(recorded.SentinelHost == "sentinel.example" && recorded.DataPort == 7000, "recorded is %+v", recorded),
			)
		})
		if r, err := sentinel.Do("SENTINEL", "CONFIG", "SET", "announce-ip", "not a host"); err == nil && r.Type != '-' {
			t.Errorf("%v", r)
		}
		if got := sentinel.MustDo(t, "SENTINEL", "CONFIG", "GET", "announce-ip").Strings(); !slices.Equal(got, []string{"announce-ip", "sentinel.example"}) {
			t.Errorf("announce-ip is shown as %q", got)
		}
	})
}

// What SENTINEL SET changes is shown by this node under this name, and published.
func TestSentinelSetIsShown(t *testing.T) {
	m := single(t, "master-name", "a b")
	s, events := testkit.MustDial(t, m.sentinel()), testkit.MustDial(t, m.sentinel())
	events.MustDo(t, "SUBSCRIBE", "+set")
	s.MustDo(t, "SENTINEL", "SET", "b", "down-after-milliseconds", "5000", "quorum", "2")
	if told, err := events.ReadWithin(soon); err != nil || string(told.Elems[2].Text) != "master b 127.0.0.1 "+itoa(m.cfg.Port)+" down-after-milliseconds 5000" {
		t.Errorf("published %v, %v", told, err)
	}
	masters := s.MustDo(t, "SENTINEL", "MASTERS").Elems
	for i, want := range [][2]string{{"500", "1"}, {"5000", "2"}} {
		got := masters[i].Map()
		if string(got["down-after-milliseconds"].Text) != want[0] || string(got["quorum"].Text) != want[1] {
			t.Errorf("master %d is shown with %v", i, masters[i])
		}
	}
}
