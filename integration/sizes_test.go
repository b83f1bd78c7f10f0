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
	m := insist(t, c)
	large := blob(1, 31*mebibyte)
	m.MustDo(t, "SET", "large", large)
	key, grown := grow(t, c)
	m.MustDo(t, "SET", "small", "untouched")

	for _, size := range []int{33, 61, 80} {
		refusedLarge(t, c, "SET of "+strconv.Itoa(size)+" MiB", [][]string{{"SET", "small", blob(2, size*mebibyte)}})
		refusedLarge(t, c, "SETRANGE to "+strconv.Itoa(size)+" MiB", [][]string{{"SETRANGE", "small", strconv.Itoa(size * mebibyte), "x"}})
		refusedLarge(t, c, "MULTI of "+strconv.Itoa(size)+" SETs of 1 MiB", transaction(size))
	}
	refusedLarge(t, c, "APPEND beyond 32 MiB", [][]string{{"APPEND", key, blob(3, 7*mebibyte)}})

	check := func(when string) {
		t.Helper()
		for key, want := range map[string]string{"large": large, key: grown, "small": "untouched", "in-transaction": ""} {
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

// grow makes a key of 28 MiB by APPEND and returns it and its value. It takes another key
// when the outcome of an APPEND is unknown.
func grow(t testing.TB, c *testkit.Cluster) (key, value string) {
	t.Helper()
	try := 0
	testkit.Eventually(t, insistLimit, "a key that grows", func() error {
		try++
		key, value = "grown:"+strconv.Itoa(try), ""
		f := testkit.NewFollower(c.Sentinels(), 20*time.Second)
		defer f.Close()
		for i := range 4 {
			part := blob(byte(10+i), 7*mebibyte)
			if _, _, err := f.Do("APPEND", key, part); err != nil {
				return err
			}
			value += part
		}
		return nil
	})
	return key, value
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
	client := master(t, c)
	defer client.Close()
	var reply testkit.Reply
	var err error
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
