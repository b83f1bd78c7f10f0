package respserver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"math"
	"strings"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// aclSpec is ACL on a port whose only user is "default": it may do everything once it
// has told the password of the port, if there is one.
func aclSpec() *command.Spec {
	const admin = command.FlagAdmin
	sub := func(name string, arity int, flags command.Flags, syntax, summary string, do body) *command.Spec {
		s := said(serverSpec(name, arity, command.FlagNoScript|flagsAnytime|flags, "6.0.0", do), syntax, summary)
		return s
	}
	cat := sub("cat", -2, 0, "[category]", "Lists the categories of commands, or the commands of one.", aclCat)
	cat.Complexity = "O(1) since the categories and commands are a fixed set."
	dryRun := sub("dryrun", -4, admin, "username command [arg [arg ...]]", "Tells whether a user may run a command.", aclDryRun)
	dryRun.Since = "7.0.0"
	acl := &command.Spec{
		Name: "acl", Arity: -2, Group: "server", Since: "6.0.0", Complexity: "Depends on subcommand.",
		Summary: "Holds the commands about users; there is one, default.",
	}
	acl.Sub = []*command.Spec{
		cat,
		sub("deluser", -3, admin, "username [username ...]", "Deletes no user: default cannot be deleted.", aclDelUser),
		dryRun,
		sub("genpass", -2, 0, "[bits]", "Makes up a password.", aclGenPass),
		sub("getuser", 3, admin, "username", "Describes a user.", aclGetUser),
		sub("list", 2, admin, "", "Returns the rules of all users.", aclList),
		sub("load", 2, admin, "", "Refused: there is no file of users.", aclFile),
		sub("log", -2, admin, "[count | RESET]", "Returns an empty list: nothing is denied to a user here.", aclLog),
		sub("save", 2, admin, "", "Refused: there is no file of users.", aclFile),
		sub("setuser", -3, admin, "username [rule [rule ...]]", "Refused: users cannot be changed.", aclSetUser),
		sub("users", 2, admin, "", "Returns the names of all users.", aclUsers),
		sub("whoami", 2, 0, "", "Returns the user of this connection.", aclWhoAmI),
	}
	for _, s := range acl.Sub {
		switch s.Name {
		case "deluser", "getuser", "list", "load", "log", "save", "setuser", "users":
			s.Complexity = "O(N), N being the number of users."
		}
	}
	acl.Sub = append(acl.Sub, helpSpec(acl, "6.0.0"))
	return acl
}

func aclWhoAmI(conn command.Conn, _ [][]byte) resp.Value { return resp.BulkString(conn.User()) }

func aclUsers(command.Conn, [][]byte) resp.Value { return resp.Array(resp.BulkString(defaultUser)) }

// passwordHash is the SHA-256 of the port's password in hex, as ACL shows passwords;
// empty if there is none.
func (s *Server) passwordHash() string {
	password := s.tuning().Password
	if password == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(password))
	return hex.EncodeToString(sum[:])
}

func aclList(conn command.Conn, _ [][]byte) resp.Value {
	proof := "nopass"
	if hash := conn.(*client).srv.passwordHash(); hash != "" {
		proof = "#" + hash
	}
	return resp.Array(resp.BulkString("user " + defaultUser + " on " + proof + " ~* &* +@all"))
}

func aclGetUser(conn command.Conn, args [][]byte) resp.Value {
	if string(args[2]) != defaultUser {
		return resp.Null
	}
	flags, passwords := []resp.Value{resp.BulkString("on")}, []resp.Value{}
	if hash := conn.(*client).srv.passwordHash(); hash != "" {
		passwords = append(passwords, resp.BulkString(hash))
	} else {
		flags = append(flags, resp.BulkString("nopass"))
	}
	return resp.Map(
		resp.BulkString("flags"), resp.Set(flags...),
		resp.BulkString("passwords"), resp.Array(passwords...),
		resp.BulkString("commands"), resp.BulkString("+@all"),
		resp.BulkString("keys"), resp.BulkString("~*"),
		resp.BulkString("channels"), resp.BulkString("&*"),
		resp.BulkString("selectors"), resp.Array(),
	)
}

func aclCat(conn command.Conn, args [][]byte) resp.Value {
	var names []string
	switch len(args) {
	case 2:
		names = command.Category(math.MaxUint32).Names()
	case 3:
		category := command.CategoryByName(args[2])
		if category == 0 {
			return resp.Err(resp.UnknownCategory(args[2]))
		}
		for s := range conn.(*client).srv.table.Each() {
			if s.AllCategories()&category != 0 {
				names = append(names, s.FullName())
			}
		}
	default:
		return resp.Err(resp.SubcommandArity("acl", args[1]))
	}
	list := make([]resp.Value, len(names))
	for i, name := range names {
		list[i] = resp.BulkString(name)
	}
	return resp.Array(list...)
}

// Bits of the passwords ACL GENPASS makes up.
const (
	passwordBits    = 256
	passwordBitsMax = 4096
)

func aclGenPass(_ command.Conn, args [][]byte) resp.Value {
	bits := int64(passwordBits)
	switch len(args) {
	case 2:
	case 3:
		var err error
		if bits, err = parseInt(args[2]); err != nil {
			return resp.Err(err)
		}
		if bits <= 0 || bits > passwordBitsMax {
			return resp.Err(resp.ErrPasswordBits)
		}
	default:
		return resp.Err(resp.SubcommandArity("acl", args[1]))
	}
	digits := (bits + 3) / 4
	random := make([]byte, (digits+1)/2)
	_, _ = rand.Read(random) // never fails, or ends the process
	return resp.BulkString(hex.EncodeToString(random)[:digits])
}

func aclDryRun(conn command.Conn, args [][]byte) resp.Value {
	if string(args[2]) != defaultUser {
		return resp.Err(resp.UserNotFound(args[2]))
	}
	table := conn.(*client).srv.table
	s := table.ByName(strings.ToLower(string(args[3])))
	if s != nil && len(s.Sub) > 0 && len(args) > 4 {
		s = table.ByName(s.Name + "|" + strings.ToLower(string(args[4])))
	}
	if s == nil || s.Do.Route == 0 {
		return resp.Err(resp.CommandNotFound(args[3]))
	}
	return resp.OK
}

func aclDelUser(_ command.Conn, args [][]byte) resp.Value {
	for _, name := range args[2:] {
		if string(name) == defaultUser {
			return resp.Err(resp.ErrDefaultUser)
		}
	}
	return resp.Zero
}

func aclSetUser(command.Conn, [][]byte) resp.Value { return resp.Err(resp.ErrOnlyUser) }

func aclFile(command.Conn, [][]byte) resp.Value { return resp.Err(resp.ErrNoACLFile) }

func aclLog(_ command.Conn, args [][]byte) resp.Value {
	switch {
	case len(args) > 3:
		return resp.Err(resp.SubcommandArity("acl", args[1]))
	case len(args) == 3 && word(args[2], "RESET"):
		return resp.OK
	case len(args) == 3:
		if _, err := parseInt(args[2]); err != nil {
			return resp.Err(err)
		}
	}
	return resp.Array()
}
