package integration_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
)

// P8: a replica refuses writes and answers everything else as a Redis replica does.
func TestReplicaRepliesEqualRealOnes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	// A replica that has become master meanwhile answers as one.
	testkit.Tries(t, 3, func(t testing.TB) { compareReplicas(t, start(t, testkit.ClusterOptions{})) })
}

// compareReplicas compares the replies of a replica with those of a real one.
func compareReplicas(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	primary := testkit.StartRedis(t)
	real1 := testkit.StartReplica(t, primary)
	at := c.WaitMaster(formLimit)
	want, got := testkit.MustDial(t, real1.Addr()), testkit.MustDial(t, c.Nodes[(at+1)%3].Addr())
	for _, pair := range [][2]*testkit.Client{{master(t, c), got}, {testkit.MustDial(t, primary.Addr()), want}} {
		pair[0].MustDo(t, "SET", "a", "1")
		testkit.Eventually(t, formLimit, "the replica has the key", func() error {
			r, err := pair[1].Do("GET", "a")
			return errors.Join(err, testkit.Check(string(r.Text) == "1", "it holds %v", r))
		})
	}
	for _, line := range []string{
		"SET a b", "SETEX a 10 b", "GETEX a EX 5", "GETDEL a", "INCR a", "APPEND a b", "EXPIRE a 5", "PERSIST a", "DEL a", "UNLINK a",
		"RENAME a b", "FLUSHDB", "FLUSHALL", "MSET a b c d", "COPY a b", "MOVE a 1", "SWAPDB 0 1",
		"PING", "GET a", "EXISTS a", "TTL a", "TYPE a", "STRLEN a", "MGET a b", "DBSIZE", "TOUCH a", "SELECT 1", "SELECT 0", "KEYS *",
		"MULTI", "SET a b", "EXEC", "MULTI", "GET a", "EXEC", "MULTI", "GET a", "SET a b", "DISCARD",
		"WATCH a", "UNWATCH", "READONLY", "READWRITE", "SENTINEL MASTERS", "nosuch", "SET a", "GET",
	} {
		args := strings.Fields(line)
		theirs, wantErr := want.Do(args...)
		ours, gotErr := got.Do(args...)
		if theirs.String() != ours.String() {
			t.Errorf("%s: got %v, want %v (%v, %v)", line, ours, theirs, gotErr, wantErr)
		}
	}
	role := got.MustDo(t, "ROLE")
	if len(role.Elems) != 5 || string(role.Elems[0].Text) != "slave" || role.Elems[2].Int() != int64(c.Nodes[at].Port) || string(role.Elems[3].Text) != "connected" {
		t.Errorf("ROLE answers %v", role)
	}
	info := testkit.ParseInfo(string(got.MustDo(t, "INFO").Text))
	for field, value := range map[string]string{
		"role": "slave", "master_host": "127.0.0.1", "master_port": fmt.Sprint(c.Nodes[at].Port), "master_link_status": "up",
		"redis_mode": "standalone", "loading": "0", "slave_read_only": "1",
	} {
		if info[field] != value {
			t.Errorf("INFO says %s:%s, want %s", field, info[field], value)
		}
	}
}

// sections are the section names of INFO's text, and the field names of each.
func sections(text string) map[string][]string {
	found := map[string][]string{}
	name := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if head, ok := strings.CutPrefix(line, "# "); ok {
			name = head
			found[name] = nil
		} else if field, _, ok := strings.Cut(line, ":"); ok {
			found[name] = append(found[name], field)
		}
	}
	return found
}

// P8: INFO has the sections of Redis and "# Raft", the fields that clients and
// tools read are there, and a section with the name of one of Redis's has no
// fields that Redis does not have, but for those that say so in their name.
func TestInfoFieldsAreRedisOnes(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	// A master that is deposed meanwhile closes its connections.
	testkit.Tries(t, 3, func(t testing.TB) { compareInfo(t, start(t, testkit.ClusterOptions{})) })
}

// compareInfo compares the fields of INFO on the master with the real ones.
func compareInfo(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	oracle := testkit.StartRedis(t)
	theirClient, ourClient := testkit.MustDial(t, oracle.Addr()), master(t, c)
	for _, client := range []*testkit.Client{theirClient, ourClient} {
		client.MustDo(t, "SET", "a", "b", "EX", "100")
	}
	theirs := sections(string(theirClient.MustDo(t, "INFO", "everything").Text))
	ours := sections(string(ourClient.MustDo(t, "INFO", "everything").Text))
	for _, name := range []string{"Server", "Clients", "Memory", "Persistence", "Stats", "Replication", "CPU", "Commandstats", "Errorstats", "Keyspace", "Cluster", "Raft"} {
		if _, ok := ours[name]; !ok {
			t.Errorf("no section %s", name)
		}
	}
	slave := func(f string) bool { return strings.HasPrefix(f, "slave") && strings.Trim(f, "slave0123456789") == "" }
	own := func(f string) bool {
		return strings.Contains(f, "holdfast") || strings.HasPrefix(f, "cmdstat_") || strings.HasPrefix(f, "errorstat_") || slave(f) || slices.Contains(ownFields, f)
	}
	for name, fields := range ours {
		known, ok := theirs[name]
		if !ok {
			continue
		}
		for _, f := range fields {
			if !own(f) && !slices.Contains(known, f) && !slices.Contains(newerFields, f) {
				t.Errorf("section %s has a field %s that Redis has not", name, f)
			}
		}
	}
	all := testkit.ParseInfo(string(ourClient.MustDo(t, "INFO").Text))
	for _, f := range []string{
		"redis_version", "redis_mode", "os", "process_id", "run_id", "tcp_port", "uptime_in_seconds", "config_file", "holdfast_version",
		"connected_clients", "maxclients", "blocked_clients", "used_memory", "used_memory_human", "used_memory_rss", "maxmemory", "maxmemory_policy",
		"loading", "rdb_bgsave_in_progress", "rdb_last_save_time", "aof_enabled",
		"total_connections_received", "total_commands_processed", "instantaneous_ops_per_sec", "total_net_input_bytes", "total_net_output_bytes",
		"rejected_connections", "expired_keys", "evicted_keys", "keyspace_hits", "keyspace_misses",
		"role", "connected_slaves", "slave0", "master_replid", "master_repl_offset", "used_cpu_sys", "used_cpu_user", "cluster_enabled", "db0",
	} {
		if _, ok := all[f]; !ok {
			t.Errorf("INFO has no %s", f)
		}
	}
	if !strings.HasPrefix(all["redis_version"], "7.2.") {
		t.Errorf("redis_version is %s", all["redis_version"])
	}
	if !strings.HasPrefix(all["db0"], "keys=1,expires=1,avg_ttl=") {
		t.Errorf("db0 is %s", all["db0"])
	}
}

// newerFields are those that Redis has had since after the oracle's version.
var newerFields = []string{
	"redis_git_dirty", "availability_zone", "total_watched_keys", "watching_clients", "evicted_scripts", "current_eviction_exceeded_time",
	"acl_access_denied_auth", "acl_access_denied_cmd", "acl_access_denied_key", "acl_access_denied_channel", "pubsubshard_channels",
	"expired_subkeys", "rdb_saves", "async_loading", "number_of_cached_scripts", "number_of_functions", "number_of_libraries",
	"used_memory_vm_eval", "used_memory_vm_functions", "used_memory_vm_total", "used_memory_functions", "used_memory_scripts",
	"total_eviction_exceeded_time", "unexpected_error_replies", "total_error_replies", "dump_payload_sanitizations", "tracking_total_items",
	"reply_buffer_shrinks", "reply_buffer_expands", "eventloop_cycles", "eventloop_duration_sum", "eventloop_duration_cmd_sum",
	"instantaneous_eventloop_cycles_per_sec", "instantaneous_eventloop_duration_usec", "clients_in_timeout_table", "pubsub_clients",
	"client_query_buffer_limit_disconnections", "client_output_buffer_limit_disconnections",
}

// ownFields are ours beside Redis's, of the kind that belongs to their section.
var ownFields = []string{"go_version", "node_id", "pending_output_bytes", "internal_errors"}

// A node's HTTP port serves the metrics under the names that dashboards for Redis
// know, and pages for load balancers: every healthy node is live and ready, and
// exactly one of them is the leader.
func TestMetricsAndHealthPages(t *testing.T) {
	if testing.Short() {
		t.Skip("starts processes")
	}
	// While a master is elected nobody is ready.
	testkit.Tries(t, 3, func(t testing.TB) { lookAtPages(t, start(t, testkit.ClusterOptions{})) })
}

// lookAtPages looks at every page of every node's HTTP port.
func lookAtPages(t testing.TB, c *testkit.Cluster) {
	t.Helper()
	m := master(t, c)
	m.MustDo(t, "SET", "a", "b", "EX", "100")
	m.MustDo(t, "GET", "a")
	leaders := 0
	for i, n := range c.Nodes {
		for _, page := range []string{"/healthz", "/readyz"} {
			if status, text := fetch(t, n.MetricsURL()+page); status != http.StatusOK {
				t.Errorf("%s%s: %d %s", n.ID, page, status, text)
			}
		}
		status, _ := fetch(t, n.MetricsURL()+"/leader")
		if status == http.StatusOK {
			leaders++
			if i != c.WaitMaster(formLimit) {
				t.Errorf("%s says on /leader that it is, but is not the master", n.ID)
			}
		}
		status, text := fetch(t, n.MetricsURL()+"/metrics")
		if status != http.StatusOK {
			t.Fatalf("%s/metrics: %d", n.ID, status)
		}
		for _, name := range []string{
			"redis_up 1", "redis_uptime_in_seconds", "redis_connected_clients", "redis_memory_used_bytes", "redis_db_keys{", "redis_db_keys_expiring{",
			"redis_expired_keys_total", "redis_keyspace_hits_total", "redis_keyspace_misses_total", "redis_net_input_bytes_total", "redis_net_output_bytes_total",
			"holdfast_",
		} {
			if !strings.Contains(text, "\n"+name) {
				t.Errorf("%s/metrics has no %s", n.ID, name)
			}
		}
		if i == c.WaitMaster(formLimit) && !strings.Contains(text, `redis_commands_total{cmd="set"} 1`) {
			t.Errorf("%s/metrics does not count the SET", n.ID)
		}
	}
	if leaders != 1 {
		t.Errorf("%d nodes say on /leader that they are", leaders)
	}
}

func fetch(t testing.TB, url string) (status int, text string) {
	t.Helper()
	status, text, err := fetched(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	return status, text
}
