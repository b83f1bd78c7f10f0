package config

import (
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
)

// BindAddress is one address to listen on.
type BindAddress struct {
	Network string // "tcp4" or "tcp6" for an IP address, "tcp" for a name
	Host    string // IP address or name, without brackets
	// Optional says that the node starts without it if the machine lacks the address.
	Optional bool
}

// Address is host:port for net.Listen.
func (b BindAddress) Address(port int) string { return net.JoinHostPort(b.Host, strconv.Itoa(port)) }

// wildcard tells whether every address of its family is meant.
func (b BindAddress) wildcard() bool { return b.Host == "0.0.0.0" || b.Host == "::" }

// BindAddresses is what bind says: "*" is every IPv4 address, "::*" every IPv6
// address, and a minus in front makes one optional. Listen on each with its own
// Network: one on every IPv6 address would otherwise take IPv4's place too.
func (c *Config) BindAddresses() []BindAddress {
	list := make([]BindAddress, len(c.Bind))
	for i, word := range c.Bind {
		list[i] = parseBind(word)
	}
	return list
}

func parseBind(word string) BindAddress {
	host, optional := strings.CutPrefix(word, "-")
	switch host {
	case "*":
		host = "0.0.0.0"
	case "::*":
		host = "::"
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	b := BindAddress{Network: "tcp", Host: host, Optional: optional}
	if ip := net.ParseIP(withoutZone(host)); ip != nil {
		b.Network = "tcp4"
		if strings.Contains(host, ":") {
			b.Network = "tcp6"
		}
	}
	return b
}

// bindList is the kind of bind.
type bindList struct{}

// maxBind is how many addresses Redis accepts.
const maxBind = 16

func (bindList) name() string         { return "address …" }
func (bindList) multi() bool          { return true }
func (bindList) get(c *Config) string { return strings.Join(c.Bind, " ") }

func (bindList) set(c *Config, words []string) error {
	if len(words) == 0 {
		return errors.New("at least one address is needed")
	}
	if len(words) > maxBind {
		return errors.New("too many bind addresses specified")
	}
	for _, word := range words {
		if host := parseBind(word).Host; host == "" || checkHost(host) != nil {
			return errors.New("every address must be an IP address, a host name, * or ::*")
		}
	}
	c.Bind = slices.Clone(words)
	return nil
}

// LocalHost is a host at which this machine reaches the node's own ports:
// loopback if it listens there, else the first address it has to listen on.
func (c *Config) LocalHost() string {
	list := c.BindAddresses()
	if slices.ContainsFunc(list, func(b BindAddress) bool { return b.Host == "0.0.0.0" }) {
		return "127.0.0.1"
	}
	if slices.ContainsFunc(list, func(b BindAddress) bool { return b.Host == "::" }) {
		return "::1"
	}
	if i := slices.IndexFunc(list, func(b BindAddress) bool { return !b.Optional }); i >= 0 {
		return list[i].Host
	}
	return list[0].Host
}

// AnnouncedData is where clients are told to find the data port: the announced
// host and port, or else the host under which the other nodes know this one and
// the port it listens on.
func (c *Config) AnnouncedData() (host string, port int) {
	host, port = c.ReplicaAnnounceIP, c.ReplicaAnnouncePort
	if host == "" {
		host = c.ownHost()
	}
	if port == 0 {
		port = c.Port
	}
	return host, port
}

// AnnouncedSentinel is where clients are told to find the Sentinel port. Without
// a setting of its own it has the host of the data port.
func (c *Config) AnnouncedSentinel() (host string, port int) {
	host, port = c.SentinelAnnounceIP, c.SentinelAnnouncePort
	if host == "" {
		host, _ = c.AnnouncedData()
	}
	if port == 0 {
		port = c.SentinelPort
	}
	return host, port
}

// AnnouncedRaft is the host:port where the other nodes reach this one.
func (c *Config) AnnouncedRaft() string {
	if c.RaftAnnounce != "" {
		return c.RaftAnnounce
	}
	if p, ok := c.self(); ok {
		return p.Addr
	}
	return net.JoinHostPort(c.ownHost(), strconv.Itoa(c.RaftPort))
}

// self is this node's entry in peers.
func (c *Config) self() (Peer, bool) {
	i := slices.IndexFunc(c.Peers, func(p Peer) bool { return p.ID == c.NodeID })
	if i < 0 {
		return Peer{}, false
	}
	return c.Peers[i], true
}

// ownHost is the best name of this machine that the directives hold: how the
// other nodes reach it, else an address it listens on, else loopback.
func (c *Config) ownHost() string {
	addr := c.RaftAnnounce
	if p, ok := c.self(); ok && addr == "" {
		addr = p.Addr
	}
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	for _, b := range c.BindAddresses() {
		if !b.wildcard() {
			return b.Host
		}
	}
	return "127.0.0.1"
}
