package node

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast/holdfast/cluster"
)

// timings are the histograms of what a node waits for.
type timings struct {
	fsync, round, snapshot prometheus.Histogram
}

func newTimings() *timings {
	return &timings{
		fsync: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "holdfast_fsync_seconds",
			Help:    "Appends to the log of this node, fsync included.",
			Buckets: prometheus.ExponentialBuckets(20e-6, 2, 18), // 20 µs to 2.6 s
		}),
		round: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "holdfast_probe_round_seconds",
			Help:    "Rounds that confirmed this node as master.",
			Buckets: prometheus.ExponentialBuckets(20e-6, 2, 16), // 20 µs to 0.65 s
		}),
		snapshot: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "holdfast_snapshot_seconds",
			Help:    "Snapshots this node has made.",
			Buckets: prometheus.ExponentialBuckets(1e-3, 4, 10), // 1 ms to 262 s
		}),
	}
}

// register puts the histograms on a metrics page.
func (t *timings) register(r prometheus.Registerer) {
	r.MustRegister(t.fsync, t.round, t.snapshot)
}

// observe are the callbacks that feed the histograms; saved hears of snapshots too.
func (t *timings) observe(saved func(took time.Duration, err error)) cluster.Observe {
	return cluster.Observe{
		StoreLogs: func(d time.Duration) { t.fsync.Observe(d.Seconds()) },
		Round:     func(d time.Duration) { t.round.Observe(d.Seconds()) },
		Snapshot: func(took time.Duration, err error) {
			if err == nil {
				t.snapshot.Observe(took.Seconds())
			}
			saved(took, err)
		},
	}
}
