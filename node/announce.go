package node

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/store"
)

// announcement is how this node announces itself to clients. The addresses can change
// while it runs: by CONFIG SET, by SENTINEL CONFIG SET, and because a name stands for
// another address now. The other nodes are told with every ping, and the master puts
// what has changed into the log.
type announcement struct {
	current atomic.Pointer[store.Member] // nil before the first look
	hint    chan struct{}                // a directive may have changed
	// lookup finds the addresses of a name; another one in tests.
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

	misled atomic.Bool // a local address was told to another machine
	warned atomic.Pointer[store.Member]

	// The rest belongs to whoever looks: open, and then the goroutine of keepAnnounced.
	found   map[string]string // the address last found for a name
	unknown map[string]bool   // names that could not be looked up the last time
}

// Times of looking up names.
const (
	lookupBound  = 2 * time.Second // for the answer of the resolver
	lookupPeriod = 30 * time.Second
	lookupAgain  = time.Second // after a failure
)

func (a *announcement) init() {
	a.hint = make(chan struct{}, 1)
	a.lookup = net.DefaultResolver.LookupNetIP
	a.found, a.unknown = map[string]string{}, map[string]bool{}
}

// own is this node's record: who it is, and how clients reach it once that was looked
// at.
func (n *Node) own() store.Member {
	if m := n.announced.current.Load(); m != nil {
		return *m
	}
	return n.self
}

// lookAnnounced makes the record what the directives say, and tells when to look
// again, 0 if only a change of directives makes a difference.
func (n *Node) lookAnnounced(ctx context.Context) (again time.Duration) {
	c := n.settings.Config()
	a := &n.announced
	m := n.self
	m.DataHost, m.DataPort = c.AnnouncedData()
	m.SentinelHost, m.SentinelPort = c.AnnouncedSentinel()
	if c.SentinelResolveHostnames && !c.SentinelAnnounceHostnames {
		for _, host := range []*string{&m.DataHost, &m.SentinelHost} {
			if isName(*host) {
				again = max(again, lookupPeriod)
				*host = n.resolve(ctx, *host)
			}
		}
		if len(a.unknown) > 0 {
			again = lookupAgain
		}
	}
	if last := a.current.Load(); last != nil && *last != m {
		n.log.Info("announced addresses have changed", "data", m.DataHost, "port", m.DataPort, "sentinel", m.SentinelHost, "sentinel_port", m.SentinelPort)
	}
	a.current.Store(&m)
	if elsewhere(c) {
		n.warnLocal(&m, "the other nodes are on other machines")
	}
	return again
}

// resolve is the address a name stands for: the one it stood for before if it still
// does, the last known one while it cannot be looked up, and the name itself if it
// never could.
func (n *Node) resolve(ctx context.Context, name string) string {
	a := &n.announced
	ctx, cancel := context.WithTimeout(ctx, lookupBound)
	defer cancel()
	addrs, err := a.lookup(ctx, "ip", name)
	if err != nil || len(addrs) == 0 {
		if !a.unknown[name] {
			n.log.Warn("cannot look up the announced name", "name", name, "err", err)
		}
		a.unknown[name] = true
		if last, ok := a.found[name]; ok {
			return last
		}
		return name
	}
	delete(a.unknown, name)
	if last, err := netip.ParseAddr(a.found[name]); err != nil || !slices.ContainsFunc(addrs, func(ip netip.Addr) bool { return ip.Unmap() == last }) {
		a.found[name] = best(addrs).String()
	}
	return a.found[name]
}

// best is the address that most clients reach: not of this machine only, and of IPv4.
func best(addrs []netip.Addr) netip.Addr {
	score := func(ip netip.Addr) (s int) {
		if !ip.IsLoopback() && !ip.IsLinkLocalUnicast() {
			s += 2
		}
		if ip.Is4() {
			s++
		}
		return s
	}
	top := addrs[0].Unmap()
	for _, ip := range addrs[1:] {
		if ip = ip.Unmap(); score(ip) > score(top) {
			top = ip
		}
	}
	return top
}

// keepAnnounced follows the directives, and the names in them, until ctx ends.
func (n *Node) keepAnnounced(ctx context.Context) error {
	again := n.lookAnnounced(ctx) // what open could not look up it has left
	for {
		var timer <-chan time.Time
		if again > 0 {
			timer = time.After(again)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.announced.hint:
		case <-timer:
		}
		again = n.lookAnnounced(ctx)
	}
}

// isName tells whether host is a name and not an IP address.
func isName(host string) bool {
	_, err := netip.ParseAddr(host)
	return err != nil
}

// reachesItself tells whether a host means whatever machine it is used on.
func reachesItself(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap()
		return ip.IsLoopback() || ip.IsUnspecified()
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// elsewhere tells whether other nodes are known to be on other machines.
func elsewhere(c *config.Config) bool {
	addrs := slices.Clone(c.Join)
	for _, p := range c.Peers {
		if p.ID != c.NodeID {
			addrs = append(addrs, p.Addr)
		}
	}
	return slices.ContainsFunc(addrs, func(addr string) bool {
		host, _, err := net.SplitHostPort(addr)
		return err == nil && !reachesItself(host)
	})
}

// warnLocal warns, once for each record, that a node announces an address that leads
// other machines to themselves. It is safe for concurrent use.
func (n *Node) warnLocal(m *store.Member, why string) {
	if !reachesItself(m.DataHost) && !reachesItself(m.SentinelHost) {
		return
	}
	n.announced.misled.Store(true)
	if last := n.announced.warned.Swap(m); last != nil && *last == *m {
		return
	}
	n.log.Warn("an address is announced that leads other machines to themselves; set replica-announce-ip and sentinel-announce-ip",
		"node", m.ID, "data", m.DataHost, "sentinel", m.SentinelHost, "why", why)
}

// misleading tells whether this node has announced such an address to another machine,
// and still does.
func (n *Node) misleading() bool {
	m := n.own()
	return n.announced.misled.Load() && (reachesItself(m.DataHost) || reachesItself(m.SentinelHost))
}

// watchRemote looks at what a client of the Sentinel port will be told, if it comes
// from another machine.
func (n *Node) watchRemote(conn net.Conn) {
	from, ok1 := conn.RemoteAddr().(*net.TCPAddr)
	to, ok2 := conn.LocalAddr().(*net.TCPAddr)
	if !ok1 || !ok2 || from.IP.IsLoopback() || from.IP.Equal(to.IP) {
		return
	}
	m := n.own()
	n.warnLocal(&m, "a client of another machine asks for the master")
}
