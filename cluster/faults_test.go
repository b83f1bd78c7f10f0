//go:build faults

package cluster_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/internal/clock"
)

// disturb writes the control file of a node.
func disturb(t *testing.T, dir, plan string) {
	t.Helper()
	tmp := filepath.Join(dir, "faults.tmp")
	if err := os.WriteFile(tmp, []byte(plan), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, "faults.json")); err != nil {
		t.Fatal(err)
	}
}

// Each way in which an append can fail stops the node with that error.
func TestFaultsOfTheLogStopTheNode(t *testing.T) {
	for name, want := range map[string]error{"eio": syscall.EIO, "enospc": syscall.ENOSPC, "fsync": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			m := single(t, nil)
			eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
			disturb(t, m.cfg.Dir, `{"store":"`+name+`"}`)
			eventually(t, "the end", func() bool {
				go m.node.Apply([]byte("a=b"), time.Second)
				select {
				case <-m.ended:
					return true
				default:
					return false
				}
			})
			if !errors.Is(m.result, want) {
				t.Errorf("stopped with %v", m.result)
			}
		})
	}
}

// An append hangs for as long as the file says so.
func TestFaultHangEnds(t *testing.T) {
	m := single(t, nil)
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	disturb(t, m.cfg.Dir, `{"store":"hang"}`)
	eventually(t, "a hanging append", func() bool {
		go m.node.Apply([]byte("a=b"), time.Second)
		return m.node.Stats().Log.Outstanding > 100*time.Millisecond
	})
	if err := os.Remove(filepath.Join(m.cfg.Dir, "faults.json")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the write", func() bool { return m.fsm.get("a") == "b" })
}

// Clocks are shifted, and back when the file goes away.
func TestFaultOffsetsShiftClocks(t *testing.T) {
	m := single(t, nil)
	boot, wall := clock.System{}.Boot(), clock.System{}.WallMilli()
	disturb(t, m.cfg.Dir, `{"wall_offset_ms":3600000,"boot_offset_ms":7200000}`)
	eventually(t, "the offsets", func() bool {
		return clock.System{}.Boot()-boot >= 2*time.Hour && clock.System{}.WallMilli()-wall >= 3600000
	})
	if err := os.Remove(filepath.Join(m.cfg.Dir, "faults.json")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no offsets", func() bool { return clock.System{}.Boot()-boot < time.Hour })
}

// The hook that damages a value is called once for each change of the file.
func TestFaultFlipReachesTheState(t *testing.T) {
	flipped := make(chan string, 4)
	m := single(t, func(cfg *cluster.Config) {
		cfg.Flip = func(db int, key []byte) bool {
			flipped <- string(key)
			return db == 2
		}
	})
	disturb(t, m.cfg.Dir, `{"flip":{"db":2,"key":"k"}}`)
	if got := <-flipped; got != "k" {
		t.Errorf("flipped %q", got)
	}
	pause(100 * time.Millisecond)
	if len(flipped) > 0 {
		t.Error("flipped again without a change")
	}
}

// A node that is cut off by the file loses the leadership and comes back.
func TestFaultCutSeparatesNodes(t *testing.T) {
	c := started(t, nil)
	l := c.leader()
	rest := c.others(l)
	disturb(t, l.cfg.Dir, `{"cut":["`+rest[0].id+`","`+rest[1].id+`"]}`)
	c.eventually("it gives up", func() bool { return !l.node.View().IsLeader })
	c.leaderAmong(rest[0].id, rest[1].id)
	disturb(t, l.cfg.Dir, `{"delay_ms":{"`+rest[0].id+`":1}}`)
	c.put("k", "v")
	c.sees(l, "k", "v")
}
