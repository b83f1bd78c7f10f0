package respserver

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metric is one figure with the way to read it off a server.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(s *Stats) float64
}

// collector shows a server's figures to Prometheus, under the names that
// redis_exporter gives them where it has one. Labels are command names and error
// codes of our own only: no client can add one.
type collector struct {
	srv     *Server
	metrics []metric

	calls, seconds, failed, rejected, errors *prometheus.Desc
}

var _ prometheus.Collector = (*collector)(nil)

// Collector returns the server's metrics. Register it with a label that tells
// the ports apart if there is more than one.
func (s *Server) Collector() prometheus.Collector {
	perCommand := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, []string{"cmd"}, nil)
	}
	return &collector{
		srv:      s,
		metrics:  serverMetrics(),
		calls:    perCommand("redis_commands_total", "Commands carried out."),
		seconds:  perCommand("redis_commands_duration_seconds_total", "Time from planning commands to their replies, waiting for the log included; commands carried out together share it."),
		failed:   perCommand("redis_commands_failed_calls_total", "Commands that were carried out and answered with an error."),
		rejected: perCommand("redis_commands_rejected_calls_total", "Commands that were refused before they were carried out."),
		errors:   prometheus.NewDesc("redis_errors_total", "Error replies by their code.", []string{"err"}, nil),
	}
}

func serverMetrics() []metric {
	gauge := func(name, help string, read func(*Stats) float64) metric {
		return metric{prometheus.NewDesc(name, help, nil, nil), prometheus.GaugeValue, read}
	}
	counter := func(name, help string, read func(*Stats) float64) metric {
		return metric{prometheus.NewDesc(name, help, nil, nil), prometheus.CounterValue, read}
	}
	return []metric{
		gauge("redis_connected_clients", "Connections.", func(s *Stats) float64 { return float64(s.Connected) }),
		gauge("redis_blocked_clients", "Connections blocked by a command that waits.", func(s *Stats) float64 { return float64(s.Blocked) }),
		gauge("redis_pubsub_clients", "Connections with subscriptions.", func(s *Stats) float64 { return float64(s.PubSub) }),
		gauge("redis_max_clients", "The value of maxclients.", func(s *Stats) float64 { return float64(s.MaxClients) }),
		counter("redis_connections_received_total", "Connections accepted, refused ones included.", func(s *Stats) float64 { return float64(s.Received) }),
		counter("redis_rejected_connections_total", "Connections refused by maxclients or protected-mode.", func(s *Stats) float64 { return float64(s.Refused) }),
		counter("redis_commands_processed_total", "Commands carried out.", func(s *Stats) float64 { return float64(s.Commands) }),
		counter("redis_net_input_bytes_total", "Bytes received from clients.", func(s *Stats) float64 { return float64(s.NetIn) }),
		counter("redis_net_output_bytes_total", "Bytes sent to clients.", func(s *Stats) float64 { return float64(s.NetOut) }),
		counter("redis_keyspace_hits_total", "Keys that reading commands found.", func(s *Stats) float64 { return float64(s.Hits) }),
		counter("redis_keyspace_misses_total", "Keys that reading commands did not find.", func(s *Stats) float64 { return float64(s.Misses) }),
		gauge("redis_tracking_clients", "Connections with CLIENT TRACKING ON.", func(s *Stats) float64 { return float64(s.Tracking.Clients) }),
		gauge("redis_tracking_total_keys", "Keys remembered for connections that track.", func(s *Stats) float64 { return float64(s.Tracking.Keys) }),
		gauge("redis_tracking_total_items", "Readers of these keys: a key counts once for each connection.", func(s *Stats) float64 { return float64(s.Tracking.Items) }),
		gauge("redis_tracking_total_prefixes", "Prefixes whose changes are broadcast.", func(s *Stats) float64 { return float64(s.Tracking.Prefixes) }),
		gauge("holdfast_client_output_pending_bytes", "Bytes that wait for slow readers.", func(s *Stats) float64 { return float64(s.Pending) }),
		counter("holdfast_clients_too_slow_total", "Connections closed because they did not read.", func(s *Stats) float64 { return float64(s.TooSlow) }),
		counter("holdfast_client_panics_total", "Connections ended by a fault of the server.", func(s *Stats) float64 { return float64(s.Panics) }),
	}
}

// Describe sends what can be collected.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, m := range c.metrics {
		ch <- m.desc
	}
	for _, d := range []*prometheus.Desc{c.calls, c.seconds, c.failed, c.rejected, c.errors} {
		ch <- d
	}
}

// Collect sends the present figures. Commands that were never called are left out.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	st := c.srv.Stats()
	for _, m := range c.metrics {
		ch <- prometheus.MustNewConstMetric(m.desc, m.kind, m.read(&st))
	}
	for _, e := range c.srv.table.sorted {
		calls, rejected := e.calls.Load(), e.rejected.Load()
		if calls == 0 && rejected == 0 {
			continue
		}
		counter := func(d *prometheus.Desc, v float64) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, e.name)
		}
		counter(c.calls, float64(calls))
		counter(c.seconds, float64(e.nanos.Load())/1e9)
		counter(c.failed, float64(e.failed.Load()))
		counter(c.rejected, float64(rejected))
	}
	for _, e := range c.srv.errors.list() {
		ch <- prometheus.MustNewConstMetric(c.errors, prometheus.CounterValue, float64(e.n), e.code)
	}
}
