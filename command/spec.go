// Package command describes commands: a Spec says everything about one once,
// and dispatch, refusals, COMMAND's replies, metrics, documents and tests are
// derived from it. It holds the data commands too, one file per group. It is
// deterministic: it knows no clock, no socket and no goroutine, and what a
// command does depends on the store and its arguments only.
package command

import (
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Route says where a command runs. Exactly one holds for each command.
type Route uint8

// The routes.
const (
	// RouteRead reads this node's state.
	RouteRead Route = iota + 1
	// RouteWrite goes through the log and runs on every node.
	RouteWrite
	// RouteLocal concerns this connection or this node.
	RouteLocal
	// RouteReplicated goes through the log but is no write to Redis's eyes.
	RouteReplicated
)

// Flags are facts about a command that do not follow from others, in the words
// of COMMAND INFO. WRITE and READONLY follow from the route.
type Flags uint32

// The flags.
const (
	FlagDenyOOM     Flags = 1 << iota // may grow memory: refused when there is none
	FlagAdmin                         // for operators
	FlagPubSub                        // about channels
	FlagNoScript                      // not from a script
	FlagBlocking                      // may wait
	FlagLoading                       // allowed while the node is loading
	FlagStale                         // allowed on a replica without a master
	FlagFast                          // constant or logarithmic cost; such reads ride beside an entry
	FlagNoAuth                        // allowed before AUTH
	FlagNoMulti                       // not inside MULTI
	FlagMovableKeys                   // keys cannot be found by position alone
	FlagSkipMonitor                   // not shown by MONITOR
	FlagSkipSlowlog                   // not recorded by SLOWLOG
	FlagNoAsyncLoading
	FlagNoMandatoryKeys
	FlagAllowBusy
	FlagMayReplicate // others are told of what it does: held up by CLIENT PAUSE … WRITE; COMMAND does not show it
	FlagSubscribed   // allowed on a RESP2 connection in subscribed mode
	FlagQueueless    // runs at once inside MULTI instead of being queued (EXEC, DISCARD, WATCH …)
	FlagInternal     // no client can call it: an operation of the server itself
	FlagWriteReply   // a Local or Read command that Redis itself marks as write
)

// Category is a set of ACL categories that do not follow from other facts.
type Category uint32

// The categories, named as ACL CAT names them.
const (
	CatKeyspace Category = 1 << iota
	CatRead
	CatWrite
	CatSet
	CatSortedSet
	CatList
	CatHash
	CatString
	CatBitmap
	CatHyperLogLog
	CatGeo
	CatStream
	CatPubSub
	CatAdmin
	CatFast
	CatSlow
	CatBlocking
	CatDangerous
	CatConnection
	CatTransaction
	CatScripting
)

// KeyFlags say what a command does with a key, in the words of key specs.
type KeyFlags uint16

// The key flags.
const (
	KeyRO KeyFlags = 1 << iota
	KeyRW
	KeyOW
	KeyRM
	KeyAccess
	KeyUpdate
	KeyInsert
	KeyDelete
	KeyNotKey
	KeyIncomplete
	KeyVariableFlags
)

// Keys is one key specification: where keys begin and how to find them.
type Keys struct {
	Flags KeyFlags
	// First is the position of the first key, counted from the command's name at
	// 0. Last is the position of the last one relative to First, or from the end
	// if negative (-1 the last argument). Step is the distance between two.
	First, Last, Step int
	// KeyNum, if above 0, says that the argument at First holds the number of
	// keys and that they begin at First+KeyNum.
	KeyNum int
	// Keyword, if not empty, says that the keys follow this word, looked for
	// from position First on (backwards if First is negative).
	Keyword string
	// Vary, set together with KeyVariableFlags, is what a call with these
	// arguments does with its keys; Flags are then the most that any call does.
	Vary func(args [][]byte) KeyFlags
}

// Spec is everything about one command. Specs are values: built once at start,
// joined into a Table, and never changed afterwards.
type Spec struct {
	Name       string   // lower case; of a subcommand its own word only
	Arity      int      // as Redis counts: name included, negative for "at least"
	Flags      Flags    // see Flags
	Keys       []Keys   // where its keys are
	Categories Category // explicit ones only; see Spec.AllCategories
	Tips       []string // command tips as COMMAND INFO shows them
	Group      string   // "string", "generic", "connection", "server", "transactions" …
	Since      string   // the Redis version that introduced it
	Complexity string
	Summary    string // one sentence of our own
	Syntax     string // the arguments after the name, as documents show them
	PerNode    bool   // the reply depends on the node: refused inside scripts
	Newer      bool   // not in redis-server 7.0.15: its script carries a documented transcript
	Deprecated string // the Redis version that deprecated it, empty if none did
	ReplacedBy string // what Redis recommends in place of a deprecated command
	Sub        []*Spec
	Do         Handler // how it runs; zero for a container of subcommands

	parent *Spec            // set by Join
	subs   map[string]*Spec // Sub by name, set by Join
}

// Conn is what a Local handler may ask of the connection it serves.
type Conn interface {
	ID() int64        // unique within the node's life
	Proto() int       // 2 or 3
	DB() int          // selected database
	User() string     // authenticated user, "default" unless AUTH said otherwise
	CloseUnanswered() // close without another reply once the current batch is flushed
}

// Handler is a command's body for its route. Use Reads, Writes, Replicates or
// Locally to build one. Its functions are safe for concurrent use and keep no
// reference to the arguments after they return.
type Handler struct {
	Route Route
	// Check refuses malformed arguments before anything is submitted. It is
	// called after the arity was found right, is pure, and never panics.
	Check func(args [][]byte) error
	// Read answers from the state. Set for RouteRead.
	Read func(r *store.Reader, args [][]byte) resp.Value
	// Frozen answers from a frozen view outside the lock. Set in addition to
	// Read for reads over whole databases.
	Frozen func(f *store.Frozen, db int, args [][]byte) resp.Value
	// Apply changes the state and answers. Set for RouteWrite and RouteReplicated.
	Apply func(tx *store.Tx, args [][]byte) resp.Value
	// Local answers for this connection or node. Set for RouteLocal.
	Local func(c Conn, args [][]byte) resp.Value
}

// Reads is a handler of route Read: parse is pure, run answers what it parsed.
func Reads[T any](parse func(args [][]byte) (T, error), run func(r *store.Reader, op T) resp.Value) Handler {
	return Handler{
		Route: RouteRead,
		Check: checkOf(parse),
		Read: func(r *store.Reader, args [][]byte) resp.Value {
			op, err := parse(args)
			if err != nil {
				return resp.Err(err)
			}
			return run(r, op)
		},
	}
}

// Writes is a handler of route Write: parse is pure, apply runs on every node.
func Writes[T any](parse func(args [][]byte) (T, error), apply func(tx *store.Tx, op T) resp.Value) Handler {
	return Handler{
		Route: RouteWrite,
		Check: checkOf(parse),
		Apply: func(tx *store.Tx, args [][]byte) resp.Value {
			op, err := parse(args)
			if err != nil {
				return resp.Err(err)
			}
			return apply(tx, op)
		},
	}
}

// Replicates is Writes for a command that is no write to Redis's eyes.
func Replicates[T any](parse func(args [][]byte) (T, error), apply func(tx *store.Tx, op T) resp.Value) Handler {
	h := Writes(parse, apply)
	h.Route = RouteReplicated
	return h
}

// Locally is a handler of route Local.
func Locally(run func(c Conn, args [][]byte) resp.Value) Handler {
	return Handler{Route: RouteLocal, Check: func([][]byte) error { return nil }, Local: run}
}

func checkOf[T any](parse func(args [][]byte) (T, error)) func(args [][]byte) error {
	return func(args [][]byte) error {
		_, err := parse(args)
		return err
	}
}

// FirstKey is the first key among args, or nil if there is none or it has no fixed
// position. It aliases args.
func (s *Spec) FirstKey(args [][]byte) []byte {
	if len(s.Keys) == 0 {
		return nil
	}
	k := &s.Keys[0]
	if k.KeyNum > 0 || k.Keyword != "" || k.First <= 0 || k.First >= len(args) {
		return nil
	}
	return args[k.First]
}

// FullName is the name as COMMAND shows it: "get", "client|list".
func (s *Spec) FullName() string {
	if s.parent == nil {
		return s.Name
	}
	return s.parent.Name + "|" + s.Name
}

// Has tells whether all of the given flags are set.
func (s *Spec) Has(f Flags) bool { return s.Flags&f == f }
