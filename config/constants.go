package config

import (
	"fmt"
	"slices"
	"strings"
)

// fixed is a directive of Redis that has one value here. Clients ask for it, and
// configurations made for Redis may name it as long as they agree.
type fixed struct {
	name, value string
}

// constants are ordered by name.
var constants = []fixed{
	{"aclfile", ""},
	{"activerehashing", "yes"},
	{"appendfsync", "always"},
	{"appendonly", "yes"},
	{"cluster-enabled", "no"},
	{"daemonize", "no"},
	{"maxmemory", "0"},
	{"maxmemory-policy", "noeviction"},
	{"notify-keyspace-events", ""},
	{"pidfile", ""},
	{"replica-read-only", "yes"},
	{"replica-serve-stale-data", "yes"},
	{"save", ""},
	{"slave-read-only", "yes"},
	{"slave-serve-stale-data", "yes"},
	{"stop-writes-on-bgsave-error", "no"},
	{"tls-port", "0"},
}

// constant is the fixed directive with this name, in any case.
func constant(name string) (fixed, bool) {
	i := slices.IndexFunc(constants, func(f fixed) bool { return strings.EqualFold(f.name, name) })
	if i < 0 {
		return fixed{}, false
	}
	return constants[i], true
}

// accept agrees to the value the directive has anyway.
func (f fixed) accept(value string) error {
	if strings.EqualFold(value, f.value) {
		return nil
	}
	return fmt.Errorf("%s: it is always '%s' here", f.name, f.value)
}
