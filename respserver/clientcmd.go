package respserver

import (
	"strings"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// word tells whether arg is the given upper-case word, in any case.
func word(arg []byte, w string) bool { return strings.EqualFold(string(arg), w) }

func clientID(conn command.Conn, _ [][]byte) resp.Value { return resp.Int(conn.ID()) }

func clientGetName(conn command.Conn, _ [][]byte) resp.Value {
	c := conn.(*client)
	c.card.mu.Lock()
	defer c.card.mu.Unlock()
	if c.card.mu.name == "" {
		return resp.Null
	}
	return resp.BulkString(c.card.mu.name)
}

func clientSetName(conn command.Conn, args [][]byte) resp.Value {
	if !printable(args[2]) {
		return resp.Err(resp.ErrClientName)
	}
	conn.(*client).setName(args[2])
	return resp.OK
}

func clientSetInfo(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	option := strings.ToLower(string(args[2]))
	var field *string
	switch option {
	case "lib-name":
		field = &c.card.mu.libName
	case "lib-ver":
		field = &c.card.mu.libVer
	default:
		return resp.Err(resp.UnrecognizedOption(args[2]))
	}
	if !printable(args[3]) {
		return resp.Err(resp.SpecialCharacters(option))
	}
	c.card.mu.Lock()
	defer c.card.mu.Unlock()
	*field = string(args[3])
	return resp.OK
}

// onOff reads the argument of a switch.
func onOff(arg []byte) (on bool, err error) {
	switch {
	case word(arg, "ON"):
		return true, nil
	case word(arg, "OFF"):
		return false, nil
	}
	return false, resp.ErrSyntax
}

// noEvict is accepted for clients that ask for it: no client is evicted here.
func noEvict(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	return c.switchFlag(&c.card.mu.noEvict, args[2])
}

// noTouch is shown in CLIENT LIST.
func noTouch(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	return c.switchFlag(&c.card.mu.noTouch, args[2])
}

// switchFlag sets a flag of the client's card to ON or OFF.
func (c *client) switchFlag(flag *bool, arg []byte) resp.Value {
	on, err := onOff(arg)
	if err != nil {
		return resp.Err(err)
	}
	c.card.mu.Lock()
	defer c.card.mu.Unlock()
	*flag = on
	return resp.OK
}

// clientReply switches replies; only ON is answered, even while they are off.
func clientReply(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	switch {
	case word(args[2], "ON"):
		c.sess.muted = muteOff
		if c.inExec() {
			return resp.OK
		}
		c.write(resp.OK, false)
	case word(args[2], "OFF"):
		c.sess.muted = muteOn
	case word(args[2], "SKIP"):
		if c.sess.muted != muteOn {
			c.sess.muted = muteSkip
		}
	default:
		return resp.Err(resp.ErrSyntax)
	}
	return resp.None
}

func clientUnblock(conn command.Conn, args [][]byte) resp.Value {
	why := wakeTimeout
	switch {
	case len(args) > 4:
		return resp.Err(resp.SubcommandArity("client", args[1]))
	case len(args) == 4 && word(args[3], "ERROR"):
		why = wakeError
	case len(args) == 4 && !word(args[3], "TIMEOUT"):
		return resp.Err(resp.ErrUnblockReason)
	}
	id, err := parseInt(args[2])
	if err != nil {
		return resp.Err(err)
	}
	target := conn.(*client).srv.client(id)
	return resp.Flag(target != nil && target.life.unblock(why))
}

// client is the connection with the given id, or nil.
func (s *Server) client(id int64) *client {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.clients[id]
}

const clientDepends = "Depends on subcommand."

// clientSpec is CLIENT with its subcommands and further ones.
func clientSpec(further ...*command.Spec) *command.Spec {
	const plain = command.FlagNoScript | command.FlagLoading | command.FlagStale
	const admin = plain | command.FlagAdmin
	sub := func(name string, arity int, flags command.Flags, since string, do func(command.Conn, [][]byte) resp.Value) *command.Spec {
		return &command.Spec{
			Name: name, Arity: arity, Flags: flags, Since: since, Group: "connection",
			Categories: command.CatConnection, Complexity: "O(1)", Do: command.Locally(do),
		}
	}
	with := func(s *command.Spec, syntax, summary string) *command.Spec {
		s.Syntax, s.Summary = syntax, summary
		return s
	}
	const each = "O(N) where N is the number of client connections"
	list := with(sub("list", -2, admin, "2.4.0", clientList), "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]", "Lists the connections.")
	list.Complexity, list.Tips = each, []string{"nondeterministic_output"}
	kill := with(sub("kill", -3, admin, "2.4.0", clientKill), "<ip:port | filter value [filter value ...]>", "Closes connections.")
	kill.Complexity = each
	info := with(sub("info", 2, plain, "6.2.0", clientInfo), "", "Describes this connection.")
	info.Tips = []string{"nondeterministic_output"}
	unblock := with(sub("unblock", -3, admin, "5.0.0", clientUnblock), "client-id [TIMEOUT | ERROR]", "Wakes a blocked connection.")
	unblock.Complexity = "O(log N) where N is the number of client connections"
	setInfo := with(sub("setinfo", 4, plain, "7.2.0", clientSetInfo), "<LIB-NAME libname | LIB-VER libver>", "Notes what the client library says about itself.")
	setInfo.Newer = true
	touch := with(sub("no-touch", 3, plain, "7.2.0", noTouch), "<ON | OFF>", "Says that commands of this connection should not count as use of a key.")
	touch.Newer = true
	container := &command.Spec{
		Name: "client", Arity: -2, Group: "connection", Since: "2.4.0", Complexity: clientDepends,
		Summary: "Holds the commands about connections.",
		Sub: append([]*command.Spec{
			with(sub("getname", 2, plain, "2.6.9", clientGetName), "", "Returns the name of this connection."),
			with(sub("id", 2, plain, "5.0.0", clientID), "", "Returns the id of this connection."),
			info, kill, list,
			with(sub("no-evict", 3, admin, "7.0.0", noEvict), "<ON | OFF>", "Says that this connection should not be evicted."),
			touch,
			with(sub("reply", 3, plain, "3.2.0", clientReply), "<ON | OFF | SKIP>", "Switches the replies to this connection."),
			setInfo,
			with(sub("setname", 3, plain, "2.6.9", clientSetName), "connection-name", "Names this connection."),
			unblock,
		}, append(trackingSpecs(), further...)...),
	}
	container.Sub = append(container.Sub, helpSpec(container, "5.0.0"))
	return container
}

// helpSpec is the HELP of a container.
func helpSpec(container *command.Spec, since string) *command.Spec {
	return &command.Spec{
		Name: "help", Arity: 2, Flags: command.FlagLoading | command.FlagStale, Since: since,
		Group: container.Group, Categories: container.Sub[0].Categories, Complexity: "O(1)", Summary: "Lists the subcommands.",
		Do: command.Locally(func(command.Conn, [][]byte) resp.Value { return command.Help(container) }),
	}
}
