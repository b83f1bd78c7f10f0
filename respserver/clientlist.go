package respserver

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// clientClass is a class of connections, as CLIENT LIST TYPE names it.
type clientClass uint8

const (
	classAny clientClass = iota
	classNormal
	classPubSub
	classNone // of replicas and masters, which have ports of their own here
)

func parseClass(arg []byte) (clientClass, error) {
	switch strings.ToLower(string(arg)) {
	case "normal":
		return classNormal, nil
	case "pubsub":
		return classPubSub, nil
	case "master", "replica", "slave":
		return classNone, nil
	}
	return classAny, resp.ClientType(arg)
}

func (c *client) class() clientClass {
	if c.isPubSub() {
		return classPubSub
	}
	return classNormal
}

// clientList answers CLIENT LIST.
func clientList(conn command.Conn, args [][]byte) resp.Value {
	keep, err := parseList(args)
	if err != nil {
		return resp.Err(err)
	}
	all := conn.(*client).srv.clients()
	slices.SortFunc(all, func(a, b *client) int { return cmp.Compare(a.id, b.id) })
	var text strings.Builder
	for _, c := range all {
		if keep(c) {
			c.describe(&text)
		}
	}
	return resp.Verbatim(text.String())
}

// parseList reads the options of CLIENT LIST into a filter.
func parseList(args [][]byte) (keep func(*client) bool, err error) {
	switch {
	case len(args) == 2:
		return func(*client) bool { return true }, nil
	case len(args) == 4 && word(args[2], "TYPE"):
		class, err := parseClass(args[3])
		return func(c *client) bool { return c.class() == class }, err
	case len(args) > 3 && word(args[2], "ID"):
		ids := make(map[int64]bool, len(args)-3)
		for _, a := range args[3:] {
			id, err := parseInt(a)
			if err != nil {
				return nil, resp.ErrClientID
			}
			ids[id] = true
		}
		return func(c *client) bool { return ids[c.id] }, nil
	}
	return nil, resp.ErrSyntax
}

func clientInfo(conn command.Conn, _ [][]byte) resp.Value {
	var text strings.Builder
	conn.(*client).describe(&text)
	return resp.Verbatim(text.String())
}

// age is how long the connection has existed, idle how long ago it last did
// something, both in whole seconds.
func (c *client) age() int64 { return c.seconds(c.srv.gate.tick.Load() - c.born) }

func (c *client) idle() int64 { return c.seconds(c.srv.gate.tick.Load() - c.life.since.Load()) }

func (c *client) seconds(ticks int64) int64 { return ticks * int64(tickPeriod) / int64(time.Second) }

// describe writes the line of CLIENT LIST. It is called by other connections
// too: it reads only what is safe for that.
func (c *client) describe(w *strings.Builder) {
	last := "NULL"
	if e := c.card.last.Load(); e != nil {
		last = e.name
	}
	c.card.mu.Lock()
	name, user, libName, libVer := c.card.mu.name, c.card.mu.user, c.card.mu.libName, c.card.mu.libVer
	c.card.mu.Unlock()
	redir, broadcast, broken := c.tracking()
	pending := c.out.pending.Load()
	fmt.Fprintf(w, "id=%d addr=%s laddr=%s fd=-1 name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=0 multi=%d "+
		"qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=%d rbs=0 rbp=0 obl=0 oll=%d omem=%d tot-mem=%d events=%s cmd=%s user=%s "+
		"redir=%d resp=%d lib-name=%s lib-ver=%s\n",
		c.id, c.remoteAddr(), c.localAddr(), name, c.age(), c.idle(), c.flags(broadcast, broken),
		c.card.db.Load(), c.card.subs[0].Load(), c.card.subs[1].Load(), c.card.multi.Load(),
		c.card.queued.Load(), min(pending, 1), pending, c.card.queued.Load()+pending, events(pending), last, user, redir,
		c.card.proto.Load(), libName, libVer)
}

// events are what the connection waits for: always requests, and room for replies.
func events(pending int64) string {
	if pending > 0 {
		return "rw"
	}
	return "r"
}

// remoteAddr is where the client comes from, as Redis shows it. On a unix socket
// that is the socket: the client's own end has no name.
func (c *client) remoteAddr() string {
	if c.onUnixSocket() {
		return c.localAddr()
	}
	return address(c.conn.RemoteAddr())
}

func (c *client) localAddr() string { return address(c.conn.LocalAddr()) }

func (c *client) onUnixSocket() bool {
	_, ok := c.conn.LocalAddr().(*net.UnixAddr)
	return ok
}

// address shows an address as Redis does: behind the path of a unix socket stands
// the port 0.
func address(a net.Addr) string {
	if a == nil {
		return "?:0"
	}
	if a.Network() == "unix" {
		return a.String() + ":0"
	}
	return a.String()
}

// tracking is what CLIENT LIST shows of tracking: who hears for the client, 0 for
// itself and -1 if it does not track, and in which state that is.
func (c *client) tracking() (redir int64, broadcast, broken bool) {
	if !c.card.tracks.Load() {
		return -1, false, false
	}
	o, broken, ok := c.srv.tracking.Tracking(c.id)
	if !ok {
		return -1, false, false
	}
	return o.Redirect, o.Broadcast, broken
}

// flags are the letters that describe the state of a connection.
func (c *client) flags(broadcast, broken bool) string {
	var f []byte
	mark := func(on bool, letter byte) {
		if on {
			f = append(f, letter)
		}
	}
	bits := c.life.bits.Load()
	c.card.mu.Lock()
	evict, touch := c.card.mu.noEvict, c.card.mu.noTouch
	c.card.mu.Unlock()
	mark(c.isPubSub(), 'P')
	mark(c.card.multi.Load() >= 0, 'x')
	mark(bits&lifeBlocked != 0, 'b')
	mark(c.card.tracks.Load(), 't')
	mark(broken, 'R')
	mark(broadcast, 'B')
	mark(bits&lifeDoomed != 0, 'c')
	mark(c.onUnixSocket(), 'U')
	mark(evict, 'e')
	mark(touch, 'T')
	if len(f) == 0 {
		return "N"
	}
	return string(f)
}

// killFilter says which connections CLIENT KILL closes.
type killFilter struct {
	id          int64 // 0 for any
	class       clientClass
	addr, laddr string
	maxAge      int64 // s; 0 for any
	skipMe      bool
}

func (k *killFilter) matches(c, caller *client) bool {
	switch {
	case k.id != 0 && c.id != k.id,
		k.class != classAny && c.class() != k.class,
		k.addr != "" && c.remoteAddr() != k.addr,
		k.laddr != "" && c.localAddr() != k.laddr,
		k.maxAge != 0 && c.age() < k.maxAge,
		k.skipMe && c == caller:
		return false
	}
	return true
}

// clientKill answers CLIENT KILL: the old form names one address and says
// whether it was there, the new one counts.
func clientKill(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	if len(args) == 3 {
		k := killFilter{addr: string(args[2])}
		if c.killMatching(&k) == 0 {
			return resp.Err(resp.ErrNoSuchClient)
		}
		return resp.OK
	}
	k, err := parseKill(args[2:])
	if err != nil {
		return resp.Err(err)
	}
	return resp.Int(c.killMatching(&k))
}

func (c *client) killMatching(k *killFilter) (n int64) {
	for _, other := range c.srv.clients() {
		if !k.matches(other, c) {
			continue
		}
		n++
		if other == c {
			c.sess.ending = true
			continue
		}
		other.life.doom()
	}
	return n
}

func parseKill(args [][]byte) (killFilter, error) {
	k := killFilter{skipMe: true}
	if len(args)%2 != 0 {
		return k, resp.ErrSyntax
	}
	for i := 0; i < len(args); i += 2 {
		if err := k.option(args[i], args[i+1]); err != nil {
			return k, err
		}
	}
	return k, nil
}

func (k *killFilter) option(name, value []byte) (err error) {
	switch strings.ToUpper(string(name)) {
	case "ID":
		if k.id, err = parseInt(value); err != nil || k.id <= 0 {
			return resp.ErrKillID
		}
	case "TYPE":
		k.class, err = parseClass(value)
		return err
	case "USER":
		if string(value) != defaultUser {
			return resp.NoSuchUser(value)
		}
	case "ADDR":
		k.addr = string(value)
	case "LADDR":
		k.laddr = string(value)
	case "MAXAGE":
		if k.maxAge, err = parseInt(value); err != nil || k.maxAge <= 0 {
			return resp.ErrMaxAge
		}
	case "SKIPME":
		if !word(value, "YES") && !word(value, "NO") {
			return resp.ErrSyntax
		}
		k.skipMe = word(value, "YES")
	default:
		return resp.ErrSyntax
	}
	return nil
}
