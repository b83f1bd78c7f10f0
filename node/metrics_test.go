package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/holdfast/holdfast/internal/testkit"
)

// httpGet asks the metrics port for a path.
func (m *member) httpGet(path string) (status int, body string) {
	m.tb.Helper()
	ctx, cancel := context.WithTimeout(m.tb.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+testkit.Loopback(m.cfg.MetricsPort)+path, http.NoBody)
	if err != nil {
		m.tb.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Do(req)
	if err != nil {
		m.tb.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		m.tb.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// scrape is the metrics page by family name.
func (m *member) scrape() map[string]*dto.MetricFamily {
	m.tb.Helper()
	status, text := m.httpGet("/metrics")
	if status != http.StatusOK {
		m.tb.Fatalf("/metrics answers %d: %s", status, text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		m.tb.Fatal(err)
	}
	return families
}

// find is the value of the metric of a family that has the label values, in the order
// of the page.
func find(page map[string]*dto.MetricFamily, name string, labels ...string) (float64, error) {
	for _, m := range page[name].GetMetric() {
		var got []string
		for _, l := range m.GetLabel() {
			got = append(got, l.GetValue())
		}
		if len(labels) == 0 || slices.Equal(got, labels) {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()), nil
		}
	}
	return 0, fmt.Errorf("there is no %s with labels %q: %v", name, labels, page[name])
}

// reading is find for what is always there.
func reading(tb testing.TB, page map[string]*dto.MetricFamily, name string, labels ...string) float64 {
	tb.Helper()
	got, err := find(page, name, labels...)
	if err != nil {
		tb.Error(err)
	}
	return got
}

// onlyOn are the metrics that one role alone has.
var onlyOn = map[string]string{
	"redis_slave_info": "slave", "redis_master_link_up": "slave",
	"redis_connected_slave_offset_bytes": "master", "redis_connected_slave_lag_seconds": "master",
}

// The page of a running node has every metric that docs/metrics.md lists, with the
// labels and the type that it says, and nothing else of ours; and the names by
// which redis_exporter's dashboards look.
func TestMetricsPage(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		master := waitMaster(t, all...)
		for _, m := range all {
			c := m.dial()
			for _, args := range [][]string{{"SET", "k", "v", "EX", "100"}, {"GET", "k"}, {"GET", "none"}, {"NOSUCH"}, {"GET"}} {
				_, _ = c.Do(args...) // some are refused
			}
		}
		list := described(t)
		for _, m := range all {
			role := "slave"
			if m == master {
				role = "master"
			}
			page := m.scrape()
			for name, desc := range list {
				family := page[name]
				switch {
				case onlyOn[name] != "" && onlyOn[name] != role:
					if family != nil {
						t.Errorf("%s is there on a %s", name, role)
					}
					continue
				case family == nil:
					t.Errorf("%s is missing on the %s", name, role)
					continue
				}
				if got := strings.ToLower(family.GetType().String()); got != kindOf(name) {
					t.Errorf("%s is a %s, want %s", name, got, kindOf(name))
				}
				var labels []string
				for _, l := range family.GetMetric()[0].GetLabel() {
					labels = append(labels, l.GetName())
				}
				want := slices.Sorted(slices.Values(strings.Split(desc[0], ", ")))
				if got := strings.Join(labels, ", "); got != strings.Join(want, ", ") {
					t.Errorf("%s has labels %q, want %q", name, got, want)
				}
				if family.GetHelp() != desc[1] {
					t.Errorf("%s says %q, want %q", name, family.GetHelp(), desc[1])
				}
			}
			for name := range page {
				_, listed := list[name]
				if !listed && !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
					t.Errorf("%s is on the page but not in the list", name)
				}
			}
		}
	})
}

// unlike tells which metric of a page has not the value it is to have.
func unlike(page map[string]*dto.MetricFamily, want map[string]float64, labels ...string) error {
	var all []error
	for name, value := range want {
		got, err := find(page, name, labels...)
		all = append(all, err, testkit.Check(got == value, "%s is %v, want %v", name, got, value))
	}
	return errors.Join(all...)
}

// What the page says is true of a cluster whose state is known.
func TestMetricsTellTheTruth(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		master := waitMaster(t, all...)
		c := master.dial()
		for i := range 10 {
			c.MustDo(t, "SET", "k"+itoa(i), "v")
		}
		c.MustDo(t, "EXPIRE", "k0", "1000")
		c.MustDo(t, "GET", "k0")
		equalDigests(t, all)
		page := master.scrape()
		if err := unlike(page, map[string]float64{
			"redis_loading_dump_file": 0, "holdfast_settings_differ": 0, "holdfast_apply_panics_total": 0,
			"holdfast_proposal_indoubt_total": 0, "redis_evicted_keys_total": 0, "redis_keyspace_hits_total": 1,
		}); err != nil {
			t.Error(err)
		}
		if err := unlike(page, map[string]float64{"redis_commands_total": 10}, "set"); err != nil {
			t.Error(err)
		}
		for _, name := range []string{
			"holdfast_raft_term", "holdfast_raft_elections_won_total", "holdfast_raft_last_index", "holdfast_raft_commit_index", "holdfast_raft_applied_index",
			"holdfast_log_appends_total", "holdfast_log_entries_total", "holdfast_log_bytes_total", "holdfast_log_bytes_since_snapshot",
			"holdfast_probe_rounds_total", "holdfast_probe_rounds_confirmed_total", "holdfast_fsync_seconds", "holdfast_probe_round_seconds",
			"holdfast_proposals_total", "redis_memory_used_bytes", "redis_uptime_in_seconds", "redis_net_input_bytes_total",
			"redis_commands_duration_seconds_total", "redis_cpu_user_seconds_total", "process_open_fds",
		} {
			if got := reading(t, page, name); got <= 0 {
				t.Errorf("%s is %v", name, got)
			}
		}
		presentTruth(t, all, master)
	})
}

// presentTruth looks at what pages say of the moment, which may be a bad one.
func presentTruth(t testing.TB, all []*member, master *member) {
	t.Helper()
	testkit.Eventually(t, soon, "the master's page is true", func() error {
		page := master.scrape()
		list := []error{
			unlike(page, map[string]float64{
				"redis_up": 1, "redis_connected_slaves": 2, "holdfast_leader": 1, "holdfast_ready": 1, "holdfast_quorum": 1, "holdfast_master_known": 1,
			}),
			unlike(page, map[string]float64{"redis_db_keys": 10, "redis_db_keys_expiring": 1}, "db0"),
		}
		for _, m := range others(all, master) {
			age, err := find(page, "holdfast_peer_contact_age_seconds", m.cfg.NodeID)
			list = append(list, err, testkit.Check(age <= 1, "%s was in contact %v s ago", m.cfg.NodeID, age),
				unlike(page, map[string]float64{"holdfast_peer_contact": 1}, m.cfg.NodeID))
		}
		skew, err := find(page, "holdfast_clock_skew_seconds")
		return errors.Join(append(list, err, testkit.Check(-1 <= skew && skew <= 1, "a clock differs by %v s from its own cluster", skew))...)
	})
	testkit.Eventually(t, soon, "a replica's page is true", func() error {
		page := others(all, master)[0].scrape()
		return errors.Join(
			unlike(page, map[string]float64{"redis_master_link_up": 1}, "127.0.0.1", itoa(master.cfg.Port)),
			unlike(page, map[string]float64{"holdfast_leader": 0}),
			unlike(page, map[string]float64{"redis_db_keys": 10}, "db0"),
		)
	})
}

// The health of a node as load balancers ask for it.
func TestHealthPages(t *testing.T) {
	steadily(t, func(t testing.TB, times []string) {
		all := trio(t, nil, times...)
		master := waitMaster(t, all...)
		for _, m := range all {
			for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/leader": 503, "/nosuch": 404} {
				if path == "/leader" && m == master {
					want = 200
				}
				testkit.Eventually(t, soon, path+" of "+m.cfg.NodeID, func() error {
					got, text := m.httpGet(path)
					return testkit.Check(got == want, "answers %d, %s", got, text)
				})
			}
		}
	})
}
