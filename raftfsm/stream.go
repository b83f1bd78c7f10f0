package raftfsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"

	"github.com/holdfast/holdfast/store"
)

// The stream that carries a whole state: in snapshots, and later in backups and
// exports.
//
//	magic, format version
//	block H: cluster id, incarnation, index, term, level, clock, databases
//	block S: the system state
//	blocks V: side state of each database (epoch, removals)
//	blocks D: the keys, as RESP commands with their versions beside them
//	block E: counts and digest
//
// A block is its kind, the length of its payload, a CRC-32C over both, the
// payload and the number of blocks before it, and the payload. The payloads of
// neighbouring blocks of one kind are one run of bytes: a record may begin in
// one and end in the next. A record of a D block is
//
//	kind, version of the key, length, RESP command
//
// where the command is SELECT n or SET k v [PXAT t]; the commands alone are an
// append-only file that a Redis loads.
const (
	streamMagic  = "HOLDFAST"
	streamFormat = 1

	blockHead   = 9       // kind, length, CRC
	maxPayload  = 1 << 20 // bytes in a block, its head included when written
	maxRecord   = 1 << 30 // bytes of one command; values are far smaller
	maxRemovals = 1 << 24 // buckets a side state may speak of
	maxMembers  = 1 << 12
)

// Kinds of block.
const (
	blockHeader  byte = 'H'
	blockSystem  byte = 'S'
	blockSide    byte = 'V'
	blockData    byte = 'D'
	blockTrailer byte = 'E'
)

// Kinds of record in a data block.
const (
	recordSelect byte = 1
	recordKey    byte = 2
)

// Errors of reading a stream.
var (
	// ErrNewerStream is a stream of a release above ours.
	ErrNewerStream = errors.New("raftfsm: the stream needs a newer release")
	// ErrBadStream is a stream that is cut short, damaged, or none at all.
	ErrBadStream = errors.New("raftfsm: damaged stream")
)

// streamHead says which state a stream holds.
type streamHead struct {
	clusterID   string
	incarnation uint64 // which life of the cluster; 0, the first, until a backup can begin another
	index, term uint64 // of the last entry in the state
	level       uint64 // apply level of the cluster
	clock       int64  // cluster time, ms
	databases   int
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// blockSum is the checksum of a block. Its place in the stream goes in, so that
// no block can be lost, doubled or moved unseen.
func blockSum(head []byte, payload []byte, place uint64) uint32 {
	sum := crc32.Update(0, castagnoli, head[:5])
	sum = crc32.Update(sum, castagnoli, payload)
	var p [8]byte
	binary.LittleEndian.PutUint64(p[:], place)
	return crc32.Update(sum, castagnoli, p[:])
}

// blockWriter cuts what is written to it into blocks. After an error it writes
// nothing more and keeps the error.
type blockWriter struct {
	w     io.Writer
	block []byte // head and payload so far
	place uint64 // blocks written
	bytes int64
	err   error
}

func newBlockWriter(w io.Writer) *blockWriter {
	b := &blockWriter{w: w, block: make([]byte, blockHead, maxPayload)}
	b.out(append([]byte(streamMagic), streamFormat))
	return b
}

func (b *blockWriter) out(p []byte) {
	if b.err == nil {
		_, b.err = b.w.Write(p)
		b.bytes += int64(len(p))
	}
}

// begin ends the block being written and makes the next ones of the given kind.
func (b *blockWriter) begin(kind byte) {
	b.flush()
	b.block[0] = kind
}

func (b *blockWriter) flush() {
	payload := b.block[blockHead:]
	if len(payload) == 0 {
		return
	}
	binary.LittleEndian.PutUint32(b.block[1:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(b.block[5:], blockSum(b.block, payload, b.place))
	b.out(b.block)
	b.place++
	b.block = b.block[:blockHead]
}

func (b *blockWriter) write(p []byte) {
	for len(p) > 0 {
		n := min(len(p), cap(b.block)-len(b.block))
		b.block = append(b.block, p[:n]...)
		p = p[n:]
		if len(b.block) == cap(b.block) {
			b.flush()
		}
	}
}

// writeStream writes the frozen state to w and returns how many bytes it took.
func writeStream(w io.Writer, h streamHead, f *store.Frozen) (int64, error) {
	b := newBlockWriter(w)
	b.begin(blockHeader)
	b.write(encodeStreamHead(h))
	b.begin(blockSystem)
	b.write(encodeSystem(f.System(), h.level))
	b.begin(blockSide)
	for db := range h.databases {
		b.write(appendSide(nil, db, f.Side(db)))
	}
	b.begin(blockData)
	counts := make([]uint64, h.databases)
	for db := range h.databases {
		n, err := writeKeys(b, f, db)
		if err != nil {
			return b.bytes, err
		}
		counts[db] = n
	}
	b.begin(blockTrailer)
	b.write(encodeTrailer(counts, f.Digest()))
	b.flush()
	return b.bytes, b.err
}

// writeKeys writes the keys of one database.
func writeKeys(b *blockWriter, f *store.Frozen, db int) (n uint64, err error) {
	var cmd, head []byte
	record := func(kind byte, version uint64) {
		head = append(head[:0], kind)
		head = binary.AppendUvarint(head, version)
		head = binary.AppendUvarint(head, uint64(len(cmd)))
		b.write(head)
		b.write(cmd)
	}
	err = f.Each(db, func(rec store.Record) error {
		if n == 0 {
			cmd = appendCommand(cmd[:0], "SELECT", strconv.Itoa(db))
			record(recordSelect, 0)
		}
		n++
		if rec.Value.Type() != store.TypeString {
			return fmt.Errorf("raftfsm: no record for a value of type %s", rec.Value.Type())
		}
		cmd = appendSet(cmd[:0], rec)
		record(recordKey, rec.Version)
		if cap(cmd) > maxPayload {
			cmd = nil // one big value must not pin its size
		}
		return b.err
	})
	return n, err
}

// appendSet is the command that rebuilds a key that holds a string.
func appendSet(dst []byte, rec store.Record) []byte {
	n := int64(3)
	if rec.Deadline != 0 {
		n = 5
	}
	dst = append(dst, '*')
	dst = strconv.AppendInt(dst, n, 10)
	dst = append(dst, "\r\n$3\r\nSET\r\n"...)
	dst = appendBulk(dst, rec.Key)
	dst = appendBulk(dst, rec.Value.Bytes())
	if rec.Deadline != 0 {
		var digits [20]byte
		dst = append(dst, "$4\r\nPXAT\r\n"...)
		dst = appendBulk(dst, strconv.AppendInt(digits[:0], rec.Deadline, 10))
	}
	return dst
}

func appendCommand(dst []byte, words ...string) []byte {
	dst = append(dst, '*')
	dst = strconv.AppendInt(dst, int64(len(words)), 10)
	dst = append(dst, '\r', '\n')
	for _, w := range words {
		dst = appendBulk(dst, w)
	}
	return dst
}

func appendBulk[T ~[]byte | ~string](dst []byte, b T) []byte {
	dst = append(dst, '$')
	dst = strconv.AppendInt(dst, int64(len(b)), 10)
	dst = append(dst, '\r', '\n')
	dst = append(dst, b...)
	return append(dst, '\r', '\n')
}

func encodeStreamHead(h streamHead) []byte {
	dst := appendBytes(nil, h.clusterID)
	dst = binary.AppendUvarint(dst, h.incarnation)
	dst = binary.AppendUvarint(dst, h.index)
	dst = binary.AppendUvarint(dst, h.term)
	dst = binary.AppendUvarint(dst, h.level)
	dst = appendInt(dst, h.clock)
	return appendInt(dst, h.databases)
}

// encodeSystem writes the system state, members in order of their ids. From LevelHealth
// on their health follows.
func encodeSystem(sys store.System, level uint64) []byte {
	dst := appendBytes(nil, sys.ClusterID)
	dst = binary.LittleEndian.AppendUint64(dst, sys.HashSeed[0])
	dst = binary.LittleEndian.AppendUint64(dst, sys.HashSeed[1])
	dst = appendInt(dst, sys.Stamp)
	dst = binary.AppendUvarint(dst, sys.Ops)
	dst = appendSettings(dst, sys.Settings)
	ids := make([]string, 0, len(sys.Members))
	for id := range sys.Members {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	dst = binary.AppendUvarint(dst, uint64(len(ids)))
	for _, id := range ids {
		dst = appendBytes(dst, id)
		dst = appendMember(dst, sys.Members[id])
	}
	if level >= LevelHealth {
		dst = appendHealth(dst, sys.Health)
	}
	return dst
}

func appendSide(dst []byte, db int, s store.Side) []byte {
	dst = appendInt(dst, db)
	dst = binary.AppendUvarint(dst, s.Epoch)
	dst = binary.AppendUvarint(dst, uint64(len(s.Removals)))
	for _, r := range s.Removals {
		dst = binary.AppendUvarint(dst, r)
	}
	return dst
}

func encodeTrailer(counts []uint64, digest uint64) []byte {
	dst := binary.AppendUvarint(nil, uint64(len(counts)))
	for _, n := range counts {
		dst = binary.AppendUvarint(dst, n)
	}
	return binary.LittleEndian.AppendUint64(dst, digest)
}
