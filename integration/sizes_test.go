package integration_test

import (
	"crypto/sha256"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

const mebibyte = 1 << 20

// blob is n bytes that do not compress and differ by seed.
func blob(seed byte, n int) string {
	var b strings.Builder
	b.Grow(n + sha256.Size)
	sum := sha256.Sum256([]byte{seed})
	for b.Len() < n {
		b.Write(sum[:])
		sum = sha256.Sum256(sum[:])
	}
	return b.String()[:n]
}

// P1, P5, P7: values of 31 MiB work; what would make an entry or a value larger
// than max-entry-bytes is refused before the log, by whatever command; and after
// a restart of all nodes everything acknowledged is there.
func TestLargeValues(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	m := master(t, c)
	large := blob(1, 31*mebibyte)
	m.MustDo(t, "SET", "large", large)
	m.MustDo(t, "SET", "grown", "")
	grown := ""
	for i := range 4 {
		part := blob(byte(10+i), 7*mebibyte)
		m.MustDo(t, "APPEND", "grown", part)
		grown += part
	}
	m.MustDo(t, "SET", "small", "untouched")

	for _, size := range []int{33, 61, 80} {
		refusedLarge(t, c, "SET of "+strconv.Itoa(size)+" MiB", [][]string{{"SET", "small", blob(2, size*mebibyte)}})
		refusedLarge(t, c, "SETRANGE to "+strconv.Itoa(size)+" MiB", [][]string{{"SETRANGE", "small", strconv.Itoa(size * mebibyte), "x"}})
		refusedLarge(t, c, "MULTI of "+strconv.Itoa(size)+" SETs of 1 MiB", transaction(size))
	}
	refusedLarge(t, c, "APPEND beyond 32 MiB", [][]string{{"APPEND", "grown", blob(3, 7*mebibyte)}})

	check := func(when string) {
		t.Helper()
		m := master(t, c)
		for key, want := range map[string]string{"large": large, "grown": grown, "small": "untouched", "in-transaction": ""} {
			if got := string(m.MustDo(t, "GET", key).Text); got != want {
				t.Errorf("%s: %s holds %d bytes, want %d as written", when, key, len(got), len(want))
			}
		}
	}
	check("after the refusals")
	for _, n := range c.Nodes {
		n.Kill9()
	}
	for _, n := range c.Nodes {
		n.Start()
	}
	c.WaitWhole(formLimit)
	check("after the restart of all nodes")
}

// transaction is n SETs of 1 MiB in MULTI.
func transaction(n int) [][]string {
	commands := [][]string{{"MULTI"}}
	value := blob(4, mebibyte)
	for range n {
		commands = append(commands, []string{"SET", "in-transaction", value})
	}
	return append(commands, []string{"EXEC"})
}

// refusedLarge sends commands on a connection of their own, of which the last must
// be refused: with an error, or with the connection closed.
func refusedLarge(t testing.TB, c *testkit.Cluster, what string, commands [][]string) {
	t.Helper()
	client, err := testkit.Dial(c.Nodes[c.WaitMaster(formLimit)].Addr(), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var reply testkit.Reply
	for _, args := range commands {
		if reply, err = client.Do(args...); err != nil {
			break
		}
	}
	if err == nil {
		t.Errorf("%s was not refused but answered %v", what, reply)
		return
	}
	t.Logf("%s: %v", what, err)
}
