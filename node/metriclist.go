package node

import (
	"os"
	"strconv"
	"syscall"

	"github.com/holdfast/holdfast/respserver"
)

// metrics are the metrics without labels that the node itself gives; those of
// the data port come from its server. Names are those of redis_exporter where it
// has one.
var metrics = []metric{
	{"redis_up", "1 while the node answers.", gauge, func(*sample) float64 { return 1 }},
	{"redis_uptime_in_seconds", "Seconds since the node was started.", gauge, func(s *sample) float64 { return s.uptime }},
	{"redis_start_time_seconds", "When the node was started, seconds since the epoch.", gauge, func(s *sample) float64 { return s.wall - s.uptime }},
	{"redis_process_id", "The process id.", gauge, func(*sample) float64 { return float64(os.Getpid()) }},
	{"redis_cpu_sys_seconds_total", "Processor time of the process in the kernel.", counter, func(*sample) float64 { sys, _ := processor(); return sys }},
	{"redis_cpu_user_seconds_total", "Processor time of the process outside the kernel.", counter, func(*sample) float64 { _, user := processor(); return user }},
	{"redis_loading_dump_file", "1 while the state has not caught up since the start.", gauge, func(s *sample) float64 { return number(s.role.Loading) }},
	{"redis_memory_used_bytes", "Memory that keys and values take.", gauge, func(s *sample) float64 { return float64(s.store.UsedBytes) }},
	{"redis_memory_max_bytes", "Limit of that memory, 0 for none.", gauge, func(*sample) float64 { return 0 }},
	{"redis_expired_keys_total", "Keys removed because their deadline had come.", counter, func(s *sample) float64 { return float64(s.fsm.Expired) }},
	{"redis_evicted_keys_total", "Keys evicted; Holdfast never evicts.", counter, func(*sample) float64 { return 0 }},
	{"redis_connected_slaves", "Other nodes that answer, seen from the master.", gauge, func(s *sample) float64 { return float64(len(s.slaves())) }},
	{"redis_master_repl_offset", "The log index this node's state has reached.", gauge, func(s *sample) float64 { return float64(s.applied) }},
	{"redis_rdb_last_save_timestamp_seconds", "When the last snapshot was finished.", gauge, func(s *sample) float64 { return float64(s.saves.LastUnix) }},
	{"redis_rdb_bgsave_in_progress", "1 while a snapshot is made.", gauge, func(s *sample) float64 { return number(s.raft.Snapshots.Running) }},
	{"redis_rdb_last_bgsave_status", "1 if the last snapshot succeeded.", gauge, func(s *sample) float64 { return number(s.saves.LastOK) }},
	{"redis_rdb_last_bgsave_duration_sec", "How long the last snapshot took, -1 before the first.", gauge, func(s *sample) float64 { return float64(s.saves.LastSeconds) }},
	{"redis_rdb_changes_since_last_save", "Commands applied since the last snapshot.", gauge, func(s *sample) float64 { return float64(s.saves.Changes) }},

	{"holdfast_leader", "1 if this node serves as master.", gauge, func(s *sample) float64 { return number(s.role.Master) }},
	{"holdfast_ready", "1 once the node has caught up since its start.", gauge, func(s *sample) float64 { return number(s.view.Ready) }},
	{"holdfast_quorum", "1 while this node has contact with a majority.", gauge, func(s *sample) float64 { return number(s.view.Quorum) }},
	{"holdfast_master_known", "1 while this node can name a master.", gauge, func(s *sample) float64 { return number(s.view.Leader != "") }},
	{"holdfast_announced_local", "1 if this node announces an address that leads other machines to themselves, and some have been told.", gauge, func(s *sample) float64 { return number(s.node.misleading()) }},
	{"holdfast_settings_differ", "1 if the cluster's settings are others than this node was started with.", gauge, func(s *sample) float64 { return number(s.node.differs()) }},
	{"holdfast_clock_skew_seconds", "This node's wall clock minus cluster time; 0 until it has heard that.", gauge, func(s *sample) float64 { return s.skew() }},
	{"holdfast_clock_agreement", "1 while a majority of the voters' wall clocks agree within a second; without it cluster time follows none of them.", gauge, func(s *sample) float64 { return number(s.steering.Agreed) }},
	{"holdfast_clock_correction_seconds", "How far the median of the voters' wall clocks is ahead of cluster time; 0 as long as too few are heard to tell.", gauge, func(s *sample) float64 { return s.steering.Ahead.Seconds() }},
	{"holdfast_clock_steps_total", "How often cluster time has followed a majority of the wall clocks over more than a second while this node was master.", counter, func(s *sample) float64 { return float64(s.fsm.Steps) }},

	{"holdfast_raft_term", "The term this node is in.", gauge, func(s *sample) float64 { return float64(s.raft.Term) }},
	{"holdfast_raft_last_index", "Index of the last entry of this node's log.", gauge, func(s *sample) float64 { return float64(s.raft.LastIndex) }},
	{"holdfast_raft_commit_index", "Index up to which this node knows entries to be committed.", gauge, func(s *sample) float64 { return float64(s.raft.CommitIndex) }},
	{"holdfast_raft_applied_index", "Index up to which raft has handed entries to the state.", gauge, func(s *sample) float64 { return float64(s.raft.AppliedIndex) }},
	{"holdfast_raft_snapshot_index", "Index of the last entry in this node's newest snapshot.", gauge, func(s *sample) float64 { return float64(s.raft.SnapshotIndex) }},
	{"holdfast_raft_elections_won_total", "Elections this node has won.", counter, func(s *sample) float64 { return float64(s.raft.Elections) }},
	{"holdfast_log_appends_total", "Appends to this node's log, each with an fsync.", counter, func(s *sample) float64 { return float64(s.raft.Log.Appends) }},
	{"holdfast_log_entries_total", "Entries appended to this node's log.", counter, func(s *sample) float64 { return float64(s.raft.Log.Entries) }},
	{"holdfast_log_bytes_total", "Bytes of commands appended to this node's log.", counter, func(s *sample) float64 { return float64(s.raft.Log.Bytes) }},
	{"holdfast_log_bytes_since_snapshot", "Bytes of the log that are in no snapshot yet.", gauge, func(s *sample) float64 { return float64(s.raft.Log.SinceSnapshot) }},
	{"holdfast_log_append_outstanding_seconds", "For how long an append to the log has been under way, 0 if none is.", gauge, func(s *sample) float64 { return s.raft.Log.Outstanding.Seconds() }},
	{"holdfast_log_slow_appends_total", "Appends to this node's log that took longer than a quarter of the election timeout.", counter, func(s *sample) float64 { return float64(s.raft.Log.Slow) }},
	{"holdfast_fsync_p999_seconds", "What 99.9 % of the last 2,000 appends to this node's log took at most, fsync included. It should stay below a quarter of the election timeout.", gauge, func(s *sample) float64 { return s.raft.Log.Slowest.Seconds() }},
	{"holdfast_disk_free_bytes", "Bytes free on the disk of the data directory, beside the reserve.", gauge, func(s *sample) float64 { return float64(s.raft.Disk.Free) }},
	{"holdfast_disk_low", "1 while too little of this node's disk is free.", gauge, func(s *sample) float64 { return number(s.raft.Disk.Low) }},
	{"holdfast_disk_reserve", "1 while this node has its reserve of disk space; 0 after it had to be given up.", gauge, func(s *sample) float64 { return number(s.raft.Disk.Reserve) }},
	{"holdfast_writes_refused", "1 while this master takes no writes because a disk is low.", gauge, func(s *sample) float64 { return number(s.role.DiskShort) }},
	{"holdfast_probe_rounds_total", "Rounds begun to confirm this node as master, however they ended.", counter, func(s *sample) float64 { return float64(s.raft.Rounds.Begun) }},
	{"holdfast_probe_rounds_confirmed_total", "Rounds that confirmed this node as master.", counter, func(s *sample) float64 { return float64(s.raft.Rounds.Confirmed) }},
	{"holdfast_probe_rounds_failed_total", "Rounds that did not confirm this node as master.", counter, func(s *sample) float64 { return float64(s.raft.Rounds.Failed) }},
	{"holdfast_probe_rounds_widened_total", "Rounds that asked more nodes than the fewest because those were late.", counter, func(s *sample) float64 { return float64(s.raft.Rounds.Widened) }},
	{"holdfast_lease", "1 while this master confirms itself by its lease.", gauge, func(s *sample) float64 { return number(s.raft.Lease.Off == "") }},
	{"holdfast_lease_confirmations_total", "Confirmations by the lease, without a message.", counter, func(s *sample) float64 { return float64(s.raft.Lease.Used) }},
	{"holdfast_lease_misses_total", "Confirmations that had to ask other nodes although read-mode is lease.", counter, func(s *sample) float64 { return float64(s.raft.Lease.Missed) }},
	{"holdfast_votes_withheld_total", "Votes this node has not given because it had lately heard from a leader, or was just started.", counter, func(s *sample) float64 { return float64(s.raft.Lease.Withheld) }},
	{"holdfast_snapshots_total", "Snapshots made by this node.", counter, func(s *sample) float64 { return float64(s.raft.Snapshots.Made) }},
	{"holdfast_snapshot_errors_total", "Snapshots of this node that failed.", counter, func(s *sample) float64 { return float64(s.raft.Snapshots.Failed) }},

	{"holdfast_apply_level", "The apply level of the cluster, as far as this node has applied the log.", gauge, func(s *sample) float64 { return float64(s.node.fsm.Level()) }},
	{"holdfast_apply_level_spoken", "The highest apply level this node's release speaks. The cluster's is raised to the lowest of these.", gauge, func(s *sample) float64 { return float64(s.node.self.Level) }},
	{"holdfast_entries_applied_total", "Entries of the log this node has applied since its start.", counter, func(s *sample) float64 { return float64(s.fsm.Entries) }},
	{"holdfast_commands_applied_total", "Commands this node has applied since its start, those of transactions included.", counter, func(s *sample) float64 { return float64(s.fsm.Commands) }},
	{"holdfast_riding_reads_total", "Reads answered beside an entry of the log.", counter, func(s *sample) float64 { return float64(s.fsm.Reads) }},
	{"holdfast_apply_panics_total", "Commands that panicked and were undone. Anything but 0 is a defect.", counter, func(s *sample) float64 { return float64(s.fsm.Panics) }},
	{"holdfast_digest_checkpoints_total", "Checkpoints at which this node has computed the digest of its state.", counter, func(s *sample) float64 { return float64(s.node.audit.stats.checkpoints.Load()) }},
	{"holdfast_digest_checkpoint_index", "Log index of the last of these checkpoints.", gauge, func(s *sample) float64 { return float64(s.node.audit.stats.index.Load()) }},
	{"holdfast_digest_agreed_index", "Log index of the last checkpoint at which most nodes had the same digest as this one.", gauge, func(s *sample) float64 { return float64(s.node.audit.stats.agreed.Load()) }},
	{"holdfast_digest_differs", "1 if at the last checkpoint that was compared a node had another digest. Anything but 0 is damage.", gauge, func(s *sample) float64 { return number(s.node.audit.stats.differs.Load()) }},
	{"holdfast_digest_seconds", "How long computing the last digest took.", gauge, func(s *sample) float64 { return float64(s.node.audit.stats.took.Load()) / 1e9 }},
	{"holdfast_handovers_total", "Planned handovers of the leadership that this node has completed.", counter, func(s *sample) float64 { return float64(s.node.handovers.count.done.Load()) }},
	{"holdfast_handovers_failed_total", "Planned handovers of the leadership that this node has given up.", counter, func(s *sample) float64 { return float64(s.node.handovers.count.failed.Load()) }},
	{"holdfast_forwarded_batches_total", "Batches of commands passed on to the master.", counter, func(s *sample) float64 { return float64(s.node.relay.stats.passed.Load()) }},
	{"holdfast_forward_retries_total", "Attempts to pass commands on that were refused because the node was not the master.", counter, func(s *sample) float64 { return float64(s.node.relay.stats.again.Load()) }},
	{"holdfast_proposals_total", "Entries handed to raft.", counter, func(s *sample) float64 { return float64(s.proposer.Entries) }},
	{"holdfast_proposal_bytes_total", "Bytes of the entries handed to raft.", counter, func(s *sample) float64 { return float64(s.proposer.Bytes) }},
	{"holdfast_proposal_requests_total", "Client requests that were applied here from entries this node proposed.", counter, func(s *sample) float64 { return float64(s.proposer.Requests) }},
	{"holdfast_proposal_refused_total", "Client requests that ended as definitely not executed.", counter, func(s *sample) float64 { return float64(s.proposer.Refused) }},
	{"holdfast_proposal_indoubt_total", "Client requests that ended INDOUBT.", counter, func(s *sample) float64 { return float64(s.proposer.InDoubt) }},
	{"holdfast_proposal_timeouts_total", "Entries that raft did not resolve in time.", counter, func(s *sample) float64 { return float64(s.proposer.Timeouts) }},
	{"holdfast_proposal_queue", "Batches waiting to be proposed.", gauge, func(s *sample) float64 { return float64(s.proposer.Queued) }},
	{"holdfast_proposals_in_flight", "Entries in raft's hands.", gauge, func(s *sample) float64 { return float64(s.proposer.Flying) }},
	{"holdfast_ticks_total", "Expiry ticks proposed.", counter, func(s *sample) float64 { return float64(s.proposer.Ticks) }},
	{"holdfast_sentinel_connected_clients", "Clients of the Sentinel port.", gauge, func(s *sample) float64 { return float64(s.sentinel.Connected) }},
	{"holdfast_sentinel_pubsub_clients", "Clients of the Sentinel port with subscriptions.", gauge, func(s *sample) float64 { return float64(s.sentinel.PubSub) }},
	{"holdfast_sentinel_commands_total", "Commands carried out on the Sentinel port.", counter, func(s *sample) float64 { return float64(s.sentinel.Commands) }},
}

// families are the metrics with labels that the node itself gives.
var families = []family{
	{"redis_instance_info", "What the node is; always 1.", []string{"role", "redis_version", "redis_mode", "holdfast_version", "run_id"}, func(s *sample, send func(float64, ...string)) {
		send(1, roleName(s.role.Master), redisVersion, "standalone", s.node.version, s.node.self.RunID)
	}},
	{"redis_db_keys", "Keys by database.", []string{"db"}, func(s *sample, send func(float64, ...string)) {
		for i := range s.store.Databases {
			send(float64(s.store.Databases[i].Keys), database(i))
		}
	}},
	{"redis_db_keys_expiring", "Keys with a deadline by database.", []string{"db"}, func(s *sample, send func(float64, ...string)) {
		for i := range s.store.Databases {
			send(float64(s.store.Databases[i].Expiring), database(i))
		}
	}},
	{"redis_db_avg_ttl_seconds", "Mean time to the deadline by database, from a sample.", []string{"db"}, func(s *sample, send func(float64, ...string)) {
		for i := range s.store.Databases {
			send(float64(s.store.Databases[i].AverageLife)/1000, database(i))
		}
	}},
	{"redis_slave_info", "The master of this replica; always 1. Absent on the master.", []string{"master_host", "master_port", "read_only"}, func(s *sample, send func(float64, ...string)) {
		if !s.role.Master {
			send(1, s.role.MasterHost, strconv.Itoa(s.role.MasterPort), "1")
		}
	}},
	{"redis_master_link_up", "1 while this replica has contact with the master. Absent on the master.", []string{"master_host", "master_port"}, func(s *sample, send func(float64, ...string)) {
		if !s.role.Master {
			send(number(s.role.LinkUp), s.role.MasterHost, strconv.Itoa(s.role.MasterPort))
		}
	}},
	{"redis_connected_slave_offset_bytes", "Log index up to which a replica has acknowledged this master's log. Absent on replicas.", []string{"slave_ip", "slave_port", "slave_state"}, func(s *sample, send func(float64, ...string)) {
		for _, r := range s.slaves() {
			send(float64(r.Acked), r.Host, strconv.Itoa(r.Port), "online")
		}
	}},
	{"redis_connected_slave_lag_seconds", "Seconds since a replica has answered this master. Absent on replicas.", []string{"slave_ip", "slave_port", "slave_state"}, func(s *sample, send func(float64, ...string)) {
		for _, r := range s.slaves() {
			send(float64(r.Lag), r.Host, strconv.Itoa(r.Port), "online")
		}
	}},
	{"holdfast_lease_off", "Why the lease does not hold: 1 for the present reason, absent while it holds.", []string{"reason"}, func(s *sample, send func(float64, ...string)) {
		if why := s.raft.Lease.Off; why != "" {
			send(1, why)
		}
	}},
	{"holdfast_peer_contact", "1 while another node answers this one's pings.", []string{"peer"}, func(s *sample, send func(float64, ...string)) {
		for i := range s.view.Peers {
			send(number(s.view.Peers[i].Contact), s.view.Peers[i].ID)
		}
	}},
	{"holdfast_peer_contact_age_seconds", "Seconds since the last ping that another node has answered, or since this node's start.", []string{"peer"}, func(s *sample, send func(float64, ...string)) {
		for i := range s.view.Peers {
			send(s.view.Peers[i].Age.Seconds(), s.view.Peers[i].ID)
		}
	}},
	{"holdfast_peer_lag_entries", "How many entries of the log another node's state was behind this one's when it last answered.", []string{"peer"}, func(s *sample, send func(float64, ...string)) {
		for i := range s.view.Peers {
			p := &s.view.Peers[i]
			send(float64(s.applied-min(s.applied, p.Applied)), p.ID)
		}
	}},
	{"holdfast_peer_clock_skew_seconds", "Another node's wall clock minus cluster time, to within half of the round trip.", []string{"peer"}, func(s *sample, send func(float64, ...string)) {
		for i := range s.skews {
			if s.skews[i].id != s.node.self.ID {
				send(s.skews[i].by.Seconds(), s.skews[i].id)
			}
		}
	}},
}

// slaves are the replicas that answer, if this node is master.
func (s *sample) slaves() (up []respserver.ReplicaState) {
	if !s.role.Master {
		return nil
	}
	for _, r := range (replication{s.node}).Replicas() {
		if r.Up {
			up = append(up, r)
		}
	}
	return up
}

// processor is the processor time of this process, s.
func processor() (sys, user float64) {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0, 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Stime), seconds(u.Utime)
}

func database(i int) string { return "db" + strconv.Itoa(i) }

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
