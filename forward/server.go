package forward

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// Master is this node, which may be the master, as other nodes use it. Nothing it
// does is passed on to a third node. It is safe for concurrent use.
type Master interface {
	// Submit takes a batch to the log, as respserver's Submitter does.
	Submit(b *command.Batch)
	// Index is a log index that covers everything this node has answered as master
	// before the call, once a majority has confirmed that it still is the master.
	Index(ctx context.Context) (uint64, error)
	// Expire commits the removal of due keys and returns the log index after it.
	Expire(ctx context.Context, victims []store.Victim) (uint64, error)
	// Versions are what WATCH remembers of keys, once this node is confirmed as master.
	Versions(ctx context.Context, db int, keys [][]byte) ([]uint64, error)
	// Await returns the term of this node once it is the confirmed master.
	Await(ctx context.Context) (uint64, error)
}

// Config is what a Server is built of.
type Config struct {
	Master    Master
	Table     Table
	Databases func() int               // how many there are
	Answered  func() uint64            // a log index that covers what this node has answered
	Acked     func(index uint64) int64 // how many replicas have the log up to index
	// HandOver begins to hand over the leadership, to the node with the given id if
	// that is not empty. An error of type resp.Error is told to whoever asked.
	HandOver func(target string) error
	Veil     func(on bool) // whether this node, as master, keeps it to itself
	// Hush keeps waiting who asks this node for the master, until it knows one of a later
	// term, but only for a moment.
	Hush func(term uint64)
	// Order does what words say and returns a log index that covers it. Its errors are like
	// those of HandOver.
	Order func(ctx context.Context, words []string) (uint64, error)
	Log   *slog.Logger
}

// Server answers other nodes. It is safe for concurrent use.
type Server struct{ cfg Config }

// NewServer returns a server.
func NewServer(cfg Config) *Server { return &Server{cfg} }

const (
	// maxAsked and maxAskedBytes bound the questions of one connection that are not
	// answered yet. With more it is not read on.
	maxAsked      = 4096
	maxAskedBytes = 256 << 20
	// askBound bounds what is not a unit, orderBound an order.
	askBound   = 5 * time.Second
	orderBound = 3 * time.Minute
)

// Serve answers the node peer until the connection ends. Whoever closes it waits
// for what is under way: that has bounds of its own.
func (s *Server) Serve(conn net.Conn, peer string) {
	ctx, cancel := context.WithCancel(context.Background())
	p := &peerConn{srv: s, out: bounded{conn, writeBound}, ctx: ctx}
	p.mu.room.L = &p.mu
	err := p.read(bufio.NewReader(conn))
	_ = conn.Close() // nobody reads the answers any more
	cancel()
	p.wg.Wait()
	if errors.Is(err, errFrame) || errors.Is(err, errUnit) {
		s.cfg.Log.Warn("another node sent what cannot be understood", "node", peer)
	}
}

// peerConn is one connection.
type peerConn struct {
	srv *Server
	out bounded
	ctx context.Context
	wg  sync.WaitGroup

	write sync.Mutex // held while a frame is written
	mu    struct {
		sync.Mutex
		room         sync.Cond
		asked, bytes int
	}
}

// enter waits until there is room for a question of n bytes.
func (p *peerConn) enter(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.mu.asked > 0 && (p.mu.asked >= maxAsked || p.mu.bytes+n > maxAskedBytes) {
		p.mu.room.Wait()
	}
	p.mu.asked++
	p.mu.bytes += n
}

func (p *peerConn) leave(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mu.asked--
	p.mu.bytes -= n
	p.mu.room.Broadcast()
}

func (p *peerConn) read(r *bufio.Reader) error {
	for {
		f, err := readFrame(r, maxAsk)
		if err != nil {
			return err
		}
		p.enter(len(f.body))
		answer, err := p.begin(&f)
		if err != nil {
			p.leave(len(f.body))
			return err
		}
		p.wg.Go(func() {
			defer p.leave(len(f.body))
			p.tell(f.id, answer())
		})
	}
}

// told is what a question is answered with.
type told struct {
	kind  byte
	body  []byte
	large *endings // in the place of body if that would be long
}

// begin begins to answer, in the order of questions; what answer does may take its
// time.
func (p *peerConn) begin(f *frame) (answer func() told, err error) {
	m := p.srv.cfg.Master
	d := decoder{b: f.body, table: p.srv.cfg.Table, databases: p.srv.cfg.Databases()}
	switch f.kind {
	case askUnits:
		return p.units(&d)
	case askIndex:
		return p.number(askBound, m.Index), nil
	case askMaster:
		return p.number(askBound, m.Await), nil
	case askExpire:
		victims, err := d.victims()
		return p.number(askBound, func(ctx context.Context) (uint64, error) { return m.Expire(ctx, victims) }), err
	case askAcked:
		index := d.uvarint()
		return p.number(askBound, func(context.Context) (uint64, error) { return uint64(p.srv.cfg.Acked(index)), nil }), d.err
	case askVeil, askUnveil:
		p.srv.cfg.Veil(f.kind == askVeil)
		return p.number(askBound, func(context.Context) (uint64, error) { return 0, nil }), nil
	case askHush:
		if term := d.uvarint(); d.err == nil {
			p.srv.cfg.Hush(term)
		}
		return p.number(askBound, func(context.Context) (uint64, error) { return 0, nil }), d.err
	case askHandover:
		return p.number(askBound, func(context.Context) (uint64, error) { return 0, p.srv.cfg.HandOver(string(f.body)) }), nil
	case askOrder:
		words := d.words()
		return p.number(orderBound, func(ctx context.Context) (uint64, error) { return p.srv.cfg.Order(ctx, words) }), d.err
	case askVersions:
		return p.versions(&d)
	}
	return nil, errFrame
}

// units submits a batch. A unit that this node would not take from a client makes
// it refuse all, for good: the sender is of another release, or broken.
func (p *peerConn) units(d *decoder) (answer func() told, err error) {
	b, err := d.units()
	if known, ok := errors.AsType[resp.Error](err); ok {
		return func() told { return told{kind: tellError, body: []byte(known)} }, nil
	}
	if err != nil {
		return nil, err
	}
	p.srv.cfg.Master.Submit(b)
	return func() told {
		<-b.Done() // within the bound of a proposal
		e := endingsOf(p.srv.cfg.Answered(), b)
		if e.size > writeBuffer {
			return told{kind: tellEndings, large: &e}
		}
		return told{kind: tellEndings, body: e.encode()}
	}, nil
}

// versions answers what WATCH asks.
func (p *peerConn) versions(d *decoder) (answer func() told, err error) {
	db, keys, err := d.keys()
	if err != nil {
		return nil, err
	}
	return func() told {
		ctx, cancel := context.WithTimeout(p.ctx, askBound)
		defer cancel()
		list, err := p.srv.cfg.Master.Versions(ctx, db, keys)
		if err != nil {
			return told{kind: tellRefused}
		}
		var body []byte
		for _, v := range list {
			body = binary.AppendUvarint(body, v)
		}
		return told{kind: tellNumbers, body: body}
	}, nil
}

// number answers with what get returns.
func (p *peerConn) number(bound time.Duration, get func(ctx context.Context) (uint64, error)) func() told {
	return func() told {
		ctx, cancel := context.WithTimeout(p.ctx, bound)
		defer cancel()
		n, err := get(ctx)
		if known, ok := errors.AsType[resp.Error](err); ok {
			return told{kind: tellError, body: []byte(known)}
		}
		if err != nil {
			return told{kind: tellRefused}
		}
		return told{kind: tellNumber, body: binary.AppendUvarint(nil, n)}
	}
}

// tell writes an answer. If that fails the connection ends.
func (p *peerConn) tell(id uint64, a told) {
	p.write.Lock()
	defer p.write.Unlock()
	if err := p.send(id, &a); err != nil {
		_ = p.out.Close() // read ends
	}
}

// send writes an answer. The caller holds write: of all that wait for it none is
// encoded before its turn, if it is long.
func (p *peerConn) send(id uint64, a *told) error {
	if a.large != nil {
		w := bufio.NewWriterSize(p.out, writeBuffer)
		if _, err := w.Write(appendHead(nil, a.kind, id, a.large.size)); err != nil {
			return err
		}
		return a.large.write(w)
	}
	_, err := p.out.Write(append(appendHead(make([]byte, 0, headLen+len(a.body)), a.kind, id, len(a.body)), a.body...))
	return err
}
