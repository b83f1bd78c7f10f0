package sentinelapi

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/glob"
	"github.com/holdfast/holdfast/resp"
)

// changes are the subcommands that change what a real Sentinel watches or how. Here
// the master is the one of the cluster, whatever they are told: those that would add
// or drop one are refused once their arguments were found right.
func (a api) changes() []*command.Spec {
	with := func(s *command.Spec, arity int, syntax string) *command.Spec {
		s.Arity, s.Syntax = arity, syntax
		return s
	}
	return []*command.Spec{
		with(a.plain("config", "6.2.0", "O(N) where N is the number of parameters.", "Shows and changes the settings of this Sentinel.", a.config),
			-3, "<GET parameter [parameter ...] | SET parameter value [parameter value ...]>"),
		with(a.plain("debug", "7.0.0", "O(N) where N is the number of parameters.", "Shows the times the cluster goes by; they cannot be changed.", a.debug),
			-2, "[parameter value [parameter value ...]]"),
		a.failover(),
		a.plain("flushconfig", "2.8.4", "O(1)", "Does nothing: what the nodes have agreed on is on disk already.", flushConfig),
		with(a.plain("monitor", "2.8.4", "O(1)", "Refused: a node watches its own cluster.", a.monitor), 6, "name ip port quorum"),
		a.named("remove", "2.8.4", "O(1)", "Refused: the names of the master are those of the directive master-name.", remove),
		with(a.plain("reset", "2.8.4", "O(N) where N is the number of masters.", "Counts the names that match; there is nothing to forget.", a.reset), 3, "pattern"),
		with(a.plain("set", "2.8.4", "O(N) where N is the number of options.", "Changes the numbers a master is shown with.", a.set), -5, "master-name option value [option value ...]"),
		with(a.plain("simulate-failure", "3.2.0", "O(1)", "Refused: nodes are not crashed on request.", simulateFailure),
			-3, "<CRASH-AFTER-ELECTION | CRASH-AFTER-PROMOTION | HELP> [CRASH-AFTER-ELECTION] [CRASH-AFTER-PROMOTION] [HELP]"),
	}
}

// trusting is a connection that tells whether its client may change what others are
// told. One that cannot tell may not.
type trusting interface {
	// Trusted tells whether the client has proved a password, or is on this machine.
	Trusted() bool
}

func trusted(c command.Conn) bool {
	t, ok := c.(trusting)
	return ok && t.Trusted()
}

func flushConfig(command.Conn, [][]byte) resp.Value { return resp.OK }

// monitor finds fault in the order a real Sentinel does.
func (a api) monitor(_ command.Conn, args [][]byte) resp.Value {
	v := a.src.View()
	quorum, quorumErr := number(args[5])
	port, portErr := number(args[4])
	_, hostErr := netip.ParseAddr(string(args[3]))
	switch {
	case quorumErr != nil:
		return resp.Err(resp.ErrMonitorQuorum)
	case portErr != nil:
		return resp.Err(resp.ErrMonitorPort)
	case quorum < 1:
		return resp.Err(resp.ErrMonitorNoQuorum)
	case hostErr != nil:
		return resp.Err(resp.ErrMonitorHost)
	case port < 0 || port > maxPort:
		return resp.Err(resp.ErrMonitorPortRange)
	case slices.Contains(v.Names, string(args[2])):
		return resp.Err(resp.ErrMonitorDuplicate)
	}
	return resp.Err(resp.ErrFixedMaster)
}

func remove(command.Conn, *View) resp.Value { return resp.Err(resp.ErrFixedMaster) }

// patternWork bounds the steps of matching a pattern; what is looked at after that
// does not match.
const patternWork = 1 << 16

func (a api) reset(_ command.Conn, args [][]byte) resp.Value {
	v := a.src.View()
	n, work := int64(0), glob.Work(patternWork)
	for _, name := range v.Names {
		if glob.MatchWithin(&work, args[2], name) {
			n++
		}
	}
	return resp.Int(n)
}

func simulateFailure(_ command.Conn, args [][]byte) resp.Value {
	for _, arg := range args[2:] {
		switch strings.ToLower(string(arg)) {
		case "crash-after-election", "crash-after-promotion":
		case "help":
			return resp.Array(resp.BulkString("crash-after-election"), resp.BulkString("crash-after-promotion"))
		default:
			return resp.Err(resp.ErrUnknownFailure)
		}
	}
	return resp.Err(resp.ErrNoSimulation)
}

// timing is one of the times of a Sentinel, in ms.
type timing struct {
	name string
	of   func(v *View) int64
}

// pingsPerElection is how often in an election timeout nodes hear of each other.
const pingsPerElection = 4

// timings are what DEBUG shows: the times of the cluster that come closest to those of
// a Sentinel, and 0 for what there is not: TILT mode, reconfiguration of replicas, a
// pause before connecting again, scripts.
func timings() []timing {
	ping := func(v *View) int64 { return v.Election / pingsPerElection }
	none := func(*View) int64 { return 0 }
	return []timing{
		{"INFO-PERIOD", ping},
		{"PING-PERIOD", ping},
		{"ASK-PERIOD", ping},
		{"PUBLISH-PERIOD", ping},
		{"DEFAULT-DOWN-AFTER", func(v *View) int64 { return v.DownAfter }},
		{"DEFAULT-FAILOVER-TIMEOUT", func(v *View) int64 { return v.FailoverTimeout }},
		{"TILT-TRIGGER", none},
		{"TILT-PERIOD", none},
		{"SLAVE-RECONF-TIMEOUT", none},
		{"MIN-LINK-RECONNECT-PERIOD", none},
		{"ELECTION-TIMEOUT", func(v *View) int64 { return v.Election }},
		{"SCRIPT-MAX-RUNTIME", none},
		{"SCRIPT-RETRY-DELAY", none},
	}
}

func (a api) debug(_ command.Conn, args [][]byte) resp.Value {
	if len(args) > 2 {
		return resp.Err(debugRefusal(args[2:]))
	}
	v := a.src.View()
	var f fields
	for _, t := range timings() {
		f.number(t.name, t.of(&v))
	}
	return resp.Map(f...)
}

// debugRefusal is the fault of the arguments, or that times cannot be changed.
func debugRefusal(args [][]byte) error {
	for i := 0; i < len(args); i += 2 {
		known := false
		for _, t := range timings() {
			known = known || strings.EqualFold(t.name, string(args[i]))
		}
		if !known || i+1 == len(args) {
			return resp.SentinelDebugOption(args[i])
		}
		if n, err := number(args[i+1]); err != nil || n <= 0 {
			return resp.SentinelDebugValue(args[i], args[i+1])
		}
	}
	return resp.ErrFixedTimes
}

const maxPort = 1<<16 - 1

// number reads an integer as Redis does: in its one shortest form.
func number(arg []byte) (int64, error) {
	n, err := strconv.ParseInt(string(arg), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(arg) {
		return 0, resp.ErrNotInteger
	}
	return n, nil
}
