package forward

import (
	"bufio"
	"encoding/binary"
	"errors"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Units on the wire, all numbers as varints and all strings with their length:
//
//	keys     database count key…
//	units    count unit…
//	unit     0 call | 1 watches calls
//	call     database words
//	watches  count (database key version)…
//	calls    count call…
//	endings  index count (outcome reply)…
//
// A call is the words a client sent, looked up again by the node that carries it
// out: what it may do there does not depend on the sender.
const (
	unitCall = 0
	unitExec = 1
)

const (
	maxUnits = 1024      // in one frame
	manySize = 512 << 10 // bytes of a frame from which no further unit joins it
	execName = "exec"
)

// Table looks up commands, as command.Table does.
type Table interface {
	// Lookup finds the command that args call, with their number checked.
	Lookup(args [][]byte) (*command.Spec, error)
	// ByName is the command of a canonical name, or nil.
	ByName(name string) *command.Spec
}

// appendUnit appends a request.
func appendUnit(dst []byte, r *command.Request) []byte {
	if r.Exec == nil {
		return appendCall(append(dst, unitCall), r.DB, r.Args)
	}
	dst = binary.AppendUvarint(append(dst, unitExec), uint64(len(r.Exec.Watch)))
	for i := range r.Exec.Watch {
		w := &r.Exec.Watch[i]
		dst = appendText(binary.AppendUvarint(dst, uint64(w.DB)), w.Key)
		dst = binary.AppendUvarint(dst, w.Version)
	}
	dst = binary.AppendUvarint(dst, uint64(len(r.Exec.Queue)))
	for i := range r.Exec.Queue {
		dst = appendCall(dst, r.Exec.Queue[i].DB, r.Exec.Queue[i].Args)
	}
	return dst
}

func appendCall(dst []byte, db int, args [][]byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(db))
	dst = binary.AppendUvarint(dst, uint64(len(args)))
	for _, a := range args {
		dst = appendText(dst, a)
	}
	return dst
}

func appendText(dst, s []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// sizeOf is about how many bytes a request takes.
func sizeOf(r *command.Request) int {
	const number = 3
	size := number + sizeOfArgs(r.Args)
	if r.Exec != nil {
		for i := range r.Exec.Watch {
			size += len(r.Exec.Watch[i].Key) + binary.MaxVarintLen64 + number
		}
		for i := range r.Exec.Queue {
			size += number + sizeOfArgs(r.Exec.Queue[i].Args)
		}
	}
	return size
}

func sizeOfArgs(args [][]byte) int {
	size := 0
	for _, a := range args {
		size += len(a) + 3
	}
	return size
}

// cut is the end of the requests from from on that go into one frame: one at
// least, which is alone if it is large.
func cut(requests []command.Request, from int) int {
	size := 0
	for i := from; i < len(requests); i++ {
		size += sizeOf(&requests[i])
		if i > from && (i-from == maxUnits || size > manySize) {
			return i
		}
	}
	return len(requests)
}

// errUnit says that bytes are no units.
var errUnit = errors.New("malformed units")

// decoder takes fields from b; after a mistake err is set for good.
type decoder struct {
	b         []byte
	err       error
	table     Table
	databases int
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.b)
	if size <= 0 {
		d.fail(errUnit)
		return 0
	}
	d.b = d.b[size:]
	return n
}

// count is a number of things that take a byte each at least.
func (d *decoder) count() int {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail(errUnit)
		return 0
	}
	return int(n)
}

func (d *decoder) text() []byte {
	n := d.count()
	s := d.b[:n:n]
	d.b = d.b[n:]
	return s
}

// words are all texts that are left.
func (d *decoder) words() (list []string) {
	for len(d.b) > 0 {
		list = append(list, string(d.text()))
	}
	return list
}

func (d *decoder) db() int {
	n := d.uvarint()
	if n >= uint64(d.databases) {
		d.fail(resp.ErrDBIndex)
		return 0
	}
	return int(n)
}

// units are the requests of a frame. They alias it.
func (d *decoder) units() (*command.Batch, error) {
	n := d.count()
	if n == 0 || n > maxUnits {
		return nil, errUnit
	}
	b := command.NewBatch()
	for range n {
		r := d.unit()
		if d.err != nil {
			return nil, d.err
		}
		b.Requests = append(b.Requests, r)
	}
	if len(d.b) > 0 {
		return nil, errUnit
	}
	return b, nil
}

func (d *decoder) unit() (r command.Request) {
	switch d.uvarint() {
	case unitCall:
		r.Spec, r.DB, r.Args = d.call()
		if r.Spec != nil {
			if err := r.Spec.Do.Check(r.Args); err != nil {
				d.fail(err)
			}
		}
	case unitExec:
		if r.Spec = d.table.ByName(execName); r.Spec == nil {
			d.fail(errUnit)
		}
		r.Exec = d.exec()
	default:
		d.fail(errUnit)
	}
	return r
}

func (d *decoder) exec() *command.Exec {
	x := &command.Exec{}
	for range d.count() {
		x.Watch = append(x.Watch, command.Watched{DB: d.db(), Key: d.text(), Version: d.uvarint()})
		if d.err != nil {
			return nil
		}
	}
	for range d.count() {
		spec, db, args := d.call()
		if d.err != nil {
			return nil
		}
		x.Queue = append(x.Queue, command.Queued{Spec: spec, DB: db, Args: args})
	}
	return x
}

// keys are a database and keys of it.
func (d *decoder) keys() (db int, keys [][]byte, err error) {
	db = d.db()
	for range d.count() {
		keys = append(keys, d.text())
	}
	if d.err != nil || len(d.b) > 0 {
		return 0, nil, errUnit
	}
	return db, keys, nil
}

// call is a command that reads or changes the state: nothing else is forwarded.
func (d *decoder) call() (spec *command.Spec, db int, args [][]byte) {
	db = d.db()
	n := d.count()
	if n == 0 {
		d.fail(errUnit)
		return nil, 0, nil
	}
	const first = 16
	args = make([][]byte, 0, min(n, first))
	for range n {
		args = append(args, d.text())
	}
	if d.err != nil {
		return nil, 0, nil
	}
	spec, err := d.table.Lookup(args)
	switch {
	case err != nil:
		d.fail(err)
	case spec.Do.Route == command.RouteLocal:
		d.fail(errUnit)
	default:
		return spec, db, args
	}
	return nil, 0, nil
}

// Ending is how one forwarded request ended.
type Ending struct {
	Outcome command.Outcome // not Pending
	Reply   resp.Value
}

// endings are how the requests of a batch have ended, and the log index that the
// state had reached by then.
type endings struct {
	index uint64
	list  []Ending
	size  int // encoded, in bytes
}

// endingsOf are those of b, which is done. A reply that does not fit into a frame is
// left out: of a read nothing is known then, and of anything else too little.
func endingsOf(index uint64, b *command.Batch) endings {
	const rest = 256 // bytes that every request to come may need
	e := endings{index: index, list: make([]Ending, len(b.Requests)), size: 2 * binary.MaxVarintLen64}
	for i := range b.Requests {
		r := &b.Requests[i]
		x := Ending{r.Outcome, r.Reply}
		size := x.Reply.WireSize()
		if room := maxTell - e.size - rest*(len(b.Requests)-i); x.Outcome == command.Replied && size > room {
			x = unfit(r)
			size = x.Reply.WireSize()
		}
		e.list[i] = x
		e.size += 1 + size
	}
	e.size += len(e.appendHead(nil)) - 2*binary.MaxVarintLen64
	return e
}

// appendHead appends what stands before the list.
func (e *endings) appendHead(dst []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, e.index), uint64(len(e.list)))
}

func (e *Ending) append(dst []byte) []byte { return e.Reply.AppendWire(append(dst, byte(e.Outcome))) }

// encode returns all in one piece.
func (e *endings) encode() []byte {
	dst := e.appendHead(make([]byte, 0, e.size))
	for i := range e.list {
		dst = e.list[i].append(dst)
	}
	return dst
}

// write encodes and writes one after the other: the values are the store's, and their
// copies would be many times as much as it has if all were made at once.
func (e *endings) write(w *bufio.Writer) error {
	buf := e.appendHead(nil)
	_, err := w.Write(buf)
	for i := 0; err == nil && i < len(e.list); i++ {
		buf = e.list[i].append(buf[:0])
		_, err = w.Write(buf)
	}
	return errors.Join(err, w.Flush())
}

// unfit is the ending of a request whose reply is too long.
func unfit(r *command.Request) Ending {
	if r.Exec == nil && r.Spec.Do.Route == command.RouteRead {
		return Ending{command.Refused, resp.Err(resp.ErrReplyTooBig)}
	}
	return Ending{command.InDoubt, resp.Err(resp.ErrInDoubt)}
}

// parseEndings reads what endings wrote for n requests. Replies alias b.
func parseEndings(b []byte, n int) (index uint64, list []Ending, err error) {
	d := decoder{b: b}
	index = d.uvarint()
	if count := d.uvarint(); d.err != nil || count != uint64(n) {
		return 0, nil, errUnit
	}
	for range n {
		if len(d.b) == 0 {
			return 0, nil, errUnit
		}
		e := Ending{Outcome: command.Outcome(d.b[0])}
		v, size, err := resp.ParseWire(d.b[1:])
		if err != nil || e.Outcome < command.Replied || e.Outcome > command.InDoubt {
			return 0, nil, errUnit
		}
		e.Reply, d.b = v, d.b[1+size:]
		list = append(list, e)
	}
	if len(d.b) > 0 {
		return 0, nil, errUnit
	}
	return index, list, nil
}

// appendVictims appends keys to remove.
func appendVictims(dst []byte, victims []store.Victim) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(victims)))
	for i := range victims {
		v := &victims[i]
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, uint64(v.DB)), uint64(len(v.Key)))
		dst = binary.AppendVarint(append(dst, v.Key...), v.Deadline)
	}
	return dst
}

// victims are the keys of a frame.
func (d *decoder) victims() ([]store.Victim, error) {
	var list []store.Victim
	for range d.count() {
		v := store.Victim{DB: d.db(), Key: string(d.text())}
		deadline, size := binary.Varint(d.b)
		if size <= 0 || d.err != nil {
			return nil, errUnit
		}
		v.Deadline, d.b = deadline, d.b[size:]
		list = append(list, v)
	}
	if d.err != nil || len(d.b) > 0 {
		return nil, errUnit
	}
	return list, nil
}
