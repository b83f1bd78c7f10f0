package respserver

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"github.com/holdfast/holdfast/resp"
)

// randomReply is a reply of any kind, nested at most depth levels.
func randomReply(rnd *rand.Rand, depth int) resp.Value {
	if depth > 0 && rnd.IntN(2) == 0 {
		list := make([]resp.Value, 2*rnd.IntN(4))
		for i := range list {
			list[i] = randomReply(rnd, depth-1)
		}
		build := []func(...resp.Value) resp.Value{resp.Array, resp.Map, resp.Set, resp.Push}
		return build[rnd.IntN(len(build))](list...)
	}
	scalars := []resp.Value{
		resp.OK, resp.Null, resp.NullArray, resp.Int(rnd.Int64()), resp.Double(rnd.Float64()), resp.Bool(true),
		resp.BulkString("text"), resp.Verbatim("text"), resp.Err(resp.ErrSyntax),
	}
	return scalars[rnd.IntN(len(scalars))]
}

// A reply sent in parts is, byte for byte, the reply sent whole.
func TestPartsMakeTheWhole(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 3))
	for range 500 {
		v := randomReply(rnd, 3)
		if v.Elems() == nil {
			continue
		}
		for _, proto := range []int{2, 3} {
			got := appendHead(nil, v, proto)
			for _, e := range v.Elems() {
				got = e.Append(got, proto)
			}
			if want := v.Append(nil, proto); !bytes.Equal(got, want) {
				t.Fatalf("seed %d: got %q want %q", seed, got, want)
			}
		}
	}
}

// Only what is more than a piece to send counts as large, however it is nested.
func TestLarge(t *testing.T) {
	big := resp.BulkString(string(make([]byte, flushAt)))
	for _, test := range []struct {
		v    resp.Value
		want bool
	}{
		{resp.OK, false},
		{big, false}, // nothing to cut it into
		{resp.Array(big), false},
		{resp.Array(big, resp.BulkString("x")), true},
		{resp.Array(resp.Array(big, big)), true},
		{resp.Array(make([]resp.Value, 100)...), false},
	} {
		if got := large(test.v); got != test.want {
			t.Errorf("%d elements: %v", len(test.v.Elems()), got)
		}
	}
}

// Sizes are shown as Redis shows them.
func TestHuman(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0B", 1023: "1023B", 1024: "1.00K", 1536: "1.50K", 1 << 20: "1.00M", 5 << 30: "5.00G", 3 << 40: "3.00T", 1 << 52: "4096.00T",
	} {
		if got := human(n); got != want {
			t.Errorf("human(%d) = %s, want %s", n, got, want)
		}
	}
}

// Rates are means over the last rounds, and survive a reset of the counters.
func TestRates(t *testing.T) {
	var n counters
	if c, _, _ := n.rate.perSecond(); c != 0 {
		t.Errorf("%v before the first round", c)
	}
	for tick := range int64(100) {
		n.commands.Add(7)
		n.netIn.Add(100)
		n.sample(tick, 200*tick)
	}
	perSecond := func(perTick float64) float64 { return perTick * float64(time.Second/tickPeriod) }
	c, in, out := n.rate.perSecond()
	for _, pair := range [][2]float64{{c, perSecond(7)}, {in, perSecond(100)}, {out, perSecond(200)}} {
		if math.Abs(pair[0]-pair[1]) > 1e-6 {
			t.Errorf("rate %v, want %v", pair[0], pair[1])
		}
	}
	n.reset()
	n.sample(100, 0)
	if c, in, out := n.rate.perSecond(); c < 0 || in < 0 || out < 0 {
		t.Errorf("negative rates %v %v %v", c, in, out)
	}
}

// Error codes are counted apart, but no client can make up any number of them.
func TestErrorCodesAreBounded(t *testing.T) {
	var n errorCounts
	n.count("ERR a")
	n.count("ERR b")
	n.count("WRONGTYPE c")
	for i := range 10 * errorCodes {
		n.count(resp.Error("CODE" + strconv.Itoa(i) + " x"))
	}
	list := n.list()
	if len(list) != errorCodes || n.sum.Load() != 3+10*errorCodes {
		t.Errorf("%d codes, %d errors", len(list), n.sum.Load())
	}
	for _, e := range list {
		if (e.code == "ERR" && e.n != 2) || (e.code == "WRONGTYPE" && e.n != 1) {
			t.Errorf("%+v", e)
		}
	}
}

// Numbers are accepted in their one shortest form.
func TestParseInt(t *testing.T) {
	for text, ok := range map[string]bool{
		"0": true, "-1": true, "9223372036854775807": true, "-9223372036854775808": true,
		"": false, "01": false, "+1": false, "-0": false, " 1": false, "1 ": false, "9223372036854775808": false, "1e3": false, "0x1": false,
	} {
		if _, err := parseInt([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// newLife is the life of a connection in memory, and the other end.
func newLife(t *testing.T) (*life, net.Conn) {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = theirs.Close() })
	l := new(life)
	l.init(context.Background(), ours)
	t.Cleanup(l.close)
	return l, theirs
}

func closed(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := conn.Read(make([]byte, 1))
	late, ok := errors.AsType[net.Error](err)
	return err != nil && (!ok || !late.Timeout())
}

// An idle connection that is doomed closes at once; a busy one when it has done,
// and it begins nothing new.
func TestDoom(t *testing.T) {
	l, peer := newLife(t)
	l.doom()
	if !closed(peer) || l.begin(1) || l.ctx.Err() == nil {
		t.Error("an idle connection goes on")
	}

	l, peer = newLife(t)
	if !l.begin(1) {
		t.Fatal("a new connection may not begin")
	}
	l.doom()
	if closed(peer) || l.ctx.Err() != nil {
		t.Error("a busy connection was closed")
	}
	if l.end(2) {
		t.Error("a doomed connection goes on")
	}
}

// Whoever wakes a blocked connection is heard, before and after it blocks.
func TestUnblock(t *testing.T) {
	l, _ := newLife(t)
	l.begin(1)
	if l.unblock(wakeTimeout) {
		t.Error("woken while not blocked")
	}
	woken := l.block()
	if !l.unblock(wakeError) {
		t.Error("not blocked")
	}
	if why := <-woken; why != wakeError {
		t.Errorf("woken by %v", why)
	}
	l.unblock(wakeTimeout) // nobody takes this one
	l.unblocked()
	woken = l.block()
	select {
	case why := <-woken:
		t.Errorf("woken by %v of an earlier wait", why)
	default:
	}
	l.doom()
	if why := <-woken; why != wakeDoomed {
		t.Errorf("woken by %v", why)
	}
	l.unblocked()
	if why := <-l.block(); why != wakeDoomed {
		t.Errorf("a doomed connection blocked, woken by %v", why)
	}
}

// Time limits count from the last change.
func TestLifeTimes(t *testing.T) {
	l, _ := newLife(t)
	l.begin(10)
	if l.idleFor(100) != -1 {
		t.Error("idle while busy")
	}
	l.end(20)
	if got := l.idleFor(25); got != 5 {
		t.Errorf("idle for %d", got)
	}
	if got := l.waitsFor(25); got != 0 {
		t.Errorf("waits for %d", got)
	}
	l.waits.Store(21)
	if got := l.waitsFor(25); got != 4 {
		t.Errorf("waits for %d", got)
	}
}

// Options of SHUTDOWN exclude each other as in Redis.
func TestParseShutdown(t *testing.T) {
	for _, test := range []struct {
		args []string
		want ShutdownMode
		ok   bool
	}{
		{nil, ShutdownMode{}, true},
		{[]string{"save"}, ShutdownMode{Save: true}, true},
		{[]string{"NOSAVE", "NOW", "FORCE"}, ShutdownMode{NoSave: true, Now: true, Force: true}, true},
		{[]string{"ABORT"}, ShutdownMode{Abort: true}, true},
		{[]string{"ABORT", "FORCE"}, ShutdownMode{}, false},
		{[]string{"SAVE", "NOSAVE"}, ShutdownMode{}, false},
		{[]string{"WHAT"}, ShutdownMode{}, false},
	} {
		var args [][]byte
		for _, a := range test.args {
			args = append(args, []byte(a))
		}
		got, err := parseShutdown(args)
		if (err == nil) != test.ok || (test.ok && got != test.want) {
			t.Errorf("%q: %+v, %v", test.args, got, err)
		}
	}
}
