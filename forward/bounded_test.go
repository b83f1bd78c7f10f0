package forward

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// P7: a frame that is large for the network between two nodes does not end their
// connection, and with it what other clients have under way, as long as it is taken.
func TestLargeFramesMayTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		const pieces = 4
		read := make(chan int, 1)
		go func() {
			total := 0
			for {
				<-time.After(writeBound / 2)
				n, err := io.ReadFull(there, make([]byte, writePiece))
				if total += n; err != nil {
					read <- total
					return
				}
			}
		}()
		n, err := bounded{here, writeBound}.Write(bytes.Repeat([]byte{'x'}, pieces*writePiece))
		if n != pieces*writePiece || err != nil {
			t.Errorf("%d bytes were written: %v", n, err)
		}
		_ = here.Close()
		if got := <-read; got != pieces*writePiece {
			t.Errorf("%d bytes have arrived", got)
		}
	})
}

// A node that takes nothing is given up.
func TestSilentReadersAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		defer func() { _ = there.Close() }()
		began := time.Now()
		if _, err := (bounded{here, writeBound}).Write(make([]byte, writeBuffer)); err == nil {
			t.Error("it was written")
		}
		if took := time.Since(began); took != writeBound {
			t.Errorf("after %v", took)
		}
	})
}
