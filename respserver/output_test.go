package respserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/command"
)

// newOutput is the output of one side of a connection in memory, which has no
// buffer at all, and the other side.
func newOutput(t *testing.T) (*output, *gate, net.Conn) {
	t.Helper()
	here, there := net.Pipe()
	t.Cleanup(func() { _, _ = here.Close(), there.Close() })
	g := &gate{budget: defaultPendingBudget}
	g.tick.Store(1)
	o := &output{}
	o.init(here, g)
	return o, g, there
}

// hand gives n bytes to the output, more than it sends by itself at once.
func (o *output) hand(t *testing.T, n int) {
	t.Helper()
	o.buf = bytes.Repeat([]byte{'x'}, n)
	if err := o.flush(OutputLimit{}, pendingMax); err != nil {
		t.Fatal(err)
	}
}

// The soft limit counts the time for which too much has been waiting without a
// break: a client that was slow once is not closed for being slow again later.
func TestSoftLimitForgetsAfterABreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, g, there := newOutput(t)
		limit := OutputLimit{Soft: 100 << 10, SoftFor: time.Second}
		const never = 1 << 40
		for range 2 {
			o.hand(t, 200<<10)
			for range 5 { // half a second
				if g.tick.Add(1); o.slow(g.tick.Load(), limit, never) {
					t.Fatal("closed before the time was over")
				}
			}
			if _, err := io.ReadFull(there, make([]byte, 200<<10)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if o.busy() {
				t.Fatal("something waits although all was read")
			}
			g.tick.Add(1000)
		}
		o.hand(t, 200<<10)
		for range ticks(limit.SoftFor) + 1 {
			if g.tick.Add(1); o.slow(g.tick.Load(), limit, never) {
				t.Fatal("closed before the time was over")
			}
		}
		if g.tick.Add(1); !o.slow(g.tick.Load(), limit, never) {
			t.Error("not closed although too much has waited too long")
		}
	})
}

// Whoever waits for room is woken when there is some, also while the connection's
// end is waiting for the last bytes to leave.
func TestEndingWakesWhoWaitsForRoom(t *testing.T) {
	for _, how := range []string{"all is read", "the connection breaks", "the time is up"} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, _, there := newOutput(t)
				o.hand(t, 300<<10)
				flushed := make(chan error, 1)
				go func() {
					o.buf = bytes.Repeat([]byte{'y'}, 300<<10)
					flushed <- o.flush(OutputLimit{}, 1)
				}()
				synctest.Wait()
				ended := make(chan struct{})
				go func() {
					o.drained(goodbye)
					_ = o.conn.Close()
					close(ended)
				}()
				synctest.Wait()
				switch how {
				case "all is read":
					if _, err := io.ReadFull(there, make([]byte, 600<<10)); err != nil {
						t.Fatal(err)
					}
				case "the connection breaks":
					_ = there.Close()
				}
				<-ended
				synctest.Wait()
				select {
				case err := <-flushed:
					if (err == nil) != (how == "all is read") {
						t.Errorf("flush: %v", err)
					}
				default:
					t.Error("flush is still waiting")
				}
			})
		})
	}
}

// The same if the writer's last two signals come as one goroutine each would
// have it: the piece before the error wakes one of the two, the error the other.
func TestEndingPassesTheLastSignalOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, _ := newOutput(t)
		o.room = make(chan struct{}, 1)
		o.pending.Store(100)
		o.writing.Store(true) // by a writer that is this test
		flushed := make(chan error, 1)
		go func() {
			o.buf = []byte("more")
			flushed <- o.flush(OutputLimit{}, 1)
		}()
		synctest.Wait()
		ended := make(chan struct{})
		go func() {
			o.drained(goodbye)
			close(ended)
		}()
		synctest.Wait()
		o.signal()
		synctest.Wait()
		o.abandon(io.ErrClosedPipe)
		synctest.Wait()
		<-ended
		select {
		case err := <-flushed:
			if err == nil {
				t.Error("flush succeeds on a broken connection")
			}
		default:
			t.Error("flush is still waiting")
			o.signal()
		}
	})
}

// What is pending is accounted for whatever way the connection ends, for one
// client and for all of them.
func TestPendingIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, g, there := newOutput(t)
		o.hand(t, 300<<10)
		o.hand(t, 20<<10)
		if _, err := io.ReadFull(there, make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		if n := o.pending.Load(); n != g.pending.Load() || n < 310<<10 {
			t.Errorf("%d and %d bytes are pending", n, g.pending.Load())
		}
		_ = there.Close()
		synctest.Wait()
		if a, b := o.pending.Load(), g.pending.Load(); a != 0 || b != 0 {
			t.Errorf("%d and %d bytes are pending after the end", a, b)
		}
		o.buf = []byte("more")
		if err := o.flush(OutputLimit{}, pendingMax); err == nil {
			t.Error("flush after the end succeeds")
		}
		if g.pending.Load() != 0 {
			t.Error("what could not be sent is pending")
		}
	})
}

// The hard limit is one of what waits, not of what is sent.
func TestHardLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, _, there := newOutput(t)
		go func() { _, _ = io.Copy(io.Discard, there) }()
		limit := OutputLimit{Hard: 100 << 10}
		for range 50 { // half a MiB in all
			o.buf = make([]byte, 10<<10)
			if err := o.flush(limit, pendingMax); err != nil {
				t.Fatal(err)
			}
		}
		o.buf = make([]byte, 101<<10)
		if err := o.flush(limit, pendingMax); !errors.Is(err, errOutputLimit) {
			t.Errorf("flush: %v", err)
		}
		synctest.Wait()
	})
}

// A client that is closed for not reading is counted once, however late its own
// goroutine is to see to the end.
func TestSlowClientIsCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, _ := net.Pipe()
		s := New(Config{Table: new(command.Table), WriteBound: time.Second})
		c := s.newClient(context.Background(), here)
		defer c.life.close()
		c.out.hand(t, 4*writeChunk)
		for tick := range ticks(3 * time.Second) {
			s.gate.tick.Store(tick + 1)
			s.look(c, tick+1, s.tuning())
		}
		synctest.Wait()
		if got := s.Stats(); got.TooSlow != 1 || !closed(here) {
			t.Errorf("counted %d times", got.TooSlow)
		}
	})
}

// A client that reads a long reply for longer than the idle timeout is not idle.
func TestReadingIsNotIdling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		s := New(Config{Table: new(command.Table)})
		c := s.newClient(context.Background(), here)
		defer c.life.close()
		limits := &Tuning{Timeout: time.Second}
		c.out.hand(t, 4*writeChunk)
		c.life.begin(1)
		c.life.end(1)
		tick := int64(1)
		for range 4 {
			for range 8 {
				tick++
				s.gate.tick.Store(tick)
				s.look(c, tick, limits)
			}
			if _, err := io.ReadFull(there, make([]byte, writeChunk)); err != nil {
				t.Fatalf("closed at tick %d: %v", tick, err)
			}
			synctest.Wait()
		}
		for range 9 {
			tick++
			s.gate.tick.Store(tick)
			s.look(c, tick, limits)
		}
		if closed(here) {
			t.Error("closed less than a second after it had read the last piece")
		}
		for range 3 {
			tick++
			s.gate.tick.Store(tick)
			s.look(c, tick, limits)
		}
		if !closed(here) {
			t.Error("still open after more than a second of idleness")
		}
	})
}
