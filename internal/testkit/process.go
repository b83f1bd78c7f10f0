package testkit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// logTail is how much of a process's output a failed test shows, in bytes.
const logTail = 8 << 10

// Process is one process of a test. Its output goes to a file. It can be started
// again after it ended. Its methods are for the test's goroutine, but Signal,
// Kill9, Stop, Cont and Pid may be called from any.
type Process struct {
	tb   testing.TB
	name string
	path string
	args []string
	env  []string
	host *Host  // where it runs, nil for here
	log  string // path of the output file

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
	err  error         // what Wait said; read after done
}

// Command describes a process to start.
type Command struct {
	Name string   // names it in messages
	Path string   // the executable, looked up in PATH if it has no slash
	Args []string // without the executable's own name
	Env  []string // added to this process's environment
	Host *Host    // the machine it runs on, nil for this one
	Dir  string   // where its log file is written; must exist
}

// NewProcess prepares a process, not yet started. When the test ends it is killed
// if it still runs, and if the test failed the end of its output is logged.
func NewProcess(tb testing.TB, c Command) *Process {
	tb.Helper()
	p := &Process{
		tb: tb, name: c.Name, path: c.Path, args: c.Args, env: c.Env, host: c.Host,
		log: filepath.Join(c.Dir, c.Name+".log"),
	}
	tb.Cleanup(func() {
		p.Kill9()
		if tb.Failed() {
			tb.Logf("end of the output of %s (%s):\n%s", p.name, strings.Join(p.args, " "), p.Tail(logTail))
		}
	})
	return p
}

// Use has later starts run another executable.
func (p *Process) Use(path string) { p.path = path }

// Start starts the process; its output is appended to its log.
func (p *Process) Start() {
	p.tb.Helper()
	if err := p.TryStart(); err != nil {
		p.tb.Fatalf("start %s: %v", p.name, err)
	}
}

// TryStart is Start for callers outside the test's goroutine.
func (p *Process) TryStart() error {
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.CommandContext(context.Background(), p.path, p.args...) //nolint:gosec // the test says what it runs
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(withoutDirectives(os.Environ()), p.env...)
	// A test process that is killed takes its children along.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	start := cmd.Start
	if p.host != nil {
		start = func() error { return p.host.Do(cmd.Start) }
	}
	if err := start(); err != nil {
		return err
	}
	done := make(chan struct{})
	p.cmd, p.done = cmd, done
	go func() {
		p.err = cmd.Wait()
		close(done)
	}()
	return nil
}

// Running tells whether the process was started and has not ended.
func (p *Process) Running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Pid is the process id of the last start.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Name is the name given to NewProcess.
func (p *Process) Name() string { return p.name }

// LogFile is the path of the file with its output.
func (p *Process) LogFile() string { return p.log }

// Signal sends a signal and does not wait for its effect.
func (p *Process) Signal(sig syscall.Signal) {
	if p.Running() {
		_ = p.cmd.Process.Signal(sig)
	}
}

// Kill9 ends the process with SIGKILL, as a power cut would, and waits until it is gone.
func (p *Process) Kill9() {
	if !p.Running() {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Stop suspends the process with SIGSTOP, and returns when none of its threads goes on.
func (p *Process) Stop() {
	p.tb.Helper()
	p.Signal(syscall.SIGSTOP)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := Poll(ctx, p.suspended); err != nil {
		p.tb.Errorf("%s is not suspended: %v", p.name, err)
	}
}

// suspended tells which thread of the process goes on.
func (p *Process) suspended() error {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid()))
	if err != nil {
		return err
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path) //nolint:gosec // below /proc
		if err != nil {
			continue // the thread has ended
		}
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && !strings.ContainsRune("TtZX", rune(rest[0])) {
			return fmt.Errorf("a thread is in state %c", rest[0])
		}
	}
	return nil
}

// Cont lets a suspended process go on.
func (p *Process) Cont() { p.Signal(syscall.SIGCONT) }

// Term asks the process to end with SIGTERM and fails the test if it has not
// within limit. It returns the exit code.
func (p *Process) Term(limit time.Duration) int {
	p.tb.Helper()
	p.Signal(syscall.SIGTERM)
	return p.WaitExit(limit)
}

// WaitExit waits until the process has ended by itself and returns its exit code,
// -1 if a signal ended it.
func (p *Process) WaitExit(limit time.Duration) int {
	p.tb.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-timer.C:
		p.tb.Fatalf("%s still runs after %v", p.name, limit)
		return -1
	}
}

// Tail is the end of the process's output, at most n bytes.
func (p *Process) Tail(n int64) string {
	file, err := os.Open(p.log)
	if err != nil {
		return err.Error()
	}
	defer file.Close()
	if info, err := file.Stat(); err == nil && info.Size() > n {
		_, _ = file.Seek(-n, io.SeekEnd)
	}
	text, _ := io.ReadAll(io.LimitReader(file, n))
	return string(text)
}

// LogContains tells whether the output has a line that contains all of the words,
// whatever their case. Output of earlier starts counts as well.
func (p *Process) LogContains(words ...string) bool { return p.LogLines(words...) > 0 }

// LogLines is how many lines of the output LogContains would be true for.
func (p *Process) LogLines(words ...string) int {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return 0
	}
	count := 0
	for line := range bytes.Lines(text) {
		line = bytes.ToLower(line)
		lacks := func(w string) bool { return !bytes.Contains(line, []byte(strings.ToLower(w))) }
		if !slices.ContainsFunc(words, lacks) {
			count++
		}
	}
	return count
}

// CPUSeconds is the processor time a process has used so far, user and system,
// of all its threads. It errors when the process is gone.
func CPUSeconds(pid int) (float64, error) {
	fields, err := procStat(pid)
	if err != nil {
		return 0, err
	}
	const utime, stime = 11, 12 // positions after the name, see proc(5)
	var ticks float64
	for _, i := range []int{utime, stime} {
		n, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	const ticksPerSecond = 100 // USER_HZ is 100 on every Linux that Go supports
	return ticks / ticksPerSecond, nil
}

// procStat is /proc/PID/stat after the name, which may itself hold blanks.
func procStat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(text, ')')
	fields := strings.Fields(string(text[end+1:]))
	if end < 0 || len(fields) < 20 {
		return nil, fmt.Errorf("unexpected /proc/%d/stat", pid)
	}
	return fields, nil
}

// ResidentBytes is how much memory a process holds now.
func ResidentBytes(pid int) (int64, error) {
	fields, err := procStat(pid)
	if err != nil {
		return 0, err
	}
	const rss = 21 // position after the name, see proc(5)
	pages, err := strconv.ParseInt(fields[rss], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// withoutDirectives leaves out what a node would take for directives: the
// settings of the tests themselves are HOLDFAST_… too.
func withoutDirectives(environ []string) []string {
	return slices.DeleteFunc(environ, func(v string) bool { return strings.HasPrefix(v, "HOLDFAST_") })
}
