package respserver_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// gather collects the metrics of a server: values by name, or name{label}.
func gather(t *testing.T, r *rig) map[string]float64 {
	t.Helper()
	reg := prometheus.NewPedanticRegistry()
	if err := reg.Register(r.Collector()); err != nil {
		t.Fatal(err)
	}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "{" + l.GetValue() + "}"
			}
			values[name] = value(f.GetType(), m)
		}
	}
	return values
}

func value(kind dto.MetricType, m *dto.Metric) float64 {
	if kind == dto.MetricType_GAUGE {
		return m.GetGauge().GetValue()
	}
	return m.GetCounter().GetValue()
}

// Metrics count what happened, under names of commands that exist only.
func TestMetrics(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.send("SET a 1", "SET b x", "GET a", "GET none", "MGET a b c d", "INCR b", "SET a", "NOSUCH x", "CLIENT ID", "GET a b")
	for range 10 {
		p.read()
	}
	p.want("MULTI", "OK")
	p.want("GET a", "QUEUED")
	p.want("EXEC", "[1]")
	got := gather(t, r)
	for name, want := range map[string]float64{
		"redis_commands_total{set}": 2, "redis_commands_total{get}": 3, "redis_commands_total{mget}": 1, "redis_commands_total{incr}": 1,
		"redis_commands_total{exec}": 1, "redis_commands_total{client|id}": 1,
		"redis_commands_failed_calls_total{incr}": 1, "redis_commands_failed_calls_total{get}": 0,
		"redis_keyspace_hits_total": 4, "redis_keyspace_misses_total": 3,
		"redis_connected_clients": 1, "redis_connections_received_total": 1, "redis_rejected_connections_total": 0,
		"redis_errors_total{ERR}": 4, "redis_max_clients": 10000,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %v, want %v", name, v, want)
		}
	}
	for _, name := range []string{"redis_net_input_bytes_total", "redis_net_output_bytes_total", "redis_commands_duration_seconds_total{set}"} {
		if got[name] <= 0 {
			t.Errorf("%s = %v", name, got[name])
		}
	}
	for name := range got {
		if strings.Contains(strings.ToLower(name), "nosuch") {
			t.Errorf("a client made the label of %s", name)
		}
	}
}

// A refusal counts as a rejected call of its command.
func TestRejectedCallsAreCounted(t *testing.T) {
	r := start(t, withPassword)
	r.dial(t).want("GET a", noAuth)
	if got := gather(t, r); got["redis_commands_rejected_calls_total{get}"] != 1 || got["redis_errors_total{NOAUTH}"] != 1 {
		t.Errorf("%v", got)
	}
}
