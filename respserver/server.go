package respserver

import (
	"cmp"
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/tracking"
)

// tickPeriod is how often the server looks after its connections: the grain of
// all their time limits.
const tickPeriod = 100 * time.Millisecond

// stopBound is how long a server that stops waits for commands under way.
const stopBound = 2 * time.Second

// Server serves one table of commands on any number of listeners. It is safe
// for concurrent use.
type Server struct {
	cfg      Config
	table    *table
	tune     atomic.Pointer[Tuning]
	gate     gate
	counters counters
	tracking *tracking.Table
	errors   errorCounts
	started  time.Duration // clock.Mono

	mu struct {
		sync.Mutex
		clients map[int64]*client
		nextID  int64
		serving int           // calls of Serve
		ending  chan struct{} // closed when the last of them is over; nil if none is about to be
		retired retirement
		jobs    context.Context // of what lives as long as somebody serves
		stop    context.CancelFunc
	}
	arrived  chan struct{}  // holds one token after a client came, for housekeep
	conns    sync.WaitGroup // connections, and what sends messages to them
	jobs     sync.WaitGroup // housekeeping, snapshots
	retiring atomic.Bool    // see Retire
	saving   atomic.Bool    // SAVE or BGSAVE is at work
	pausing  pausing        // CLIENT PAUSE

	httpSeen atomic.Int64 // the tick at which the log told of a client that speaks HTTP
}

// New returns a server that serves nobody yet.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg.withDefaults(), table: newTable(cfg.Table), started: now()}
	s.mu.clients = make(map[int64]*client)
	s.mu.retired.parting = make(map[net.Conn]struct{})
	s.arrived = make(chan struct{}, 1)
	s.gate.budget = s.cfg.PendingBudget
	if s.tracking = s.cfg.Tracking; s.tracking == nil {
		s.tracking = tracking.New(tracking.Limits{})
	}
	s.gate.tick.Store(1)
	s.Tune(cfg.Tuning)
	return s
}

// Tune replaces the changeable parameters. Connections that are authenticated
// stay so when the password changes, as in Redis.
func (s *Server) Tune(t Tuning) {
	t = t.withDefaults()
	s.tune.Store(&t)
	s.tracking.SetLimits(tracking.Limits{
		Keys: t.TrackingKeys, QueueBytes: cmp.Or(t.PubSubOutput.Hard, pendingMax), TotalBytes: trackingMax,
	})
}

func (s *Server) tuning() *Tuning { return s.tune.Load() }

// Serve accepts connections until ctx ends or the listener fails; the listener is
// closed then, and so are the connections, those with commands under way after
// these were answered. It returns nil when ctx ended.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.enter(ctx)
	defer s.leave()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() }) // makes Accept return
	defer stop()

	err := s.accept(ctx, ln)
	if ctx.Err() != nil {
		err = nil
	}
	_ = ln.Close() // closed twice at worst
	return err
}

// enter counts a call of Serve; the first starts the housekeeping, once the end of the
// last one before it is over.
func (s *Server) enter(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.mu.ending != nil {
		ending := s.mu.ending
		s.mu.Unlock()
		<-ending
		s.mu.Lock()
	}
	s.mu.serving++
	if s.mu.serving > 1 {
		return
	}
	jobs, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.mu.jobs, s.mu.stop = jobs, stop
	s.jobs.Go(func() { s.housekeep(jobs) })
}

// leave ends the connections with the last call of Serve and waits for them.
func (s *Server) leave() {
	s.mu.Lock()
	s.mu.serving--
	if s.mu.serving > 0 {
		s.mu.Unlock()
		return
	}
	stop, ending := s.mu.stop, make(chan struct{})
	s.mu.ending = ending
	s.mu.Unlock()
	s.Release()
	s.CloseClients()
	s.closeParting()
	t := time.AfterFunc(stopBound, func() { s.each(func(c *client) { c.life.close() }) })
	defer t.Stop()
	s.conns.Wait()
	stop()
	s.jobs.Wait()
	s.mu.Lock()
	s.mu.ending = nil
	s.mu.Unlock()
	close(ending)
}

// Accepting goes on after errors that pass by themselves (no descriptors, a
// connection that ended while it waited), with growing pauses.
const (
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	pause := acceptPause
	for {
		conn, err := ln.Accept()
		if err == nil {
			pause = acceptPause
			s.admit(ctx, conn)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		s.cfg.Log.Warn("cannot accept a connection", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// admit starts serving conn, or refuses it.
func (s *Server) admit(ctx context.Context, conn net.Conn) {
	s.counters.received.Add(1)
	t := s.tuning()
	if refusal := s.refuseConn(t, conn); refusal != nil {
		s.counters.refused.Add(1)
		_, _ = conn.Write(resp.Err(refusal).Append(nil, 2)) // fits into an empty socket buffer
		_ = conn.Close()
		return
	}
	if s.detain(conn) {
		return
	}
	c := s.newClient(ctx, conn)
	s.conns.Go(c.serve)
}

func (s *Server) refuseConn(t *Tuning, conn net.Conn) error {
	switch {
	case s.crowded(t.MaxClients):
		return resp.ErrMaxClients
	case t.Protected && t.Password == "" && !local(conn):
		return resp.ErrProtected
	}
	return nil
}

// keepAlive has the kernel probe an idle peer after period and, like Redis,
// three times more within another period.
func keepAlive(conn *net.TCPConn, period time.Duration) {
	cfg := net.KeepAliveConfig{Enable: period > 0, Idle: period, Interval: max(period/3, time.Second), Count: 3}
	_ = conn.SetKeepAliveConfig(cfg) // without it a dead peer is found later
}

// local tells whether the peer is on this machine.
func local(conn net.Conn) bool {
	addr, ok := conn.RemoteAddr().(*net.TCPAddr)
	return !ok || addr.IP.IsLoopback()
}

// newClient registers a connection. Its goroutine unregisters it.
func (s *Server) newClient(ctx context.Context, conn net.Conn) *client {
	c := &client{srv: s, conn: conn, born: s.gate.tick.Load()}
	c.life.init(context.WithoutCancel(ctx), conn)
	c.life.since.Store(c.born)
	c.out.init(conn, &s.gate)
	c.rd = resp.NewReader((*source)(c), resp.Limits{})
	c.seg.viewFn = c.readSteps
	c.reset()
	s.mu.Lock()
	s.mu.nextID++
	c.id = s.mu.nextID
	s.mu.clients[c.id] = c
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default: // housekeep will look anyway
	}
	return c
}

func (s *Server) forget(c *client) {
	s.mu.Lock()
	delete(s.mu.clients, c.id)
	s.mu.Unlock()
}

// crowded tells whether there are as many connections as there may be.
func (s *Server) crowded(most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.mu.clients)+len(s.mu.retired.held) >= most
}

// clients are the present clients, in no order.
func (s *Server) clients() []*client { return s.appendClients(nil) }

func (s *Server) appendClients(dst []*client) []*client {
	s.mu.Lock()
	defer s.mu.Unlock()
	dst = slices.Grow(dst, len(s.mu.clients))
	for _, c := range s.mu.clients {
		dst = append(dst, c)
	}
	return dst
}

func (s *Server) each(fn func(*client)) {
	for _, c := range s.clients() {
		fn(c)
	}
}

// CloseClients closes every connection: an idle one at once, one with commands
// under way when these were answered. It does not wait for that. Bytes that
// arrive afterwards are never executed.
func (s *Server) CloseClients() {
	s.each(func(c *client) { c.life.doom() })
}

// quietTicks is how long a server without clients goes on ticking: until its figures
// of the last moments are those of silence.
const quietTicks = 2 * ratePoints

// housekeep watches over the time limits of all connections. While there are none its
// clock stands still.
func (s *Server) housekeep(ctx context.Context) {
	t := time.NewTicker(tickPeriod)
	defer t.Stop()
	var all []*client
	for quiet := 0; ; quiet++ {
		if quiet > quietTicks {
			t.Stop()
			select {
			case <-ctx.Done():
				return
			case <-s.arrived:
			}
			t.Reset(tickPeriod)
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		tick := s.gate.tick.Add(1)
		tuning := s.tuning()
		s.counters.sample(tick, s.gate.sent.Load())
		all = s.appendClients(all[:0])
		if len(all) > 0 {
			quiet = 0
		}
		for _, c := range all {
			s.look(c, tick, tuning)
		}
		clear(all)
	}
}

func ticks(d time.Duration) int64 { return int64((d + tickPeriod - 1) / tickPeriod) }

// look applies the time limits to one connection.
func (s *Server) look(c *client, tick int64, t *Tuning) {
	if c.life.waitsFor(tick) > ticks(s.cfg.CommandBound) {
		s.cfg.Log.Warn("a command was given up: no answer from the log or the cluster in time", "client", c.id)
		c.life.cancel()
	}
	if c.life.bits.Load()&lifeBlocked != 0 && c.hungUp() {
		c.life.unblock(wakeGone)
	}
	if t.Timeout > 0 && !c.isPubSub() && c.life.idleFor(tick) > ticks(t.Timeout) && !c.out.lately(tick-ticks(t.Timeout)) {
		c.life.doom()
	}
	bound := s.cfg.WriteBound
	if c.life.bits.Load()&lifeDoomed != 0 {
		bound = min(bound, goodbye)
	}
	ended := c.life.bits.Load()&lifeClosed != 0 // and counted, if that was why; its goroutine may be late
	if !ended && c.out.busy() && c.out.slow(tick, c.outputLimit(), ticks(bound)) {
		s.cfg.Log.Info("closing a client that does not read its replies", "client", c.id)
		s.counters.tooSlow.Add(1)
		c.life.close()
	}
}

// busy tells whether something waits for the client to read.
func (o *output) busy() bool { return o.writing.Load() || o.direct.Load() }

// lately tells whether the client has taken a piece of what waits for it at or
// after the given tick.
func (o *output) lately(tick int64) bool { return o.tick.Load() >= tick }

// slow tells whether writing has made no progress for bound ticks,
// or more than the soft limit has been pending for too long.
func (o *output) slow(tick int64, l OutputLimit, bound int64) bool {
	if tick-o.tick.Load() > bound {
		return true
	}
	if l.Soft == 0 || o.pending.Load() <= l.Soft {
		o.over.Store(0)
		return false
	}
	if o.over.CompareAndSwap(0, tick) {
		return false
	}
	return tick-o.over.Load() > ticks(l.SoftFor)
}

// Stats are figures of the server since its start or the last CONFIG RESETSTAT.
type Stats struct {
	Connected, Blocked, PubSub int
	Received, Refused          int64 // connections
	Commands                   int64
	NetIn, NetOut              int64 // bytes
	Hits, Misses               int64
	Pending                    int64 // bytes waiting for slow readers
	Errors                     int64 // error replies
	MaxClients                 int
	TooSlow                    int64 // connections closed for not reading
	Tracking                   tracking.Stats
	Panics                     int64
}

// Stats returns the present figures.
func (s *Server) Stats() Stats {
	st := Stats{
		MaxClients: s.tuning().MaxClients,
		Received:   s.counters.received.Load(), Refused: s.counters.refused.Load(),
		Commands: s.counters.commands.Load(),
		NetIn:    s.counters.netIn.Load(), NetOut: s.gate.sent.Load(),
		Hits: s.counters.hits.Load(), Misses: s.counters.misses.Load(),
		Pending: s.gate.pending.Load(), Errors: s.errors.sum.Load(),
		TooSlow: s.counters.tooSlow.Load(), Tracking: s.tracking.Stats(), Panics: s.counters.panics.Load(),
	}
	for _, c := range s.clients() {
		st.Connected++
		if c.life.bits.Load()&lifeBlocked != 0 {
			st.Blocked++
		}
		if c.isPubSub() {
			st.PubSub++
		}
	}
	return st
}
