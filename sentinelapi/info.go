package sentinelapi

import (
	"strconv"
	"strings"
)

// InfoSection is the section "Sentinel" of INFO on the Sentinel port, its
// heading included, each line ended by CR and LF. There are no scripts and no
// simulated failures to tell of, and clocks that jump do not upset the cluster
// as TILT mode would say. Each name of the master is a line.
func InfoSection(v View) string {
	var b strings.Builder
	b.WriteString("# Sentinel\r\n" +
		"sentinel_masters:" + strconv.Itoa(len(v.Names)) + "\r\n" +
		"sentinel_tilt:0\r\n" +
		"sentinel_tilt_since_seconds:-1\r\n" +
		"sentinel_running_scripts:0\r\n" +
		"sentinel_scripts_queue_length:0\r\n" +
		"sentinel_simulate_failure_flags:0\r\n")
	for i, name := range v.Names {
		b.WriteString("master" + strconv.Itoa(i) + ":name=" + name + ",status=" + v.status() + ",address=" + v.address().String() +
			",slaves=" + strconv.Itoa(len(v.replicas())) + ",sentinels=" + strconv.Itoa(len(v.Nodes)) + "\r\n")
	}
	return b.String()
}
