package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"syscall"

	"github.com/holdfast/holdfast/adminhttp"
	"github.com/holdfast/holdfast/config"
)

// Endpoint says where one of a node's ports is listened on. The zero Endpoint is what
// the directives say.
type Endpoint struct {
	mode  endpointMode
	given []net.Listener
}

type endpointMode uint8

const (
	byDirective endpointMode = iota
	nowhere
	anyPort
	given
)

// Nowhere is an endpoint that nobody can connect to.
func Nowhere() Endpoint { return Endpoint{mode: nowhere} }

// AnyPort is a port that the kernel chooses, the same one on every address of bind.
func AnyPort() Endpoint { return Endpoint{mode: anyPort} }

// On is listeners of the program. They belong to the node once Open is called, which
// closes them in any case. Where clients are told to find the port is what the first
// one says: its port, and its address unless that is a wildcard. The directives
// replica-announce-ip, replica-announce-port and those of the Sentinel port go before
// that.
func On(listeners ...net.Listener) Endpoint { return Endpoint{mode: given, given: listeners} }

// sockets are what a node listens on for its clients.
type sockets struct {
	data, sentinel, metrics []net.Listener
	unix                    net.Listener // nil without unixsocket
	inward                  *inward
	given                   []net.Listener // by the program, whatever for
}

// all are all sockets.
func (s *sockets) all() []net.Listener {
	var list []net.Listener
	for _, some := range [][]net.Listener{s.data, s.sentinel, s.metrics, s.given} {
		list = append(list, some...)
	}
	if s.unix != nil {
		list = append(list, s.unix)
	}
	if s.inward != nil {
		list = append(list, s.inward)
	}
	return list
}

// listen opens everything that clients reach, or nothing, and makes the directives
// say which ports that are.
func (n *Node) listen(cfg *Config) error {
	c := n.settings.Config()
	s := &n.sockets
	ports := []struct {
		name string
		port int
		end  Endpoint
		open *[]net.Listener
	}{
		{"data port", c.Port, cfg.Data, &s.data},
		{"sentinel port", c.SentinelPort, cfg.Sentinel, &s.sentinel},
		{"metrics port", c.MetricsPort, cfg.Metrics, &s.metrics},
	}
	for _, p := range ports {
		var err error
		if *p.open, err = p.end.listen(c, p.port); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if c.UnixSocket != "" {
		var err error
		if s.unix, err = listenUnix(c.UnixSocket, fs.FileMode(c.UnixSocketPerm)); err != nil { // 0777 at most
			return fmt.Errorf("unixsocket: %w", err)
		}
	}
	s.inward = newInward()
	n.settings.Adopt(func(c *config.Config) {
		c.Port, c.SentinelPort, c.MetricsPort = portOf(s.data), portOf(s.sentinel), portOf(s.metrics)
		if c.ReplicaAnnounceIP != "" {
			return // which goes for both
		}
		c.ReplicaAnnounceIP = hostOf(&cfg.Data)
		c.SentinelAnnounceIP = cmp.Or(c.SentinelAnnounceIP, hostOf(&cfg.Sentinel))
	})
	return nil
}

// listen opens an endpoint whose directives say port.
func (e *Endpoint) listen(c *config.Config, port int) ([]net.Listener, error) {
	switch e.mode {
	case nowhere:
		return nil, nil
	case given:
		return e.given, nil
	case anyPort:
		return listenAnywhere(c)
	case byDirective:
		if port == 0 {
			return nil, nil
		}
	}
	return listenOn(context.Background(), c, port)
}

// portOf is the port of the first listener, 0 if it has none.
func portOf(list []net.Listener) int {
	if len(list) > 0 {
		if addr, ok := list[0].Addr().(*net.TCPAddr); ok {
			return addr.Port
		}
	}
	return 0
}

// hostOf is the address of the first of the program's own listeners, "" if there is
// none or it listens on every address.
func hostOf(e *Endpoint) string {
	if e.mode == given && len(e.given) > 0 {
		if addr, ok := e.given[0].Addr().(*net.TCPAddr); ok && len(addr.IP) > 0 && !addr.IP.IsUnspecified() {
			ip := net.IPAddr{IP: addr.IP, Zone: addr.Zone}
			return ip.String()
		}
	}
	return ""
}

// listener is a listening socket and who serves it.
type listener struct {
	net.Listener
	name  string
	serve func(ctx context.Context, l net.Listener) error
}

// served are the open sockets with those who serve them.
func (n *Node) served() []listener {
	var list []listener
	add := func(name string, serve func(ctx context.Context, l net.Listener) error, socks ...net.Listener) {
		for _, l := range socks {
			list = append(list, listener{l, name, serve})
		}
	}
	add("data port", n.data.Serve, n.sockets.data...)
	if n.sockets.unix != nil {
		add("unixsocket", n.data.Serve, n.sockets.unix)
	}
	add("own program", n.data.Serve, n.sockets.inward)
	add("sentinel port", n.serveSentinel, n.sockets.sentinel...)
	page := n.page()
	for _, l := range n.sockets.metrics {
		add("metrics port", adminhttp.New(page).Run, l) // each is run once
	}
	return list
}

// page is what the metrics port serves.
func (n *Node) page() adminhttp.Config {
	return adminhttp.Config{Metrics: n.registry(), Ready: n.Ready, Leader: n.Leader, Log: n.log}
}

// handler is page for an HTTP server of the program's own.
func (n *Node) handler() http.Handler { return adminhttp.Handler(n.page()) }

// closeAll closes listeners on which nobody is accepted any more.
func closeAll(list []net.Listener) {
	for _, l := range list {
		_ = l.Close() // nobody loses anything
	}
}

// listenOn listens on a port of every address of bind. Addresses that are marked
// as optional may be missing on this machine, but not all of them. With port 0 it is
// one the kernel chooses for the first address.
func listenOn(ctx context.Context, cfg *config.Config, port int) ([]net.Listener, error) {
	var open []net.Listener
	var missing error
	for _, a := range cfg.BindAddresses() {
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, a.Network, a.Address(port))
		switch {
		case err == nil:
			open = append(open, l)
			port = portOf(open)
		case a.Optional && absent(err):
			missing = err
		default:
			closeAll(open)
			return nil, err
		}
	}
	if len(open) == 0 {
		return nil, missing
	}
	return open, nil
}

// listenAnywhere listens on a port that is free on every address of bind.
func listenAnywhere(cfg *config.Config) (open []net.Listener, err error) {
	const tries = 16 // what is free on one address may be taken on another
	for range tries {
		open, err = listenOn(context.Background(), cfg, 0)
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return open, err
}

// absent tells whether an address could not be listened on because the machine
// does not have it.
func absent(err error) bool {
	return errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EPROTONOSUPPORT)
}
