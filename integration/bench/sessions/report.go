package sessions

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Limits are what a run is judged by, beside its books.
type Limits struct {
	P99      time.Duration // of reads and of writes, outside the seconds of kills; 0 judges none
	Answered float64       // the share of all commands that must have been answered, or be in doubt because of a kill
}

// Report is what a run has shown. It is not changed after Run.
type Report struct {
	opts     Options
	begun    time.Duration
	total    int // commands that were due
	outside  [kinds]*hdrhistogram.Histogram
	within   [kinds]*hdrhistogram.Histogram
	lateness *hdrhistogram.Histogram
	seconds  []second
	events   []event
	errors   map[string]int
	excused  int // of the writes in doubt, those of kills
	sums     counts
	books    tally
}

// tally sums up all books.
type tally struct {
	live, ended, doubts int
	checked, found      int
	findings            []string
}

func newReport(o Options, c *collector, all []*books) *Report {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &Report{
		opts: o, begun: c.begun, total: c.total, outside: c.mu.outside, within: c.mu.within, lateness: c.mu.lateness,
		seconds: c.mu.seconds, events: c.mu.events, errors: c.mu.errors, excused: c.mu.excused, sums: c.countLocked(),
	}
	for _, b := range all {
		r.books.live += len(b.live)
		r.books.ended += len(b.ended)
		r.books.doubts += len(b.doubts)
		r.books.checked += b.checked
		r.books.found += b.found
		r.books.findings = append(r.books.findings, b.findings...)
	}
	return r
}

// shownFindings is how many disagreements with the books are told.
const shownFindings = 10

// Wrong is what the cluster did wrong however busy the machine was: everything that
// disagrees with the books, and error replies that no fault explains.
func (r *Report) Wrong() []string {
	var list []string
	if n := r.books.found; n > 0 {
		list = append(list, fmt.Sprintf("%d replies disagree with what was acknowledged", n))
		list = append(list, r.books.findings[:min(len(r.books.findings), shownFindings)]...)
	}
	for _, text := range slices.Sorted(maps.Keys(r.errors)) {
		if text != errGivenUp.Error() {
			list = append(list, fmt.Sprintf("%d commands ended with %q", r.errors[text], text))
		}
	}
	return list
}

// Failures are what the cluster did wrong, commands that were given up, and limits that
// were not kept.
func (r *Report) Failures(l Limits) []string {
	list := r.Wrong()
	if n := r.errors[errGivenUp.Error()]; n > 0 {
		list = append(list, fmt.Sprintf("%d commands were %v", n, errGivenUp))
	}
	if got := float64(r.answered()+r.excused) / float64(max(r.total, 1)); got < l.Answered {
		list = append(list, fmt.Sprintf("%.2f %% of all commands were answered, or in doubt because of a kill; want %.2f %%", 100*got, 100*l.Answered))
	}
	for k, name := range kindNames {
		got := time.Duration(r.outside[k].ValueAtQuantile(99)) * time.Microsecond
		if l.P99 > 0 && got >= l.P99 {
			list = append(list, fmt.Sprintf("p99 of %s outside the seconds of kills is %v, want less than %v (p99 of this program's own lateness is %s ms)",
				name, got, l.P99, quantile(r.lateness, 99)))
		}
	}
	return list
}

// answered is how many commands were.
func (r *Report) answered() int { return r.sums.answered[read] + r.sums.answered[write] }

var kindNames = [kinds]string{read: "reads", write: "writes"}

// Write prints the report as Markdown.
func (r *Report) Write(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d sessions of %v, %d connections, %d commands/s for %v; kill: %v, handover: %s, seed %d; %s/%s, %d processors, %s.\n\n",
		r.opts.Sessions, r.opts.TTL, r.opts.Connections, r.opts.Rate, r.opts.Duration, r.opts.Kill, r.opts.Handover, r.opts.Seed,
		runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	r.writeLatencies(&b)
	r.writeEvents(&b)
	fmt.Fprintf(&b, "\nOf %d commands %d were answered, %d attempts repeated; %d writes are in doubt (%d because of a kill), %d commands failed, %d were never sent.\n",
		r.total, r.answered(), r.sums.repeated, r.sums.unknown, r.excused, r.sums.failed, r.total-r.sums.finished())
	fmt.Fprintf(&b, "Books: %d live sessions, %d ended, %d in doubt; %d replies compared, %d disagree.\n",
		r.books.live, r.books.ended, r.books.doubts, r.books.checked, r.books.found)
	_, err := io.WriteString(out, b.String())
	return err
}

func (r *Report) writeLatencies(b *strings.Builder) {
	b.WriteString("| ms from due to answered | commands | p50 | p99 | p99.9 | worst |\n|---|---:|---:|---:|---:|---:|\n")
	row := func(name string, h *hdrhistogram.Histogram) {
		if n := h.TotalCount(); n > 0 {
			fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s |\n", name, n, quantile(h, 50), quantile(h, 99), quantile(h, 99.9), quantile(h, 100))
		}
	}
	for k, name := range kindNames {
		row(name, r.outside[k])
	}
	for k, name := range kindNames {
		row(name+" in the second of a kill", r.within[k])
	}
	row("the program's own lateness", r.lateness)
}

// Around an event the seconds from one before to so many after it are shown.
const (
	secondsBefore = 1
	secondsAfter  = 2
)

// writeEvents shows what was done to the cluster and the seconds around it.
func (r *Report) writeEvents(b *strings.Builder) {
	if len(r.events) == 0 {
		return
	}
	b.WriteString("\n| at | | longest without an answer, reads | writes |\n|---:|---|---:|---:|\n")
	shown := map[int]bool{}
	for _, e := range r.events {
		gaps := "– | –"
		if e.sort != started {
			gaps = fmt.Sprintf("%d ms | %d ms", e.gap[read].Milliseconds(), e.gap[write].Milliseconds())
		}
		fmt.Fprintf(b, "| %.2f s | %s | %s |\n", (e.at - r.begun).Seconds(), e.name, gaps)
		at := int((e.at - r.begun) / time.Second)
		for i := at - secondsBefore; i <= at+secondsAfter; i++ {
			shown[i] = true
		}
	}
	b.WriteString("\n| commands due in second | reads | worst ms | writes | worst ms | attempts repeated | in doubt | failed |\n")
	b.WriteString("|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	for i, s := range r.seconds {
		if shown[i] {
			fmt.Fprintf(b, "| %d | %d | %s | %d | %s | %d | %d | %d |\n", i,
				s.answered[read], millis(s.worst[read]), s.answered[write], millis(s.worst[write]), s.repeated, s.unknown, s.failed)
		}
	}
}

// quantile shows a quantile of a histogram of microseconds in milliseconds.
func quantile(h *hdrhistogram.Histogram, q float64) string {
	return millis(time.Duration(h.ValueAtQuantile(q)) * time.Microsecond)
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000) }
