package respserver

import (
	"github.com/holdfast/holdfast/command"
)

// SentinelPortSpecs are the commands of the Sentinel port except SENTINEL, ROLE and
// PUBLISH, which sentinelapi has, and COMMAND. The table is that of a Redis 7.2
// Sentinel: it has no SELECT, ECHO, QUIT, RESET, MULTI or CONFIG.
func SentinelPortSpecs() []*command.Spec {
	keep := map[string]bool{"ping": true, "auth": true, "hello": true}
	specs := []*command.Spec{infoSpec(), shutdownSpec(), aclSpec(), sentinelClientSpec()}
	for _, s := range ConnectionSpecs() {
		if keep[s.Name] {
			specs = append(specs, s)
		}
	}
	return append(specs, SubscribeSpecs()...)
}

// sentinelClientSpec is CLIENT as a Sentinel has it: with tracking of keys there are
// none of, with pauses, and without NO-TOUCH.
func sentinelClientSpec() *command.Spec {
	s := clientSpec(pauseSpec(), unpauseSpec())
	for i, sub := range s.Sub {
		if sub.Name == "no-touch" {
			s.Sub = append(s.Sub[:i], s.Sub[i+1:]...)
			break
		}
	}
	return s
}

// Trusted tells whether the client may change what the port is to others: it has
// proved a password, or it is on this machine. A Sentinel port is often open, and
// whoever reaches it must not be able to stop a node or to lead clients elsewhere.
func (c *client) Trusted() bool {
	return c.sess.authorized && c.srv.tuning().Password != "" || local(c.conn)
}

// clientSub is a subcommand of CLIENT.
func clientSub(name string, arity int, flags command.Flags, since string, do body) *command.Spec {
	return &command.Spec{
		Name: name, Arity: arity, Since: since, Group: "connection", Complexity: "O(1)",
		Flags:      command.FlagNoScript | flagsAnytime | flags,
		Categories: command.CatConnection, Do: command.Locally(do),
	}
}
