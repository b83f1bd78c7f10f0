package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// startLimit bounds how long a process may take until it answers PING.
const startLimit = 20 * time.Second

// Redis is a running redis-server or redis-sentinel, the oracle to compare with.
type Redis struct {
	*Process
	Port int
}

// Addr is where it listens.
func (r *Redis) Addr() string { return Loopback(r.Port) }

// OracleVersion is the version of redis-server whose replies the tests compare with.
const OracleVersion = "7.0.15"

// StartRedis starts redis-server on a port of its own without persistence, which
// directives (such as "--appendonly", "yes") may change, and waits until it answers.
func StartRedis(tb testing.TB, directives ...string) *Redis {
	tb.Helper()
	return startRedisAt(tb, Ports(tb), directives...)
}

// StartReplica starts a redis-server that replicates from master and waits until
// the link is up.
func StartReplica(tb testing.TB, master *Redis, directives ...string) *Redis {
	tb.Helper()
	args := append([]string{"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port)}, directives...)
	r := startRedisAt(tb, Ports(tb), args...)
	c := MustDial(tb, r.Addr())
	Eventually(tb, startLimit, "replication link", func() error {
		role, err := c.Do("ROLE")
		if err != nil {
			return err
		}
		return Check(len(role.Elems) > 3 && string(role.Elems[3].Text) == "connected", "role %v", role)
	})
	return r
}

func startRedisAt(tb testing.TB, port int, directives ...string) *Redis {
	tb.Helper()
	dir := tb.TempDir()
	args := append([]string{
		"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir,
		"--save", "", "--appendonly", "no", "--daemonize", "no", "--repl-diskless-sync-delay", "0",
	}, directives...)
	return startRedis(tb, "redis-server", port, dir, args)
}

// StartSentinel starts a redis-sentinel that watches master under the given name
// with quorum 1.
func StartSentinel(tb testing.TB, master *Redis, name string) *Redis {
	tb.Helper()
	port, dir := Ports(tb), tb.TempDir()
	conf := filepath.Join(dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor %s 127.0.0.1 %d 1\n", port, dir, name, master.Port)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	return startRedis(tb, "redis-sentinel", port, dir, []string{conf})
}

func startRedis(tb testing.TB, program string, port int, dir string, args []string) *Redis {
	tb.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		tb.Fatalf("%s is needed to compare with: install the Debian package of the same name: %v", program, err)
	}
	r := &Redis{
		Process: NewProcess(tb, Command{Name: fmt.Sprintf("%s-%d", program, port), Path: path, Args: args, Dir: dir}),
		Port:    port,
	}
	r.Start()
	Eventually(tb, startLimit, program+" answers", func() error { return ping(r.Addr()) })
	return r
}

// ping tells whether somebody answers PING, with whatever but a LOADING error.
func ping(addr string) error {
	c, err := Dial(addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Do("PING")
	return err
}
