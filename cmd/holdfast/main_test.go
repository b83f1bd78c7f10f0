package main

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
)

// asProgram in the environment makes this test binary be the program itself.
const asProgram = "HOLDFAST_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		_ = os.Unsetenv(asProgram)
		main()
	}
	os.Exit(m.Run())
}

// started is the program, run with arguments by a shell that may first lower its limits
// with the words of prepare. It returns once the node is master; what is logged from
// then on cannot be written.
func started(t *testing.T, prepare string, args ...string) *exec.Cmd {
	t.Helper()
	args = append([]string{"-c", prepare + ` exec "$0" "$@"`, os.Args[0], "--dir", t.TempDir()}, args...)
	cmd := exec.CommandContext(t.Context(), "sh", args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, log, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = log.Close()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "master=true") {
			return cmd
		}
	}
	t.Fatalf("it never became master: %v", cmd.Wait())
	return nil
}

// A terminal that hangs up and a reader of the log that goes away do not end a node,
// as they do not end Redis: SIGTERM does, and then it ends well.
func TestOnlySIGTERMAndSIGINTEndTheNode(t *testing.T) {
	cmd := started(t, "", "--port", "0", "--sentinel-port", "0", "--metrics-port", "0")
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// P7: clients who connect as often as they can leave the node the files it needs, on
// both ports, whatever maxclients says.
func TestClientsLeaveFilesToTheNode(t *testing.T) {
	first := testkit.Ports(t)
	data, sentinel := testkit.Loopback(first), testkit.Loopback(first+1)
	cmd := started(t, "ulimit -n 200;", "--bind", "127.0.0.1", "--port", strconv.Itoa(first), "--sentinel-port", strconv.Itoa(first+1), "--metrics-port", "0")
	c := testkit.MustDial(t, data)
	for _, addr := range []string{data, sentinel} {
		for range 250 {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
		}
	}
	for _, command := range [][]string{{"SET", "k", "v"}, {"SAVE"}} {
		if _, err := c.Do(command...); err != nil {
			t.Errorf("%s answers %v", command[0], err)
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
