package resp

import (
	"bytes"
	"errors"
	"io"
)

// Command is one command as a client sent it.
type Command struct {
	Args [][]byte // never empty; they alias the reader's buffer
	Size int      // bytes it took on the wire
}

// Limits bound what a client may send; all numbers are positive. They are checked
// against what headers announce, before memory is spent on it.
type Limits struct {
	// MaxBulk is the longest argument, in bytes (proto-max-bulk-len).
	MaxBulk int
	// MaxArgs is the largest number of arguments of a command, its name included.
	MaxArgs int
	// MaxQuery is the largest size of a whole command, in bytes on the wire
	// (client-query-buffer-limit).
	MaxQuery int
	// Unauthenticated lowers the limits to 10 arguments of at most 16 KiB, as
	// Redis does before AUTH. ReadPipeline then returns one command a call,
	// because that one may be the AUTH that changes the limits for the next.
	Unauthenticated bool
}

// DefaultLimits are those of Redis: arguments of 512 MiB, 1,048,576 of them,
// 1 GiB in all.
func DefaultLimits() Limits {
	return Limits{MaxBulk: 512 << 20, MaxArgs: 1 << 20, MaxQuery: 1 << 30}
}

// ErrQueryLimit says that a command is larger than Limits.MaxQuery. As in Redis
// the client gets no reply to it: its connection is closed.
var ErrQueryLimit = errors.New("resp: command exceeds client-query-buffer-limit")

// Protocol errors of Redis, word for word. After one of them the stream has no
// known place to go on: the reply is sent and the connection closed.
const (
	ErrProtoMultibulk     = Error("ERR Protocol error: invalid multibulk length")
	ErrProtoBulk          = Error("ERR Protocol error: invalid bulk length")
	ErrProtoMultibulkLine = Error("ERR Protocol error: too big mbulk count string")
	ErrProtoBulkLine      = Error("ERR Protocol error: too big bulk count string")
	ErrProtoInlineLine    = Error("ERR Protocol error: too big inline request")
	ErrProtoQuotes        = Error("ERR Protocol error: unbalanced quotes in request")
	ErrProtoAuthMultibulk = Error("ERR Protocol error: unauthenticated multibulk length")
	ErrProtoAuthBulk      = Error("ERR Protocol error: unauthenticated bulk length")
)

const (
	maxPipeline = 1024     // commands one ReadPipeline returns at most
	maxLine     = 64 << 10 // bytes of an inline command or a header line

	unauthArgs = 10       // arguments of a command before AUTH
	unauthBulk = 16 << 10 // bytes of an argument before AUTH

	minBuffer  = 1 << 10  // a connection that is idle or sends little
	keptBuffer = 64 << 10 // the largest buffer kept for pipelines; a bigger one serves one command
	quietFills = 16       // reads that fill less than a quarter of the buffer before it is halved
	emptyReads = 100      // reads in a row that may bring neither bytes nor an error
)

// span is an argument of the command being read: the buffer may still move.
// MaxQuery keeps both numbers far below the limit of their type.
type span struct{ at, size uint32 }

// Reader reads commands from a connection: arrays of bulk strings, and inline
// commands as a person types them. Each byte is looked at once, however the
// stream is cut into pieces, and the memory used follows what has arrived, not
// what a header announces. A Reader is not safe for concurrent use.
type Reader struct {
	src    io.Reader
	limits Limits

	buf        []byte // buf[start:end] has been read and not been returned
	start, end int
	next       int // parsing goes on here; start is where the current command began
	scanned    int // buf[next:scanned] was searched for the end of the line in vain
	left       int // arguments of the current command still to come, 0 between commands
	bulk       int // size of the argument at next, -1 while its header is to come
	spans      []span

	args [][]byte  // the arguments of cmds, one after the other
	cmds []Command // what the last ReadPipeline returned

	size, quiet int   // the buffer that recent reads call for, and how many of them used little of it
	failed      error // the protocol error that ended the stream
	pending     error // an error of src that came together with bytes
}

// NewReader returns a reader of src.
func NewReader(src io.Reader, limits Limits) *Reader {
	r := &Reader{src: src, bulk: -1, size: minBuffer}
	r.SetLimits(limits)
	return r
}

// SetLimits changes the limits, from the next command that begins on; for a
// command whose beginning has been read its remaining arguments obey them.
func (r *Reader) SetLimits(limits Limits) {
	limits.MaxQuery = min(limits.MaxQuery, 1<<31-1)
	limits.MaxBulk = min(limits.MaxBulk, limits.MaxQuery)
	r.limits = limits
}

// Buffered is the number of bytes that were read and not returned: further
// commands beyond the bound of one call, or the beginning of one.
func (r *Reader) Buffered() int { return r.end - r.start }

// ReadPipeline waits until at least one whole command is there and returns all
// that are, at most 1024. The commands and their arguments are valid until the
// next call, which may overwrite them; until then the caller may change the
// bytes of an argument, but not extend it.
//
// An error is returned when the commands before it have been. If it is an Error
// the client broke the protocol: it is the reply to send before the connection is
// closed, and every later call returns it again. ErrQueryLimit ends the stream
// too. Any other comes from the source, which is asked again by a later call.
func (r *Reader) ReadPipeline() ([]Command, error) {
	r.cmds, r.args = r.cmds[:0], r.args[:0]
	for {
		r.parse()
		if len(r.cmds) > 0 {
			return r.cmds, nil
		}
		if r.failed != nil {
			return nil, r.failed
		}
		if err := r.fill(); err != nil {
			return nil, err
		}
	}
}

// parse takes commands from the buffer until they are enough, or the rest is no
// whole command.
func (r *Reader) parse() {
	enough := maxPipeline
	if r.limits.Unauthenticated {
		enough = 1
	}
	whole := true
	for whole && len(r.cmds) < enough && r.next < r.end && r.failed == nil {
		switch {
		case r.left > 0:
			whole, r.failed = r.arguments()
		case r.buf[r.next] == '*':
			whole, r.failed = r.multibulk()
		default:
			whole, r.failed = r.inline()
		}
	}
}

// multibulk reads the line that begins a command, and the command. It tells
// whether it came to the end of either.
func (r *Reader) multibulk() (whole bool, err error) {
	line, err := r.header(ErrProtoMultibulkLine)
	if line == nil {
		return false, err
	}
	n, ok := parseInt(line[1:])
	switch {
	case !ok || n > int64(r.limits.MaxArgs):
		return false, ErrProtoMultibulk
	case n > unauthArgs && r.limits.Unauthenticated:
		return false, ErrProtoAuthMultibulk
	}
	r.advance(len(line) + 2)
	if n <= 0 {
		r.start = r.next
		return true, nil
	}
	r.left = int(n)
	return r.arguments()
}

// arguments reads what is there of the arguments of the current command, and
// ends the command after the last one.
func (r *Reader) arguments() (whole bool, err error) {
	for r.left > 0 {
		if r.bulk < 0 {
			if whole, err := r.bulkHeader(); !whole {
				return false, err
			}
		}
		if r.end-r.next < r.bulk+2 {
			return false, nil
		}
		r.spans = append(r.spans, span{at: uint32(r.next - r.start), size: uint32(r.bulk)})
		r.advance(r.bulk + 2)
		r.bulk = -1
		r.left--
	}
	r.complete()
	return true, nil
}

// bulkHeader reads the line before an argument.
func (r *Reader) bulkHeader() (whole bool, err error) {
	line, err := r.header(ErrProtoBulkLine)
	if line == nil {
		return false, err
	}
	if mark := r.buf[r.next]; mark != '$' {
		return false, errProtoMark(mark)
	}
	n, ok := parseInt(line[1:])
	switch {
	case !ok || n < 0 || n > int64(r.limits.MaxBulk):
		return false, ErrProtoBulk
	case n > unauthBulk && r.limits.Unauthenticated:
		return false, ErrProtoAuthBulk
	}
	r.advance(len(line) + 2)
	if r.next-r.start+int(n)+2 > r.limits.MaxQuery {
		return false, ErrQueryLimit
	}
	r.bulk = int(n)
	return true, nil
}

// errProtoMark says that something else stands where an argument should begin.
func errProtoMark(got byte) Error {
	if got == '\r' || got == '\n' {
		got = ' '
	}
	return Error("ERR Protocol error: expected '$', got '" + string([]byte{got}) + "'")
}

// header is the line at next without its CR and LF, or nil if the end of it is
// not there yet. Like Redis it takes any byte after the CR for the LF.
func (r *Reader) header(tooBig Error) ([]byte, error) {
	cr, err := r.find('\r', tooBig)
	if cr < 0 || cr+1 == r.end {
		return nil, err
	}
	return r.buf[r.next:cr:cr], nil
}

// find is the position of the first c from next on, or -1 if it is not there
// yet. The answer is the same however the stream was cut.
func (r *Reader) find(c byte, tooBig Error) (int, error) {
	bound := min(r.end, r.next+maxLine+1)
	i := bytes.IndexByte(r.buf[r.scanned:bound], c)
	if i >= 0 {
		r.scanned += i
		return r.scanned, nil
	}
	r.scanned = bound
	if r.end-r.next > maxLine {
		return -1, tooBig
	}
	return -1, nil
}

// inline reads a command that is a line of words.
func (r *Reader) inline() (whole bool, err error) {
	lf, err := r.find('\n', ErrProtoInlineLine)
	if lf < 0 {
		return false, err
	}
	line := bytes.TrimSuffix(r.buf[r.next:lf], []byte{'\r'})
	ok := splitWords(line, func(at, size int) {
		r.spans = append(r.spans, span{at: uint32(at), size: uint32(size)})
	})
	if !ok {
		return false, ErrProtoQuotes
	}
	r.advance(lf + 1 - r.next)
	if len(r.spans) == 0 {
		r.start = r.next
		return true, nil
	}
	r.complete()
	return true, nil
}

func (r *Reader) advance(n int) {
	r.next += n
	r.scanned = r.next
}

// complete turns the spans into the arguments of a command.
func (r *Reader) complete() {
	first := len(r.args)
	for _, s := range r.spans {
		at := r.start + int(s.at)
		end := at + int(s.size)
		r.args = append(r.args, r.buf[at:end:end])
	}
	r.cmds = append(r.cmds, Command{Args: r.args[first:len(r.args):len(r.args)], Size: r.next - r.start})
	r.spans = r.spans[:0]
	r.start = r.next
}

// fill reads once from the source. No command that was parsed is in use then.
func (r *Reader) fill() error {
	if err := r.pending; err != nil {
		r.pending = nil
		return err
	}
	r.makeRoom()
	free := r.buf[r.end:]
	for range emptyReads {
		n, err := r.src.Read(free)
		if n > 0 {
			r.end += n
			r.pending = err
			r.adapt(n, len(free))
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// adapt learns from a read of n bytes into a space of free how large a buffer
// this connection needs: one that a whole pipeline fits in, but no larger. A big
// argument says nothing about the next command.
func (r *Reader) adapt(n, free int) {
	switch {
	case n == free && len(r.buf) <= keptBuffer && r.bulk < keptBuffer/2:
		r.size, r.quiet = max(r.size, min(4*len(r.buf), keptBuffer)), 0
	case n >= r.size/4 || r.size == minBuffer:
		r.quiet = 0
	default:
		if r.quiet++; r.quiet == quietFills {
			r.size, r.quiet = r.size/2, 0
		}
	}
}

// makeRoom moves the beginning of an unfinished command to the front of a buffer
// with free space behind it. What is moved came with the last read, or the
// buffer grows by half at least: the work stays proportional to the bytes read.
func (r *Reader) makeRoom() {
	used, size := r.end-r.start, len(r.buf)
	switch {
	case size != r.size && used <= r.size/2:
		size = r.size
	case used == size:
		size = r.grown()
	}
	if r.start == 0 && size == len(r.buf) {
		return // what has been read stays where it is
	}
	old := r.buf[r.start:r.end]
	if size != len(r.buf) {
		r.release()
		r.buf = make([]byte, size)
	}
	copy(r.buf, old)
	r.next -= r.start
	r.scanned -= r.start
	r.start, r.end = 0, used
}

// grown is the size of a buffer for a command that has filled this one: twice as
// large, or what the current argument needs if that is known and not far more.
func (r *Reader) grown() int {
	size := 2 * len(r.buf)
	need := r.next - r.start + r.bulk + 2
	switch {
	case r.bulk < 0:
		return size
	case need > size:
		return max(size, min(need, keptBuffer))
	case need > size*3/4:
		return need
	}
	return size
}

// release lets go of the buffer, of everything that refers to it, and of lists
// far longer than the next buffer calls for.
func (r *Reader) release() {
	r.buf = nil
	clear(r.args[:cap(r.args)])
	clear(r.cmds[:cap(r.cmds)])
	few := max(r.size/16, 64) // what commands of usual size need, in a buffer of this size
	if cap(r.args) > few {
		r.args = nil
	}
	if cap(r.cmds) > few {
		r.cmds = nil
	}
	if cap(r.spans) > few && len(r.spans) == 0 {
		r.spans = nil
	}
}

// parseInt reads a decimal number of 64 bits written in its one shortest form:
// no sign before a positive number, no leading zero, no -0.
func parseInt(b []byte) (n int64, ok bool) {
	negative := len(b) > 0 && b[0] == '-'
	if negative {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 || (b[0] == '0' && (len(b) > 1 || negative)) {
		return 0, false
	}
	var u uint64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	switch {
	case negative && u <= 1<<63:
		return -int64(u), true
	case !negative && u < 1<<63:
		return int64(u), true
	}
	return 0, false
}
