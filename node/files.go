package node

import (
	"math"
	"syscall"
)

// ownFiles is how many open files the node keeps for itself: the log and snapshots,
// connections of other nodes, those of the metrics port.
const ownFiles = 512

// clientFiles is how many files of those this process may open are left to clients.
func clientFiles() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur > math.MaxInt32 {
		return math.MaxInt32
	}
	all := int(limit.Cur) // checked above
	return all - min(ownFiles, all/2)
}

// share is how many of the wanted clients each port may serve, so that together they
// take no more than the given number of files: the data port comes first, and leaves
// the Sentinel port a quarter. It is one at least.
func share(wanted, files int) (data, sentinel int) {
	data = min(wanted, files-min(wanted, files/4))
	return max(1, data), max(1, min(wanted, files-data))
}
