package node

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/internal/testkit"
)

// P4: a node that has heard neither cluster time nor any wall clock establishes no
// term, whatever the stamp would be; one that knows cluster time does so at once.
func TestNodeWithoutTheTimeDoesNotEstablish(t *testing.T) {
	n := still(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if n.awaitTime(ctx) {
		t.Fatal("the term would be established with a stamp out of nowhere")
	}
	if n.skews() != nil {
		t.Error("there are distances from a time that is not known")
	}
	n.fsm.Observe(1_800_000_000_000)
	if !n.awaitTime(ctx) { // although ctx has ended
		t.Error("the time is known, and the node waits")
	}
}

// A cluster of one goes by its wall clock from its first entry on.
func TestClusterOfOneGoesByItsWallClock(t *testing.T) {
	testkit.Tries(t, 5, func(t testing.TB) { // one clock is read after the other
		m := single(t)
		off := m.node.fsm.Instant() - clock.System{}.WallMilli()
		if off < -250 || off > 250 {
			t.Errorf("cluster time is %d ms from the wall clock", off)
		}
		page := m.scrape()
		if got := reading(t, page, "holdfast_clock_skew_seconds"); got < -0.25 || got > 0.25 {
			t.Errorf("skew %v s", got)
		}
		m.eventuallyAgrees()
	})
}

func (m *member) eventuallyAgrees() {
	m.tb.Helper()
	deadline := time.NewTimer(soon)
	defer deadline.Stop()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !m.node.fsm.Steering().Agreed {
		select {
		case <-again.C:
		case <-deadline.C:
			m.tb.Fatal("the only wall clock does not agree with itself")
		}
	}
}

// A wrong wall clock is warned of when it is seen, once a minute as long as it is wrong,
// and never when it is right again; by its own node and by the master.
func TestWrongWallClocksAreWarnedOf(t *testing.T) {
	n := still(t)
	said := &journal{out: t.Output()}
	n.log = slog.New(slog.NewTextHandler(said, nil))
	warned := skewWarnings{}
	hour := []skew{{"n1", 10 * time.Millisecond}, {"n2", -time.Hour}, {"n3", time.Second}}
	count := func(what string, want int) {
		t.Helper()
		if got := strings.Count(said.String(), "set it right"); got != want {
			t.Errorf("%s: warned %d times, want %d: %s", what, got, want, said.String())
		}
	}
	n.warnSkews(warned, hour, false)
	count("a replica, of another node", 0)
	n.warnSkews(warned, hour, true)
	count("the master", 1)
	if text := said.String(); !strings.Contains(text, "node=n2 ahead=-1h0m0s") {
		t.Errorf("it does not say whose: %s", text)
	}
	n.passes(skewAgain - time.Second)
	n.warnSkews(warned, hour, true)
	count("within a minute", 1)
	n.passes(time.Second)
	n.warnSkews(warned, hour, true)
	count("after a minute", 2)
	n.warnSkews(warned, []skew{{"n2", 0}}, true)
	if !strings.Contains(said.String(), "agrees with cluster time again") {
		t.Errorf("it does not say that it is right again: %s", said.String())
	}
	n.warnSkews(warned, []skew{{"n1", 2 * time.Second}}, false)
	count("its own", 3)
	n.warnSkews(warned, []skew{{"n1", 2 * time.Second}, {"n2", time.Hour}}, true)
	count("wrong anew", 4)
}
