package resp

import "strconv"

// ErrNoSuchMaster refuses a master name that is not this cluster's.
const ErrNoSuchMaster = Error("ERR No such master with that name")

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
