package node

import (
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/raftfsm"
)

// A snapshot that takes the place of the state on a running node closes the clients
// that could not be told of what it changes: those of before, and those who came while
// it was put there. Others stay.
func TestSnapshotClosesWhoTracks(t *testing.T) {
	m := single(t)
	plain := m.dial()
	for what, happens := range map[string]func(){
		"before the state is replaced": m.node.restoring,
		"after it was":                 func() { m.node.Applied(raftfsm.Update{Restored: true}) },
	} {
		tracks, subscribed := m.dial(), m.dial()
		tracks.MustDo(t, "CLIENT", "TRACKING", "ON")
		subscribed.MustDo(t, "SUBSCRIBE", "c")
		happens()
		for _, c := range []*testkit.Client{tracks, subscribed} {
			if err := c.Closed(soon); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
	}
	plain.MustDo(t, "PING")
}

// CONFIG SET bounds what is remembered at once, and readers of what is dropped are told.
func TestTrackingTableFollowsItsDirective(t *testing.T) {
	m := single(t)
	c := m.dial()
	c.MustDo(t, "HELLO", "3")
	c.MustDo(t, "CLIENT", "TRACKING", "ON")
	c.MustDo(t, "MGET", "a", "b", "c", "d")
	other := m.dial()
	tracked := func() string {
		return testkit.ParseInfo(string(other.MustDo(t, "INFO", "stats").Text))["tracking_total_keys"]
	}
	if n := tracked(); n != "4" {
		t.Errorf("%s keys are tracked, want 4", n)
	}
	other.MustDo(t, "CONFIG", "SET", "tracking-table-max-keys", "1")
	if n := tracked(); n != "1" {
		t.Errorf("%s keys are tracked, want 1", n)
	}
	for range 3 {
		r, err := c.Read()
		if err != nil || r.Type != '>' || r.Strings()[0] != "invalidate" {
			t.Fatalf("told %v, %v", r, err)
		}
	}
}
