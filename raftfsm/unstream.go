package raftfsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"

	"github.com/holdfast/holdfast/store"
)

// blockReader reads the blocks of a stream and gives out nothing that its
// checksum does not vouch for. It allocates no more than a block ahead of what
// has arrived, whatever lengths it is told.
type blockReader struct {
	r     io.Reader
	kind  byte   // of the block in hand
	rest  []byte // of its payload
	block []byte
	joint []byte // bytes gathered from several blocks
	place uint64
}

// maxJoint is how much memory for gathering is kept from one take to the next.
const maxJoint = 4 << 20

// openStream checks the magic and the format, and reads the first block.
func openStream(r io.Reader) (*blockReader, error) {
	var magic [len(streamMagic) + 1]byte
	if _, err := io.ReadFull(r, magic[:]); err != nil {
		return nil, cutShort(err)
	}
	if string(magic[:len(streamMagic)]) != streamMagic {
		return nil, fmt.Errorf("%w: it does not begin as one", ErrBadStream)
	}
	if format := magic[len(streamMagic)]; format != streamFormat {
		return nil, fmt.Errorf("%w: format %d, this one reads %d", ErrNewerStream, format, streamFormat)
	}
	b := &blockReader{r: r}
	return b, b.load()
}

// cutShort is the error of a stream that ends too early, or cannot be read.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it is cut short", ErrBadStream)
	}
	return fmt.Errorf("raftfsm: reading a stream: %w", err)
}

// load reads and verifies the next block.
func (b *blockReader) load() error {
	var head [blockHead]byte
	if _, err := io.ReadFull(b.r, head[:]); err != nil {
		return cutShort(err)
	}
	n := binary.LittleEndian.Uint32(head[1:])
	if n == 0 || n > maxPayload {
		return fmt.Errorf("%w: block %d has an impossible length", ErrBadStream, b.place)
	}
	if int(n) > len(b.block) {
		b.block = make([]byte, n)
	}
	payload := b.block[:n]
	if _, err := io.ReadFull(b.r, payload); err != nil {
		return cutShort(err)
	}
	if blockSum(head[:], payload, b.place) != binary.LittleEndian.Uint32(head[5:]) {
		return fmt.Errorf("%w: checksum of block %d is wrong", ErrBadStream, b.place)
	}
	b.kind, b.rest = head[0], payload
	b.place++
	return nil
}

// more tells whether the run of blocks of the given kind goes on.
func (b *blockReader) more(kind byte) (bool, error) {
	if len(b.rest) == 0 && b.kind != blockTrailer {
		if err := b.load(); err != nil {
			return false, err
		}
	}
	return b.kind == kind && len(b.rest) > 0, nil
}

// take is the next n bytes of the run of blocks in hand, valid until the next take.
func (b *blockReader) take(n int) ([]byte, error) {
	if n <= len(b.rest) {
		p := b.rest[:n]
		b.rest = b.rest[n:]
		return p, nil
	}
	kind := b.kind
	if b.joint = b.joint[:0]; cap(b.joint) > maxJoint {
		b.joint = nil // what one big value needed
	}
	for {
		m := min(n-len(b.joint), len(b.rest))
		b.joint = append(b.joint, b.rest[:m]...)
		b.rest = b.rest[m:]
		if len(b.joint) == n {
			return b.joint, nil
		}
		if ok, err := b.more(kind); err != nil {
			return nil, err
		} else if !ok {
			return nil, fmt.Errorf("%w: a record runs over its blocks", ErrBadStream)
		}
	}
}

// uvarint reads a number of at most most.
func (b *blockReader) uvarint(most uint64) (uint64, error) {
	var n uint64
	for shift := uint(0); shift < 64; shift += 7 {
		p, err := b.take(1)
		if err != nil {
			return 0, err
		}
		n |= uint64(p[0]&0x7f) << shift
		if p[0] < 0x80 {
			if n > most {
				return 0, fmt.Errorf("%w: a number is too large", ErrBadStream)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: a number is too long", ErrBadStream)
}

// whole is a decoder over the block in hand, which must be of the given kind
// and hold all of it.
func (b *blockReader) whole(kind byte) (decoder, error) {
	if b.kind != kind || len(b.rest) == 0 {
		if ok, err := b.more(kind); err != nil {
			return decoder{}, err
		} else if !ok {
			return decoder{}, fmt.Errorf("%w: a block %c is missing", ErrBadStream, kind)
		}
	}
	d := decoder{in: b.rest}
	b.rest = nil
	return d, nil
}

// close checks that nothing of a whole block was left or missing.
func (d *decoder) close(kind byte) error {
	if d.bad || len(d.in) != 0 {
		return fmt.Errorf("%w: block %c does not make sense", ErrBadStream, kind)
	}
	return nil
}

// visitor is told what a stream holds, in its order. An error of one of its
// functions ends the reading. Any function may be nil.
type visitor struct {
	head   func(h streamHead) error
	system func(sys store.System) error
	side   func(db int, s store.Side) error
	// command is told each data command as it stands in the stream, valid
	// during the call only; key the key it rebuilds, if it is not a SELECT.
	command func(cmd []byte) error
	key     func(rec store.Record) error
	// trailer is told the digest at the end.
	trailer func(digest uint64) error
}

// readStream reads a stream to its end, verifies it and tells v. Until it has
// returned nil nothing told is sure to be all.
func readStream(r io.Reader, v visitor) error {
	b, err := openStream(r)
	if err != nil {
		return err
	}
	h, err := b.readHead()
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return call(v.head, h) },
		func() error { return b.readSystem(h.level, v.system) },
		func() error { return b.readSides(h.databases, v.side) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	counts := make([]uint64, h.databases)
	if err := b.readData(counts, &v); err != nil {
		return err
	}
	digest, err := b.readTrailer(counts)
	if err != nil {
		return err
	}
	return call(v.trailer, digest)
}

func call[T any](fn func(T) error, arg T) error {
	if fn == nil {
		return nil
	}
	return fn(arg)
}

func (b *blockReader) readHead() (streamHead, error) {
	d, err := b.whole(blockHeader)
	if err != nil {
		return streamHead{}, err
	}
	h := streamHead{
		clusterID:   d.text(),
		incarnation: d.uvarint(),
		index:       d.uvarint(),
		term:        d.uvarint(),
		level:       d.uvarint(),
		clock:       d.int64(),
		databases:   d.db(),
	}
	if !d.bad && h.level > Level {
		return h, fmt.Errorf("%w: apply level %d, this one has %d", ErrNewerStream, h.level, Level)
	}
	if h.databases == 0 || h.clock < 0 {
		d.fail()
	}
	return h, d.close(blockHeader)
}

func (b *blockReader) readSystem(level uint64, tell func(sys store.System) error) error {
	d, err := b.whole(blockSystem)
	if err != nil {
		return err
	}
	sys := store.System{ClusterID: d.text(), HashSeed: [2]uint64{d.fixed64(), d.fixed64()}}
	sys.Stamp, sys.Ops = d.int64(), d.uvarint()
	sys.Settings = d.settings()
	n := d.count()
	if n > maxMembers {
		d.fail()
		n = 0
	}
	if n > 0 {
		sys.Members = make(map[string]store.Member, n)
	}
	for range n {
		id := d.text()
		sys.Members[id] = d.member()
	}
	if level >= LevelHealth {
		sys.Health = d.health()
	}
	if err := d.close(blockSystem); err != nil {
		return err
	}
	return call(tell, sys)
}

// readSides reads the side state of every database.
func (b *blockReader) readSides(databases int, tell func(db int, s store.Side) error) error {
	for db := range databases {
		if ok, err := b.more(blockSide); err != nil {
			return err
		} else if !ok {
			return fmt.Errorf("%w: side state is missing", ErrBadStream)
		}
		s, err := b.readSide(db)
		if err != nil {
			return err
		}
		if tell != nil {
			if err := tell(db, s); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *blockReader) readSide(db int) (store.Side, error) {
	var s store.Side
	got, err := b.uvarint(maxDatabases)
	if err == nil && got != uint64(db) {
		err = fmt.Errorf("%w: side state out of order", ErrBadStream)
	}
	if err != nil {
		return s, err
	}
	if s.Epoch, err = b.uvarint(math.MaxUint64); err != nil {
		return s, err
	}
	n, err := b.uvarint(maxRemovals)
	if err != nil {
		return s, err
	}
	for range n {
		r, err := b.uvarint(math.MaxUint64)
		if err != nil {
			return s, err
		}
		s.Removals = append(s.Removals, r)
	}
	return s, nil
}

// readData reads the keys and counts them by database.
func (b *blockReader) readData(counts []uint64, v *visitor) error {
	db := -1
	for {
		ok, err := b.more(blockData)
		if err != nil || !ok {
			return err
		}
		kind, version, cmd, err := b.readRecord()
		if err == nil {
			err = call(v.command, cmd)
		}
		if err != nil {
			return err
		}
		switch kind {
		case recordSelect:
			db, err = parseSelect(cmd, len(counts))
		case recordKey:
			if db < 0 {
				return fmt.Errorf("%w: a key without a database", ErrBadStream)
			}
			counts[db]++
			err = tellKey(cmd, store.Record{DB: db, Version: version}, v.key)
		default:
			err = fmt.Errorf("%w: record of kind %d", ErrNewerStream, kind)
		}
		if err != nil {
			return err
		}
	}
}

// tellKey parses the command of a key and tells the key.
func tellKey(cmd []byte, rec store.Record, tell func(rec store.Record) error) error {
	if err := parseSet(cmd, &rec); err != nil {
		return err
	}
	return call(tell, rec)
}

func (b *blockReader) readRecord() (kind byte, version uint64, cmd []byte, err error) { //nolint:revive // the three parts of a record
	p, err := b.take(1)
	if err != nil {
		return 0, 0, nil, err
	}
	kind = p[0]
	if version, err = b.uvarint(math.MaxUint64); err != nil {
		return 0, 0, nil, err
	}
	n, err := b.uvarint(maxRecord)
	if err != nil {
		return 0, 0, nil, err
	}
	cmd, err = b.take(int(n))
	return kind, version, cmd, err
}

// parseCommand splits a RESP command into its words, which alias it. It accepts
// exactly what appendCommand and appendSet write.
func parseCommand(cmd []byte, words [][]byte) ([][]byte, error) {
	n, cmd, ok := parseLength(cmd, '*')
	if !ok || n > cap(words) {
		return nil, ErrBadStream
	}
	for range n {
		var size int
		if size, cmd, ok = parseLength(cmd, '$'); !ok || len(cmd) < 2 || size > len(cmd)-2 {
			return nil, ErrBadStream
		}
		words = append(words, cmd[:size:size])
		if string(cmd[size:size+2]) != "\r\n" {
			return nil, ErrBadStream
		}
		cmd = cmd[size+2:]
	}
	if len(cmd) != 0 {
		return nil, ErrBadStream
	}
	return words, nil
}

// parseLength reads a line of a mark and a number.
func parseLength(in []byte, mark byte) (n int, rest []byte, ok bool) {
	if len(in) == 0 || in[0] != mark {
		return 0, nil, false
	}
	i := 1
	for ; i < len(in) && in[i] >= '0' && in[i] <= '9' && n < maxRecord; i++ {
		n = n*10 + int(in[i]-'0')
	}
	if i == 1 || len(in) < i+2 || in[i] != '\r' || in[i+1] != '\n' {
		return 0, nil, false
	}
	return n, in[i+2:], true
}

func parseSelect(cmd []byte, databases int) (int, error) {
	var room [2][]byte
	words, err := parseCommand(cmd, room[:0])
	if err != nil || len(words) != 2 || string(words[0]) != "SELECT" {
		return 0, fmt.Errorf("%w: not a SELECT", ErrBadStream)
	}
	db, err := strconv.ParseUint(string(words[1]), 10, 16)
	if err != nil || db >= uint64(databases) {
		return 0, fmt.Errorf("%w: no such database", ErrBadStream)
	}
	return int(db), nil
}

// parseSet fills rec with the key that a command rebuilds.
func parseSet(cmd []byte, rec *store.Record) error {
	var room [5][]byte
	words, err := parseCommand(cmd, room[:0])
	if err != nil {
		return fmt.Errorf("%w: not a command", err)
	}
	if len(words) < 3 || string(words[0]) != "SET" {
		return fmt.Errorf("%w: a key of an unknown type", ErrNewerStream)
	}
	if len(words) == 5 && string(words[3]) == "PXAT" {
		rec.Deadline, err = strconv.ParseInt(string(words[4]), 10, 64)
	}
	if err != nil || len(words) == 4 || len(words) == 5 && rec.Deadline <= 0 {
		return fmt.Errorf("%w: not a SET", ErrBadStream)
	}
	rec.Key = string(words[1])
	rec.Value = store.StringValue(bytes.Clone(words[2]))
	return nil
}

// readTrailer compares the counts and returns the digest. Nothing may follow.
func (b *blockReader) readTrailer(counts []uint64) (uint64, error) {
	d, err := b.whole(blockTrailer)
	if err != nil {
		return 0, err
	}
	if n := d.count(); n != len(counts) {
		d.fail()
	}
	for i := range counts {
		if d.uvarint() != counts[i] {
			d.fail()
		}
	}
	digest := d.fixed64()
	if err := d.close(blockTrailer); err != nil {
		return 0, err
	}
	var one [1]byte
	if n, err := io.ReadFull(b.r, one[:]); n != 0 {
		return 0, fmt.Errorf("%w: something follows its end", ErrBadStream)
	} else if !errors.Is(err, io.EOF) {
		return 0, cutShort(err)
	}
	return digest, nil
}

// Export reads a snapshot stream from r, verifies it, and writes its keys to w as RESP
// commands: an append-only file that a Redis loads. What was written counts
// only if the result is nil.
func Export(w io.Writer, r io.Reader) error {
	return readStream(r, visitor{command: func(cmd []byte) error {
		_, err := w.Write(cmd)
		return err
	}})
}
