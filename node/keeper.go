package node

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/holdfast/holdfast/sentinelapi"
)

// keeper keeps what SENTINEL SET and SENTINEL CONFIG SET change on this node.
type keeper struct {
	n  *Node
	mu sync.Mutex // held to replace options
	// options are by the master's name; a map is replaced, never changed.
	options atomic.Pointer[map[string]sentinelapi.Options]
}

var _ sentinelapi.Keeper = (*keeper)(nil)

// Keep changes the options of a master and tells subscribers.
func (k *keeper) Keep(name string, change func(o *sentinelapi.Options), told []sentinelapi.Message) {
	k.mu.Lock()
	next := maps.Clone(k.all())
	if next == nil {
		next = map[string]sentinelapi.Options{}
	}
	o := next[name]
	change(&o)
	next[name] = o
	k.options.Store(&next)
	k.mu.Unlock()
	for _, m := range told {
		k.n.hub.Publish(m.Channel, []byte(m.Payload))
	}
}

// all are the options of all masters, for reading.
func (k *keeper) all() map[string]sentinelapi.Options {
	if m := k.options.Load(); m != nil {
		return *m
	}
	return nil
}

// sentinelParams are the parameters of SENTINEL CONFIG and the directives they stand for.
var sentinelParams = []struct{ name, directive string }{
	{"resolve-hostnames", "sentinel-resolve-hostnames"},
	{"announce-hostnames", "sentinel-announce-hostnames"},
	{"announce-ip", "sentinel-announce-ip"},
	{"announce-port", "sentinel-announce-port"},
	{"loglevel", "loglevel"},
}

// Params are the values of the directives.
func (k *keeper) Params() []sentinelapi.Param {
	list := make([]sentinelapi.Param, 0, len(sentinelParams))
	for _, p := range sentinelParams {
		for _, found := range k.n.settings.Get([]string{p.directive}) {
			list = append(list, sentinelapi.Param{Name: p.name, Value: found[1]})
		}
	}
	return list
}

// SetParams changes all of the directives or none.
func (k *keeper) SetParams(params []sentinelapi.Param) error {
	var pairs [][2]string
	for _, p := range sentinelParams {
		for _, given := range params {
			if given.Name == p.name {
				pairs = append(pairs, [2]string{p.directive, given.Value})
			}
		}
	}
	return k.n.settings.Set(pairs)
}
