package respserver

import "strings"

// sentinelSections are the sections of INFO on the Sentinel port, with the fields of a
// real Sentinel in its order.
func sentinelSections() []infoSection {
	return []infoSection{
		{name: "server", title: "Server", write: func(r *report) { r.likeSentinel((*report).server, sentinelServerFields) }},
		{name: "clients", title: "Clients", write: func(r *report) { r.likeSentinel((*report).clients, sentinelClientsFields) }},
		{name: "stats", title: "Stats", write: func(r *report) { r.likeSentinel((*report).stats, sentinelStatsFields) }},
		{name: "cpu", title: "CPU", write: (*report).cpu},
		{name: "sentinel", write: (*report).sentinel},
	}
}

// Fields of INFO of redis-sentinel 7.0.15 in its order, without those about the C
// compiler. Those that stand behind an equals sign have this value where the data port
// does not show them: they count what does not happen here.
const (
	sentinelServerFields = `redis_version redis_git_sha1 redis_git_dirty redis_build_id redis_mode os arch_bits monotonic_clock
		multiplexing_api process_id process_supervised run_id tcp_port server_time_usec uptime_in_seconds uptime_in_days
		hz configured_hz lru_clock executable config_file io_threads_active`
	sentinelClientsFields = `connected_clients cluster_connections maxclients client_recent_max_input_buffer
		client_recent_max_output_buffer blocked_clients tracking_clients clients_in_timeout_table`
	sentinelStatsFields = `total_connections_received total_commands_processed instantaneous_ops_per_sec total_net_input_bytes
		total_net_output_bytes total_net_repl_input_bytes=0 total_net_repl_output_bytes=0 instantaneous_input_kbps
		instantaneous_output_kbps instantaneous_input_repl_kbps=0.00 instantaneous_output_repl_kbps=0.00 rejected_connections
		sync_full sync_partial_ok sync_partial_err expired_keys expired_stale_perc=0.00 expired_time_cap_reached_count=0
		expire_cycle_cpu_milliseconds=0 evicted_keys evicted_clients total_eviction_exceeded_time=0
		current_eviction_exceeded_time=0 keyspace_hits keyspace_misses pubsub_channels pubsub_patterns pubsubshard_channels=0
		latest_fork_usec total_forks migrate_cached_sockets=0 slave_expires_tracked_keys=0 active_defrag_hits=0
		active_defrag_misses=0 active_defrag_key_hits=0 active_defrag_key_misses=0 total_active_defrag_time=0
		current_active_defrag_time=0 tracking_total_keys=0 tracking_total_items=0 tracking_total_prefixes=0
		unexpected_error_replies total_error_replies dump_payload_sanitizations=0 total_reads_processed=0
		total_writes_processed=0 io_threaded_reads_processed=0 io_threaded_writes_processed=0 reply_buffer_shrinks=0
		reply_buffer_expands=0`
)

// likeSentinel writes what write does with the fields in the given order; further ones
// follow.
func (r *report) likeSentinel(write func(r *report), order string) {
	own := report{c: r.c, info: r.info, have: r.have}
	write(&own)
	r.info, r.have = own.info, own.have
	values := map[string]string{}
	var names []string
	for line := range strings.Lines(own.text.String()) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		values[name] = value
		names = append(names, name)
	}
	for field := range strings.FieldsSeq(order) {
		name, absent, _ := strings.Cut(field, "=")
		value, ok := values[name]
		if !ok {
			value = absent
		}
		r.line(name, value)
		delete(values, name)
	}
	for _, name := range names {
		if value, ok := values[name]; ok {
			r.line(name, value)
		}
	}
}
