package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/config"
)

// outcome is what one run of the program left.
type outcome struct {
	code           int
	stdout, stderr string
	cfg            *config.Config // what serve was given, nil if it was not called
	accept         string         // what again was given
}

// runProgram runs the program with a serve that notes its configuration and
// returns err.
func runProgram(t *testing.T, environ []string, err error, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	var o outcome
	p := program{
		args: args, environ: environ, version: "v1.2.3", stdout: &stdout, stderr: &stderr,
		serve: func(_ context.Context, cfg *config.Config, logger *slog.Logger, version string) error {
			o.cfg = cfg
			logger.Debug("served", "by", version)
			return err
		},
		again: func(cfg *config.Config, _ *slog.Logger, accept string) (string, error) {
			o.accept = accept
			return "report of " + cfg.Dir, err
		},
	}
	o.code = p.run(t.Context())
	o.stdout, o.stderr = stdout.String(), stderr.String()
	return o
}

// File, environment and flags reach the node, in this order of strength, and the
// file may stand anywhere among the flags.
func TestArgumentsReachTheNode(t *testing.T) {
	file := filepath.Join(t.TempDir(), "holdfast.conf")
	if err := os.WriteFile(file, []byte("port 1\ntimeout 1\nmaxclients 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := runProgram(t, []string{"HOLDFAST_TIMEOUT=2", "HOLDFAST_MAXCLIENTS=2"}, nil,
		"--maxclients", "3", file, "--bind=::1 127.0.0.1", "--slave-announce-port", "5", "--requirepass", "")
	if o.code != exitOK || o.cfg == nil {
		t.Fatalf("got exit code %d: %s", o.code, o.stderr)
	}
	if o.cfg.Port != 1 || o.cfg.Timeout.Seconds() != 2 || o.cfg.MaxClients != 3 || len(o.cfg.Bind) != 2 || o.cfg.ReplicaAnnouncePort != 5 {
		t.Errorf("got %+v", o.cfg)
	}
}

// Wrong arguments end with exit code 2, say what is wrong, start nothing, and
// repeat no value.
func TestWrongArguments(t *testing.T) {
	for want, args := range map[string][]string{
		"flags: unknown directive 'prot'; did you mean 'port'?": {"--prot", "hunter2"},
		"flag --port needs a value":                             {"--port"},
		"flag --port: argument couldn't be parsed":              {"--port", "hunter2"},
		"a flag is a directive behind two dashes":               {"-requirepass=hunter2"},
		"flags: unknown directive\n":                            {"--hunter2"},
		"one configuration file can be given":                   {"requirepass", "hunter2"},
		"configuration file: open ":                             {filepath.Join(t.TempDir(), "gone")},
		"peers: a cluster needs cluster-secret":                 {"--peers", "a=h:1", "--node-id", "a"},
		"sentinel-port: 6379 is port already":                   {"--sentinel-port", "6379"},
		"environment variable HOLDFAST_PORT: argument ":         {"--timeout", "1"},
	} {
		environ := []string{}
		if strings.HasPrefix(want, "environment") {
			environ = append(environ, "HOLDFAST_PORT=hunter2")
		}
		o := runProgram(t, environ, nil, args...)
		if o.code != exitUsage || o.cfg != nil || !strings.Contains(o.stderr, want) || strings.Contains(o.stderr, "hunter2") {
			t.Errorf("%q: got exit code %d and %q, want %q", args, o.code, o.stderr, want)
		}
	}
}

// A node that ends with an error is logged and makes the exit code 1.
func TestAFailedNodeFailsTheProcess(t *testing.T) {
	o := runProgram(t, nil, errors.New("the disk is gone"))
	if o.code != exitFailed || !strings.Contains(o.stderr, `error="the disk is gone"`) {
		t.Errorf("got exit code %d and %q", o.code, o.stderr)
	}
	if o := runProgram(t, nil, nil); o.code != exitOK || !strings.Contains(o.stderr, "version=v1.2.3") {
		t.Errorf("got exit code %d and %q", o.code, o.stderr)
	}
}

// The log obeys loglevel, follows changes of it, goes to logfile, and holds
// warnings about the configuration.
func TestLogger(t *testing.T) {
	o := runProgram(t, nil, nil, "--loglevel", "debug", "--proto-max-bulk-len", "1gb")
	if !strings.Contains(o.stderr, "msg=served by=v1.2.3") || !strings.Contains(o.stderr, "level=WARN") {
		t.Errorf("got %q", o.stderr)
	}
	if o := runProgram(t, nil, nil); strings.Contains(o.stderr, "served") || o.cfg.Verbosity.Level() != slog.LevelInfo {
		t.Errorf("got %q at %v", o.stderr, o.cfg.Verbosity.Level())
	}
	file := filepath.Join(t.TempDir(), "log")
	for range 2 {
		if o := runProgram(t, nil, nil, "--logfile", file); o.stderr != "" || o.code != exitOK {
			t.Errorf("got exit code %d and %q", o.code, o.stderr)
		}
	}
	if text, err := os.ReadFile(file); err != nil || strings.Count(string(text), "holdfast starts") != 2 {
		t.Errorf("got log %q, %v; want both runs in it", text, err)
	}
	if o := runProgram(t, nil, nil, "--logfile", t.TempDir()); o.code != exitUsage || !strings.Contains(o.stderr, "logfile") {
		t.Errorf("got exit code %d and %q", o.code, o.stderr)
	}
}

// Recovery gets the consent and the configuration apart, prints the report in any case,
// and serves nothing.
func TestRecoverCommand(t *testing.T) {
	o := runProgram(t, nil, nil, "recover", "--dir", "d", "--accept-loss=abc.1")
	if o.code != exitOK || o.cfg != nil || o.accept != "abc.1" || o.stdout != "report of d" {
		t.Errorf("with consent: %+v", o)
	}
	o = runProgram(t, nil, errors.New("nothing was changed"), "recover", "--dir", "d")
	if o.code != exitFailed || o.accept != "" || o.stdout != "report of d" || !strings.Contains(o.stderr, "nothing was changed") {
		t.Errorf("without consent: %+v", o)
	}
	if o := runProgram(t, nil, nil, "recover", "--accept-loss"); o.code != exitUsage {
		t.Errorf("consent to nothing: %+v", o)
	}
}

// version and help print and start nothing; help names every directive.
func TestVersionAndHelp(t *testing.T) {
	if o := runProgram(t, nil, nil, "version"); o.code != exitOK || o.cfg != nil || !strings.HasPrefix(o.stdout, "holdfast v1.2.3 (go") {
		t.Errorf("got %+v", o)
	}
	o := runProgram(t, nil, nil, "help")
	if o.code != exitOK || o.cfg != nil {
		t.Errorf("got %+v", o)
	}
	for _, d := range config.Directives() {
		if !strings.Contains(o.stdout, "--"+d.Name+" ") {
			t.Errorf("help lacks %s", d.Name)
		}
	}
}

// healthcheck asks /healthz at the address the node listens on, over IPv6 too,
// and its exit code is the answer.
func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	var asked string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Path
		http.Error(w, "because", status)
	})
	for _, host := range []string{"127.0.0.1", "::1"} {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Logf("no %s here: %v", host, err)
			continue
		}
		server := httptest.NewUnstartedServer(handler)
		server.Listener = listener
		server.Start()
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		environ := []string{"HOLDFAST_METRICS_PORT=" + port, "HOLDFAST_BIND=" + host, "http_proxy=http://192.0.2.1:1"}
		status = http.StatusOK
		if o := runProgram(t, environ, nil, "healthcheck"); o.code != exitOK || o.cfg != nil || asked != "/healthz" {
			t.Errorf("%s: got %+v, asked for %q", host, o, asked)
		}
		status = http.StatusServiceUnavailable
		if o := runProgram(t, environ, nil, "healthcheck"); o.code != exitFailed || !strings.Contains(o.stderr, "503 Service Unavailable: because") {
			t.Errorf("%s: got %+v", host, o)
		}
		server.Close()
		if o := runProgram(t, nil, nil, "healthcheck", "--bind", host, "--metrics-port", port); o.code != exitFailed {
			t.Errorf("%s: got %+v from a node that is gone", host, o)
		}
	}
	if o := runProgram(t, nil, nil, "healthcheck", "--metrics-port", strconv.Itoa(0)); o.code != exitFailed {
		t.Errorf("got %+v without a port", o)
	}
}
