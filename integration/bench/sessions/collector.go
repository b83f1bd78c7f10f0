package sessions

import (
	"fmt"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

const (
	// longest is the longest latency that is told apart from longer ones.
	longest = 2 * time.Minute
	// digits is how exact the histograms are: one in a thousand.
	digits = 3
	// killSecond is how long after a kill latencies are kept apart.
	killSecond = time.Second
)

// sort says what an event means for the measurements.
type sort int

const (
	started  sort = iota // a node is back: nothing
	handover             // the longest time without an answer is measured from it on
	killed               // and what was due or under way in the second after it is kept apart
)

// event is something that was done to the cluster.
type event struct {
	name string
	sort sort
	at   time.Duration        // of testkit.Now
	gap  [kinds]time.Duration // the longest time without an answer until the next handover or kill
}

// second is what happened to the commands that were due in one second of the load.
type second struct {
	answered [kinds]int
	worst    [kinds]time.Duration
	repeated int // attempts that were refused, or reads without an answer
	unknown  int // writes
	failed   int
}

// collector gathers what the workers measure. Every latency is from the instant
// at which the command was due. Its methods may be called from any goroutine.
type collector struct {
	begun time.Duration // of testkit.Now; not changed
	rate  int
	total int // commands in the load

	mu struct {
		sync.Mutex

		outside  [kinds]*hdrhistogram.Histogram // µs; outside the seconds of kills
		within   [kinds]*hdrhistogram.Histogram // the others
		recent   [kinds]*hdrhistogram.Histogram // since the last progress line, by completion
		lateness *hdrhistogram.Histogram        // of this program: from due to sent, where nothing else was under way
		last     [kinds]time.Duration           // when the last answer came
		seconds  []second
		events   []event
		excused  int            // writes in doubt that were under way at a kill or due in the second after
		errors   map[string]int // error replies that no fault explains
	}
}

func newCollector(begun time.Duration, o Options) *collector {
	c := &collector{begun: begun, rate: o.Rate, total: totalCommands(o)}
	histogram := func() *hdrhistogram.Histogram { return hdrhistogram.New(1, longest.Microseconds(), digits) }
	for k := range kinds {
		c.mu.outside[k], c.mu.within[k], c.mu.recent[k] = histogram(), histogram(), histogram()
		c.mu.last[k] = begun
	}
	c.mu.lateness = histogram()
	c.mu.seconds = make([]second, int(o.Duration.Seconds())+1)
	c.mu.errors = map[string]int{}
	return c
}

// record puts a latency into a histogram; one that is too long counts as the longest.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	// It fails for values outside its range only.
	_ = h.RecordValue(min(max(d, 0), longest).Microseconds())
}

// begin notes an event before it happens.
func (c *collector) begin(name string, what sort, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if what != started {
		c.closeGapLocked(now)
	}
	c.mu.events = append(c.mu.events, event{name: name, sort: what, at: now})
}

// closeGapLocked counts the time since the last answers.
func (c *collector) closeGapLocked(now time.Duration) {
	for k := range kinds {
		c.gapLocked(k, now)
	}
}

// gapLocked counts the time since the last answer to the last handover or kill.
func (c *collector) gapLocked(k kind, now time.Duration) {
	for i := len(c.mu.events) - 1; i >= 0; i-- {
		if e := &c.mu.events[i]; e.sort != started {
			e.gap[k] = max(e.gap[k], now-max(c.mu.last[k], e.at))
			return
		}
	}
}

// end notes that the load is over.
func (c *collector) end(now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	// Nothing is due any more: only what is missing makes a gap.
	if c.countLocked().finished() < c.total {
		c.closeGapLocked(now)
	}
}

// secondLocked is the second in which a command was due.
func (c *collector) secondLocked(due time.Duration) *second {
	i := int((due - c.begun) / time.Second)
	return &c.mu.seconds[min(max(i, 0), len(c.mu.seconds)-1)]
}

// answered counts a command that was due and answered at these instants.
func (c *collector) answered(k kind, due, done time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	latency := done - due
	s := c.secondLocked(due)
	s.answered[k]++
	s.worst[k] = max(s.worst[k], latency)
	record(c.mu.recent[k], latency)
	if c.atKillLocked(due, done) {
		record(c.mu.within[k], latency)
	} else {
		record(c.mu.outside[k], latency)
	}
	c.gapLocked(k, done)
	c.mu.last[k] = max(c.mu.last[k], done)
}

// atKillLocked tells whether a command was under way at a kill, or due in the
// second after it.
func (c *collector) atKillLocked(due, done time.Duration) bool {
	for _, e := range c.mu.events {
		if e.sort == killed && due < e.at+killSecond && done >= e.at {
			return true
		}
	}
	return false
}

// woke counts how late this program was although nothing kept it from sending.
func (c *collector) woke(late time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	record(c.mu.lateness, late)
}

// repeated counts an attempt that is going to be repeated.
func (c *collector) repeated(due time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secondLocked(due).repeated++
}

// unknown counts a write of unknown outcome; that much was known at done.
func (c *collector) unknown(due, done time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secondLocked(due).unknown++
	if c.atKillLocked(due, done) {
		c.mu.excused++
	}
}

// errGivenUp is how a command ends that was repeated for too long.
var errGivenUp = fmt.Errorf("given up after %v", giveUpAfter)

// givenUp counts a command that was repeated for too long.
func (c *collector) givenUp(due time.Duration) { c.failed(due, errGivenUp) }

// failed counts a command that ended with an error.
func (c *collector) failed(due time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secondLocked(due).failed++
	c.mu.errors[err.Error()]++
}

// counts are sums over all seconds.
type counts struct {
	answered                  [kinds]int
	repeated, unknown, failed int
}

// finished is how many commands ended one way or another.
func (n counts) finished() int {
	sum := n.unknown + n.failed
	for _, a := range n.answered {
		sum += a
	}
	return sum
}

func (c *collector) countLocked() counts {
	var n counts
	for _, s := range c.mu.seconds {
		for k := range kinds {
			n.answered[k] += s.answered[k]
		}
		n.repeated += s.repeated
		n.unknown += s.unknown
		n.failed += s.failed
	}
	return n
}
