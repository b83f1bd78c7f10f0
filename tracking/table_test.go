package tracking_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/tracking"
)

// bench is a table with connections whose inboxes the test reads.
type bench struct {
	*tracking.Table
	t      *testing.T
	boxes  map[int64]*tracking.Inbox
	closed map[int64]int // how often overflow was called
}

func newBench(t *testing.T, limits tracking.Limits) *bench {
	t.Helper()
	return &bench{Table: tracking.New(limits), t: t, boxes: map[int64]*tracking.Inbox{}, closed: map[int64]int{}}
}

// open gives connections inboxes.
func (b *bench) open(ids ...int64) {
	b.t.Helper()
	for _, id := range ids {
		in, opened := b.Open(id, func() { b.closed[id]++ })
		if !opened {
			b.t.Fatalf("connection %d has an inbox already", id)
		}
		b.boxes[id] = in
	}
}

func (b *bench) track(id int64, o tracking.Options) {
	b.t.Helper()
	if b.boxes[id] == nil {
		b.open(id)
	}
	b.Track(id, o)
}

func (b *bench) read(id int64, keys ...string) { b.Read(id, byteKeys(keys)) }

func byteKeys(keys []string) [][]byte {
	out := make([][]byte, len(keys))
	for i, k := range keys {
		out[i] = []byte(k)
	}
	return out
}

func (b *bench) change(origin int64, keys ...string) {
	changes := make([]tracking.Change, len(keys))
	for i, k := range keys {
		changes[i] = tracking.Change{Key: k, Origin: origin}
	}
	b.Changed(changes)
}

// told is what connection id was told since the last call: keys joined by +, * for
// everything, !id for a lost redirection, and > in front of what was redirected.
func (b *bench) told(id int64) string {
	var words []string
	for _, m := range b.boxes[id].Take(nil) {
		word := strings.Join(m.Keys, "+")
		switch {
		case m.All:
			word = "*"
		case m.Lost != 0:
			word = fmt.Sprintf("!%d", m.Lost)
		}
		if m.Redirected {
			word = ">" + word
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func (b *bench) want(id int64, want string) {
	b.t.Helper()
	if got := b.told(id); got != want {
		b.t.Errorf("connection %d was told %q, want %q", id, got, want)
	}
}

func (b *bench) wantStats(want tracking.Stats) {
	b.t.Helper()
	if got := b.Stats(); got != want {
		b.t.Errorf("stats %+v, want %+v", got, want)
	}
}

// Each reader of a key is told of its next change, once, and nobody else.
func TestReadersAreToldOnce(t *testing.T) {
	b := newBench(t, tracking.Limits{})
	b.track(1, tracking.Options{})
	b.track(2, tracking.Options{})
	b.track(3, tracking.Options{})
	b.read(1, "a", "b", "a")
	b.read(2, "a")
	b.read(9, "a") // tracks nothing
	b.wantStats(tracking.Stats{Clients: 3, Keys: 2, Items: 3})
	b.change(0, "a", "c", "a")
	b.want(1, "a")
	b.want(2, "a")
	b.want(3, "")
	b.change(1, "a", "b")
	b.want(1, "b")
	b.wantStats(tracking.Stats{Clients: 3})
}

// Many readers of one key are as good as few.
func TestManyReadersOfAKey(t *testing.T) {
	const many = 100
	b := newBench(t, tracking.Limits{})
	for id := int64(1); id <= many; id++ {
		b.track(id, tracking.Options{})
		b.read(id, "k")
		b.read(id, "k")
	}
	b.wantStats(tracking.Stats{Clients: many, Keys: 1, Items: many})
	b.change(0, "k")
	for id := int64(1); id <= many; id++ {
		b.want(id, "k")
	}
	b.wantStats(tracking.Stats{Clients: many})
}

// Who does not want to be told of its own changes is told of the others', also of one
// that follows an own one: what it has written is in its cache.
func TestNoLoopLeavesOutOwnChangesOnly(t *testing.T) {
	b := newBench(t, tracking.Limits{})
	b.track(1, tracking.Options{NoLoop: true})
	b.track(2, tracking.Options{NoLoop: true})
	b.read(1, "k")
	b.read(2, "k")
	b.change(1, "k")
	b.want(1, "")
	b.want(2, "k")
	b.change(2, "k")
	b.want(1, "k")
	b.want(2, "")
	b.wantStats(tracking.Stats{Clients: 2})
}

// Prefixes are told of every change below them, one message each, whether the key was
// read or not; own changes are left out one by one.
func TestPrefixesAreBroadcast(t *testing.T) {
	b := newBench(t, tracking.Limits{})
	b.track(1, tracking.Options{Broadcast: true, Prefixes: []string{"a:", "b:"}})
	b.track(2, tracking.Options{Broadcast: true, NoLoop: true})
	b.wantStats(tracking.Stats{Clients: 2, Prefixes: 3})
	b.change(7, "a:2", "c", "b:1", "a:1", "a:2")
	b.want(1, "a:1+a:2 b:1")
	b.want(2, "a:1+a:2+b:1+c")
	b.Changed([]tracking.Change{{Key: "a:1", Origin: 2}, {Key: "a:2", Origin: 2}, {Key: "a:2"}})
	b.want(2, "a:2")
	b.want(1, "a:1+a:2")
	b.track(1, tracking.Options{Broadcast: true, Prefixes: []string{"c"}})
	o, _, _ := b.Tracking(1)
	if !slices.Equal(o.Prefixes, []string{"a:", "b:", "c"}) {
		t.Errorf("prefixes %q", o.Prefixes)
	}
	b.change(2, "", "c")
	b.want(1, "c")
	b.Untrack(1)
	b.Untrack(2)
	b.wantStats(tracking.Stats{})
	b.change(0, "a:1")
	b.want(1, "")
}

// Whatever keys and prefixes there are, a key is told to those whose prefix it has.
func TestPrefixesAgreeWithComparingAll(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		w := make([]byte, rnd.IntN(5))
		for i := range w {
			w[i] = "ab"[rnd.IntN(2)]
		}
		return string(w)
	}
	b := newBench(t, tracking.Limits{})
	model := map[int64]map[string]bool{}
	for range 2000 {
		id := int64(1 + rnd.IntN(6))
		if rnd.IntN(6) == 0 {
			b.Untrack(id)
			delete(model, id)
		} else if rnd.IntN(3) == 0 {
			p := word()
			b.track(id, tracking.Options{Broadcast: true, Prefixes: []string{p}})
			if model[id] == nil {
				model[id] = map[string]bool{}
			}
			model[id][p] = true
		}
		key := word()
		b.change(0, key)
		for id := range b.boxes {
			n := 0
			for p := range model[id] {
				if strings.HasPrefix(key, p) {
					n++
				}
			}
			if want := strings.TrimSuffix(strings.Repeat(key+" ", n), " "); b.told(id) != want {
				t.Fatalf("connection %d with %v, key %q: not told %d times", id, slices.Collect(maps.Keys(model[id])), key, n)
			}
		}
	}
}

// Messages go to the connection they are redirected to; when that is gone, who
// redirects is told so, and again after it tracks anew.
func TestRedirection(t *testing.T) {
	b := newBench(t, tracking.Limits{})
	b.open(2)
	b.track(1, tracking.Options{Redirect: 2})
	b.read(1, "a", "b")
	b.change(0, "a")
	b.want(1, "")
	b.want(2, ">a")
	b.Forget(2)
	if _, broken, _ := b.Tracking(1); broken {
		t.Error("broken before a message was lost")
	}
	b.change(0, "b")
	b.want(1, "!2")
	if _, broken, ok := b.Tracking(1); !broken || !ok {
		t.Error("not broken")
	}
	if _, open := <-b.boxes[2].Ready(); open {
		if _, open = <-b.boxes[2].Ready(); open {
			t.Error("a forgotten inbox is open")
		}
	}
	b.track(1, tracking.Options{})
	if o, broken, _ := b.Tracking(1); broken || o.Redirect != 0 {
		t.Error("still redirected")
	}
}

// A flush tells everybody once and empties the table; a second one that nobody has
// seen the first of adds nothing.
func TestFlushTellsEverybody(t *testing.T) {
	b := newBench(t, tracking.Limits{})
	b.open(4)
	b.track(1, tracking.Options{})
	b.track(2, tracking.Options{Broadcast: true})
	b.track(3, tracking.Options{Redirect: 4})
	b.read(1, "k")
	b.Flushed()
	b.Flushed()
	b.want(1, "*")
	b.want(2, "*")
	b.want(4, ">*")
	b.wantStats(tracking.Stats{Clients: 3, Prefixes: 1})
	b.Flushed()
	b.want(1, "*")
}

// The number of keys never stays above the limit. Dropped keys are told: a reader of a
// key has it in the table or was told.
func TestTooManyKeysAreToldAway(t *testing.T) {
	const most = 50
	b := newBench(t, tracking.Limits{Keys: most})
	b.track(1, tracking.Options{})
	valid := map[string]bool{}
	settle := func() {
		for k := range strings.FieldsSeq(b.told(1)) {
			delete(valid, k)
		}
	}
	for i := range 500 {
		k := fmt.Sprintf("k%d", i)
		b.read(1, k)
		valid[k] = true
		settle()
		if n := b.Stats().Keys; n > most || n != len(valid) {
			t.Fatalf("%d keys in the table, %d valid", n, len(valid))
		}
	}
	b.SetLimits(tracking.Limits{Keys: 10})
	settle()
	if n := b.Stats().Keys; n != 10 || len(valid) != 10 {
		t.Fatalf("%d keys in the table, %d valid, want 10", n, len(valid))
	}
	b.change(0, slices.Collect(maps.Keys(valid))...)
	settle()
	if len(valid) != 0 {
		t.Errorf("%d keys were neither in the table nor told", len(valid))
	}
}

// Long names and many readers count too: what the table takes is bounded without any
// limit on keys.
func TestTheTableIsBoundedInBytes(t *testing.T) {
	b := newBench(t, tracking.Limits{})
	b.track(1, tracking.Options{})
	long := strings.Repeat("x", 16<<20)
	for i := range 2 * tracking.TableBytes / len(long) {
		b.read(1, fmt.Sprint(i, long))
	}
	if n := b.Stats().Keys; n >= tracking.TableBytes/len(long) || n < tracking.TableBytes/len(long)/2 {
		t.Errorf("%d names of 16 MiB in the table", n)
	}
}

// A connection that does not take its messages is cut off once, and hears no more.
func TestSlowConnectionsAreCutOff(t *testing.T) {
	b := newBench(t, tracking.Limits{QueueBytes: 1000})
	b.track(1, tracking.Options{Broadcast: true})
	b.track(2, tracking.Options{Broadcast: true})
	for i := range 100 {
		b.change(0, fmt.Sprint(i))
		b.told(2)
	}
	if b.closed[1] != 1 || b.closed[2] != 0 {
		t.Errorf("cut off %v", b.closed)
	}
	b.want(1, "")
	b.Forget(1)
	b.Forget(1)
	b.wantStats(tracking.Stats{Clients: 1, Prefixes: 1})
}

// P7: what waits for all connections together is bounded, and so are their prefixes: who
// has much is cut off then, who has little is not.
func TestAllQueuesTogetherAreBounded(t *testing.T) {
	const many, total = 50, 200 << 10
	b := newBench(t, tracking.Limits{QueueBytes: 64 << 10, TotalBytes: total})
	for id := int64(1); id <= many; id++ {
		b.track(id, tracking.Options{Broadcast: true})
	}
	b.track(many+1, tracking.Options{})
	for i := range 300 {
		b.change(0, fmt.Sprint(i, strings.Repeat("k", 100)))
	}
	b.read(many+1, "k")
	b.change(0, "k")
	kept := 0
	for id := int64(1); id <= many; id++ {
		for _, m := range b.boxes[id].Take(nil) {
			kept += 64 + 16 + len(m.Keys[0])
		}
	}
	if most := total + many*tracking.Share; kept > most {
		t.Errorf("%d bytes wait, want at most %d", kept, most)
	}
	b.want(many+1, "k")
	if b.closed[many+1] != 0 || len(b.closed) == 0 {
		t.Errorf("cut off %v", b.closed)
	}
	for id := int64(1); id <= many; id++ {
		b.Forget(id)
	}
	var prefixes []string
	for i := range 100 {
		prefixes = append(prefixes, fmt.Sprintf("%03d%s", i, strings.Repeat("p", 500)))
	}
	clear(b.closed)
	for id := int64(100); id < 105; id++ {
		b.track(id, tracking.Options{Broadcast: true, Prefixes: prefixes})
	}
	if b.closed[100] != 0 || b.closed[104] != 1 {
		t.Errorf("cut off because of prefixes: %v", b.closed)
	}
	for id := int64(100); id < 105; id++ {
		b.Forget(id)
	}
	b.track(200, tracking.Options{Broadcast: true, Prefixes: prefixes})
	if b.closed[200] != 0 {
		t.Error("what was let go of is still counted")
	}
}

// With the last connection that tracks nothing is kept, and nobody watches.
func TestTheLastOneLeavesNothingBehind(t *testing.T) {
	b := newBench(t, tracking.Limits{})
	if b.Watching() {
		t.Error("somebody watches an empty table")
	}
	b.track(1, tracking.Options{})
	b.track(1, tracking.Options{NoLoop: true})
	b.track(2, tracking.Options{})
	b.read(1, "k")
	b.Untrack(1)
	if !b.Watching() {
		t.Error("nobody watches though one tracks")
	}
	b.Forget(2)
	if b.Watching() {
		t.Error("somebody watches")
	}
	b.wantStats(tracking.Stats{})
	if _, _, ok := b.Tracking(1); ok {
		t.Error("connection 1 tracks")
	}
}

// What is taken back is told to that connection only, without being in the table.
func TestStaleTellsOne(t *testing.T) {
	b := newBench(t, tracking.Limits{})
	b.track(1, tracking.Options{})
	b.track(2, tracking.Options{})
	b.Stale(1, []string{"a", "b"})
	b.Stale(3, []string{"a"})
	b.want(1, "a b")
	b.want(2, "")
}

// Under any mixture of reads and changes, a connection that forgets what it is told
// never keeps a value that is not the present one.
func TestCachesAgreeWithTheTruth(t *testing.T) {
	for seed := range uint64(20) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		b := newBench(t, tracking.Limits{Keys: 6})
		truth := map[string]int{}
		caches := map[int64]map[string]int{}
		for id := int64(1); id <= 4; id++ {
			b.track(id, tracking.Options{NoLoop: id == 4, Broadcast: id == 3})
			caches[id] = map[string]int{}
		}
		for step := range 3000 {
			id, key := int64(1+rnd.IntN(4)), fmt.Sprint("k", rnd.IntN(10))
			switch rnd.IntN(20) {
			case 0:
				b.Flushed()
				for k := range truth {
					truth[k] = -step
				}
			case 1, 2, 3, 4, 5, 6, 7:
				truth[key] = step
				b.change(id, key)
				if id == 4 {
					if _, cached := caches[4][key]; cached {
						caches[4][key] = step
					}
				}
			default:
				b.read(id, key)
				caches[id][key] = truth[key]
			}
			for id, cache := range caches {
				forget(b, id, cache)
				for k, v := range cache {
					if v != truth[k] {
						t.Fatalf("seed %d, step %d: connection %d keeps an old %s", seed, step, id, k)
					}
				}
			}
		}
	}
}

func forget(b *bench, id int64, cache map[string]int) {
	for _, m := range b.boxes[id].Take(nil) {
		if m.All {
			clear(cache)
		}
		for _, k := range m.Keys {
			delete(cache, k)
		}
	}
}
