package forward_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/forward"
	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// fakeMaster notes what reaches it and ends batches as it is told.
type fakeMaster struct {
	mu      sync.Mutex
	batches []*command.Batch
	held    []*command.Batch // of these, not ended yet
	hold    bool             // batches are not ended
	outcome command.Outcome
	reply   func(r *command.Request) resp.Value
	refuses bool // all but batches
}

var _ forward.Master = (*fakeMaster)(nil)

func (m *fakeMaster) Submit(b *command.Batch) {
	b.Start()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.batches = append(m.batches, b)
	if m.hold {
		m.held = append(m.held, b)
		return
	}
	m.endLocked(b)
}

func (m *fakeMaster) endLocked(b *command.Batch) {
	for i, n := 0, len(b.Requests); i < n; i++ {
		reply := resp.Err(resp.ErrReadOnly)
		if m.outcome == command.Replied {
			reply = m.reply(&b.Requests[i])
		}
		b.End(i, m.outcome, reply)
	}
}

func (m *fakeMaster) release() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hold = false
	for _, b := range m.held {
		m.endLocked(b)
	}
	m.held = nil
}

func (m *fakeMaster) seen() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.batches)
}

var errNo = errors.New("no")

func (m *fakeMaster) err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuses {
		return errNo
	}
	return nil
}

func (m *fakeMaster) Index(context.Context) (uint64, error) { return 7, m.err() }
func (m *fakeMaster) Await(context.Context) (uint64, error) { return 3, m.err() }

func (m *fakeMaster) Expire(_ context.Context, victims []store.Victim) (uint64, error) {
	return uint64(len(victims)) + 100, m.err()
}

func (m *fakeMaster) Versions(_ context.Context, db int, keys [][]byte) ([]uint64, error) {
	list := make([]uint64, len(keys))
	for i := range keys {
		list[i] = uint64(db*1000 + i)
	}
	return list, m.err()
}

// rig is a connection to a server over a fake master.
type rig struct {
	*forward.Conn
	master *fakeMaster
	far    net.Conn // the server's end
	veiled []bool
	hushed []uint64
	asked  []string // HandOver
}

func table(tb testing.TB) *command.Table {
	tb.Helper()
	exec := &command.Spec{
		Name: "exec", Arity: 1, Group: "transactions", Since: "1.2.0", Complexity: "O(1)", Summary: "Runs.",
		Do: command.Locally(func(command.Conn, [][]byte) resp.Value { return resp.OK }),
	}
	t, err := command.Join(command.StringSpecs(), []*command.Spec{exec})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// connect returns a rig whose master echoes the last word of each command.
func connect(tb testing.TB) *rig {
	tb.Helper()
	r := &rig{master: &fakeMaster{outcome: command.Replied, reply: func(r *command.Request) resp.Value {
		if r.Exec != nil {
			return resp.Array(resp.Int(int64(len(r.Exec.Queue))), resp.Int(int64(len(r.Exec.Watch))), resp.NullArray)
		}
		return resp.Bulk(r.Args[len(r.Args)-1])
	}}}
	server := forward.NewServer(forward.Config{
		Master: r.master, Table: table(tb),
		Databases: func() int { return 16 },
		Answered:  func() uint64 { return 42 },
		Acked:     func(index uint64) int64 { return int64(index) + 1 },
		HandOver: func(target string) error {
			r.asked = append(r.asked, target)
			return resp.ErrFailoverBusy
		},
		Veil: func(on bool) { r.veiled = append(r.veiled, on) },
		Hush: func(term uint64) { r.hushed = append(r.hushed, term) },
		Order: func(_ context.Context, words []string) (uint64, error) {
			if r.asked = append(r.asked, words...); len(words) == 0 {
				return 0, errors.New("this node is not the master")
			}
			return 9, nil
		},
		Log: slog.New(slog.DiscardHandler),
	})
	near, far := net.Pipe()
	r.far = far
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(far, "n2")
	}()
	r.Conn = forward.NewConn(near)
	tb.Cleanup(func() {
		r.master.release()
		r.Close()
		<-done
	})
	return r
}

// call is a request for a command as clients write it.
func call(tb testing.TB, line string) command.Request {
	tb.Helper()
	var args [][]byte
	for word := range strings.FieldsSeq(line) {
		args = append(args, []byte(word))
	}
	spec, err := table(tb).Lookup(args)
	if err != nil {
		tb.Fatal(err)
	}
	return command.Request{Spec: spec, DB: 3, Args: args}
}

func batch(reqs ...command.Request) *command.Batch {
	b := command.NewBatch()
	b.Requests = reqs
	return b
}

// Units arrive as they were sent, transactions with their watched keys, and replies
// come back of the same kind, with an index that covers them.
func TestUnitsAndRepliesTravel(t *testing.T) {
	r := connect(t)
	queued := call(t, "SET k w")
	b := batch(call(t, "SET a 1"), call(t, "GET b"), command.Request{Spec: queued.Spec, Exec: &command.Exec{
		Watch: []command.Watched{{DB: 2, Key: []byte("w"), Version: 1 << 60}},
		Queue: []command.Queued{{Spec: queued.Spec, DB: 5, Args: queued.Args}},
	}})
	p := r.Send(b, 0)
	index, list, err := p.Wait(r.Conn)
	if err != nil || index != 42 || len(list) != 3 || p.To != 3 {
		t.Fatalf("index %d, %v, %v, to %d", index, list, err, p.To)
	}
	for i, want := range []string{"$1\r\n1\r\n", "$1\r\nb\r\n", "*3\r\n:1\r\n:1\r\n*-1\r\n"} {
		if got := string(list[i].Reply.Append(nil, 2)); got != want || list[i].Outcome != command.Replied {
			t.Errorf("request %d: %d %q, want %q", i, list[i].Outcome, got, want)
		}
	}
	x := r.master.batches[0].Requests[2].Exec
	if w := x.Watch[0]; w.DB != 2 || string(w.Key) != "w" || w.Version != 1<<60 {
		t.Errorf("watched %+v", w)
	}
	if q := x.Queue[0]; q.DB != 5 || q.Spec.Name != "set" || string(q.Args[2]) != "w" {
		t.Errorf("queued %+v", q)
	}
	if first := r.master.batches[0].Requests[0]; first.DB != 3 || first.Spec.Name != "set" {
		t.Errorf("first %+v", first)
	}
}

// A batch that is too large for one frame travels in parts; a large request is alone.
func TestBatchesAreCut(t *testing.T) {
	r := connect(t)
	big := call(t, "SET big x")
	big.Args[2] = make([]byte, 9<<20)
	b := batch(call(t, "SET a 1"), big, call(t, "SET b 1"))
	var parts []int
	for from := 0; from < len(b.Requests); {
		p := r.Send(b, from)
		_, list, err := p.Wait(r.Conn)
		if err != nil || len(list) != p.To-p.From {
			t.Fatalf("%d endings, %v", len(list), err)
		}
		from = p.To
		parts = append(parts, from)
	}
	if fmt.Sprint(parts) != "[1 2 3]" {
		t.Errorf("parts end at %v", parts)
	}
}

// Refused and in doubt come back as what they are.
func TestOutcomesTravel(t *testing.T) {
	for _, o := range []command.Outcome{command.Refused, command.InDoubt} {
		r := connect(t)
		r.master.outcome = o
		if _, list, err := r.Send(batch(call(t, "SET a 1")), 0).Wait(r.Conn); err != nil || list[0].Outcome != o {
			t.Errorf("%v, %v, want outcome %d", list, err, o)
		}
	}
}

// What was sent when the connection ends is unknown; what was not, refused.
func TestBrokenConnectionLeavesWhatWasSentInDoubt(t *testing.T) {
	r := connect(t)
	r.master.hold = true
	p := r.Send(batch(call(t, "SET a 1")), 0)
	testkit.Eventually(t, 10*time.Second, "the batch arrives", func() error {
		return testkit.Check(r.master.seen() == 1, "%d batches", r.master.seen())
	})
	_ = r.far.Close()
	if _, _, err := p.Wait(r.Conn); !errors.Is(err, forward.ErrUnknown) {
		t.Errorf("sent: %v", err)
	}
	if !r.Broken() {
		t.Error("the connection does not know that it is broken")
	}
	if _, _, err := r.Send(batch(call(t, "SET a 1")), 0).Wait(r.Conn); !errors.Is(err, forward.ErrRefused) {
		t.Errorf("not sent: %v", err)
	}
	if _, err := r.Index(t.Context()); !errors.Is(err, forward.ErrRefused) {
		t.Errorf("index: %v", err)
	}
}

// P5, P7: what takes too long, as reading very much may, is in doubt by itself: what others
// have under way on the connection is answered.
func TestSlowAnswersHarmNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connect(t)
		r.master.hold = true
		slow := r.Send(batch(call(t, "SET a 1")), 0)
		synctest.Wait()
		if n, err := r.Acked(t.Context(), 1); n != 2 || err != nil {
			t.Errorf("another one: %d, %v", n, err)
		}
		if _, _, err := slow.Wait(r.Conn); !errors.Is(err, forward.ErrUnknown) {
			t.Errorf("the slow one: %v", err)
		}
		if r.Broken() {
			t.Error("the connection has ended")
		}
		r.master.release() // the late answer is nobody's
		if _, list, err := r.Send(batch(call(t, "SET b 1")), 0).Wait(r.Conn); err != nil || list[0].Outcome != command.Replied {
			t.Errorf("the next one: %v, %v", list, err)
		}
	})
}

// A connection on which nothing is answered is given up.
func TestDeafConnectionsAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := connect(t)
		r.master.hold = true
		if _, _, err := r.Send(batch(call(t, "SET a 1")), 0).Wait(r.Conn); !errors.Is(err, forward.ErrUnknown) || !r.Broken() {
			t.Errorf("%v, broken: %v", err, r.Broken())
		}
	})
}

// The other questions are answered, and refused by a node that is not the master.
func TestOtherQuestions(t *testing.T) {
	r := connect(t)
	ctx := t.Context()
	ask := func() []string {
		var out []string
		note := func(n any, err error) { out = append(out, fmt.Sprint(n, errors.Is(err, forward.ErrRefused))) }
		note(r.Index(ctx))
		note(r.AwaitMaster(ctx))
		note(r.Expire(ctx, []store.Victim{{DB: 1, Key: "k", Deadline: -5}, {Key: ""}}))
		note(r.Versions(ctx, 2, [][]byte{[]byte("a"), []byte("b")}))
		return out
	}
	if got := fmt.Sprint(ask()); got != "[7 false 3 false 102 false [2000 2001] false]" {
		t.Errorf("got %s", got)
	}
	r.master.refuses = true
	if got := fmt.Sprint(ask()); got != "[0 true 0 true 0 true [] true]" {
		t.Errorf("refused: got %s", got)
	}
	if n, err := r.Acked(ctx, 9); n != 10 || err != nil {
		t.Errorf("acked %d, %v", n, err)
	}
	if err := errors.Join(r.Veil(ctx), r.Unveil(ctx)); err != nil || fmt.Sprint(r.veiled) != "[true false]" {
		t.Errorf("veil: %v, %v", r.veiled, err)
	}
	if err := r.Hush(ctx, 1<<40); err != nil || fmt.Sprint(r.hushed) != "[1099511627776]" {
		t.Errorf("hush: %v, %v", r.hushed, err)
	}
	if err := r.HandOver(ctx, "n3"); !errors.Is(err, resp.ErrFailoverBusy) || fmt.Sprint(r.asked) != "[n3]" {
		t.Errorf("handover: %v, asked %v", err, r.asked)
	}
	if index, err := r.Order(ctx, "remove", "n1", ""); index != 9 || err != nil || fmt.Sprintf("%q", r.asked) != `["n3" "remove" "n1" ""]` {
		t.Errorf("order: %d, %v, asked %q", index, err, r.asked)
	}
	if _, err := r.Order(ctx); !errors.Is(err, forward.ErrRefused) {
		t.Errorf("an order that is not taken: %v", err)
	}
}

// A unit that no client of the master could have asked for is refused for good, and
// nothing of the frame is carried out.
func TestUnitsAreCheckedAgain(t *testing.T) {
	for name, spoil := range map[string]func(r *command.Request){
		"a database that is not there": func(r *command.Request) { r.DB = 16 },
		"an unknown command":           func(r *command.Request) { r.Args[0] = []byte("nosuch") },
		"too few arguments":            func(r *command.Request) { r.Args = r.Args[:2] },
		"a malformed argument":         func(r *command.Request) { r.Args = append(r.Args, []byte("PX"), []byte("zero")) },
	} {
		t.Run(name, func(t *testing.T) {
			r := connect(t)
			b := batch(call(t, "SET a 1"), call(t, "SET a 1"))
			spoil(&b.Requests[1])
			var known resp.Error
			if _, _, err := r.Send(b, 0).Wait(r.Conn); !errors.As(err, &known) {
				t.Errorf("got %v", err)
			}
			if r.master.seen() != 0 {
				t.Error("something was carried out")
			}
			if _, _, err := r.Send(batch(call(t, "SET a 1")), 0).Wait(r.Conn); err != nil {
				t.Errorf("the connection is of no use any more: %v", err)
			}
		})
	}
}

// A reply that fits no frame is left out: a read is refused, anything else in doubt.
func TestRepliesThatDoNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // copying takes no time
		r := connect(t)
		huge := make([]byte, 70<<20)
		r.master.reply = func(*command.Request) resp.Value { return resp.Bulk(huge) }
		_, list, err := r.Send(batch(call(t, "SET a 1"), call(t, "GET a"), call(t, "SET b 1")), 0).Wait(r.Conn)
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []command.Outcome{command.Replied, command.Refused, command.InDoubt} {
			if list[i].Outcome != want {
				t.Errorf("request %d has outcome %d, want %d", i, list[i].Outcome, want)
			}
		}
		if string(list[1].Reply.Bytes()) != string(resp.ErrReplyTooBig) {
			t.Errorf("the read says %q", list[1].Reply.Bytes())
		}
	})
}

// served is the near end of a connection that a server answers for m; done is closed at its end.
func served(t *testing.T, m *fakeMaster) (near net.Conn, done <-chan struct{}) {
	t.Helper()
	server := forward.NewServer(forward.Config{
		Master: m, Table: table(t), Databases: func() int { return 16 },
		Answered: func() uint64 { return 0 }, Log: slog.New(slog.DiscardHandler),
	})
	near, far := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		server.Serve(far, "n2")
	}()
	return near, ended
}

// P7: large values that many clients read together, which the state has once, are copied
// one after the other while they are sent: a master has no memory for all the copies.
func TestLargeAnswersAreNotCopiedBeforeTheirTurn(t *testing.T) {
	const questions, units = 10, 6
	value := make([]byte, 8<<20)
	m := &fakeMaster{outcome: command.Replied, reply: func(*command.Request) resp.Value { return resp.Bulk(value) }}
	near, done := served(t, m)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	body := string(rune(units)) + strings.Repeat("\x00\x00\x02\x03get\x01k", units)
	question := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), 'U', 0, 0, 0, 0, 0, 0, 0, 1)
	for range questions {
		if _, err := near.Write(append(question, body...)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.CopyN(io.Discard, near, 2*units*int64(len(value))); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if most := uint64(questions * len(value)); after.TotalAlloc-before.TotalAlloc > most {
		t.Errorf("%d MiB for two answers on their way, want at most %d", (after.TotalAlloc-before.TotalAlloc)>>20, most>>20)
	}
	_ = near.Close()
	<-done
}

// P7: a command that fits no frame, which a read may be, is refused before it is sent:
// what others have under way on the connection goes on.
func TestCommandsThatDoNotFit(t *testing.T) {
	r := connect(t)
	r.master.hold = true
	first := r.Send(batch(call(t, "SET a 1")), 0)
	testkit.Eventually(t, 10*time.Second, "the batch arrives", func() error {
		return testkit.Check(r.master.seen() == 1, "%d batches", r.master.seen())
	})
	huge := call(t, "MGET a")
	key := make([]byte, 1<<20)
	for range 65 {
		huge.Args = append(huge.Args, key)
	}
	if _, _, err := r.Send(batch(huge), 0).Wait(r.Conn); !errors.Is(err, resp.ErrRequestTooBig) {
		t.Errorf("the large one: %v", err)
	}
	r.master.release()
	if _, list, err := first.Wait(r.Conn); err != nil || list[0].Outcome != command.Replied {
		t.Errorf("the one before it: %v, %v", list, err)
	}
	if r.Broken() {
		t.Error("the connection has ended")
	}
}

// P7: no bytes harm a server: it ends the connection, at once and without memory for
// what a header only announces.
func TestHostileFramesEndTheConnection(t *testing.T) {
	frame := func(kind byte, body string) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
		return append(binary.BigEndian.AppendUint64(append(b, kind), 1), body...)
	}
	for name, bytes := range map[string][]byte{
		"a huge frame":         append(binary.BigEndian.AppendUint32(nil, 1<<31), make([]byte, 9)...),
		"an unknown kind":      frame('?', ""),
		"no units":             frame('U', "\x00"),
		"too many units":       frame('U', "\xff\xff\xff\x7f"),
		"a unit of no kind":    frame('U', "\x01\x09"),
		"a call without words": frame('U', "\x01\x00\x00\x00"),
		"a local command":      frame('U', "\x01\x00\x00\x01\x04exec"),
		"more than was said":   frame('U', "\x01\x00\x00\x02\x03get\x01k!"),
		"endless watches":      frame('U', "\x01\x01\xff\xff\xff\xff\x0f"),
		"victims cut short":    frame('X', "\x05\x00\x01k\x02"),
		"an index cut short":   frame('A', "\x80"),
		"keys cut short":       frame('K', "\x00\x09"),
	} {
		t.Run(name, func(t *testing.T) {
			m := &fakeMaster{outcome: command.Replied}
			near, done := served(t, m)
			_, _ = near.Write(bytes)
			select {
			case <-done:
			case <-time.After(10 * time.Second):
				t.Error("the connection is still served")
			}
			if m.seen() != 0 {
				t.Error("something was carried out")
			}
			_ = near.Close()
			<-done
		})
	}
}

// An answer nobody has asked for, or that cannot be read, ends the connection; what
// waits is in doubt.
func TestHostileAnswersEndTheConnection(t *testing.T) {
	for name, answer := range map[string]string{
		"another number":   "\x00\x00\x00\x00u\x00\x00\x00\x00\x00\x00\x00\x09",
		"too few endings":  "\x00\x00\x00\x02u\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00",
		"a strange ending": "\x00\x00\x00\x04u\x00\x00\x00\x00\x00\x00\x00\x01\x00\x01\x09\x05",
		"a number":         "\x00\x00\x00\x01n\x00\x00\x00\x00\x00\x00\x00\x01\x05",
	} {
		t.Run(name, func(t *testing.T) {
			near, far := net.Pipe()
			c := forward.NewConn(near)
			p := c.Send(batch(call(t, "SET a 1")), 0)
			buf := make([]byte, 1024)
			if _, err := far.Read(buf); err != nil {
				t.Fatal(err)
			}
			_, _ = far.Write([]byte(answer))
			if _, _, err := p.Wait(c); !errors.Is(err, forward.ErrUnknown) {
				t.Errorf("got %v", err)
			}
			c.Close()
			_ = far.Close()
		})
	}
}
