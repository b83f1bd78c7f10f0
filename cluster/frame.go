package cluster

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
)

// Limits of what other nodes may send. Frames are read into buffers of fixed
// size: no length from the wire is ever allocated.
const (
	maxFrame = 4096
	maxAddr  = 255
	maxNodes = 32
)

var errFrame = errors.New("malformed frame")

// writeFrame sends a length and the body in one write.
func writeFrame(w io.Writer, body []byte) error {
	if len(body) > maxFrame {
		return errFrame
	}
	buf := make([]byte, 0, 2+len(body))
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(body)))
	_, err := w.Write(append(buf, body...))
	return err
}

// readFrame reads a frame into buf, which must hold maxFrame bytes, and returns
// the part of it that was filled.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n == 0 || n > len(buf) {
		return nil, errFrame
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}

func appendText(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

// fields takes a frame apart. After the first missing byte bad is set and every
// result is zero.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) take(n int) []byte {
	if f.bad || len(f.rest) < n {
		f.bad = true
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) text() string { return string(f.take(int(f.byte()))) }

func (f *fields) uint16() uint16 {
	if b := f.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (f *fields) uint32() uint32 {
	if b := f.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (f *fields) uint64() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// done tells whether everything was there and nothing is left.
func (f *fields) done() bool { return !f.bad && len(f.rest) == 0 }

// closer is what is left to do with a connection that is of no more use: an error
// of closing it changes nothing.
func closeConn(c net.Conn) { _ = c.Close() } // nothing follows from it
