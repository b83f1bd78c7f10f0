package respserver

import "github.com/holdfast/holdfast/resp"

// The errors of connection and server commands, in Redis's words.
const (
	errClientName     = resp.Error("ERR Client names cannot contain spaces, newlines or special characters.")
	errNoPassword     = resp.Error("ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?")
	errWrongPass      = resp.Error("WRONGPASS invalid username-password pair or user is disabled.")
	errHelloNoAuth    = resp.Error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time")
	errProtoNumber    = resp.Error("ERR Protocol version is not an integer or out of range")
	errNotInMulti     = resp.Error("ERR Command not allowed inside a transaction")
	errNoSuchClient   = resp.Error("ERR No such client")
	errClientID       = resp.Error("ERR Invalid client ID")
	errKillID         = resp.Error("ERR client-id should be greater than 0")
	errUnblockReason  = resp.Error("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
	errUnblocked      = resp.Error("UNBLOCKED client unblocked via CLIENT UNBLOCK")
	errForceUnblocked = resp.Error("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)")
	errNoCluster      = resp.Error("ERR This instance has cluster support disabled")
	errTimeout        = resp.Error("ERR timeout is not an integer or out of range")
	errNegTimeout     = resp.Error("ERR timeout is negative")
	errWaitReplica    = resp.Error("ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if a replica is configured to be writable (which is not the default) writes to replicas are just local and are not propagated.")
	errWaitAOFReplica = resp.Error("ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas are just local and are not propagated.")
	errWaitLocal      = resp.Error("ERR value is out of range, value must between 0 and 1")
	errNoDebug        = resp.Error("ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.")
	errSaving         = resp.Error("ERR Background save already in progress")
	errShutdown       = resp.Error("ERR Errors trying to SHUTDOWN. Check logs.")
	errMaxAge         = resp.Error("ERR maxage is not an integer or out of range")
	errCaching        = resp.Error("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
)

// errExecBecause begins the error of an EXEC that was refused itself.
const errExecBecause = "EXECABORT Transaction discarded because of: "

// Errors of our own.
const (
	errTooManyWatched = resp.Error("ERR too many watched keys")
	errSaveFailed     = resp.Error("ERR the snapshot failed, see the log of the node")
)

var (
	errInDoubtReply    = resp.Err(resp.ErrInDoubt)
	errMasterDownReply = resp.Err(resp.ErrMasterDown)
)
