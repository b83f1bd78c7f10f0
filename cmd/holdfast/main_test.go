package main

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
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

// A terminal that hangs up and a reader of the log that goes away do not end a node,
// as they do not end Redis: SIGTERM does, and then it ends well.
func TestOnlySIGTERMAndSIGINTEndTheNode(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--port", "0", "--sentinel-port", "0", "--metrics-port", "0", "--dir", t.TempDir())
	cmd.Env = append(os.Environ(), asProgram+"=1")
	out, log, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = log.Close()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "master=true") {
			break
		}
	}
	_ = out.Close() // what is logged from here on cannot be written
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGTERM} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Errorf("%v: %v", sig, err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
