package raftfsm_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/redcon"

	"github.com/holdfast/holdfast/raftfsm"
)

// startRedis starts a real redis-server that loads what is in dir, and returns
// a way to ask it.
func startRedis(t *testing.T, dir string) func(words ...string) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("no redis-server here")
	}
	socket := filepath.Join(dir, "s")
	cmd := exec.Command(path, "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "",
		"--appendonly", "yes", "--appendfilename", "export.aof")
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(out.String())
		}
	})
	var conn net.Conn
	eventually(t, "redis-server answers", func() bool {
		conn, err = net.Dial("unix", socket)
		return err == nil
	})
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil { // clock of the test
		t.Fatal(err)
	}
	ask := func(words ...string) string {
		t.Helper()
		buf := redcon.AppendArray(nil, len(words))
		for _, w := range words {
			buf = redcon.AppendBulkString(buf, w)
		}
		if _, err := conn.Write(buf); err != nil {
			t.Fatal(err)
		}
		var got []byte
		for {
			part := make([]byte, 64<<10)
			n, err := conn.Read(part)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, part[:n]...)
			if n, reply := redcon.ReadNextRESP(got); n > 0 {
				return string(reply.Data)
			}
		}
	}
	eventually(t, "redis-server has loaded", func() bool { return ask("PING") == "PONG" })
	return ask
}

// Property: the data part of a snapshot is an append-only file that a real
// Redis loads, with databases, binary contents and deadlines.
func TestRealRedisLoadsAnExport(t *testing.T) {
	r := newMaster(t)
	deadline := time.Now().Add(time.Hour).UnixMilli() // clock of the real server
	there := setUntil("until", deadline)
	there.DB = 15
	binary := "\x00\r\n$5\xff"
	r.submit(set("k", "v"), set(binary, binary), set("", ""), there, set("n", "1"), incr("n"), set("big", strings.Repeat("x", 3<<20)))
	dir := t.TempDir()
	var aof bytes.Buffer
	if err := raftfsm.Export(&aof, bytes.NewReader(r.snapshot())); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "export.aof"), aof.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := startRedis(t, dir)
	for _, c := range []struct{ ask, want string }{
		{"DBSIZE", "5"},
		{"GET k", "v"},
		{"GET n", "2"},
		{"GET " + binary, binary},
		{"GET ", ""},
		{"EXISTS ", "1"},
		{"STRLEN big", fmt.Sprint(3 << 20)},
		{"PTTL k", "-1"},
		{"SELECT 15", "OK"},
		{"DBSIZE", "1"},
		{"GET until", "v"},
		{"PEXPIRETIME until", fmt.Sprint(deadline)},
	} {
		if got := ask(strings.SplitN(c.ask, " ", 2)...); got != c.want {
			t.Errorf("%q: got %q, want %q", c.ask, got, c.want)
		}
	}
}
