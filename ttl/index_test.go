package ttl_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/holdfast/holdfast/ttl"
)

const plenty = math.MaxInt // of limit and budget

// wheel is an Index beside the plain map it must agree with.
type wheel struct {
	t      *testing.T
	index  *ttl.Index[int]
	timers []*ttl.Timer[int]
	model  map[int]int64 // deadline by number, armed ones only
	now    int64         // the latest instant handed in
}

func newWheel(t *testing.T, timers int) *wheel {
	t.Helper()
	w := &wheel{t: t, index: ttl.New[int](), model: map[int]int64{}}
	for i := range timers {
		w.timers = append(w.timers, &ttl.Timer[int]{Item: i})
	}
	return w
}

func (w *wheel) arm(i int, deadline int64) {
	w.index.Arm(w.timers[i], deadline)
	w.model[i] = deadline
}

func (w *wheel) disarm(i int) {
	w.index.Disarm(w.timers[i])
	delete(w.model, i)
}

// due asks with bounds and checks what must hold of every answer.
func (w *wheel) due(now int64, limit, budget int) ([]*ttl.Timer[int], bool) {
	w.t.Helper()
	w.now = max(w.now, now)
	told, done := w.index.Due(nil, now, limit, budget)
	if len(told) > limit {
		w.t.Fatalf("told %d timers, limit %d", len(told), limit)
	}
	seen := map[int]bool{}
	for _, timer := range told {
		deadline, armed := w.model[timer.Item]
		if !armed || deadline > w.now || seen[timer.Item] || timer.Deadline() != deadline {
			w.t.Fatalf("told timer %d for %d at %d; model: %d armed %v, told before %v",
				timer.Item, timer.Deadline(), w.now, deadline, armed, seen[timer.Item])
		}
		seen[timer.Item] = true
	}
	if want := w.dueInModel(); done && len(told) != len(want) {
		w.t.Fatalf("done at %d with %d of %d due timers told", w.now, len(told), len(want))
	}
	return told, done
}

func (w *wheel) dueInModel() []int {
	var due []int
	for i, deadline := range w.model {
		if deadline <= w.now {
			due = append(due, i)
		}
	}
	return due
}

// deadlineNear draws a deadline at one of the distances that matter to a wheel:
// within a slot, within a level, far above, in the past, at the edges of bytes.
func deadlineNear(rnd *rand.Rand, now int64) int64 {
	spread := int64(1) << rnd.IntN(44)
	switch rnd.IntN(8) {
	case 0:
		return max(1, now-rnd.Int64N(300))
	case 1:
		return 1<<62 - rnd.Int64N(3)
	case 2:
		return now | (1<<(8*rnd.IntN(5)) - 1) + rnd.Int64N(3)
	case 3:
		return math.MaxInt64
	default:
		return now + 1 + rnd.Int64N(spread)
	}
}

// An index agrees with a plain map of deadlines under any mixture of arming,
// re-arming either way, disarming and asking with any bounds.
func TestIndexAgreesWithPlainMap(t *testing.T) {
	for _, timers := range []int{1, 2, 30, 1000} {
		for seed := range uint64(12) {
			w := newWheel(t, timers)
			rnd := rand.New(rand.NewPCG(seed, uint64(timers)))
			now := int64(1)
			if seed%2 == 0 {
				now = 1_700_000_000_000
			}
			for range 3000 {
				switch i := rnd.IntN(timers); rnd.IntN(10) {
				case 0, 1, 2, 3:
					w.arm(i, deadlineNear(rnd, now))
				case 4:
					w.arm(i, w.timers[i].Deadline()/2+now/2+1)
				case 5:
					w.disarm(i)
				case 6:
					w.index.Advance(now, rnd.IntN(20))
					w.now = max(w.now, now)
				case 7:
					told, _ := w.due(now, rnd.IntN(10), rnd.IntN(100))
					for _, timer := range told {
						if rnd.IntN(4) > 0 {
							w.disarm(timer.Item)
						}
					}
				case 8:
					now += rnd.Int64N(1 << rnd.IntN(30))
				default:
					if told, done := w.due(now-rnd.Int64N(5), plenty, plenty); !done {
						t.Fatalf("seed %d: not done without bounds, told %d", seed, len(told))
					}
				}
				if w.index.Len() != len(w.model) {
					t.Fatalf("seed %d: Len() = %d, want %d", seed, w.index.Len(), len(w.model))
				}
			}
		}
	}
}

// However small the budget, repeated calls reach every due timer.
func TestSmallBudgetsReachEverything(t *testing.T) {
	for _, budget := range []int{2, 3, 7, 64} {
		w := newWheel(t, 500)
		rnd := rand.New(rand.NewPCG(1, uint64(budget)))
		for i := range w.timers {
			w.arm(i, 1+rnd.Int64N(1<<30))
		}
		calls := 0
		for done := false; !done; calls++ {
			var told []*ttl.Timer[int]
			told, done = w.due(1<<30, 5, budget)
			for _, timer := range told {
				w.disarm(timer.Item)
			}
			if calls > 500*16 {
				t.Fatalf("budget %d: not done after %d calls, %d timers left", budget, calls, w.index.Len())
			}
		}
		if w.index.Len() != 0 {
			t.Fatalf("budget %d: %d timers left when done", budget, w.index.Len())
		}
	}
}

// A timer is told at its millisecond: not one before, and at the instant itself.
func TestDueIsExactToTheMillisecond(t *testing.T) {
	for _, distance := range []int64{1, 2, 255, 256, 257, 65_535, 65_536, 1 << 24, 30 * 60_000, 1 << 32, 400 * 24 * 3_600_000, 1 << 61} {
		w := newWheel(t, 1)
		const start = 1_700_000_000_123
		w.due(start, plenty, plenty)
		w.arm(0, start+distance)
		if told, done := w.due(start+distance-1, plenty, plenty); len(told) != 0 || !done {
			t.Errorf("distance %d: told %d one ms early, done %v", distance, len(told), done)
		}
		if told, done := w.due(start+distance, plenty, plenty); len(told) != 1 || !done {
			t.Errorf("distance %d: told %d at the deadline, done %v", distance, len(told), done)
		}
	}
}

// Instants as far as an int64 reaches do not overflow.
func TestFarDeadlinesDoNotOverflow(t *testing.T) {
	w := newWheel(t, 4)
	for i, deadline := range []int64{1 << 62, 1<<62 - 1, math.MaxInt64, 1} {
		w.arm(i, deadline)
	}
	if told, done := w.due(1<<62-1, plenty, plenty); len(told) != 2 || !done {
		t.Errorf("at 1<<62-1: told %d, done %v; want 2, true", len(told), done)
	}
	if told, done := w.due(math.MaxInt64, plenty, plenty); len(told) != 4 || !done {
		t.Errorf("at the end: told %d, done %v; want 4, true", len(told), done)
	}
}

// Empty time costs nothing: a year passes within a handful of steps.
func TestEmptyTimeIsSkipped(t *testing.T) {
	w := newWheel(t, 1)
	const start, year = 1_700_000_000_000, 365 * 24 * 3_600_000
	w.due(start, 0, 1)
	w.arm(0, start+year)
	if left := w.index.Advance(start+year, 64); left < 64-16 {
		t.Errorf("a year with one timer took %d steps", 64-left)
	}
	w.arm(0, start+2*year)
	w.disarm(0) // its slot is still marked
	if left := w.index.Advance(start+3*year, 1); left != 1 {
		t.Errorf("an empty index needed steps")
	}
}

// A timer that is re-armed over and over, as a sliding session is, costs a step
// only when its slot comes up.
func TestSlidingDeadlineCostsFewSteps(t *testing.T) {
	w := newWheel(t, 1)
	const life = 30 * 60_000
	now, steps := int64(1_700_000_000_000), 0
	w.due(now, 0, 1)
	for range 1_000_000 { // one request a second for eleven days
		w.arm(0, now+life)
		steps += 100 - w.index.Advance(now, 100)
		now += 1000
	}
	if slots := 1_000_000_000 / life; steps > 6*slots {
		t.Errorf("%d steps for %d lives", steps, slots)
	}
}

// Those not removed are told again, the oldest first, and without any cost to
// the rest: with a limit below the backlog the wheel goes on.
func TestUntakenTimersAreToldAgainInOrder(t *testing.T) {
	w := newWheel(t, 100)
	for i := range w.timers {
		w.arm(i, int64(1000+10*i))
	}
	for range 2 {
		told, done := w.due(5000, 10, plenty)
		if done {
			t.Fatal("done with 90 timers left out")
		}
		items := make([]int, 0, len(told))
		for _, timer := range told {
			items = append(items, timer.Item)
		}
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(items, want) {
			t.Fatalf("told %v, want %v", items, want)
		}
	}
}

// A due timer that gets a later deadline instead of being disarmed is not told
// until then.
func TestDueTimerMayBeRearmed(t *testing.T) {
	w := newWheel(t, 2)
	w.arm(0, 100)
	w.arm(1, 100)
	w.due(200, plenty, plenty)
	w.arm(0, 300)
	if told, _ := w.due(200, plenty, plenty); len(told) != 1 || told[0].Item != 1 {
		t.Errorf("after re-arming one of two: told %d", len(told))
	}
	if told, _ := w.due(300, plenty, plenty); len(told) != 2 {
		t.Errorf("at the later deadline: told %d, want 2", len(told))
	}
}

// An instant before an earlier one counts as that one.
func TestTimeDoesNotGoBack(t *testing.T) {
	w := newWheel(t, 1)
	w.due(1000, plenty, plenty)
	w.arm(0, 900)
	if told, done := w.due(500, plenty, plenty); len(told) != 1 || !done {
		t.Errorf("told %d, done %v; want 1, true", len(told), done)
	}
}

// Disarming twice, or what never was armed, does nothing.
func TestDisarmIsIdempotent(t *testing.T) {
	w := newWheel(t, 1)
	w.index.Disarm(w.timers[0])
	w.arm(0, 5)
	w.disarm(0)
	w.index.Disarm(w.timers[0])
	if got := w.timers[0].Deadline(); got != 0 || w.index.Len() != 0 {
		t.Errorf("Deadline() = %d, Len() = %d; want 0, 0", got, w.index.Len())
	}
}

// Arming, moving either way and disarming allocate nothing.
func TestRearmingAllocatesNothing(t *testing.T) {
	index := ttl.New[int]()
	var timer ttl.Timer[int]
	now := int64(1_700_000_000_000)
	index.Arm(&timer, now+1) // the levels are there
	index.Arm(&timer, now+2)
	dst := make([]*ttl.Timer[int], 0, 8)
	step := func() {
		index.Arm(&timer, now+30*60_000)
		index.Arm(&timer, now+40*60_000)
		index.Arm(&timer, now+5)
		dst, _ = index.Due(dst[:0], now, 8, 100)
		index.Disarm(&timer)
		index.Arm(&timer, now+1000)
		now += 500
	}
	for range 10_000 {
		step()
	}
	if n := testing.AllocsPerRun(1000, step); n != 0 {
		t.Errorf("%v allocations per round, want 0", n)
	}
}

// BenchmarkSlide is what each request of a sliding session costs.
func BenchmarkSlide(b *testing.B) {
	const sessions, life = 100_000, 30 * 60_000
	index := ttl.New[int]()
	timers := make([]ttl.Timer[int], sessions)
	now := int64(1_700_000_000_000)
	index.Advance(now, 1)
	for i := range timers {
		index.Arm(&timers[i], now+life+int64(i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		index.Arm(&timers[i%sessions], now+life)
		if i%100 == 0 { // 100,000 requests a second
			now++
			index.Advance(now, 4096)
		}
	}
}

// BenchmarkExpire is arming, firing and disarming of a timer, sorting included.
func BenchmarkExpire(b *testing.B) {
	const timers = 100_000
	index := ttl.New[int]()
	pool := make([]ttl.Timer[int], timers)
	rnd := rand.New(rand.NewPCG(1, 2))
	now := int64(1_700_000_000_000)
	index.Advance(now, 1)
	for i := range pool {
		index.Arm(&pool[i], now+1+rnd.Int64N(30*60_000))
	}
	var dst []*ttl.Timer[int]
	b.ReportAllocs()
	for i := 0; i < b.N; now += 100 {
		dst, _ = index.Due(dst[:0], now, 512, 4096)
		for _, timer := range dst {
			index.Arm(timer, now+1+rnd.Int64N(30*60_000))
			i++
		}
	}
}
