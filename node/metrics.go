package node

import (
	"os"
	"strconv"

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
	proposer raftfsm.ProposerStats
	store    store.Stats
	sentinel respserver.Stats
	saves    respserver.SaveStatus
}

// metric is one line of the metrics page: everything about it stands here.
// Names are those of redis_exporter where it has one.
type metric struct {
	name, help string
	kind       prometheus.ValueType
	value      func(s *sample) float64
}

const (
	gauge   = prometheus.GaugeValue
	counter = prometheus.CounterValue
)

// metrics are the metrics without labels that the node itself gives; those of
// the data port come from its server.
var metrics = []metric{
	{"redis_up", "1 while the node answers.", gauge, func(*sample) float64 { return 1 }},
	{"redis_uptime_in_seconds", "Seconds since the node was started.", gauge, func(s *sample) float64 {
		return (s.node.clock.Boot() - s.node.started).Seconds()
	}},
	{"redis_start_time_seconds", "When the node was started, seconds since the epoch.", gauge, func(s *sample) float64 {
		return float64(s.node.clock.WallMilli())/1000 - (s.node.clock.Boot() - s.node.started).Seconds()
	}},
	{"redis_process_id", "The process id.", gauge, func(*sample) float64 { return float64(os.Getpid()) }},
	{"redis_loading_dump_file", "1 while the state has not caught up since the start.", gauge, func(s *sample) float64 { return number(s.role.Loading) }},
	{"redis_memory_used_bytes", "Memory that keys and values take.", gauge, func(s *sample) float64 { return float64(s.store.UsedBytes) }},
	{"redis_memory_max_bytes", "Limit of that memory, 0 for none.", gauge, func(*sample) float64 { return 0 }},
	{"redis_expired_keys_total", "Keys removed because their deadline had come.", counter, func(s *sample) float64 { return float64(s.fsm.Expired) }},
	{"redis_evicted_keys_total", "Keys evicted; Holdfast never evicts.", counter, func(*sample) float64 { return 0 }},
	{"redis_connected_slaves", "Other nodes that answer, seen from the master.", gauge, func(s *sample) float64 { return float64(s.node.connectedReplicas(s)) }},
	{"redis_master_repl_offset", "The log index this node's state has reached.", gauge, func(s *sample) float64 { return float64(s.node.fsm.Applied()) }},
	{"redis_master_link_up", "1 if this node is master or has contact with it.", gauge, func(s *sample) float64 { return number(s.role.Master || s.role.LinkUp) }},
	{"redis_rdb_last_save_timestamp_seconds", "When the last snapshot was finished.", gauge, func(s *sample) float64 { return float64(s.saves.LastUnix) }},
	{"redis_rdb_bgsave_in_progress", "1 while a snapshot is made.", gauge, func(s *sample) float64 { return number(s.saves.Running) }},
	{"redis_rdb_last_bgsave_status", "1 if the last snapshot succeeded.", gauge, func(s *sample) float64 { return number(s.saves.LastOK) }},

	{"holdfast_leader", "1 if this node is the established master.", gauge, func(s *sample) float64 { return number(s.role.Master) }},
	{"holdfast_ready", "1 once the node has caught up since its start.", gauge, func(s *sample) float64 { return number(s.view.Ready) }},
	{"holdfast_quorum", "1 while this node has contact with a majority.", gauge, func(s *sample) float64 { return number(s.view.Quorum) }},
	{"holdfast_commands_applied_total", "Commands of the log this node has applied.", counter, func(s *sample) float64 { return float64(s.fsm.Commands) }},
	{"holdfast_riding_reads_total", "Reads answered beside an entry of the log.", counter, func(s *sample) float64 { return float64(s.fsm.Reads) }},
	{"holdfast_apply_panics_total", "Commands that panicked and were undone. Anything but 0 is a defect.", counter, func(s *sample) float64 { return float64(s.fsm.Panics) }},
	{"holdfast_proposals_total", "Entries handed to raft.", counter, func(s *sample) float64 { return float64(s.proposer.Entries) }},
	{"holdfast_proposal_bytes_total", "Bytes of these entries.", counter, func(s *sample) float64 { return float64(s.proposer.Bytes) }},
	{"holdfast_proposal_requests_total", "Client requests of these entries that were applied.", counter, func(s *sample) float64 { return float64(s.proposer.Requests) }},
	{"holdfast_proposal_refused_total", "Client requests that ended as definitely not executed.", counter, func(s *sample) float64 { return float64(s.proposer.Refused) }},
	{"holdfast_proposal_indoubt_total", "Client requests that ended INDOUBT.", counter, func(s *sample) float64 { return float64(s.proposer.InDoubt) }},
	{"holdfast_proposal_timeouts_total", "Entries that raft did not resolve in time.", counter, func(s *sample) float64 { return float64(s.proposer.Timeouts) }},
	{"holdfast_proposal_queue", "Batches waiting to be proposed.", gauge, func(s *sample) float64 { return float64(s.proposer.Queued) }},
	{"holdfast_proposals_in_flight", "Entries in raft's hands.", gauge, func(s *sample) float64 { return float64(s.proposer.Flying) }},
	{"holdfast_ticks_total", "Expiry ticks proposed.", counter, func(s *sample) float64 { return float64(s.proposer.Ticks) }},
	{"holdfast_sentinel_connected_clients", "Clients of the Sentinel port.", gauge, func(s *sample) float64 { return float64(s.sentinel.Connected) }},
	{"holdfast_sentinel_commands_total", "Commands carried out on the Sentinel port.", counter, func(s *sample) float64 { return float64(s.sentinel.Commands) }},
	{"holdfast_snapshots_total", "Snapshots made by this node.", counter, func(s *sample) float64 { return float64(s.saves.Saves) }},
}

// The metrics with labels.
var (
	descKeys     = prometheus.NewDesc("redis_db_keys", "Keys by database.", []string{"db"}, nil)
	descExpiring = prometheus.NewDesc("redis_db_keys_expiring", "Keys with a deadline by database.", []string{"db"}, nil)
	descLife     = prometheus.NewDesc("redis_db_avg_ttl_seconds", "Mean time to the deadline by database, from a sample.", []string{"db"}, nil)
	descInstance = prometheus.NewDesc("redis_instance_info", "What the node is.", []string{"role", "redis_version", "redis_mode", "holdfast_version"}, nil)
)

// collector gathers the metrics of a node.
type collector struct {
	node  *Node
	descs []*prometheus.Desc // by index of metrics
}

func newCollector(n *Node) *collector {
	c := &collector{node: n}
	for i := range metrics {
		c.descs = append(c.descs, prometheus.NewDesc(metrics[i].name, metrics[i].help, nil, nil))
	}
	return c
}

var _ prometheus.Collector = (*collector)(nil)

// Describe tells which metrics there are.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
	for _, d := range []*prometheus.Desc{descKeys, descExpiring, descLife, descInstance} {
		ch <- d
	}
}

// Collect takes one sample and sends what it says.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := c.node.sample()
	for i, m := range metrics {
		ch <- prometheus.MustNewConstMetric(c.descs[i], m.kind, m.value(s))
	}
	for i, db := range s.store.Databases {
		name := "db" + strconv.Itoa(i)
		ch <- prometheus.MustNewConstMetric(descKeys, gauge, float64(db.Keys), name)
		ch <- prometheus.MustNewConstMetric(descExpiring, gauge, float64(db.Expiring), name)
		ch <- prometheus.MustNewConstMetric(descLife, gauge, float64(db.AverageLife)/1000, name)
	}
	ch <- prometheus.MustNewConstMetric(descInstance, gauge, 1, roleName(s.role.Master), redisVersion, "standalone", c.node.version)
}

// sample reads all figures once.
func (n *Node) sample() *sample {
	return &sample{
		node:     n,
		role:     n.roles.Role(),
		view:     n.raft.View(),
		raft:     n.raft.Stats(),
		fsm:      n.fsm.Stats(),
		proposer: n.proposer.Stats(),
		store:    n.state.Stats(n.fsm.Instant()),
		sentinel: n.sentinel.Stats(),
		saves:    n.Status(),
	}
}

// connectedReplicas counts the other nodes that answer, if this node is master.
func (n *Node) connectedReplicas(s *sample) (count int) {
	if !s.role.Master {
		return 0
	}
	for i := range s.view.Peers {
		if s.view.Peers[i].Contact {
			count++
		}
	}
	return count
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func roleName(master bool) string {
	if master {
		return "master"
	}
	return "slave"
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
