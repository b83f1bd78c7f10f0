package resp

import "strings"

// Errors of connection and server commands, as Redis words them.
const (
	ErrClientName     = Error("ERR Client names cannot contain spaces, newlines or special characters.")
	ErrNoPassword     = Error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	ErrWrongPass      = Error("WRONGPASS invalid username-password pair or user is disabled.")
	ErrHelloNoAuth    = Error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
	ErrProtoNumber    = Error("ERR Protocol version is not an integer or out of range")
	ErrNotInMulti     = Error("ERR Command not allowed inside a transaction")
	ErrNoSuchClient   = Error("ERR No such client")
	ErrClientID       = Error("ERR Invalid client ID")
	ErrKillID         = Error("ERR client-id should be greater than 0")
	ErrMaxAge         = Error("ERR maxage is not an integer or out of range")
	ErrUnblockReason  = Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
	ErrUnblocked      = Error("UNBLOCKED client unblocked via CLIENT UNBLOCK")
	ErrForceUnblocked = Error("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)")
	ErrCaching        = Error("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	ErrNoCluster      = Error("ERR This instance has cluster support disabled")
	ErrTimeout        = Error("ERR timeout is not an integer or out of range")
	ErrTimeoutSign    = Error("ERR timeout is negative")
	ErrNotZeroOrOne   = Error("ERR value is out of range, value must between 0 and 1")
	ErrNotPositive    = Error("ERR value is out of range, must be positive")
	ErrWaitReplica    = Error("ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.")
	ErrWaitAOFReplica = Error("ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.")
	ErrNoDebug        = Error("ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.")
	ErrSaving         = Error("ERR Background save already in progress")
	ErrShutdown       = Error("ERR Errors trying to SHUTDOWN. Check logs.")
	ErrMaxClients     = Error("ERR max number of clients reached")
	ErrPauseMode      = Error("ERR CLIENT PAUSE mode must be WRITE or ALL")
	ErrDefaultUser    = Error("ERR The 'default' user cannot be removed")
	ErrPasswordBits   = Error("ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096")
	ErrNoACLFile      = Error("ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis configuration.")
)

// Further errors of our own.
const (
	// ErrTooManyWatched bounds the memory that WATCH takes.
	ErrTooManyWatched = Error("ERR too many watched keys")
	// ErrOnlyUser refuses ACL SETUSER.
	ErrOnlyUser = Error("ERR users cannot be changed: there is only 'default', whose password is the port's")
	// ErrSaveFailed answers SAVE; the reason is for the operator.
	ErrSaveFailed = Error("ERR the snapshot failed, see the log of the node")
	// ErrProtected is all that a peer beyond this machine gets in protected mode.
	ErrProtected = Error("DENIED Holdfast runs in protected mode: it has no password, so only connections from the same machine are " +
		"served. Set requirepass, or set protected-mode to no if the network is trusted.")
)

// ExecAborted answers an EXEC that was refused itself; why is the refusal.
func ExecAborted(why error) Error {
	return Error("EXECABORT Transaction discarded because of: " + strings.TrimPrefix(why.Error(), "ERR "))
}

// Subscribed refuses a command to a RESP2 connection with subscriptions; name is
// the canonical one.
func Subscribed(name string) Error {
	return Error("ERR Can't execute '" + name + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
}

// HelloOption refuses an option of HELLO, or one that lacks its arguments.
func HelloOption(option []byte) Error {
	return Error("ERR Syntax error in HELLO option '" + shown(option, shownLen) + "'")
}

// UnrecognizedOption refuses an option of CLIENT SETINFO.
func UnrecognizedOption(option []byte) Error {
	return Error("ERR Unrecognized option '" + shown(option, shownLen) + "'")
}

// SpecialCharacters refuses a text that could not stand in a line of CLIENT
// LIST; what says which text.
func SpecialCharacters(what string) Error {
	return Error("ERR " + what + " cannot contain spaces, newlines or special characters.")
}

// ClientType refuses a class of connections.
func ClientType(class []byte) Error {
	return Error("ERR Unknown client type '" + shown(class, shownLen) + "'")
}

// NoSuchUser refuses the name of a user.
func NoSuchUser(user []byte) Error { return Error("ERR No such user '" + shown(user, shownLen) + "'") }

// SubcommandArity refuses a subcommand or its number of arguments; container is
// in lower case.
func SubcommandArity(container string, sub []byte) Error {
	return Error("ERR unknown subcommand or wrong number of arguments for '" + shown(sub, shownLen) + "'. Try " +
		strings.ToUpper(container) + " HELP.")
}

// Errors of FAILOVER, in the words of Redis.
const (
	ErrNoFailover      = Error("ERR No failover in progress.")
	ErrFailoverBusy    = Error("ERR FAILOVER already in progress.")
	ErrFailoverReplica = Error("ERR FAILOVER is not valid when server is a replica.")
	ErrFailoverAlone   = Error("ERR FAILOVER requires connected replicas.")
	ErrFailoverForce   = Error("ERR FAILOVER with force option requires both a timeout and target HOST and IP.")
	ErrFailoverTarget  = Error("ERR FAILOVER target HOST and PORT is not a replica.")
	ErrFailoverOffline = Error("ERR FAILOVER target replica is not online.")
	ErrFailoverTimeout = Error("ERR FAILOVER timeout must be greater than 0")
)

// UnknownCategory refuses a category of ACL CAT.
func UnknownCategory(name []byte) Error {
	return Error("ERR Unknown category '" + shown(name, shownLen) + "'")
}

// UserNotFound refuses the user of ACL DRYRUN.
func UserNotFound(name []byte) Error {
	return Error("ERR User '" + shown(name, shownLen) + "' not found")
}

// CommandNotFound refuses the command of ACL DRYRUN.
func CommandNotFound(name []byte) Error {
	return Error("ERR Command '" + shown(name, shownLen) + "' not found")
}
