package respserver

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/holdfast/holdfast/resp"
)

// counters are figures of a server; CONFIG RESETSTAT sets them back.
type counters struct {
	received, refused atomic.Int64 // connections
	commands          atomic.Int64
	netIn             atomic.Int64
	hits, misses      atomic.Int64
	tooSlow, panics   atomic.Int64

	rate rates
}

// lookup counts keys that were found and missed, as far as the reply tells.
func (n *counters) lookup(kind lookupKind, reply resp.Value) {
	switch {
	case kind == lookupNone:
	case kind == lookupMany && reply.Kind() == resp.KindArray:
		missed := int64(0)
		for _, e := range reply.Elems() {
			if e.Kind() == resp.KindNull {
				missed++
			}
		}
		n.misses.Add(missed)
		n.hits.Add(int64(len(reply.Elems())) - missed)
	case reply.Kind() == resp.KindNull:
		n.misses.Add(1)
	default:
		n.hits.Add(1)
	}
}

func (n *counters) reset() {
	for _, v := range []*atomic.Int64{&n.received, &n.refused, &n.commands, &n.netIn, &n.hits, &n.misses, &n.tooSlow} {
		v.Store(0)
	}
}

// ratePoints is how many rounds the present rates look back.
const ratePoints = 16

// rates are sliding means over the last housekeeping rounds, as INFO's
// instantaneous figures.
type rates struct {
	mu     sync.Mutex
	points [ratePoints]ratePoint
	next   int
}

type ratePoint struct{ tick, commands, in, out int64 }

// sample notes the counters at a round.
func (n *counters) sample(tick, out int64) {
	r := &n.rate
	r.mu.Lock()
	defer r.mu.Unlock()
	r.points[r.next%ratePoints] = ratePoint{tick: tick, commands: n.commands.Load(), in: n.netIn.Load(), out: out}
	r.next++
}

// perSecond are the commands, and the bytes in and out, per second.
func (r *rates) perSecond() (commands, in, out float64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next < 2 {
		return 0, 0, 0
	}
	last := r.points[(r.next-1)%ratePoints]
	first := r.points[max(r.next-ratePoints, 0)%ratePoints]
	seconds := float64(last.tick-first.tick) * tickPeriod.Seconds()
	if seconds <= 0 {
		return 0, 0, 0
	}
	mean := func(a, b int64) float64 { return float64(max(b-a, 0)) / seconds }
	return mean(first.commands, last.commands), mean(first.in, last.in), mean(first.out, last.out)
}

// errorCodes is how many codes are told apart; texts of ours have far fewer.
const errorCodes = 64

// errorCounts counts error replies by their code, the first word.
type errorCounts struct {
	sum atomic.Int64
	mu  struct {
		sync.Mutex
		byCode map[string]int64
	}
}

func (n *errorCounts) count(err resp.Error) {
	n.sum.Add(1)
	code, _, _ := strings.Cut(string(err), " ")
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.byCode == nil {
		n.mu.byCode = make(map[string]int64)
	}
	if _, known := n.mu.byCode[code]; known || len(n.mu.byCode) < errorCodes {
		n.mu.byCode[code]++
	}
}

// codeCount is how often one code was answered.
type codeCount struct {
	code string
	n    int64
}

// list is sorted by code.
func (n *errorCounts) list() []codeCount {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := make([]codeCount, 0, len(n.mu.byCode))
	for code, count := range n.mu.byCode {
		all = append(all, codeCount{code, count})
	}
	slices.SortFunc(all, func(a, b codeCount) int { return strings.Compare(a.code, b.code) })
	return all
}

func (n *errorCounts) reset() {
	n.sum.Store(0)
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.mu.byCode)
}
