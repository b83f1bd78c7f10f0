package respserver

import (
	"slices"
	"strings"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/tracking"
)

// What one client may have broadcast is bounded: each change is compared with all
// prefixes. Redis knows no such bounds.
const (
	maxPrefix   = 512 // bytes
	maxPrefixes = 1024
)

// trackingMax is what may wait for all clients that track together, and their prefixes,
// in bytes.
const trackingMax = 256 << 20

// trackingCall is a parsed CLIENT TRACKING.
type trackingCall struct {
	on         bool
	redirected bool
	want       tracks
	prefixes   []string
}

// clientTracking answers CLIENT TRACKING (redis.io/commands/client-tracking).
func clientTracking(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	var call trackingCall
	err := call.parse(args[3:], func(id int64) bool { return c.srv.client(id) != nil })
	if err == nil {
		call.on, err = onOff(args[2])
	}
	switch {
	case err != nil:
		return resp.Err(err)
	case !call.on:
		c.stopTracking()
		return resp.OK
	}
	if err := c.refuseTracking(&call); err != nil {
		return resp.Err(err)
	}
	if err := c.startTracking(&call); err != nil {
		return resp.Err(err)
	}
	return resp.OK
}

// parse reads the options; exists tells whether there is a connection.
func (t *trackingCall) parse(options [][]byte, exists func(id int64) bool) error {
	for i := 0; i < len(options); i++ {
		more := i+1 < len(options)
		switch name := strings.ToUpper(string(options[i])); {
		case name == "BCAST":
			t.want.broadcast = true
		case name == "OPTIN":
			t.want.optIn = true
		case name == "OPTOUT":
			t.want.optOut = true
		case name == "NOLOOP":
			t.want.noLoop = true
		case name == "PREFIX" && more:
			i++
			t.prefixes = append(t.prefixes, string(options[i]))
		case name == "REDIRECT" && more:
			i++
			if err := t.redirectTo(options[i], exists); err != nil {
				return err
			}
		default:
			return resp.ErrSyntax
		}
	}
	return nil
}

func (t *trackingCall) redirectTo(arg []byte, exists func(id int64) bool) error {
	if t.redirected {
		return resp.ErrRedirectTwice
	}
	id, err := parseInt(arg)
	if err != nil {
		return err
	}
	if !exists(id) {
		return resp.ErrRedirectNone
	}
	t.redirected, t.want.redirect = true, id
	return nil
}

// refuseTracking tells why options contradict each other, or how the client tracks
// already, in the order in which Redis looks.
func (c *client) refuseTracking(t *trackingCall) error {
	was, want := &c.sess.track, &t.want
	switch {
	case !want.broadcast && len(t.prefixes) > 0:
		return resp.ErrPrefixAlone
	case was.on && was.broadcast != want.broadcast:
		return resp.ErrSwitchBroadcast
	case want.broadcast && (want.optIn || want.optOut):
		return resp.ErrBroadcastOpt
	case want.optIn && want.optOut:
		return resp.ErrOptBoth
	case want.optIn && was.optOut, want.optOut && was.optIn:
		return resp.ErrSwitchOpt
	case want.broadcast:
		return c.refusePrefixes(t.prefixes)
	}
	return nil
}

func (c *client) refusePrefixes(prefixes []string) error {
	have, _, _ := c.srv.tracking.Tracking(c.id)
	if len(have.Prefixes)+len(prefixes) > maxPrefixes {
		return resp.ErrTooManyPrefixes
	}
	for i, p := range prefixes {
		if len(p) > maxPrefix {
			return resp.ErrPrefixTooLong
		}
		if other, found := overlapping(p, have.Prefixes); found {
			return resp.PrefixOverlap(p, "an existing", other)
		}
		if other, found := overlapping(p, prefixes[i+1:]); found {
			return resp.PrefixOverlap(p, "another provided", other)
		}
	}
	return nil
}

// startTracking makes the client track. From here on changes are told.
func (c *client) startTracking(t *trackingCall) error {
	if id := t.want.redirect; id != 0 {
		if target := c.srv.client(id); target == nil || !target.hears() {
			return resp.ErrRedirectNone
		}
	}
	c.hears() // if the connection has ended it is told nothing
	c.sess.track = t.want
	c.sess.track.on = true
	c.card.tracks.Store(true)
	c.srv.tracking.Track(c.id, tracking.Options{
		Redirect: t.want.redirect, Broadcast: t.want.broadcast, NoLoop: t.want.noLoop, Prefixes: t.prefixes,
	})
	return nil
}

// clientCaching answers CLIENT CACHING: it turns what OPTIN or OPTOUT asked for round,
// for the next command or transaction.
func clientCaching(conn command.Conn, args [][]byte) resp.Value {
	t := &conn.(*client).sess.track
	switch {
	case !t.on:
		return resp.Err(resp.ErrCaching)
	case word(args[2], "YES"):
		if !t.optIn {
			return resp.Err(resp.ErrCachingYes)
		}
	case word(args[2], "NO"):
		if !t.optOut {
			return resp.Err(resp.ErrCachingNo)
		}
	default:
		return resp.Err(resp.ErrSyntax)
	}
	t.caching = true
	return resp.OK
}

// clientTrackingInfo answers CLIENT TRACKINGINFO.
func clientTrackingInfo(conn command.Conn, _ [][]byte) resp.Value {
	c := conn.(*client)
	t := &c.sess.track
	have, broken, _ := c.srv.tracking.Tracking(c.id)
	var flags, prefixes []resp.Value
	add := func(is bool, name string) {
		if is {
			flags = append(flags, resp.BulkString(name))
		}
	}
	add(t.on, "on")
	add(!t.on, "off")
	add(t.broadcast, "bcast")
	add(t.optIn, "optin")
	add(t.optIn && t.caching, "caching-yes")
	add(t.optOut, "optout")
	add(t.optOut && t.caching, "caching-no")
	add(t.noLoop, "noloop")
	add(broken, "broken_redirect")
	for _, p := range have.Prefixes {
		prefixes = append(prefixes, resp.BulkString(p))
	}
	return resp.Map(
		resp.BulkString("flags"), resp.Set(flags...),
		resp.BulkString("redirect"), clientGetRedir(c, nil),
		resp.BulkString("prefixes"), resp.Array(prefixes...),
	)
}

// clientGetRedir answers the connection that hears for this one, 0 for itself, -1 if
// it does not track.
func clientGetRedir(conn command.Conn, _ [][]byte) resp.Value {
	t := &conn.(*client).sess.track
	if !t.on {
		return resp.Int(-1)
	}
	return resp.Int(t.redirect)
}

// trackingSpecs are the subcommands of CLIENT about tracking.
func trackingSpecs() []*command.Spec {
	sub := func(name string, arity int, since string, do body) *command.Spec {
		return &command.Spec{
			Name: name, Arity: arity, Since: since, Group: "connection", Complexity: "O(1)",
			Flags:      command.FlagNoScript | command.FlagLoading | command.FlagStale,
			Categories: command.CatConnection, Do: command.Locally(do),
		}
	}
	track := said(sub("tracking", -3, "6.0.0", clientTracking),
		"<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
		"Says whether this connection is told when keys change that it has read.")
	track.Complexity = "O(1). Some options may introduce additional complexity."
	return slices.Clip([]*command.Spec{
		said(sub("caching", 3, "6.0.0", clientCaching), "<YES | NO>", "Says whether the keys of the next command are tracked."),
		said(sub("getredir", 2, "6.0.0", clientGetRedir), "", "Returns the connection that gets this one's invalidations."),
		track,
		said(sub("trackinginfo", 2, "6.2.0", clientTrackingInfo), "", "Returns how this connection tracks keys."),
	})
}
