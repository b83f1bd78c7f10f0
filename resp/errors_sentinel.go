package resp

import "strconv"

// Errors of Redis Sentinel, word for word.
const (
	// ErrNoSuchMaster refuses a master name that is not this cluster's.
	ErrNoSuchMaster     = Error("ERR No such master with that name")
	ErrHelloOnly        = Error("ERR Only HELLO messages are accepted by Sentinel instances.")
	ErrUnknownFailure   = Error("ERR Unknown failure simulation specified")
	ErrScriptsDenied    = Error("ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig configuration directive in your Sentinel configuration")
	ErrSentinelConfig   = Error("ERR Only SENTINEL CONFIG GET <param> [<param> <param> ...] / SET <param> <value> [<param> <value> ...] are supported.")
	ErrMonitorQuorum    = Error("ERR Invalid quorum")
	ErrMonitorNoQuorum  = Error("ERR Quorum must be 1 or greater.")
	ErrMonitorPort      = Error("ERR Invalid port")
	ErrMonitorPortRange = Error("ERR Invalid port number.")
	ErrMonitorHost      = Error("ERR Invalid IP address or hostname specified")
	ErrMonitorDuplicate = Error("ERR Duplicate master name.")
)

// Errors of our own on the Sentinel port.
const (
	// ErrFixedMaster refuses to watch another master, or not to watch this one.
	ErrFixedMaster = Error("ERR a node watches its own cluster only; the directive master-name holds the names of its master")
	// ErrFixedTimes refuses SENTINEL DEBUG with arguments.
	ErrFixedTimes = Error("ERR the times of the cluster cannot be changed here; they follow from the directive election-timeout")
	// ErrNodeCredentials refuses an account with which Sentinels would reach each other.
	ErrNodeCredentials = Error("ERR sentinel-user and sentinel-pass are not used here: nodes prove cluster-secret to each other")
	// ErrNoSimulation refuses to crash.
	ErrNoSimulation = Error("ERR failures are not simulated: no node is crashed on request")
	// ErrUntrusted refuses what changes the port for others to those who have proved nothing.
	ErrUntrusted = Error("NOPERM this port has no password, so only clients on the same machine may do this; set sentinel-requirepass")
)

// SentinelConfigUnknown refuses a parameter of SENTINEL CONFIG SET.
func SentinelConfigUnknown(param []byte) Error {
	return Error("ERR Invalid argument '" + shown(param, shownLen) + "' to SENTINEL CONFIG SET")
}

// SentinelConfigTwice refuses a parameter that was there before.
func SentinelConfigTwice(param []byte) Error {
	return Error("ERR Duplicate argument '" + shown(param, shownLen) + "' to SENTINEL CONFIG SET")
}

// SentinelConfigMissing refuses a parameter without a value.
func SentinelConfigMissing(param []byte) Error {
	return Error("ERR Missing argument '" + shown(param, shownLen) + "' value")
}

// SentinelConfigValue refuses the value of a parameter.
func SentinelConfigValue(param, value []byte) Error {
	return Error("ERR Invalid value '" + shown(value, shownLen) + "' to SENTINEL CONFIG SET '" + shown(param, shownLen) + "'")
}

// SentinelSetOption refuses an option of SENTINEL SET, or one that lacks its arguments.
func SentinelSetOption(option []byte) Error {
	return Error("ERR Unknown option or number of arguments for SENTINEL SET '" + shown(option, shownLen) + "'")
}

// SentinelSetValue refuses the argument of an option of SENTINEL SET.
func SentinelSetValue(option, value []byte) Error {
	return Error("ERR Invalid argument '" + shown(value, shownLen) + "' for SENTINEL SET '" + shown(option, shownLen) + "'")
}

// SentinelDebugOption refuses an option of SENTINEL DEBUG, or one without a value.
func SentinelDebugOption(option []byte) Error {
	return Error("ERR Unknown option or number of arguments for SENTINEL DEBUG '" + shown(option, shownLen) + "'")
}

// SentinelDebugValue refuses the value of an option of SENTINEL DEBUG.
func SentinelDebugValue(option, value []byte) Error {
	return Error("ERR Invalid argument '" + shown(value, shownLen) + "' for SENTINEL DEBUG '" + shown(option, shownLen) + "'")
}

// NoQuorum answers SENTINEL CKQUORUM when usable nodes are too few for the
// quorum, for the majority, or for both.
func NoQuorum(usable int, quorum, majority bool) Error {
	text := "NOQUORUM " + strconv.Itoa(usable) + " usable Sentinels. "
	if !quorum {
		text += "Not enough available Sentinels to reach the specified quorum for this master"
	}
	if !quorum && !majority {
		text += ". "
	}
	if !majority {
		text += "Not enough available Sentinels to reach the majority and authorize a failover"
	}
	return Error(text)
}

// Errors of SENTINEL FAILOVER, in the words of Redis.
const (
	ErrInProgress    = Error("INPROG Failover already in progress")
	ErrNoGoodReplica = Error("NOGOODSLAVE No suitable replica to promote")
)
