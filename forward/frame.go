package forward

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"slices"
)

// The kinds of frames. Questions are upper case; each has one answer, with the
// same number.
const (
	askUnits    = 'U' // commands and transactions
	askIndex    = 'I' // the log index a linearizable read needs
	askExpire   = 'X' // keys to remove that are due
	askMaster   = 'M' // say when you are master
	askAcked    = 'A' // how many replicas have the log up to an index
	askHandover = 'H' // hand over the leadership
	askVersions = 'K' // what WATCH remembers of keys
	askVeil     = 'V' // let nobody know, for a while, that you are the master
	askUnveil   = 'W' // let it be known
	askHush     = 'S' // for a moment, name no master of a term or of earlier ones
	askOrder    = 'O' // do what words say

	tellEndings = 'u' // an ending for each unit
	tellNumber  = 'n' // done; a number
	tellNumbers = 'v' // done; numbers
	tellRefused = 'r' // nothing was done: this node is not the master
	tellError   = 'e' // nothing was done, and for good; an error
)

const (
	headLen = 4 + 1 + 8 // length of the body, kind, number

	// maxAsk bounds a question: the largest log entry, and what a transaction
	// carries beside it.
	maxAsk = 64 << 20
	// maxTell bounds an answer. A read whose reply does not fit is refused.
	maxTell = 128 << 20
	// firstRead is for how much of a body room is made before it arrives.
	firstRead = 64 << 10
)

// errFrame ends a connection whose bytes are no frames.
var errFrame = errors.New("malformed frame")

// frame is one message; its body belongs to whoever read it.
type frame struct {
	kind byte
	id   uint64
	body []byte
}

// appendHead appends what stands before a body of n bytes.
func appendHead(dst []byte, kind byte, id uint64, n int) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(n)) // bounded by maxTell
	return binary.BigEndian.AppendUint64(append(dst, kind), id)
}

// readFrame reads a frame whose body has at most most bytes. The memory it takes
// follows what has arrived.
func readFrame(r *bufio.Reader, most int) (frame, error) {
	var head [headLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return frame{}, err
	}
	f := frame{kind: head[4], id: binary.BigEndian.Uint64(head[5:])}
	size := int(binary.BigEndian.Uint32(head[:]))
	if size > most {
		return frame{}, errFrame
	}
	f.body = make([]byte, 0, min(size, firstRead))
	for len(f.body) < size {
		at := len(f.body)
		next := min(size, max(2*at, firstRead))
		f.body = slices.Grow(f.body, next-at)[:next]
		if _, err := io.ReadFull(r, f.body[at:]); err != nil {
			return frame{}, err
		}
	}
	return f, nil
}
