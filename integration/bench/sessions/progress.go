package sessions

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// progress prints a line every second.
type progress struct {
	out    io.Writer
	live   bool
	events int // shown so far
	before counts
	length int // of the line that stands on the terminal
}

// showProgress prints until ctx ends.
func showProgress(ctx context.Context, col *collector, o Options) {
	p := &progress{out: o.Progress, live: o.Live}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			p.show(col, testkit.Now())
		case <-ctx.Done():
			p.show(col, testkit.Now())
			if p.live {
				fmt.Fprintln(p.out)
			}
			return
		}
	}
}

// show prints what happened since the last time: events on lines of their own,
// and one line that on a terminal takes the place of the last.
func (p *progress) show(col *collector, now time.Duration) {
	col.mu.Lock()
	events := col.mu.events[p.events:]
	p.events = len(col.mu.events)
	n := col.countLocked()
	since := n.finished() - p.before.finished()
	due := min(int(float64(col.rate)*(now-col.begun).Seconds()), col.total)
	line := fmt.Sprintf("%5.0f s  %5d/s  reads p99 %s max %s  writes p99 %s max %s ms  repeated %d  in doubt %d  failed %d  behind %d",
		(now - col.begun).Seconds(), since,
		quantile(col.mu.recent[read], 99), quantile(col.mu.recent[read], 100),
		quantile(col.mu.recent[write], 99), quantile(col.mu.recent[write], 100),
		n.repeated-p.before.repeated, n.unknown-p.before.unknown, n.failed-p.before.failed, max(due-n.finished(), 0))
	for _, h := range col.mu.recent {
		h.Reset()
	}
	p.before = n
	var b strings.Builder
	for _, e := range events {
		p.line(&b, fmt.Sprintf("%7.1f s  %s", (e.at-col.begun).Seconds(), e.name))
		if p.live {
			b.WriteByte('\n')
		}
	}
	col.mu.Unlock()
	p.line(&b, line)
	_, _ = io.WriteString(p.out, b.String())
}

// line appends a line: over the one that stands there, or followed by a new one.
func (p *progress) line(b *strings.Builder, text string) {
	if !p.live {
		b.WriteString(text + "\n")
		return
	}
	fmt.Fprintf(b, "\r%-*s", p.length, text)
	p.length = len(text)
}
