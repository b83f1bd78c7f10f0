package integration_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// P1: between the arrival of a SET at the master and its reply, a majority of the
// nodes have written it to a log file and then synced that file. The system calls
// of all nodes are traced to see it. Tracing slows the nodes down, so that there may be an
// election: then this is told again. A reply that came too early is never excused.
func TestReplyComesAfterSyncOnMajority(t *testing.T) {
	for _, logStore := range []string{"wal", "boltdb"} {
		t.Run(logStore, func(t *testing.T) {
			test := t
			testkit.Tries(t, 6, func(t testing.TB) { replyComesAfterSync(t, test, logStore) })
		})
	}
}

func replyComesAfterSync(t, test testing.TB, logStore string) {
	c := start(t, testkit.ClusterOptions{Args: []string{"--log-store", logStore}})
	var tracers []*tracer
	for _, n := range c.Nodes {
		tracers = append(tracers, trace(t, n))
	}
	at := c.WaitWhole(formLimit)
	term := termOf(t, c.Nodes[at])
	client := testkit.MustDial(t, c.Nodes[at].Addr())
	const sets = 20
	for i := range sets {
		client.MustDo(t, "SET", fmt.Sprintf("k%d", i), marker(i))
	}
	if now := termOf(t, c.Nodes[at]); now != term {
		t.Fatalf("from term %d to %d under the tracer", term, now)
	}
	var calls [][]call
	for _, tr := range tracers {
		calls = append(calls, tr.calls(t))
	}
	for i := range sets {
		if err := syncedBeforeReply(t, c, calls, at, marker(i)); err != nil {
			test.Error(err)
		}
	}
}

func marker(i int) string { return fmt.Sprintf("durable-marker-%03d", i) }

// syncedBeforeReply tells whether a majority synced the marker before the master's reply. It
// fails the telling if the traces lack what would show it.
func syncedBeforeReply(t testing.TB, c *testkit.Cluster, calls [][]call, master int, marker string) error {
	t.Helper()
	arrival, reply, ok := exchange(calls[master], marker)
	if !ok {
		t.Errorf("%s: its arrival and reply are not in the master's trace", marker)
		return nil
	}
	var synced, late []string
	for i, list := range calls {
		by, file, ok := syncedAt(list, c.Nodes[i].DataDir, marker)
		text := fmt.Sprintf("%s %s +%.1f ms", c.Nodes[i].ID, filepath.Base(file), (by-arrival)*1000)
		if ok && by > arrival && by <= reply {
			synced = append(synced, text)
		} else if ok {
			late = append(late, text)
		}
	}
	t.Logf("%s: synced by %v, reply +%.1f ms", marker, synced, (reply-arrival)*1000)
	switch {
	case len(synced) > len(calls)/2:
	case len(synced)+len(late) <= len(calls)/2:
		t.Errorf("%s: only %v synced it before the reply, %v later", marker, synced, late)
	default:
		return fmt.Errorf("%s: only %v had synced it when the reply was sent, %v later", marker, synced, late)
	}
	return nil
}

// exchange finds when the command with the marker arrived at a client's connection
// and when the reply to it was written there, in seconds since the epoch.
func exchange(list []call, marker string) (arrival, reply float64, ok bool) {
	socket := ""
	for _, k := range list {
		switch {
		case socket == "" && k.name == "read" && strings.HasPrefix(k.target, "socket:") &&
			strings.Contains(k.rest, "SET") && strings.Contains(k.rest, marker):
			socket, arrival = k.fd, k.end
		case socket != "" && strings.HasPrefix(k.name, "write") && k.fd == socket && strings.Contains(k.rest, `"+OK\r\n`):
			return arrival, k.start, true
		}
	}
	return 0, 0, false
}

// syncedAt finds when a file below dir, to which the marker had been written, was
// first synced after that, and which.
func syncedAt(list []call, dir, marker string) (at float64, file string, ok bool) {
	written := map[string]float64{} // file -> end of the write
	for _, k := range list {
		if !strings.HasPrefix(k.target, dir) || k.failed {
			continue
		}
		switch k.name {
		case "write", "pwrite64", "writev", "pwritev":
			if _, before := written[k.target]; !before && strings.Contains(k.rest, marker) {
				written[k.target] = k.end
			}
		case "fsync", "fdatasync":
			if since, is := written[k.target]; is && k.start >= since {
				return k.end, k.target, true
			}
		}
	}
	return 0, "", false
}

// P1: what a killed process wrote and did not sync is found by the next one, which
// counts it as durable: votes and entries that it answers for. So all files are synced
// before they are read.
func TestFilesOfAKilledNodeAreSyncedBeforeTheyAreRead(t *testing.T) {
	for _, logStore := range []string{"wal", "boltdb"} {
		t.Run(logStore, func(t *testing.T) {
			c := start(t, testkit.ClusterOptions{Size: 1, Args: []string{"--log-store", logStore}})
			c.WaitMaster(formLimit)
			n := c.Nodes[0]
			testkit.MustDial(t, n.Addr()).MustDo(t, "SET", "k", "v")
			n.Kill9()
			out := filepath.Join(t.TempDir(), "trace")
			n.Use(traced(t, testkit.Binary(t), out))
			n.Start()
			c.WaitMaster(formLimit)
			n.Term(10 * time.Second)
			testkit.Eventually(t, 10*time.Second, "strace has ended", func() error {
				seen, err := os.ReadFile(out)
				return testkit.Check(err == nil && strings.Contains(string(seen), "+++ exited"), "%d bytes, %v", len(seen), err)
			})
			raft := filepath.Join(n.DataDir, "raft")
			synced, read := map[string]bool{}, map[string]bool{}
			for _, k := range readCalls(t, out) {
				switch {
				case k.failed || !strings.HasPrefix(k.target, raft):
				case k.name == "fsync":
					synced[k.target] = true
				case !synced[k.target] || !synced[filepath.Dir(k.target)]:
					t.Errorf("%s was read before it and its directory were synced", filepath.Base(k.target))
				default:
					read[filepath.Ext(k.target)] = true
				}
			}
			if !read[".db"] || read[".wal"] != (logStore == "wal") {
				t.Errorf("the trace shows reads of %v", read)
			}
		})
	}
}

// traced is a program that runs another one, as itself, with its reads and syncs traced to out.
func traced(t testing.TB, program, out string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "traced")
	script := fmt.Sprintf("#!/bin/sh\nexec strace -D -f -ttt -T -y -o '%s' -e trace=pread64,fsync '%s' \"$@\"\n", out, program)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// tracer is an strace of one node.
type tracer struct {
	process *testkit.Process
	out     string
}

// trace attaches strace to a running node and returns when it has.
func trace(t testing.TB, n *testkit.Node) *tracer {
	t.Helper()
	dir := t.TempDir()
	out := filepath.Join(dir, "trace")
	p := testkit.NewProcess(t, testkit.Command{
		Name: "strace-" + n.ID, Path: "/usr/bin/strace", Dir: dir,
		Args: []string{
			"-f", "-ttt", "-T", "-y", "-s", "20000", "-o", out,
			"-e", "trace=read,write,writev,pwrite64,pwritev,fsync,fdatasync,io_submit,io_getevents", "-p", strconv.Itoa(n.Pid()),
		},
	})
	p.Start()
	testkit.Eventually(t, 20*time.Second, "strace is attached (it must be installed and allowed to trace)", func() error {
		info, err := os.Stat(out)
		if err != nil {
			return err
		}
		return testkit.Check(info.Size() > 0 && p.Running(), "nothing traced yet: %s", p.Tail(200))
	})
	return &tracer{process: p, out: out}
}

// call is one system call that has returned.
type call struct {
	name       string
	start, end float64 // seconds since the epoch
	fd, target string  // the descriptor, and what it leads to: a path, or socket:[…]
	rest       string  // the other arguments and the result
	failed     bool
}

var (
	whole      = regexp.MustCompile(`^(\d+) +(\d+\.\d+) (\w+)\((\d+)<([^>]*)>(.*) = (-?\d+).*<(\d+\.\d+)>$`)
	unfinished = regexp.MustCompile(`^(\d+) +(\d+\.\d+) (\w+)\((\d+)<([^>]*)>(.*)<unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^(\d+) +(\d+\.\d+) <\.\.\. (\w+) resumed>(.*) = (-?\d+).*<(\d+\.\d+)>$`)

	// Of asynchronous I/O: what is submitted to a queue of the kernel, and what is heard of it.
	submitted = regexp.MustCompile(`^(\d+) +(\d+\.\d+) io_submit\((\w+), 1, \[\{.*aio_lio_opcode=(\w+), aio_fildes=(\d+)<([^>]*)>(.*)`)
	hears     = regexp.MustCompile(`^(\d+) +(\d+\.\d+) io_getevents\((\w+), `)
	heard     = regexp.MustCompile(`^(\d+) +(\d+\.\d+) (io_getevents|<).*\[\{.* res=(-?\d+), .*\) = 1 <(\d+\.\d+)>$`)
)

// asynchronous are the calls that do the same as what is submitted.
var asynchronous = map[string]string{"IOCB_CMD_PWRITE": "pwrite64", "IOCB_CMD_FDSYNC": "fdatasync"}

// calls ends the tracer and reads what it saw, in the order of the calls' ends.
func (tr *tracer) calls(t testing.TB) []call {
	t.Helper()
	tr.process.Signal(syscall.SIGTERM) // strace detaches and writes everything; SIGINT is ignored by what runs in the background
	tr.process.WaitExit(30 * time.Second)
	return readCalls(t, tr.out)
}

// readCalls reads what strace saw.
func readCalls(t testing.TB, path string) []call {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var list []call
	begun := map[string]call{} // by thread
	async := operations{underWay: map[string]call{}, listening: map[string]string{}}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if k, ok := async.read(line); ok {
			list = append(list, k)
		} else if m := whole.FindStringSubmatch(line); m != nil {
			k := call{name: m[3], start: number(m[2]), fd: m[4], target: m[5], rest: m[6], failed: m[7][0] == '-'}
			k.end = k.start + number(m[8])
			list = append(list, k)
		} else if m := unfinished.FindStringSubmatch(line); m != nil {
			begun[m[1]] = call{name: m[3], start: number(m[2]), fd: m[4], target: m[5], rest: m[6]}
		} else if m := resumed.FindStringSubmatch(line); m != nil {
			k, ok := begun[m[1]]
			if !ok || k.name != m[3] {
				continue
			}
			k.rest += m[4]
			k.end, k.failed = k.start+number(m[6]), m[5][0] == '-'
			list = append(list, k)
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return list
}

// operations are those of asynchronous I/O that have not ended.
type operations struct {
	underWay  map[string]call   // by the kernel's queue, which carries out one at a time
	listening map[string]string // queues by the thread that asks what has ended
}

// read takes note of what a line says; true if an operation, the call, has ended.
func (o *operations) read(line string) (call, bool) {
	if m := submitted.FindStringSubmatch(line); m != nil {
		o.underWay[m[3]] = call{name: asynchronous[m[4]], start: number(m[2]), fd: m[5], target: m[6], rest: m[7]}
		return call{}, false
	}
	if m := hears.FindStringSubmatch(line); m != nil {
		o.listening[m[1]] = m[3]
	}
	m := heard.FindStringSubmatch(line)
	if m == nil {
		return call{}, false
	}
	queue := o.listening[m[1]]
	k, ok := o.underWay[queue]
	delete(o.underWay, queue)
	if k.end = number(m[2]); m[3] != "<" { // not the time of the end
		k.end += number(m[5])
	}
	k.failed = m[4][0] == '-'
	return k, ok
}

func number(text string) float64 {
	n, _ := strconv.ParseFloat(text, 64)
	return n
}

// The reading of traces finds a sync that came in time and one that did not.
func TestTraceReading(t *testing.T) {
	t.Run("system calls", func(t *testing.T) {
		readsTrace(t, []string{
			`11 100.000100 read(7<socket:[5]>, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\nmark\r\n", 4096) = 30 <0.000010>`,
			`12 100.000200 pwrite64(9</d/log.wal>, "..mark..", 8, 0) = 8 <0.000010>`,
			`12 100.000300 fdatasync(9</d/log.wal> <unfinished ...>`,
			`11 100.000310 fsync(10</d/other>) = 0 <0.000001>`,
			`12 100.001300 <... fdatasync resumed>) = 0 <0.001000>`,
			`11 100.002000 write(7<socket:[5]>, "+OK\r\n", 5) = 5 <0.000010>`,
		})
	})
	t.Run("asynchronous I/O", func(t *testing.T) {
		readsTrace(t, []string{
			`11 100.000100 read(7<socket:[5]>, "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4\r\nmark\r\n", 4096) = 30 <0.000010>`,
			`12 100.000200 io_submit(0x7f01, 1, [{aio_data=0, aio_rw_flags=RWF_NOWAIT, aio_lio_opcode=IOCB_CMD_PWRITE, aio_fildes=9</d/log.wal>, aio_buf="..mark..", aio_nbytes=8, aio_offset=0, aio_resfd=11<anon_inode:[eventfd]>}]) = 1 <0.000010>`,
			`13 100.000220 io_getevents(0x7f01, 1, 1, [{data=0, obj=0x17, res=8, res2=0}], NULL) = 1 <0.000030>`,
			`13 100.000300 io_submit(0x7f01, 1, [{aio_data=0, aio_lio_opcode=IOCB_CMD_FDSYNC, aio_fildes=9</d/log.wal>}] <unfinished ...>`,
			`11 100.000310 fsync(10</d/other>) = 0 <0.000001>`,
			`13 100.000320 <... io_submit resumed>)      = 1 <0.000020>`,
			`12 100.001300 io_getevents(0x7f01, 1, 1,  <unfinished ...>`,
			`12 100.001350 <... io_getevents resumed>[{data=0, obj=0x17, res=0, res2=0}], NULL) = 1 <0.000050>`,
			`11 100.002000 write(7<socket:[5]>, "+OK\r\n", 5) = 5 <0.000010>`,
		})
	})
}

func readsTrace(t *testing.T, lines []string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace")
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	sleeper := testkit.NewProcess(t, testkit.Command{Name: "sleep", Path: "/bin/sleep", Args: []string{"60"}, Dir: t.TempDir()})
	sleeper.Start()
	list := (&tracer{process: sleeper, out: path}).calls(t)
	if len(list) != 5 {
		t.Fatalf("%d calls read, want 5: %+v", len(list), list)
	}
	arrival, reply, ok := exchange(list, "mark")
	if !ok || arrival >= reply {
		t.Errorf("exchange from %v to %v, %v", arrival, reply, ok)
	}
	if at, file, ok := syncedAt(list, "/d", "mark"); !ok || file != "/d/log.wal" || at <= arrival || at > reply {
		t.Errorf("synced %s at %v, %v", file, at, ok)
	}
	if _, _, ok := syncedAt(list[:2], "/d", "mark"); ok {
		t.Error("a write without a sync counts as synced")
	}
	if _, _, ok := syncedAt(list, "/elsewhere", "mark"); ok {
		t.Error("a file of another directory counts")
	}
}
