package archtest_test

// node is what one package may import, beside the standard library.
type node struct {
	own   []string // packages of this module, by path below the module's
	third []string // modules or packages of others
}

// layers are the packages from the bottom up. Imports go only downward, none
// within a layer. Extend the lists deliberately, and never by an upward edge.
var layers = []map[string]node{
	{ // leaves
		"internal/clock":    {third: []string{"golang.org/x/sys"}},
		"internal/quiet":    {third: []string{"golang.org/x/sys"}},
		"internal/bell":     {},
		"internal/glob":     {},
		"internal/durable":  {},
		"internal/archtest": {},
	},
	{
		"resp":     {third: []string{"github.com/tidwall/redcon"}},
		"pubsub":   {own: []string{"internal/glob"}},
		"tracking": {},
		"config":   {own: []string{"internal/glob"}},
		"internal/walfs": {
			own:   []string{"internal/durable", "internal/quiet"},
			third: []string{"golang.org/x/sys", "github.com/hashicorp/raft", "github.com/hashicorp/raft-wal"},
		},
	},
	{
		"ttl": {},
	},
	{
		"store": {own: []string{"ttl"}, third: []string{"github.com/dchest/siphash", "github.com/zeebo/xxh3"}},
	},
	{
		"command": {own: []string{"store", "resp", "internal/glob"}},
	},
	{
		"raftfsm": {
			own:   []string{"command", "resp", "store", "internal/clock"},
			third: []string{"github.com/hashicorp/raft"},
		},
		"forward": {own: []string{"command", "resp", "store"}},
		"cluster": {
			own: []string{"internal/bell", "internal/clock", "internal/durable", "internal/quiet", "internal/walfs"},
			third: []string{
				"github.com/hashicorp/raft", "github.com/hashicorp/raft-boltdb/v2", "github.com/hashicorp/raft-wal",
				"github.com/hashicorp/go-hclog", "go.etcd.io/bbolt", "golang.org/x/sys",
			},
		},
	},
	{
		"respserver": {
			own:   []string{"command", "pubsub", "tracking", "resp", "store", "config", "internal/clock", "internal/quiet"},
			third: []string{"github.com/prometheus/client_golang", "golang.org/x/sys"},
		},
		"sentinelapi": {own: []string{"command", "store", "pubsub", "resp", "internal/glob"}},
		"adminhttp":   {third: []string{"github.com/prometheus/client_golang"}},
	},
	{
		"node": {
			own: []string{
				"adminhttp", "cluster", "command", "config", "forward", "internal/bell", "internal/clock", "internal/durable", "pubsub", "raftfsm",
				"resp", "respserver", "sentinelapi", "store", "tracking", "ttl",
			},
			third: []string{"github.com/hashicorp/raft", "github.com/prometheus/client_golang"},
		},
	},
	{
		"cmd/holdfast": {own: []string{"node", "config"}, third: []string{"github.com/spf13/pflag"}},
	},
}

// testOnly are packages that only tests import. They may use what is below
// "node", and integration everything.
var testOnly = map[string]node{
	"internal/testkit": {
		own:   []string{"raftfsm", "command", "store", "resp", "internal/clock"},
		third: []string{"golang.org/x/sys"},
	},
	"internal/testkit/loopback": {
		own:   []string{"raftfsm", "command", "store", "resp", "internal/clock"},
		third: []string{"github.com/hashicorp/raft"},
	},
	"internal/testkit/script": {
		own: []string{"internal/testkit", "resp"},
	},
	"integration": {
		own:   []string{"integration/bench/sessions", "node", "config", "internal/testkit", "internal/clock", "command", "resp", "store"},
		third: []string{"github.com/redis/go-redis/v9", "github.com/redis/rueidis", "github.com/anishathalye/porcupine", "go.uber.org/goleak", "golang.org/x/sys"},
	},
	"integration/clients/go/story": {},
	"integration/clients/go/goredis": {
		own:   []string{"integration/clients/go/story"},
		third: []string{"github.com/redis/go-redis/v9"},
	},
	"integration/clients/go/rueidis": {
		own:   []string{"integration/clients/go/story"},
		third: []string{"github.com/redis/rueidis"},
	},
	"integration/clients/go/radix": {
		own:   []string{"integration/clients/go/story"},
		third: []string{"github.com/mediocregopher/radix/v4"},
	},
	"integration/bench/sessions": {
		own:   []string{"internal/testkit"},
		third: []string{"github.com/HdrHistogram/hdrhistogram-go"},
	},
	"integration/bench": {
		own:   []string{"integration/bench/sessions", "internal/testkit"},
		third: []string{"github.com/HdrHistogram/hdrhistogram-go", "golang.org/x/sys"},
	},
}

// core is the deterministic core: what it does is a function of state and entry.
var core = []string{"resp", "store", "command", "ttl"}

// forbiddenInCore are imports by which the world would reach the core.
var forbiddenInCore = []string{"net", "os", "math/rand", "math/rand/v2", "crypto/rand", "runtime", "syscall", "hash/maphash"}

// clockFunctions of package time read the clock or wait for it.
var clockFunctions = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}
