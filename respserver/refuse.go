package respserver

import (
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// refusal is one reason not to carry out a command: nil, or the error that
// answers it. A refusal changes nothing.
type refusal func(c *client, e *entry) error

// refusals in the order in which they are tried; the table's Lookup has refused
// unknown commands and wrong numbers of arguments before. What is refused inside MULTI
// makes its EXEC fail; see queue for the commands that stay.
var refusals = [...]refusal{
	refuseUnauthenticated,
	refuseSubscribed,
	refuseInMulti,
	refuseLoading,
	refuseLost,
	refuseReplica,
	refuseDisk,
}

func (c *client) refuse(e *entry) error {
	for _, r := range refusals {
		if err := r(c, e); err != nil {
			return err
		}
	}
	return nil
}

// refuseUnauthenticated: there is a password and the client has not told it.
func refuseUnauthenticated(c *client, e *entry) error {
	if c.sess.authorized || e.spec.Has(command.FlagNoAuth) {
		return nil
	}
	return resp.ErrNoAuth
}

// refuseSubscribed: a RESP2 client could not tell a reply from a message.
func refuseSubscribed(c *client, e *entry) error {
	if c.sub == nil || c.sess.proto > 2 || !c.subscribed() || e.spec.Has(command.FlagSubscribed) {
		return nil
	}
	return resp.Subscribed(e.name)
}

// refuseInMulti: the command cannot be part of a transaction.
func refuseInMulti(c *client, e *entry) error {
	if c.tx == nil || !e.spec.Has(command.FlagNoMulti) {
		return nil
	}
	return resp.ErrNotInMulti
}

// refuseLoading: the state of this node has not caught up since its start.
func refuseLoading(c *client, e *entry) error {
	if !c.sess.role.Loading || e.spec.Has(command.FlagLoading) {
		return nil
	}
	return resp.ErrLoading
}

// refuseLost: an earlier command of the connection ended INDOUBT, so that
// nothing later may be carried out; this one definitely was not.
func refuseLost(c *client, _ *entry) error {
	if !c.sess.lost {
		return nil
	}
	return resp.ErrReadOnly
}

// refuseReplica: only the master can write, and whoever passes on to it.
func refuseReplica(c *client, e *entry) error {
	if c.sess.role.serves() {
		return nil
	}
	if r := e.spec.Do.Route; r != command.RouteWrite && r != command.RouteReplicated {
		return nil
	}
	return resp.ErrReadOnly
}

// refuseDisk: what is written to the log might not fit on the disks.
func refuseDisk(c *client, e *entry) error {
	if !c.sess.role.DiskShort {
		return nil
	}
	if r := e.spec.Do.Route; r != command.RouteWrite && r != command.RouteReplicated {
		return nil
	}
	return resp.ErrDisk
}

// httpAlarm is how often, in ticks, the log tells of HTTP on the port.
const httpAlarm = int64(time.Minute / tickPeriod)

// refuseHTTP ends the connection if its next command is what an HTTP request
// would look like, and tells whether it did. As in Redis nothing that follows is
// carried out: a web page, or a server made to fetch some address, must not be
// able to send commands in the body of a request.
func (c *client) refuseHTTP(name []byte) bool {
	if !word(name, "POST") && !word(name, "HOST:") {
		return false
	}
	tick, last := c.srv.gate.tick.Load(), c.srv.httpSeen.Load()
	if (last == 0 || tick-last >= httpAlarm) && c.srv.httpSeen.CompareAndSwap(last, tick) {
		c.srv.cfg.Log.Warn("closing a client that speaks HTTP; somebody may be using it to send commands", "address", c.remoteAddr())
	}
	c.CloseUnanswered()
	return true
}

// refuseSize: the entry in the log would be too large.
func (c *client) refuseSize(s *step) error {
	cfg := &c.srv.cfg
	if cfg.SizeOf == nil {
		return nil
	}
	c.seg.probe = s.request()
	size := cfg.SizeOf(&c.seg.probe)
	c.seg.probe = command.Request{}
	if size > c.srv.tuning().MaxEntryBytes {
		return resp.ErrEntryTooBig
	}
	return nil
}
