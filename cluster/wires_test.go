package cluster_test

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/holdfast/holdfast/cluster"
)

// wires are the network between nodes under test. Each direction between two nodes
// can be held up: bytes wait, as they do in a partition, and arrive after it heals.
type wires struct {
	mu    sync.Mutex
	held  map[[2]string]bool
	moved chan struct{} // closed when held changes
	delay map[[2]string]time.Duration
}

func newWires() *wires {
	return &wires{held: map[[2]string]bool{}, delay: map[[2]string]time.Duration{}, moved: make(chan struct{})}
}

func (w *wires) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
	close(w.moved)
	w.moved = make(chan struct{})
}

// hold keeps back what from sends to to.
func (w *wires) hold(from, to string) { w.set(func() { w.held[[2]string{from, to}] = true }) }

// slow delays what from sends to to.
func (w *wires) slow(from, to string, d time.Duration) {
	w.set(func() { w.delay[[2]string{from, to}] = d })
}

// isolate holds everything between a node and the others.
func (w *wires) isolate(id string, others ...string) {
	for _, o := range others {
		w.hold(id, o)
		w.hold(o, id)
	}
}

// heal lets everything flow.
func (w *wires) heal() {
	w.set(func() {
		clear(w.held)
		clear(w.delay)
	})
}

// pass waits until from may send to to; false if the connection ended before.
func (w *wires) pass(from, to string, ended <-chan struct{}) bool {
	for {
		w.mu.Lock()
		held, delay, moved := w.held[[2]string{from, to}], w.delay[[2]string{from, to}], w.moved
		w.mu.Unlock()
		if !held {
			if delay > 0 {
				<-time.After(delay)
			}
			return true
		}
		select {
		case <-moved:
		case <-ended:
			return false
		}
	}
}

// dialer connects node id to the others through the wires.
func (w *wires) dialer(id string, peers []cluster.Peer) func(context.Context, string, string) (net.Conn, error) {
	names := map[string]string{}
	for _, p := range peers {
		names[p.Addr] = p.ID
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		to := names[addr]
		if !w.pass(id, to, ctx.Done()) || !w.pass(to, id, ctx.Done()) {
			return nil, context.DeadlineExceeded
		}
		far, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		near, mine := net.Pipe()
		ended := make(chan struct{})
		end := sync.OnceFunc(func() {
			close(ended)
			_ = mine.Close()
			_ = far.Close()
		})
		there := &wire{wires: w, from: id, to: to, ended: ended, end: end}
		back := &wire{wires: w, from: to, to: id, ended: ended, end: end}
		go there.carry(far, mine)
		go back.carry(mine, far)
		return near, nil
	}
}

// wire is one direction of a connection.
type wire struct {
	wires    *wires
	from, to string
	ended    chan struct{}
	end      func()
}

// carry moves bytes through a queue, so that senders do not notice that they are
// held up.
func (w *wire) carry(dst io.Writer, src io.Reader) {
	queue := make(chan []byte, 1024) // ends the connection once it is empty
	go func() {
		defer w.end()
		for b := range queue {
			if !w.wires.pass(w.from, w.to, w.ended) {
				return
			}
			if _, err := dst.Write(b); err != nil {
				return
			}
		}
	}()
	defer close(queue)
	for {
		b := make([]byte, 32<<10)
		n, err := src.Read(b)
		if err != nil {
			return
		}
		select {
		case queue <- b[:n]:
		case <-w.ended:
			return
		}
	}
}
