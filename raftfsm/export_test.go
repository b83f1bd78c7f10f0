package raftfsm

import (
	"bytes"
	"strconv"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Commands of the tests. They are no more than what the state machine needs to
// be exercised with; those of the product have tests of their own.
var (
	SpecSet    = write("set", applySet)       // SET key value [PXAT deadline]
	SpecDel    = write("del", applyDel)       // DEL key
	SpecIncr   = write("incr", applyIncr)     // INCR key
	SpecExpire = write("pexpireat", applyEnd) // PEXPIREAT key deadline
	SpecRandom = write("random", applyRandom) // RANDOM key: sets it to a random number
	SpecBoom   = write("boom", applyBoom)     // BOOM key: sets it, then panics
	SpecSub    = container("config", write("put", applySet))
	SpecGet    = &command.Spec{Name: "get", Do: command.Handler{Route: command.RouteRead, Read: readGet}}
	SpecLen    = &command.Spec{Name: "dbsize", Do: command.Handler{Route: command.RouteRead, Read: readLen}}
	SpecBad    = &command.Spec{Name: "badread", Do: command.Handler{Route: command.RouteRead, Read: readBoom}}
	SpecExec   = &command.Spec{Name: "exec", Do: command.Handler{Route: command.RouteLocal}}
	SpecPing   = &command.Spec{Name: "ping", Do: command.Handler{Route: command.RouteLocal}}
)

// Lookup finds the commands of the tests.
func Lookup(name string) *command.Spec {
	for _, s := range []*command.Spec{
		SpecSet, SpecDel, SpecIncr, SpecExpire, SpecRandom, SpecBoom, SpecGet, SpecLen, SpecBad,
	} {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func write(name string, apply func(tx *store.Tx, args [][]byte) resp.Value) *command.Spec {
	return &command.Spec{Name: name, Do: command.Handler{Route: command.RouteWrite, Apply: apply}}
}

func container(name string, sub ...*command.Spec) *command.Spec {
	return &command.Spec{Name: name, Sub: sub}
}

func applySet(tx *store.Tx, args [][]byte) resp.Value {
	deadline := int64(0)
	if len(args) == 5 {
		deadline, _ = strconv.ParseInt(string(args[4]), 10, 64)
	}
	tx.Set(args[1], store.StringValue(append([]byte{}, args[2]...)), deadline)
	tx.Notify(store.ClassString, "set", args[1])
	return resp.OK
}

func applyDel(tx *store.Tx, args [][]byte) resp.Value { return resp.Flag(tx.Delete(args[1])) }

func applyIncr(tx *store.Tx, args [][]byte) resp.Value {
	n := int64(0)
	if e := tx.Find(args[1]); e != nil {
		n, _ = strconv.ParseInt(string(e.Value().Bytes()), 10, 64)
	}
	n++
	tx.Set(args[1], store.StringValue(strconv.AppendInt(nil, n, 10)), store.KeepDeadline)
	return resp.Int(n)
}

func applyEnd(tx *store.Tx, args [][]byte) resp.Value {
	e := tx.Find(args[1])
	if e == nil {
		return resp.Zero
	}
	deadline, _ := strconv.ParseInt(string(args[2]), 10, 64)
	tx.SetDeadline(e, deadline)
	return resp.One
}

func applyRandom(tx *store.Tx, args [][]byte) resp.Value {
	n := strconv.FormatUint(tx.Random64(), 10)
	tx.Set(args[1], store.StringValue([]byte(n)), 0)
	return resp.BulkString(n)
}

func applyBoom(tx *store.Tx, args [][]byte) resp.Value {
	applySet(tx, [][]byte{nil, args[1], []byte("half-way")})
	return resp.Int(int64(args[len(args)][0]))
}

func readGet(r *store.Reader, args [][]byte) resp.Value {
	if e := r.Find(args[1]); e != nil {
		return resp.Bulk(e.Value().Bytes())
	}
	return resp.Null
}

func readLen(r *store.Reader, _ [][]byte) resp.Value { return resp.Int(int64(r.Len())) }

func readBoom(_ *store.Reader, args [][]byte) resp.Value {
	return resp.Int(int64(args[len(args)][0]))
}

// Entry encodes one entry of plain requests, as a Proposer of another process
// would have.
func Entry(stamp int64, seed uint64, reqs ...command.Request) []byte {
	data := appendHead(nil, entryHead{level: 1, stamp: stamp, seed: seed}, len(reqs))
	for i := range reqs {
		data = appendRequest(data, &reqs[i])
	}
	return data
}

// TickEntry encodes an entry with one tick.
func TickEntry(stamp int64, victims ...store.Victim) []byte {
	return appendTick(appendHead(nil, entryHead{level: 1, stamp: stamp}, 1), victims)
}

// EstablishEntry encodes an establishing entry.
func EstablishEntry(stamp int64, clusterID string, s store.Settings) []byte {
	return appendEstablish(appendHead(nil, entryHead{level: 1, stamp: stamp}, 1),
		establishment{node: "n1", clusterID: clusterID, hashSeed: [2]uint64{1, 2}, settings: s})
}

// StreamOfLevel is the stream of an empty state as a release of that apply
// level would write it.
func StreamOfLevel(level uint64) []byte {
	var buf bytes.Buffer
	f := store.New(1).Freeze()
	defer f.Release()
	if _, err := writeStream(&buf, streamHead{level: level, databases: 1}, f); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

// WaitingTicks is how many ticks wait for an entry.
func WaitingTicks(p *Proposer) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.mu.ticks)
}

// Passes tells whether there is a checkpoint between two indexes in a state of some size.
func Passes(c *Checkpoints, before, index uint64, used int64) bool {
	return c.passes(before, index, func() int64 { return used })
}

// LevelEntry encodes an entry that raises the cluster's level to that of the entry.
func LevelEntry(level uint64, stamp int64) []byte {
	return append(appendHead(nil, entryHead{level: level, stamp: stamp}, 1), byte(unitLevel))
}

// LevelOf is the level an entry is of.
func LevelOf(entry []byte) uint64 {
	d := decoder{in: entry}
	level, _ := d.release()
	return level
}

// HealthEntry encodes an entry that records health.
func HealthEntry(level uint64, stamp int64, health map[string]store.Health) []byte {
	return appendHealth(append(appendHead(nil, entryHead{level: level, stamp: stamp}, 1), byte(unitHealth)), health)
}
