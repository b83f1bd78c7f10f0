package integration_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/holdfast/holdfast/integration/bench/sessions"
	"github.com/holdfast/holdfast/internal/testkit"
)

// P1, P2, P4, P5, P8: under the load of 50,000 sessions, with the master killed and
// handed over in the middle, every reply is what the books of its session say, and at
// the end nothing that was acknowledged is missing, no deadline was lost, and
// nothing that ended is back.
//
// Losses and wrong replies are judged in every form. p99 below 10 ms for reads and
// writes is judged in the long form, which has the machine to itself; in the
// minute's form the bound only tells a busy machine from a service that stopped, and a
// machine that cannot keep up gets half the load.
// -short runs ten seconds of it with one kill.
func TestSessionLoadLosesNothing(t *testing.T) {
	opts := sessions.Options{
		Sessions: 50_000, Connections: 200, Rate: 5000, Duration: pick(time.Minute, 10*time.Minute), TTL: 30 * time.Minute,
		Kill: true, Handover: sessions.HandoverTransfer,
	}
	limits := pick(sessions.Limits{P99: 3 * time.Second, Answered: 0.9}, sessions.Limits{P99: 10 * time.Millisecond, Answered: 0.999})
	if testing.Short() {
		opts.Sessions, opts.Rate, opts.Duration, opts.Handover = 5000, 1000, 10*time.Second, sessions.HandoverNone
		limits = sessions.Limits{Answered: 0.5}
	}
	runSessions(t, opts, limits)
}

// P1, P4: sessions of a few seconds end on time under load and over a kill, none
// early, none late, and none comes back.
func TestSessionsEndUnderLoad(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	runSessions(t, sessions.Options{
		Sessions: 5000, Connections: 50, Rate: 1500, Duration: pick(15*time.Second, time.Minute), TTL: 5 * time.Second,
		Kill: true, Handover: sessions.HandoverNone,
	}, sessions.Limits{Answered: 0.5})
}

// runSessions puts a load on a new cluster and judges it. In the short form it does so
// with half the load, for a shorter time, when nothing but the speed was wrong.
func runSessions(t testing.TB, opts sessions.Options, limits sessions.Limits) {
	t.Helper()
	testkit.Tries(t, mostTold(), func(try testing.TB) {
		defer func() {
			opts.Rate /= 2
			opts.Duration = min(opts.Duration, 30*time.Second)
		}()
		loadSessions(t, try, opts, limits)
	})
}

// loadSessions reports to always what is wrong at any speed, and everything else to t.
func loadSessions(always, t testing.TB, opts sessions.Options, limits sessions.Limits) {
	t.Helper()
	opts.Seed, opts.Progress = rand.Uint64(), t.Output()
	c := testkit.StartCluster(t, testkit.ClusterOptions{})
	report, err := sessions.Run(t.Context(), c, opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Write(t.Output()); err != nil {
		t.Fatal(err)
	}
	for _, failure := range report.Wrong() {
		always.Error(failure)
	}
	for _, failure := range report.Failures(limits) {
		t.Error(failure)
	}
}
