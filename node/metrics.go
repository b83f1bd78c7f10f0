package node

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/respserver"
	"github.com/holdfast/holdfast/store"
)

// sample is everything the gauges and counters of a node are read from, taken
// once per scrape.
type sample struct {
	node     *Node
	role     respserver.Role
	view     cluster.View
	raft     cluster.Stats
	fsm      raftfsm.Stats
	applied  uint64
	proposer raftfsm.ProposerStats
	store    store.Stats
	sentinel respserver.Stats
	saves    respserver.SaveStatus
	uptime   float64 // s
	wall     float64 // s since the epoch
	cluster  float64 // cluster time, the same
	skews    []skew
	steering raftfsm.Steering
}

// sample reads all figures once.
func (n *Node) sample() *sample {
	instant := n.fsm.Instant()
	return &sample{
		node:     n,
		role:     n.roles.Role(),
		view:     n.raft.View(),
		raft:     n.raft.Stats(),
		fsm:      n.fsm.Stats(),
		applied:  n.fsm.Applied(),
		proposer: n.proposer.Stats(),
		store:    n.state.Stats(instant),
		sentinel: n.sentinel.Stats(),
		saves:    n.Status(),
		uptime:   (n.clock.Boot() - n.started).Seconds(),
		wall:     float64(n.clock.WallMilli()) / 1000,
		cluster:  float64(instant) / 1000,
		skews:    n.skews(),
		steering: n.fsm.Steering(),
	}
}

// skew is this node's, s.
func (s *sample) skew() float64 {
	if !s.node.fsm.TimeKnown() {
		return 0
	}
	return s.wall - s.cluster
}

// metric is one line of the metrics page: everything about it stands here.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(s *sample) float64
}

// family is a metric with labels. Their values come from the configuration of the
// cluster, never from clients.
type family struct {
	name, help string
	labels     []string
	values     func(s *sample, send func(v float64, labels ...string)) // all are gauges
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// collector gathers the metrics of a node.
type collector struct {
	node     *Node
	metrics  []*prometheus.Desc // by index of metrics
	families []*prometheus.Desc // by index of families
}

var _ prometheus.Collector = (*collector)(nil)

func newCollector(n *Node) *collector {
	c := &collector{node: n}
	for i := range metrics {
		c.metrics = append(c.metrics, prometheus.NewDesc(metrics[i].name, metrics[i].help, nil, nil))
	}
	for i := range families {
		f := &families[i]
		c.families = append(c.families, prometheus.NewDesc(f.name, f.help, f.labels, nil))
	}
	return c
}

// Describe tells which metrics there are.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.metrics {
		ch <- d
	}
	for _, d := range c.families {
		ch <- d
	}
}

// Collect takes one sample and sends what it says.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.node.sample()
	for i := range metrics {
		m := &metrics[i]
		ch <- prometheus.MustNewConstMetric(c.metrics[i], m.kind, m.value(s))
	}
	for i := range families {
		families[i].values(s, func(v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(c.families[i], gauge, v, labels...)
		})
	}
}

// registry is the metrics page of this node.
func (n *Node) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	n.timings.register(r)
	r.MustRegister(
		newCollector(n),
		n.data.Collector(),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}
