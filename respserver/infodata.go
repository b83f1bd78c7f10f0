package respserver

import (
	"cmp"
	"fmt"
	"strings"
)

// flag is a truth as INFO shows it.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (r *report) persistence() {
	loading := false
	if roles := r.c.srv.cfg.Roles; roles != nil {
		loading = roles.Role().Loading
	}
	st := SaveStatus{LastOK: true, LastSeconds: -1}
	if p := r.c.srv.cfg.Persist; p != nil {
		st = p.Status()
	}
	status := "ok"
	if !st.LastOK {
		status = "err"
	}
	r.line("loading", flag(loading))
	r.line("async_loading", 0)
	r.line("rdb_changes_since_last_save", st.Changes)
	r.line("rdb_bgsave_in_progress", flag(st.Running))
	r.line("rdb_last_save_time", st.LastUnix)
	r.line("rdb_last_bgsave_status", status)
	r.line("rdb_last_bgsave_time_sec", st.LastSeconds)
	r.line("rdb_current_bgsave_time_sec", -1)
	r.line("rdb_saves", st.Saves)
	r.line("aof_enabled", 1) // the log is on disk before a write is answered
	r.line("aof_rewrite_in_progress", 0)
	r.line("aof_rewrite_scheduled", 0)
	r.line("aof_last_bgrewrite_status", status)
	r.line("aof_last_write_status", "ok")
}

func (r *report) stats() {
	s := r.c.srv
	st := s.Stats()
	ops, in, out := s.counters.rate.perSecond()
	channels, patterns := 0, 0
	if h := s.cfg.Hub; h != nil {
		channels, patterns = len(h.Channels("")), h.NumPat()
	}
	r.line("total_connections_received", st.Received)
	r.line("total_commands_processed", st.Commands)
	r.line("instantaneous_ops_per_sec", int64(ops))
	r.line("total_net_input_bytes", st.NetIn)
	r.line("total_net_output_bytes", st.NetOut)
	r.line("instantaneous_input_kbps", fmt.Sprintf("%.2f", in/1024))
	r.line("instantaneous_output_kbps", fmt.Sprintf("%.2f", out/1024))
	r.line("rejected_connections", st.Refused)
	r.line("sync_full", 0)
	r.line("sync_partial_ok", 0)
	r.line("sync_partial_err", 0)
	r.line("expired_keys", r.node().Expired)
	r.line("evicted_keys", 0)
	r.line("evicted_clients", 0)
	r.line("keyspace_hits", st.Hits)
	r.line("keyspace_misses", st.Misses)
	r.line("pubsub_channels", channels)
	r.line("pubsub_patterns", patterns)
	r.line("latest_fork_usec", 0)
	r.line("total_forks", 0)
	r.line("tracking_total_keys", st.Tracking.Keys)
	r.line("tracking_total_items", st.Tracking.Items)
	r.line("tracking_total_prefixes", st.Tracking.Prefixes)
	r.line("unexpected_error_replies", 0)
	r.line("total_error_replies", st.Errors)
	r.line("client_output_buffer_limit_disconnections", st.TooSlow)
	r.line("internal_errors", st.Panics)
}

// noReplID stands where Redis shows the identity of a replication stream it
// does not have.
var noReplID = strings.Repeat("0", 40)

// replication says master only if that was confirmed after the client asked.
func (r *report) replication() {
	s := r.c.srv
	role := r.c.confirmedRole()
	index, history := uint64(0), ""
	if s.cfg.Replication != nil {
		index, history = s.cfg.Replication.Index(), s.cfg.Replication.History()
	}
	if role.Master {
		r.line("role", "master")
		r.replicas()
	} else {
		r.master(role, index)
		r.line("connected_slaves", 0)
	}
	state := "no-failover"
	if role.HandingOver {
		state = "failover-in-progress"
	}
	r.line("master_failover_state", state)
	r.line("master_replid", cmp.Or(history, noReplID))
	r.line("master_replid2", noReplID)
	r.line("master_repl_offset", index)
	r.line("second_repl_offset", -1)
	r.line("repl_backlog_active", 0)
	r.line("repl_backlog_size", 0)
	r.line("repl_backlog_first_byte_offset", 0)
	r.line("repl_backlog_histlen", 0)
}

// replicas are the lines about replicas that answer.
func (r *report) replicas() {
	up := r.c.srv.replicas()
	r.line("connected_slaves", len(up))
	for i, p := range up {
		r.line(fmt.Sprintf("slave%d", i), fmt.Sprintf("ip=%s,port=%d,state=online,offset=%d,lag=%d", p.Host, p.Port, p.Acked, p.Lag))
	}
}

// replicas are those that answer.
func (s *Server) replicas() []ReplicaState {
	if s.cfg.Replication == nil {
		return nil
	}
	var up []ReplicaState
	for _, p := range s.cfg.Replication.Replicas() {
		if p.Up {
			up = append(up, p)
		}
	}
	return up
}

// master are the lines about the master of this replica.
func (r *report) master(role Role, index uint64) {
	status := "down"
	if role.LinkUp {
		status = "up"
	}
	r.line("role", "slave")
	r.line("master_host", role.MasterHost)
	r.line("master_port", role.MasterPort)
	r.line("master_link_status", status)
	r.line("master_last_io_seconds_ago", flag(role.LinkUp)-1)
	r.line("master_sync_in_progress", flag(role.Loading))
	r.line("slave_read_repl_offset", index)
	r.line("slave_repl_offset", index)
	if !role.LinkUp {
		r.line("master_link_down_since_seconds", -1)
	}
	r.line("slave_priority", r.c.srv.tuning().ReplicaPriority)
	r.line("slave_read_only", 1)
	r.line("replica_announced", 1)
}

func (r *report) commandStats() {
	for _, e := range r.c.srv.table.sorted {
		calls, nanos := e.calls.Load(), e.nanos.Load()
		rejected, failed := e.rejected.Load(), e.failed.Load()
		if calls == 0 && rejected == 0 {
			continue
		}
		usec := nanos / 1000
		r.line("cmdstat_"+e.name, fmt.Sprintf("calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d",
			calls, usec, float64(usec)/float64(max(calls, 1)), rejected, failed))
	}
}

func (r *report) errorStats() {
	for _, e := range r.c.srv.errors.list() {
		r.line("errorstat_"+e.code, fmt.Sprintf("count=%d", e.n))
	}
}

func (r *report) keyspace() {
	for i, db := range r.node().Store.Databases {
		if db.Keys > 0 {
			r.line(fmt.Sprintf("db%d", i), fmt.Sprintf("keys=%d,expires=%d,avg_ttl=%d", db.Keys, db.Expiring, db.AverageLife))
		}
	}
}
