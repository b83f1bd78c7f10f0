package sessions

import (
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// What was under way at a kill, or due in the second after it, is kept apart, and
// nothing else is: neither what was answered before it, nor what was due later and
// suffers still.
func TestSecondOfTheKillIsKeptApart(t *testing.T) {
	for _, k := range []struct {
		due, done time.Duration
		within    bool
	}{
		{990 * ms, 999 * ms, false},
		{990 * ms, 1001 * ms, true},
		{1500 * ms, 1501 * ms, true},
		{1999 * ms, 5000 * ms, true},
		{2000 * ms, 2500 * ms, false},
	} {
		c := newCollector(0, Options{Duration: 10 * time.Second, Rate: 1})
		c.begin("kill", killed, 1000*ms)
		c.begin("back", started, 1500*ms)
		c.answered(read, k.due, k.done)
		c.unknown(k.due, k.done)
		if got := c.mu.within[read].TotalCount() == 1; got != k.within || (c.mu.excused == 1) != k.within {
			t.Errorf("due %v, done %v: kept apart %v, excused %d", k.due, k.done, got, c.mu.excused)
		}
	}
	c := newCollector(0, Options{Duration: 10 * time.Second, Rate: 1})
	c.begin("handover", handover, 1000*ms)
	c.answered(read, 1500*ms, 1600*ms)
	if c.mu.within[read].TotalCount() != 0 {
		t.Error("a handover excuses latencies")
	}
}

// The time without an answer is that after a fault, of reads and writes apart,
// until the next fault; a node that is back does not end it.
func TestGapsAfterFaults(t *testing.T) {
	c := newCollector(0, Options{Duration: 10 * time.Second, Rate: 1})
	c.answered(write, 900*ms, 950*ms)
	c.begin("kill", killed, 1000*ms)
	c.answered(write, 1000*ms, 1001*ms)
	c.begin("back", started, 1200*ms)
	c.answered(read, 1000*ms, 1300*ms)
	c.answered(write, 1000*ms, 1801*ms)
	c.begin("handover", handover, 5000*ms)
	c.answered(write, 5000*ms, 5100*ms)
	c.end(6000 * ms)
	kill, hand := c.mu.events[0], c.mu.events[2]
	// From 1,801 on nothing came until 5,000: that belongs to the kill too.
	if kill.gap[write] != 3199*ms || kill.gap[read] != 3700*ms {
		t.Errorf("gaps of the kill: %v", kill.gap)
	}
	if hand.gap[write] != 900*ms || hand.gap[read] != 1000*ms {
		t.Errorf("gaps of the handover: %v", hand.gap)
	}
	if c.mu.events[1].gap != [kinds]time.Duration{} {
		t.Error("a start has a gap")
	}
}

// The report shows latencies, faults, and the seconds around them, and its
// judgement follows the limits.
func TestReportShowsAndJudges(t *testing.T) {
	o := Options{Sessions: 2, Connections: 1, Rate: 1, Duration: 20 * time.Second, TTL: time.Minute, Kill: true, Handover: HandoverNone, Seed: 7}
	c := newCollector(0, o)
	for i := range 20 {
		due := time.Duration(i) * time.Second
		if due == 10*time.Second {
			c.begin("kill of n1", killed, due)
			c.repeated(due)
			c.answered(write, due, due+800*ms)
			continue
		}
		c.answered(kind(i%2), due, due+time.Duration(i)*ms)
	}
	c.end(20 * time.Second)
	r := newReport(o, c, []*books{newBooks(2)})
	var out strings.Builder
	if err := r.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"2 sessions of 1m0s, 1 connections, 1 commands/s for 20s; kill: true, handover: none, seed 7",
		"| reads | 9 | 8.00 | 18.0", "| writes in the second of a kill | 1 | 800.", "| 10.00 s | kill of n1 |",
		"| 9 | 0 | 0.00 | 1 | 9.00 | 0 | 0 | 0 |\n| 10 | 0 | 0.00 | 1 | 800.00 | 1 | 0 | 0 |\n| 11 |",
		"Of 20 commands 20 were answered, 1 attempts repeated; 0 writes are in doubt (0 because of a kill), 0 commands failed, 0 were never sent.",
		"Books: 2 live sessions, 0 ended, 0 in doubt",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "| 13 |") {
		t.Errorf("seconds far from a fault are shown:\n%s", out.String())
	}
	if list := r.Failures(Limits{P99: 100 * ms, Answered: 1}); len(list) > 0 {
		t.Error(list)
	}
	if list := r.Failures(Limits{P99: 10 * ms, Answered: 1}); len(list) != 2 {
		t.Errorf("p99 of 18 and 19 ms was judged as %v", list)
	}
}

// A command that is given up fails the run, but a busy machine may be why.
func TestGivenUpIsNotWrong(t *testing.T) {
	o := Options{Rate: 1, Duration: time.Second}
	col := newCollector(0, o)
	col.givenUp(0)
	r := newReport(o, col, nil)
	if list := r.Wrong(); len(list) > 0 {
		t.Errorf("wrong at any speed: %v", list)
	}
	if list := r.Failures(Limits{}); len(list) != 1 {
		t.Errorf("failures are %v", list)
	}
}
