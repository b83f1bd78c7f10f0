package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/holdfast/holdfast/internal/testkit"
)

const (
	// requestBytes is about how many bytes of requests are built in advance and
	// then sent round and round: enough that every key comes up, little enough to
	// be built at once.
	requestBytes = 64 << 20
	// stall is how long the server may answer nothing before the load is given up.
	stall = 10 * time.Second
	// readBytes is what one read of a connection takes at most.
	readBytes = 256 << 10
)

// load is one measurement: connections that each keep one pipeline in flight,
// served by a single thread, so that the generator takes as little as possible of
// the processors it shares with the servers. Latency is from the sending of a
// pipeline to its last reply. The thread looks at its clock once for all
// connections that are ready at the same time.
type load struct {
	epoll    int
	conns    []*conn
	batches  [][]byte // the pipelines, sent in turn
	replies  int      // to one batch
	commands int      // in one batch, WAITs not counted
	buf      []byte
	hist     *hdrhistogram.Histogram // µs
	done     int64                   // commands answered while recording
	record   bool
}

// conn is one connection of a load.
type conn struct {
	fd      int
	next    int           // batch to send next
	out     []byte        // what is left to send of the current one
	parser  parser        // counts replies
	sent    time.Duration // when the current batch was sent
	waiting bool          // for room to send, registered for EPOLLOUT
}

// newLoad connects and builds the requests.
func newLoad(addr string, o op, pipeline int, opts options) (*load, error) {
	l := &load{
		batches: buildBatches(o, pipeline, opts), replies: pipeline, commands: pipeline,
		buf: make([]byte, readBytes), hist: hdrhistogram.New(1, time.Minute.Microseconds(), 3),
	}
	if o.perCommand != nil {
		l.replies *= 2
	}
	if o.perBatch != nil {
		l.replies++
	}
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, err
	}
	for i := range opts.connections {
		c, err := connect(addr)
		if err != nil {
			l.close()
			return nil, err
		}
		c.next = i * len(l.batches) / opts.connections
		l.conns = append(l.conns, c)
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, c.fd, &event); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

// buildBatches makes pipelines with random keys from a fixed seed: every system
// gets the same ones.
func buildBatches(o op, pipeline int, opts options) [][]byte {
	random := rand.New(rand.NewPCG(1, uint64(pipeline))) //nolint:gosec // repeatable on purpose
	value := strings.Repeat("v", opts.size)
	one := len(o.build(nil, keyName(opts.keys), value))
	count := max(requestBytes/(one*pipeline), 64)
	count = min(count, max(4*opts.keys/pipeline, 64))
	batches := make([][]byte, count)
	for i := range batches {
		var b []byte
		for range pipeline {
			b = o.build(b, keyName(random.IntN(opts.keys)), value)
			if o.perCommand != nil {
				b = o.perCommand(b)
			}
		}
		if o.perBatch != nil {
			b = o.perBatch(b)
		}
		batches[i] = b
	}
	return batches
}

func keyName(i int) string { return "key:" + strconv.Itoa(1_000_000+i) }

// connect makes a non-blocking connection, over IPv4 or IPv6.
func connect(addr string) (*conn, error) {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil, err
	}
	family, to := sockaddr(tcp)
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = unix.Connect(fd, to)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("connect to %s: %w", addr, err)
	}
	return &conn{fd: fd}, nil
}

// sockaddr is an address as the kernel takes it, with its family. Servers under test
// are on this machine, so zones do not occur.
func sockaddr(tcp *net.TCPAddr) (family int, to unix.Sockaddr) {
	if ip := tcp.IP.To4(); ip != nil {
		return unix.AF_INET, &unix.SockaddrInet4{Port: tcp.Port, Addr: [4]byte(ip)}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: tcp.Port, Addr: [16]byte(tcp.IP.To16())}
}

func (l *load) close() {
	for _, c := range l.conns {
		_ = unix.Close(c.fd)
	}
	_ = unix.Close(l.epoll)
}

// begin sends the first batch of every connection.
func (l *load) begin() error {
	now := testkit.Now()
	for i := range l.conns {
		if err := l.sendNext(i, now); err != nil {
			return err
		}
	}
	return nil
}

// run keeps the load up for d. Replies are counted while record is set.
func (l *load) run(d time.Duration, record bool) error {
	l.record = record
	events := make([]unix.EpollEvent, len(l.conns))
	now := testkit.Now()
	end, heard := now+d, now
	for now < end {
		n, err := unix.EpollWait(l.epoll, events, 100)
		if err != nil && err != unix.EINTR {
			return err
		}
		now = testkit.Now()
		for i := range max(n, 0) {
			heard = now
			if err := l.serve(int(events[i].Fd), events[i].Events, now); err != nil {
				return err
			}
		}
		if now-heard > stall {
			return fmt.Errorf("no reply for %v", stall)
		}
	}
	return nil
}

// serve does what a ready connection is ready for.
func (l *load) serve(i int, events uint32, now time.Duration) error {
	c := l.conns[i]
	if events&unix.EPOLLOUT != 0 {
		if err := l.flush(i); err != nil {
			return err
		}
	}
	if events&^unix.EPOLLOUT == 0 {
		return nil
	}
	n, err := unix.Read(c.fd, l.buf)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return nil
	case err != nil:
		return err
	case n == 0:
		return fmt.Errorf("the server closed a connection")
	}
	if err := c.parser.feed(l.buf[:n]); err != nil {
		return err
	}
	if c.parser.complete < l.replies {
		return nil
	}
	c.parser.complete -= l.replies
	if l.record {
		l.done += int64(l.commands)
		if err := l.hist.RecordValues((now - c.sent).Microseconds(), int64(l.commands)); err != nil {
			return err
		}
	}
	return l.sendNext(i, now)
}

func (l *load) sendNext(i int, now time.Duration) error {
	c := l.conns[i]
	c.out, c.sent = l.batches[c.next], now
	c.next = (c.next + 1) % len(l.batches)
	return l.flush(i)
}

// flush sends what the socket takes, and asks to be told when it takes more.
func (l *load) flush(i int) error {
	c := l.conns[i]
	for len(c.out) > 0 {
		n, err := unix.Write(c.fd, c.out)
		if err == unix.EAGAIN {
			return l.watch(i, true)
		}
		if err != nil && err != unix.EINTR {
			return err
		}
		c.out = c.out[max(n, 0):]
	}
	return l.watch(i, false)
}

// watch registers interest in room to send, or ends it.
func (l *load) watch(i int, out bool) error {
	c := l.conns[i]
	if c.waiting == out {
		return nil
	}
	c.waiting = out
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
	if out {
		event.Events |= unix.EPOLLOUT
	}
	return unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, c.fd, &event)
}
