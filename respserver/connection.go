package respserver

import (
	"crypto/sha256"
	"crypto/subtle"
	"strconv"
	"strings"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

const selectName = "select"

// reset puts the connection into the state it has after the accept.
func (c *client) reset() {
	c.endTransaction()
	c.stopTracking()
	old := c.sess
	c.sess = session{role: old.role, ran: old.ran, ending: old.ending, lost: old.lost, failed: old.failed, wrote: old.wrote}
	c.setProto(2)
	c.selectDB(0)
	c.sess.user = defaultUser
	c.sess.authorized = c.srv.tuning().Password == ""
	c.card.mu.Lock()
	c.card.mu.name, c.card.mu.user = "", defaultUser
	c.card.mu.noEvict, c.card.mu.noTouch = false, false
	c.card.mu.Unlock()
	c.limit()
}

func ping(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	switch {
	case len(args) > 2:
		return resp.Err(resp.Arity("ping"))
	case c.sess.proto == 2 && c.subscribed():
		text := resp.BulkString("")
		if len(args) == 2 {
			text = bulkCopy(args[1])
		}
		return resp.Array(resp.BulkString("pong"), text)
	case len(args) == 2:
		return bulkCopy(args[1])
	}
	return resp.Pong
}

// bulkCopy is a reply that may outlive the pipeline its bytes came with.
func bulkCopy(b []byte) resp.Value { return resp.BulkString(string(b)) }

func echo(_ command.Conn, args [][]byte) resp.Value { return bulkCopy(args[1]) }

func quit(conn command.Conn, _ [][]byte) resp.Value {
	conn.CloseUnanswered()
	return resp.OK
}

// resetConn is answered even if replies were off: it switches them on again.
func resetConn(conn command.Conn, _ [][]byte) resp.Value {
	c := conn.(*client)
	c.settle()
	reply, silent := resp.Simple("RESET"), c.sess.muted == muteOn
	c.unsubscribeAll()
	c.reset()
	if silent {
		c.write(reply, false)
		return resp.None
	}
	return reply
}

func parseDB(arg []byte, databases int) (int, error) {
	n, err := parseInt(arg)
	switch {
	case err != nil:
		return 0, err
	case n < 0 || n >= int64(databases):
		return 0, resp.ErrDBIndex
	}
	return int(n), nil
}

// parseInt reads a 64-bit number as Redis does: in its one shortest form.
func parseInt(arg []byte) (int64, error) {
	n, err := strconv.ParseInt(string(arg), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(arg) {
		return 0, resp.ErrNotInteger
	}
	return n, nil
}

func selectCommand(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	db, err := parseDB(args[1], c.srv.tuning().Databases)
	if err != nil {
		return resp.Err(err)
	}
	c.selectDB(db)
	return resp.OK
}

func auth(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	if len(args) > 3 {
		return resp.Err(resp.ErrSyntax)
	}
	user, password := []byte(defaultUser), args[len(args)-1]
	if len(args) == 3 {
		user = args[1]
	} else if c.srv.tuning().Password == "" {
		return resp.Err(resp.ErrNoPassword)
	}
	if err := c.authenticate(user, password); err != nil {
		return resp.Err(err)
	}
	return resp.OK
}

// authenticate checks the password in a time that does not depend on how much of
// it is right. There is one user; without a password any will do for it.
func (c *client) authenticate(user, password []byte) error {
	want := c.srv.tuning().Password
	given, right := sha256.Sum256(password), sha256.Sum256([]byte(want))
	match := subtle.ConstantTimeCompare(given[:], right[:]) == 1 || want == ""
	if string(user) != defaultUser || !match {
		return resp.ErrWrongPass
	}
	c.setUser(defaultUser)
	return nil
}

// greeting is what HELLO asks for.
type greeting struct {
	proto          int // 0 to leave it
	user, password []byte
	auth           bool
	name           []byte
	setName        bool
}

func parseHello(args [][]byte) (greeting, error) {
	var g greeting
	if len(args) == 1 {
		return g, nil
	}
	n, err := parseInt(args[1])
	switch {
	case err != nil:
		return g, resp.ErrProtoNumber
	case n < 2 || n > 3:
		return g, resp.ErrNoProto
	}
	g.proto = int(n)
	for i := 2; i < len(args); i++ {
		more := len(args) - i - 1
		switch {
		case strings.EqualFold(string(args[i]), "AUTH") && more >= 2:
			g.auth, g.user, g.password = true, args[i+1], args[i+2]
			i += 2
		case strings.EqualFold(string(args[i]), "SETNAME") && more >= 1:
			g.setName, g.name = true, args[i+1]
			i++
		default:
			return g, resp.HelloOption(args[i])
		}
	}
	return g, nil
}

// hello answers in the protocol it switches to. It settles first: the replies
// before it belong to the old one.
func hello(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	c.settle()
	g, err := parseHello(args)
	if err != nil {
		return resp.Err(err)
	}
	if g.setName && !printable(g.name) {
		return resp.Err(resp.ErrClientName)
	}
	if g.auth {
		if err := c.authenticate(g.user, g.password); err != nil {
			return resp.Err(err)
		}
	}
	if !c.sess.authorized {
		return resp.Err(resp.ErrHelloNoAuth)
	}
	if g.setName {
		c.setName(g.name)
	}
	if g.proto != 0 {
		c.setProto(g.proto)
	}
	return c.greet()
}

// greet is the reply of HELLO; a Sentinel has no role.
func (c *client) greet() resp.Value {
	mode := "standalone"
	if c.srv.cfg.Sentinel {
		mode = "sentinel"
	}
	reply := []resp.Value{
		resp.BulkString("server"), resp.BulkString("redis"),
		resp.BulkString("version"), resp.BulkString(c.srv.cfg.Identity.RedisVersion),
		resp.BulkString("proto"), resp.Int(int64(c.sess.proto)),
		resp.BulkString("id"), resp.Int(c.id),
		resp.BulkString("mode"), resp.BulkString(mode),
	}
	if !c.srv.cfg.Sentinel {
		role := "replica"
		if c.confirmedRole().Master {
			role = "master"
		}
		reply = append(reply, resp.BulkString("role"), resp.BulkString(role))
	}
	return resp.Map(append(reply, resp.BulkString("modules"), resp.Array())...)
}

// confirmedRole is the role to tell the client. This node calls itself master
// only if that was confirmed after the client asked; otherwise it is a replica
// that has lost its master.
func (c *client) confirmedRole() Role {
	if c.srv.cfg.Roles == nil {
		return Role{}
	}
	r := c.srv.cfg.Roles.Role()
	if r.Master && !c.confirm() {
		return Role{Loading: r.Loading}
	}
	if r.NamedUntil != 0 && c.srv.cfg.Clock.Boot() >= r.NamedUntil {
		r.MasterHost, r.MasterPort, r.LinkUp = "", 0, false
	}
	return r
}

// ConnectionSpecs are the commands about a connection itself.
func ConnectionSpecs() []*command.Spec {
	const fast = command.FlagFast
	const always = command.FlagNoScript | command.FlagLoading | command.FlagStale | fast | command.FlagNoAuth | command.FlagAllowBusy
	spec := func(name string, arity int, flags command.Flags, since string, do func(command.Conn, [][]byte) resp.Value) *command.Spec {
		return &command.Spec{
			Name: name, Arity: arity, Flags: flags, Since: since, Group: "connection",
			Categories: command.CatConnection, Complexity: "O(1)", Do: command.Locally(do),
		}
	}
	pingSpec := spec("ping", -1, fast|command.FlagSubscribed, "1.0.0", ping)
	pingSpec.Syntax, pingSpec.Summary = "[message]", "Tells that the server is there, or returns the message."
	pingSpec.Tips = []string{"request_policy:all_shards", "response_policy:all_succeeded"}
	echoSpec := spec("echo", 2, command.FlagLoading|command.FlagStale|fast, "1.0.0", echo)
	echoSpec.Syntax, echoSpec.Summary = "message", "Returns the message."
	quitSpec := spec("quit", -1, always|command.FlagSubscribed|command.FlagQueueless, "1.0.0", quit)
	quitSpec.Summary = "Closes the connection after the replies before it."
	resetSpec := spec("reset", 1, always|command.FlagSubscribed|command.FlagQueueless, "6.2.0", resetConn)
	resetSpec.Summary = "Puts the connection into the state of a new one."
	authSpec := spec("auth", -2, always, "1.0.0", auth)
	authSpec.Syntax, authSpec.Summary = "[username] password", "Authenticates the connection."
	authSpec.Complexity = "O(N) where N is the number of passwords defined for the user"
	helloSpec := spec("hello", -1, always, "6.0.0", hello)
	helloSpec.Syntax = "[protover [AUTH username password] [SETNAME clientname]]"
	helloSpec.Summary = "Chooses the protocol version and introduces both sides."
	selectSpec := spec(selectName, 2, command.FlagLoading|command.FlagStale|fast, "1.0.0", selectCommand)
	selectSpec.Syntax, selectSpec.Summary = "index", "Selects the database of the commands that follow."
	return []*command.Spec{pingSpec, echoSpec, quitSpec, resetSpec, authSpec, helloSpec, selectSpec, clientSpec()}
}
