package config

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OutputLimit bounds the replies that wait for a client to read them.
type OutputLimit struct {
	Hard    int64         // bytes at which the client is closed at once, 0 for no limit
	Soft    int64         // bytes at which it is closed after SoftFor, 0 for no limit
	SoftFor time.Duration // how long Soft may be exceeded
}

// OutputLimits are the limits by class of client.
type OutputLimits struct {
	Normal, Replica, PubSub OutputLimit
}

// class is the limit of a class as the directive names it, or nil.
func (l *OutputLimits) class(name string) *OutputLimit {
	switch strings.ToLower(name) {
	case "normal":
		return &l.Normal
	case "slave", "replica":
		return &l.Replica
	case "pubsub":
		return &l.PubSub
	}
	return nil
}

// outputLimits is the kind of client-output-buffer-limit. Classes that a value
// does not name keep their limits, so that several lines add up.
type outputLimits struct{}

// Errors of Redis about client-output-buffer-limit.
var (
	errLimitCount = errors.New("Wrong number of arguments in buffer limit configuration.")                   //nolint:staticcheck // Redis's wording
	errLimitClass = errors.New("Invalid client class specified in buffer limit configuration.")              //nolint:staticcheck // Redis's wording
	errLimitValue = errors.New("Error in hard, soft or soft_seconds setting in buffer limit configuration.") //nolint:staticcheck // Redis's wording
)

func (outputLimits) name() string { return "class hard soft seconds …" }
func (outputLimits) multi() bool  { return true }

func (outputLimits) get(c *Config) string {
	l := c.ClientOutputBufferLimit
	return "normal " + l.Normal.text() + " slave " + l.Replica.text() + " pubsub " + l.PubSub.text()
}

func (l OutputLimit) text() string {
	return fmt.Sprintf("%d %d %d", l.Hard, l.Soft, int64(l.SoftFor/time.Second))
}

func (outputLimits) set(c *Config, words []string) error {
	const group = 4 // class, hard, soft, seconds
	if len(words)%group != 0 {
		return errLimitCount
	}
	next := c.ClientOutputBufferLimit
	for four := range slices.Chunk(words, group) {
		limit := next.class(four[0])
		if limit == nil {
			return errLimitClass
		}
		hard, err1 := parseMemory(four[1])
		soft, err2 := parseMemory(four[2])
		secs, err3 := parseInteger(four[3], 0, maxSoftSeconds)
		if err1 != nil || err2 != nil || err3 != nil {
			return errLimitValue
		}
		*limit = OutputLimit{Hard: hard, Soft: soft, SoftFor: time.Duration(secs) * time.Second}
	}
	c.ClientOutputBufferLimit = next
	return nil
}

// maxSoftSeconds is the largest number of seconds Redis accepts, 68 years.
const maxSoftSeconds = 1<<31 - 1

// Peer is one node of the list in peers.
type Peer struct {
	ID   string
	Addr string // host:port of its raft port
}

// peerList is the kind of peers: id=host:port, separated by commas or blanks.
type peerList struct{}

// maxPeers bounds the list; more voters only make every write slower.
const maxPeers = 9

func (peerList) name() string { return "id=host:port,…" }
func (peerList) multi() bool  { return true }

func (peerList) get(c *Config) string {
	list := make([]string, len(c.Peers))
	for i, p := range c.Peers {
		list[i] = p.ID + "=" + p.Addr
	}
	return strings.Join(list, ",")
}

func (peerList) set(c *Config, words []string) error {
	var peers []Peer
	for _, word := range words {
		for item := range strings.SplitSeq(word, ",") {
			if item == "" {
				continue // a comma at the end, or the empty list
			}
			p, err := parsePeer(item)
			if err != nil {
				return err
			}
			if slices.ContainsFunc(peers, func(q Peer) bool { return q.ID == p.ID || q.Addr == p.Addr }) {
				return fmt.Errorf("id or address of '%s' is listed twice", item)
			}
			peers = append(peers, p)
		}
	}
	if len(peers) > maxPeers {
		return fmt.Errorf("at most %d nodes", maxPeers)
	}
	c.Peers = peers
	return nil
}

func parsePeer(item string) (Peer, error) {
	id, addr, ok := strings.Cut(item, "=")
	if !ok {
		return Peer{}, fmt.Errorf("'%s' must have the form id=host:port", item)
	}
	if err := checkID(id); err != nil {
		return Peer{}, err
	}
	if err := checkAddr(addr); err != nil {
		return Peer{}, fmt.Errorf("node '%s': %w", id, err)
	}
	return Peer{ID: id, Addr: addr}, nil
}

// nameList is the kind of master-name: names, separated by commas or blanks.
type nameList struct{}

// maxNames bounds the list: each name costs an entry in replies and a copy of events.
const maxNames = 16

func (nameList) name() string         { return "name,…" }
func (nameList) multi() bool          { return true }
func (nameList) get(c *Config) string { return strings.Join(c.MasterNames, ",") }

func (nameList) set(c *Config, words []string) error {
	var names []string
	for _, word := range words {
		for name := range strings.SplitSeq(word, ",") {
			if name == "" {
				continue // a comma at the end
			}
			if err := checkMasterName(name); err != nil {
				return err
			}
			if slices.Contains(names, name) {
				return fmt.Errorf("the name '%s' is listed twice", name)
			}
			names = append(names, name)
		}
	}
	if len(names) == 0 || len(names) > maxNames {
		return fmt.Errorf("between 1 and %d names are needed", maxNames)
	}
	c.MasterNames = names
	return nil
}

func checkMasterName(name string) error {
	const longest = 128
	ok := len(name) <= longest
	for _, r := range name {
		ok = ok && r > ' ' && r <= '~'
	}
	if !ok {
		return fmt.Errorf("names of at most %d printable characters without blanks are needed", longest)
	}
	return nil
}

// joinList is the kind of join: host:port, separated by commas or blanks.
type joinList struct{}

func (joinList) name() string         { return "host:port,…" }
func (joinList) multi() bool          { return true }
func (joinList) get(c *Config) string { return strings.Join(c.Join, ",") }

func (joinList) set(c *Config, words []string) error {
	var list []string
	for _, word := range words {
		for addr := range strings.SplitSeq(word, ",") {
			if addr == "" {
				continue // a comma at the end, or the empty list
			}
			if err := checkAddr(addr); err != nil {
				return fmt.Errorf("'%s': %w", addr, err)
			}
			list = append(list, addr)
		}
	}
	if len(list) > maxPeers {
		return fmt.Errorf("at most %d nodes", maxPeers)
	}
	c.Join = list
	return nil
}

// checkID accepts the id of a node: letters, digits, underscore, dot and minus.
func checkID(id string) error {
	const longest = 64
	ok := id != "" && len(id) <= longest
	for _, r := range id {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_.-", r))
	}
	if !ok {
		return fmt.Errorf("a node id has 1 to %d letters, digits, '_', '.' or '-'", longest)
	}
	return nil
}

// checkAddr accepts host:port, an IPv6 host in brackets.
func checkAddr(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return errors.New("must have the form host:port, an IPv6 address in brackets")
	}
	if host == "" {
		return errors.New("the host is missing")
	}
	if err := checkHost(host); err != nil {
		return err
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return errors.New("the port must be between 1 and 65535 inclusive")
	}
	return nil
}

// checkHost accepts "", an IP address or a host name.
func checkHost(host string) error {
	const longest = 253 // of a DNS name
	if len(host) > longest || strings.ContainsAny(host, " \t\r\n,=[]/\"'\x00") {
		return errors.New("must be an IP address or a host name")
	}
	if strings.Contains(host, ":") && net.ParseIP(withoutZone(host)) == nil {
		return errors.New("must be an IP address or a host name")
	}
	return nil
}

func withoutZone(host string) string {
	ip, _, _ := strings.Cut(host, "%")
	return ip
}
