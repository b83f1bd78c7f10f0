package testkit

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Environment of a test process inside a sandbox.
const (
	sandboxMark  = "HOLDFAST_TEST_SANDBOX" // set, to anything
	sandboxBuilt = "HOLDFAST_TEST_BUILT"   // the directory of binaries that are built already
)

// sandboxSpare is what the outer process keeps of the time a test may take, to tell
// what became of the inner one.
const sandboxSpare = 5 * time.Second

// Sandbox tells whether the test runs in a process that has a network and mounts of
// its own, where it may make hosts (NewNetwork) and disks (Mount) as it likes. If not
// it runs the test again in such a process, as root of a user namespace if need be,
// reports what became of it, and returns false: the caller returns then.
//
//	if !testkit.Sandbox(t) {
//		return
//	}
//
// Everything made inside ends with the processes inside, and those with this one,
// however it ends. Where the machine allows no namespaces the test is skipped, but
// fails if HOLDFAST_FULL is set. Call it first, in a test that is no subtest.
func Sandbox(t *testing.T) bool {
	t.Helper()
	if os.Getenv(sandboxMark) != "" {
		tool(t, "ip", "link", "set", "lo", "up")
		return true
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	limit := "0"
	if end, ok := t.Deadline(); ok {
		limit = (time.Until(end) - sandboxSpare).String()
	}
	if err := namespaces(exec.CommandContext(ctx, "true")).Run(); err != nil {
		t.Logf("no namespaces can be made here (a container wants CAP_SYS_ADMIN and CAP_NET_ADMIN): %v", err)
		if os.Getenv("HOLDFAST_FULL") != "" {
			t.FailNow()
		}
		t.SkipNow()
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	//nolint:gosec // this very program
	cmd := namespaces(exec.CommandContext(ctx, self, "-test.run", "^"+t.Name()+"$", "-test.count", "1", "-test.v", "-test.timeout", limit))
	cmd.Env = append(os.Environ(), sandboxMark+"=1", sandboxBuilt+"="+builtDir(t), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	t.Logf("inside:\n%s", out)
	if err != nil {
		t.Errorf("the test inside its sandbox: %v", err)
	}
	return false
}

// namespaces has a command run in a network and with mounts of its own. It dies with
// this process.
func namespaces(cmd *exec.Cmd) *exec.Cmd {
	attr := &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if uid := os.Geteuid(); uid != 0 {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	cmd.SysProcAttr = attr
	return cmd
}

// needSandbox fails a test that would change the machine itself.
func needSandbox(tb testing.TB) {
	tb.Helper()
	if os.Getenv(sandboxMark) == "" {
		tb.Fatal("only inside a Sandbox")
	}
}

// tool runs a program of the system to its end and fails the test if it fails.
func tool(tb testing.TB, args ...string) {
	tb.Helper()
	if err := run("", args...); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			tb.Fatalf("%v; deploy/test-deps.sh installs it", err)
		}
		tb.Fatal(err)
	}
}

// number is n in decimal.
func number[T ~int | ~int64](n T) string { return strconv.FormatInt(int64(n), 10) }
