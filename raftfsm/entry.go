package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/store"
)

// Level is the apply level of this release: the highest whose entries it applies. Any
// change of what apply makes of an entry, and any new kind of unit, is a new level.
// What is written is of the cluster's level, which an entry raises once every node
// speaks a higher one.
//
//	1  the first release
//	2  the cluster's level itself is replicated
//	3  masters record the health of the nodes
const Level = 3

// firstLevel is that of a cluster whose level was never raised.
const firstLevel = 1

// levelReplicated is the first level that has unitLevel.
const levelReplicated = 2

// LevelHealth is the first level that has records of health.
const LevelHealth = 3

// entryFormat is the version of the encoding, the first byte of every entry.
const entryFormat = 1

// unitKind tells what a unit of an entry is. The numbers are part of the format.
type unitKind byte

const (
	unitCommand   unitKind = 1 // one command
	unitExec      unitKind = 2 // a transaction
	unitTick      unitKind = 3 // due keys to remove
	unitEstablish unitKind = 4 // the first entry of a term
	unitMember    unitKind = 5 // a node's addresses
	unitSettings  unitKind = 6 // replicated settings
	unitLevel     unitKind = 7 // the cluster's level is that of the entry from here on; from level 2
	unitHealth    unitKind = 8 // the health of all nodes; from level 3
)

// Errors that stop a node before it applies an entry.
var (
	// ErrNewerEntry is an entry, or a command in it, of a release above ours.
	ErrNewerEntry = errors.New("raftfsm: log entry needs a newer release")
	// ErrBadEntry is an entry that no release has written.
	ErrBadEntry = errors.New("raftfsm: damaged log entry")
)

// proposalID names a proposal: the process that made it, by a random number
// drawn at its start, and its place among that process's proposals. The FSM of
// the same process finds by it the requests that wait for the entry.
type proposalID struct{ process, seq uint64 }

// entryHead is what all units of an entry share.
type entryHead struct {
	level    uint64
	stamp    int64 // cluster time, ms
	seed     uint64
	proposal proposalID
}

// invocation is one command as the log carries it. The first word of args is
// not in the log: it is the canonical name's, so that apply cannot depend on
// how a client spelled it.
type invocation struct {
	spec *command.Spec
	db   int
	user uint64 // version of the user's rules; 0 until users are replicated
	args [][]byte
}

// establishment is the body of a term's first entry. All but the node counts
// only in the first establishing entry of a cluster.
type establishment struct {
	node      string
	clusterID string
	hashSeed  [2]uint64
	settings  store.Settings
}

// rare holds the bodies of the units that are not plain commands, apart, so
// that a unit stays small.
type rare struct {
	watch     []command.Watched
	queue     []invocation
	victims   []store.Victim
	establish establishment
	member    store.Member
	settings  store.Settings
	health    map[string]store.Health
}

// unit is one decoded unit. Its bytes alias the entry.
type unit struct {
	kind unitKind
	cmd  invocation // of unitCommand
	*rare
}

// headSize bounds the encoded size of everything before the first unit.
const headSize = 1 + 5*binary.MaxVarintLen64 + 16

// SizeOf is the size in bytes of a log entry that carries r alone, less than a
// hundred above the truth: what max-entry-bytes limits. It is pure and costs a
// few nanoseconds for each argument. A read has no place in an entry; its size
// is that of an empty one.
func SizeOf(r *command.Request) int { return headSize + unitSize(r) }

// unitSize is the exact encoded size of r, 0 for a read.
func unitSize(r *command.Request) int {
	switch {
	case r.Exec != nil:
		return 1 + execSize(r.Exec)
	case r.Spec.Do.Route == command.RouteRead:
		return 0
	default:
		return 1 + invocationSize(r.Spec, r.DB, r.Args)
	}
}

func invocationSize(spec *command.Spec, db int, args [][]byte) int {
	size := bytesLen(len(spec.FullName())) + uvarintLen(uint64(db)) + uvarintLen(0)
	size += uvarintLen(uint64(len(args) - 1))
	for _, a := range args[1:] {
		size += bytesLen(len(a))
	}
	return size
}

func execSize(x *command.Exec) int {
	size := uvarintLen(uint64(len(x.Watch)))
	for i := range x.Watch {
		w := &x.Watch[i]
		size += uvarintLen(uint64(w.DB)) + bytesLen(len(w.Key)) + uvarintLen(w.Version)
	}
	size += uvarintLen(uint64(len(x.Queue)))
	for i := range x.Queue {
		q := &x.Queue[i]
		size += invocationSize(q.Spec, q.DB, q.Args)
	}
	return size
}

// appendHead begins an entry of the given number of units.
func appendHead(dst []byte, h entryHead, units int) []byte {
	dst = append(dst, entryFormat)
	dst = binary.AppendUvarint(dst, h.level)
	dst = appendInt(dst, h.stamp)
	dst = binary.LittleEndian.AppendUint64(dst, h.seed)
	dst = binary.LittleEndian.AppendUint64(dst, h.proposal.process)
	dst = binary.AppendUvarint(dst, h.proposal.seq)
	return binary.AppendUvarint(dst, uint64(units))
}

// appendRequest appends r as one unit; r must not be a read.
func appendRequest(dst []byte, r *command.Request) []byte {
	if r.Exec == nil {
		dst = append(dst, byte(unitCommand))
		return appendInvocation(dst, r.Spec.FullName(), r.DB, 0, r.Args)
	}
	dst = append(dst, byte(unitExec))
	dst = appendWatch(dst, r.Exec.Watch)
	dst = binary.AppendUvarint(dst, uint64(len(r.Exec.Queue)))
	for i := range r.Exec.Queue {
		q := &r.Exec.Queue[i]
		dst = appendInvocation(dst, q.Spec.FullName(), q.DB, 0, q.Args)
	}
	return dst
}

func appendInvocation(dst []byte, name string, db int, user uint64, args [][]byte) []byte {
	dst = appendBytes(dst, name)
	dst = appendInt(dst, db)
	dst = binary.AppendUvarint(dst, user)
	dst = binary.AppendUvarint(dst, uint64(len(args)-1))
	for _, a := range args[1:] {
		dst = appendBytes(dst, a)
	}
	return dst
}

func appendWatch(dst []byte, watch []command.Watched) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(watch)))
	for i := range watch {
		w := &watch[i]
		dst = appendInt(dst, w.DB)
		dst = appendBytes(dst, w.Key)
		dst = binary.AppendUvarint(dst, w.Version)
	}
	return dst
}

func appendTick(dst []byte, victims []store.Victim) []byte {
	dst = append(dst, byte(unitTick))
	dst = binary.AppendUvarint(dst, uint64(len(victims)))
	for i := range victims {
		v := &victims[i]
		dst = appendInt(dst, v.DB)
		dst = appendBytes(dst, v.Key)
		dst = appendInt(dst, v.Deadline)
	}
	return dst
}

// tickOverhead bounds the encoded size of a tick without its victims.
const tickOverhead = 1 + binary.MaxVarintLen64

// victimSize is the exact encoded size of a victim.
func victimSize(v *store.Victim) int {
	return uvarintLen(uint64(v.DB)) + bytesLen(len(v.Key)) + uvarintLen(uint64(v.Deadline))
}

func appendEstablish(dst []byte, e establishment) []byte {
	dst = append(dst, byte(unitEstablish))
	dst = appendBytes(dst, e.node)
	dst = appendBytes(dst, e.clusterID)
	dst = binary.LittleEndian.AppendUint64(dst, e.hashSeed[0])
	dst = binary.LittleEndian.AppendUint64(dst, e.hashSeed[1])
	return appendSettings(dst, e.settings)
}

// entryDecoder decodes entries one after the other into memory of its own: what
// decode returned is valid until the next decode. For one goroutine.
type entryDecoder struct {
	lookup func(name string) *command.Spec
	names  map[string]known // names seen, so that a lookup costs no allocation
	units  []unit
	args   [][]byte // arena of all argument lists
}

// known is a spec with the first word of its arguments.
type known struct {
	spec *command.Spec
	word []byte
}

// maxArena is the number of argument headers kept between entries.
const maxArena = 1 << 16

func newEntryDecoder(lookup func(name string) *command.Spec) *entryDecoder {
	return &entryDecoder{lookup: lookup, names: map[string]known{}}
}

// decode reads one entry whole. The units alias both the decoder and data. An
// error wraps ErrNewerEntry or ErrBadEntry.
func (x *entryDecoder) decode(data []byte) (entryHead, []unit, error) {
	x.release()
	d := decoder{in: data}
	level, err := d.release()
	if err != nil {
		return entryHead{}, nil, err
	}
	h := entryHead{level: level, stamp: d.int64(), seed: d.fixed64()}
	h.proposal = proposalID{process: d.fixed64(), seq: d.uvarint()}
	if h.stamp < 0 {
		d.fail()
	}
	for range d.count() {
		u, err := x.unit(&d)
		if err != nil {
			return entryHead{}, nil, err
		}
		if u.kind == unitLevel && h.level < levelReplicated || u.kind == unitHealth && h.level < LevelHealth {
			return entryHead{}, nil, ErrBadEntry
		}
		x.units = append(x.units, u)
	}
	if d.bad || len(d.in) != 0 {
		return entryHead{}, nil, ErrBadEntry
	}
	return h, x.units, nil
}

// CheckEntry tells why this release cannot apply an entry of the log, by the first
// bytes of it: nil, or an error that wraps ErrNewerEntry or ErrBadEntry. It is pure.
func CheckEntry(data []byte) error {
	d := decoder{in: data}
	_, err := d.release()
	return err
}

// release reads what says which releases can read the rest of an entry: its level.
func (d *decoder) release() (level uint64, err error) {
	if format := d.byte(); !d.bad && format != entryFormat {
		return 0, fmt.Errorf("%w: format %d, this one reads %d", ErrNewerEntry, format, entryFormat)
	}
	level = d.uvarint()
	switch {
	case level > Level:
		return 0, fmt.Errorf("%w: apply level %d, this one has %d", ErrNewerEntry, level, Level)
	case level == 0:
		return 0, ErrBadEntry
	}
	return level, nil
}

// release forgets the last entry, so that its bytes can be freed.
func (x *entryDecoder) release() {
	clear(x.units)
	clear(x.args)
	x.units, x.args = x.units[:0], x.args[:0]
	if cap(x.args) > maxArena {
		x.args = nil
	}
}

func (x *entryDecoder) unit(d *decoder) (unit, error) {
	u := unit{kind: unitKind(d.byte())}
	if d.bad {
		return u, ErrBadEntry
	}
	if u.kind == unitCommand {
		var err error
		u.cmd, err = x.invocation(d)
		return u, err
	}
	u.rare = &rare{}
	switch u.kind {
	case unitExec:
		return u, x.exec(d, u.rare)
	case unitTick:
		n := d.count()
		u.victims = make([]store.Victim, 0, min(n, len(d.in)/3))
		for range n {
			u.victims = append(u.victims, store.Victim{DB: d.db(), Key: d.text(), Deadline: d.int64()})
			if d.bad {
				break
			}
		}
	case unitEstablish:
		u.establish = establishment{node: d.text(), clusterID: d.text()}
		u.establish.hashSeed = [2]uint64{d.fixed64(), d.fixed64()}
		u.establish.settings = d.settings()
	case unitMember:
		u.member = d.member()
	case unitSettings:
		u.settings = d.settings()
	case unitLevel:
	case unitHealth:
		u.health = d.health()
	default:
		return u, fmt.Errorf("%w: unit of kind %d", ErrNewerEntry, u.kind)
	}
	if d.bad {
		return u, ErrBadEntry
	}
	return u, nil
}

func (x *entryDecoder) exec(d *decoder, r *rare) error {
	for range d.count() {
		r.watch = append(r.watch, command.Watched{DB: d.db(), Key: d.bytes(), Version: d.uvarint()})
		if d.bad {
			return ErrBadEntry
		}
	}
	for range d.count() {
		inv, err := x.invocation(d)
		if err != nil {
			return err
		}
		r.queue = append(r.queue, inv)
	}
	if d.bad {
		return ErrBadEntry
	}
	return nil
}

func (x *entryDecoder) invocation(d *decoder) (invocation, error) {
	name := d.bytes()
	inv := invocation{db: d.db(), user: d.uvarint()}
	n := d.count()
	if d.bad {
		return inv, ErrBadEntry
	}
	k, err := x.find(name)
	if err != nil {
		return inv, err
	}
	inv.spec = k.spec
	from := len(x.args)
	x.args = append(x.args, k.word)
	for range n {
		x.args = append(x.args, d.bytes())
		if d.bad {
			return inv, ErrBadEntry
		}
	}
	inv.args = x.args[from:len(x.args):len(x.args)]
	return inv, nil
}

// find is the command of a canonical name that runs in apply.
func (x *entryDecoder) find(name []byte) (known, error) {
	if k, ok := x.names[string(name)]; ok {
		return k, nil
	}
	spec := x.lookup(string(name))
	if !runs(spec) || spec.FullName() != string(name) {
		return known{}, fmt.Errorf("%w: unknown command %.64q", ErrNewerEntry, name)
	}
	k := known{spec: spec, word: firstWord(name)}
	x.names[string(name)] = k
	return k, nil
}

// runs tells whether a command can run in apply.
func runs(spec *command.Spec) bool {
	return spec != nil && (spec.Do.Apply != nil || spec.Do.Read != nil)
}

// firstWord is a copy of the part of a canonical name before the bar.
func firstWord(name []byte) []byte {
	for i, c := range name {
		if c == '|' {
			return append([]byte(nil), name[:i]...)
		}
	}
	return append([]byte(nil), name...)
}
