package respserver

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// infoSection is one section of INFO, written as "# Title" and lines of
// "name:value".
type infoSection struct {
	name  string // as it is asked for
	title string // empty if write writes the heading too
	extra bool   // not part of what INFO shows without arguments
	write func(r *report)
}

// report is an answer of INFO being written.
type report struct {
	c    *client
	text strings.Builder
	info Info // asked of the node once, when the first section needs it
	have bool
}

func (r *report) line(name string, value any) {
	fmt.Fprintf(&r.text, "%s:%v\r\n", name, value)
}

func (r *report) pairs(list []Pair) {
	for _, p := range list {
		r.line(p.Name, p.Value)
	}
}

// node is what only the node knows.
func (r *report) node() *Info {
	if !r.have && r.c.srv.cfg.Info != nil {
		r.info, r.have = r.c.srv.cfg.Info.Info(), true
	}
	return &r.info
}

// dataSections are the sections of the data port in the order they are shown.
func dataSections() []infoSection {
	return []infoSection{
		{name: "server", title: "Server", write: (*report).server},
		{name: "clients", title: "Clients", write: (*report).clients},
		{name: "memory", title: "Memory", write: (*report).memory},
		{name: "persistence", title: "Persistence", write: (*report).persistence},
		{name: "stats", title: "Stats", write: (*report).stats},
		{name: "replication", title: "Replication", write: (*report).replication},
		{name: "cpu", title: "CPU", write: (*report).cpu},
		{name: "modules", title: "Modules", write: func(*report) {}},
		{name: "commandstats", title: "Commandstats", extra: true, write: (*report).commandStats},
		{name: "errorstats", title: "Errorstats", write: (*report).errorStats},
		{name: "cluster", title: "Cluster", write: func(r *report) { r.line("cluster_enabled", 0) }},
		{name: "keyspace", title: "Keyspace", write: (*report).keyspace},
		{name: "raft", title: "Raft", write: func(r *report) { r.pairs(r.node().Raft) }},
	}
}

// wanted tells which sections INFO was asked for. Sections that do not exist are
// no error, as in Redis.
func wanted(s infoSection, args [][]byte) bool {
	if len(args) == 0 {
		return !s.extra
	}
	return slices.ContainsFunc(args, func(a []byte) bool {
		switch strings.ToLower(string(a)) {
		case s.name, "all", "everything":
			return true
		case "default":
			return !s.extra
		}
		return false
	})
}

// info answers INFO: a verbatim text on the data port, a bulk string on the
// Sentinel port whatever the protocol, as Sentinel does.
func info(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	r := report{c: c}
	sections := dataSections()
	if c.srv.cfg.Sentinel {
		sections = sentinelSections()
	}
	for _, s := range sections {
		if !wanted(s, args[1:]) {
			continue
		}
		if r.text.Len() > 0 {
			r.text.WriteString("\r\n")
		}
		if s.title != "" {
			r.text.WriteString("# " + s.title + "\r\n")
		}
		s.write(&r)
	}
	if c.srv.cfg.Sentinel {
		return resp.BulkString(r.text.String())
	}
	return resp.Verbatim(r.text.String())
}

func (r *report) sentinel() {
	if write := r.node().Sentinel; write != nil {
		r.text.WriteString(write())
	}
}

func (r *report) server() {
	s := r.c.srv
	id := &s.cfg.Identity
	mode := "standalone"
	if s.cfg.Sentinel {
		mode = "sentinel"
	}
	up := int64((now() - s.started) / time.Second)
	wall := s.cfg.Clock.WallMilli()
	executable, err := os.Executable()
	if err != nil {
		executable = ""
	}
	r.line("redis_version", id.RedisVersion)
	r.line("holdfast_version", id.Version)
	r.line("redis_git_sha1", "00000000")
	r.line("redis_git_dirty", 0)
	r.line("redis_build_id", 0)
	r.line("redis_mode", mode)
	r.line("os", osName())
	r.line("arch_bits", strconv.IntSize)
	r.line("monotonic_clock", "POSIX clock_gettime")
	r.line("multiplexing_api", "goroutines")
	r.line("go_version", runtime.Version())
	r.line("process_id", os.Getpid())
	r.line("process_supervised", cmp.Or(id.Supervised, "no"))
	r.line("run_id", id.RunID)
	r.line("node_id", id.NodeID)
	r.line("tcp_port", id.Port)
	r.line("server_time_usec", wall*1000)
	r.line("uptime_in_seconds", up)
	r.line("uptime_in_days", up/(24*60*60))
	r.line("hz", int64(time.Second/tickPeriod))
	r.line("configured_hz", int64(time.Second/tickPeriod))
	r.line("lru_clock", wall/1000&(1<<24-1))
	r.line("executable", executable)
	r.line("config_file", id.ConfigFile)
	r.line("io_threads_active", 0)
	r.pairs(r.node().More)
}

// osName is the system, its release and the machine, as uname tells them.
func osName() string {
	var u syscall.Utsname
	if err := syscall.Uname(&u); err != nil {
		return runtime.GOOS + " " + runtime.GOARCH
	}
	text := func(field [65]int8) string {
		b := make([]byte, 0, len(field))
		for _, ch := range field {
			if ch == 0 {
				break
			}
			b = append(b, byte(ch))
		}
		return string(b)
	}
	return text(u.Sysname) + " " + text(u.Release) + " " + text(u.Machine)
}

func (r *report) clients() {
	st := r.c.srv.Stats()
	r.line("connected_clients", st.Connected)
	r.line("cluster_connections", 0)
	r.line("maxclients", r.c.srv.tuning().MaxClients)
	r.line("client_recent_max_input_buffer", 0)
	r.line("client_recent_max_output_buffer", 0)
	r.line("blocked_clients", st.Blocked)
	r.line("tracking_clients", st.Tracking.Clients)
	r.line("pubsub_clients", st.PubSub)
	r.line("clients_in_timeout_table", 0)
	r.line("pending_output_bytes", st.Pending)
}

// human shows a number of bytes as Redis does.
func human(n int64) string {
	const step = 1024
	v := float64(n)
	if n < step {
		return strconv.FormatInt(n, 10) + "B"
	}
	for _, unit := range []string{"K", "M", "G", "T"} {
		v /= step
		if v < step || unit == "T" {
			return strconv.FormatFloat(v, 'f', 2, 64) + unit
		}
	}
	return ""
}

func (r *report) memory() {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	used := r.node().Store.UsedBytes
	rss := residentBytes()
	r.line("used_memory", m.HeapAlloc)
	r.line("used_memory_human", human(int64(m.HeapAlloc)))
	r.line("used_memory_rss", rss)
	r.line("used_memory_rss_human", human(rss))
	r.line("used_memory_peak", m.HeapSys)
	r.line("used_memory_peak_human", human(int64(m.HeapSys)))
	r.line("used_memory_overhead", max(int64(m.HeapAlloc)-used, 0))
	r.line("used_memory_dataset", used)
	r.line("used_memory_dataset_perc", fmt.Sprintf("%.2f%%", 100*float64(used)/float64(max(m.HeapAlloc, 1))))
	r.line("total_system_memory", systemMemory())
	r.line("total_system_memory_human", human(systemMemory()))
	r.line("used_memory_lua", 0)
	r.line("used_memory_scripts", 0)
	r.line("number_of_cached_scripts", 0)
	r.line("maxmemory", 0)
	r.line("maxmemory_human", "0B")
	r.line("maxmemory_policy", "noeviction")
	r.line("mem_fragmentation_ratio", fmt.Sprintf("%.2f", float64(rss)/float64(max(m.HeapAlloc, 1))))
	r.line("mem_clients_normal", r.c.srv.gate.pending.Load())
	r.line("mem_allocator", "go")
	r.line("active_defrag_running", 0)
	r.line("lazyfree_pending_objects", 0)
}

// residentBytes is the memory of the process as the kernel counts it, 0 if it
// does not tell.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func systemMemory() int64 {
	var s syscall.Sysinfo_t
	if err := syscall.Sysinfo(&s); err != nil {
		return 0
	}
	return int64(s.Totalram) * int64(s.Unit)
}

func (r *report) cpu() {
	seconds := func(who int) (sys, user string) {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			return "0", "0"
		}
		text := func(t syscall.Timeval) string { return fmt.Sprintf("%d.%06d", t.Sec, t.Usec) }
		return text(u.Stime), text(u.Utime)
	}
	sys, user := seconds(syscall.RUSAGE_SELF)
	r.line("used_cpu_sys", sys)
	r.line("used_cpu_user", user)
	sys, user = seconds(syscall.RUSAGE_CHILDREN)
	r.line("used_cpu_sys_children", sys)
	r.line("used_cpu_user_children", user)
}
