package integration_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// insistLimit bounds how long a command is sent again.
const insistLimit = time.Minute

// mostTold is how often a story is told that an election nobody asked for, or a machine
// that stands still for a moment, may spoil: the long form has the machine to itself.
func mostTold() int { return pick(3, 1) }

// asker is a client that fails the test unless it is answered.
type asker interface {
	MustDo(t testing.TB, args ...string) testkit.Reply
}

// insisting is a client that follows the master and sends a command again until it is
// answered: for commands that do no harm when they are executed twice.
type insisting struct{ *testkit.Follower }

// insist makes a client that insists, of whoever is master.
func insist(t testing.TB, c *testkit.Cluster) insisting {
	t.Helper()
	f := testkit.NewFollower(c.Sentinels(), 20*time.Second)
	t.Cleanup(f.Close)
	return insisting{f}
}

// MustDo sends a command until it is answered. An answer that is an error fails the test.
func (f insisting) MustDo(t testing.TB, args ...string) testkit.Reply {
	t.Helper()
	var reply testkit.Reply
	testkit.Eventually(t, insistLimit, "an answer to "+args[0], func() error {
		r, outcome, err := f.Do(args...)
		if err != nil && outcome == testkit.Done {
			t.Fatalf("%s: %v", args[0], err)
		}
		reply = r
		return err
	})
	return reply
}

// answerOf is what a node answers to a question on a connection of its own, an error if
// it answers one.
func answerOf(n *testkit.Node, args ...string) (testkit.Reply, error) {
	client, err := testkit.Dial(n.Addr(), 5*time.Second)
	if err != nil {
		return testkit.Reply{}, err
	}
	defer client.Close()
	return client.Do(args...)
}

// asked asks a node until it answers with anything but an error.
func asked(t testing.TB, n *testkit.Node, args ...string) testkit.Reply {
	t.Helper()
	var reply testkit.Reply
	testkit.Eventually(t, formLimit, n.ID+" answers "+strings.Join(args[:min(2, len(args))], " "), func() (err error) {
		reply, err = answerOf(n, args...)
		return err
	})
	return reply
}

// settled has the master do something that it may refuse while the cluster is not whole,
// until it answers that it has, or until it is master no longer.
func settled(t testing.TB, c *testkit.Cluster, n *testkit.Node, act func() error) {
	t.Helper()
	testkit.Eventually(t, 15*time.Second, "it is done", func() error {
		err := act()
		if err == nil {
			return nil
		}
		if now, other := c.FindMaster(); other == nil && c.Nodes[now] != n {
			return nil
		}
		return errors.Join(err, errors.New(n.ID+" may be master still"))
	})
}
