package cluster_test

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
)

const (
	mark    = 4 << 20
	reserve = 2 << 20
)

// disk is a disk whose free space the test decides.
type disk struct{ free atomic.Int64 }

func (d *disk) watch(cfg *cluster.Config) {
	d.free.Store(100 * mark)
	cfg.Space = cluster.SpaceConfig{Mark: mark, Reserve: reserve, Free: func() (int64, error) { return d.free.Load(), nil }}
}

// reserved is what the reserve of a node takes on the real disk.
func reserved(m *member) int64 {
	var st syscall.Stat_t
	if syscall.Stat(filepath.Join(m.cfg.Dir, "reserve"), &st) != nil {
		return 0
	}
	return st.Blocks * 512
}

// Below the mark the disk is low, at twice the mark it is no longer; in between it
// stays as it was. The reserve does not count as free; it is given up at a quarter of
// the mark and laid down again when there is space for it beside twice the mark.
func TestDiskIsLowBetweenTheMarks(t *testing.T) {
	var d disk
	m := single(t, d.watch)
	for i, step := range []struct {
		free              int64
		low, haveAReserve bool
	}{
		{100 * mark, false, true},
		{2 * mark, false, true},
		{mark, false, true},
		{mark - 1, true, true},
		{2*mark - 1, true, true},
		{2 * mark, false, true},
		{mark / 2, true, true},
		{mark/4 - 1, true, false},
		{mark / 2, true, false},
		{2 * mark, true, false}, // the reserve is missing from it
		{2*mark + reserve - 1, true, false},
		{2*mark + reserve, false, true},
		{0, true, false},
		{100 * mark, false, true},
	} {
		d.free.Store(step.free)
		want := cluster.DiskStats{Low: step.low, Reserve: step.haveAReserve}
		eventually(t, "the node has seen the disk", func() bool {
			got := m.node.Stats().Disk
			got.Free = 0
			return got == want
		})
		if got := reserved(m) >= reserve; got != step.haveAReserve {
			t.Errorf("step %d: the file of the reserve is there: %t", i, got)
		}
		v := m.node.View()
		eventually(t, "the view agrees", func() bool {
			v = m.node.View()
			return v.DiskLow == step.low && v.DiskShort == step.low
		})
	}
}

// A node starts on a low disk, says so from the start, and takes what it finds of
// the reserve as it is.
func TestStartOnALowDisk(t *testing.T) {
	var d disk
	m := single(t, d.watch)
	restart := func() {
		m.stop()
		<-m.ended
		if err := m.node.Close(); err != nil {
			t.Fatal(err)
		}
		if err := m.start(); err != nil {
			t.Fatal(err)
		}
	}
	d.free.Store(mark - 1)
	restart()
	if s := m.node.Stats().Disk; !s.Low || !s.Reserve {
		t.Errorf("with a reserve: %+v", s)
	}
	if err := os.Truncate(filepath.Join(m.cfg.Dir, "reserve"), reserve/2); err != nil {
		t.Fatal(err)
	}
	restart()
	if s := m.node.Stats().Disk; !s.Low || s.Reserve || s.Free != 0 && s.Free != mark-1-reserve {
		t.Errorf("with half a reserve: %+v", s)
	}
	d.free.Store(3*mark + reserve)
	eventually(t, "space", func() bool { return !m.node.Stats().Disk.Low && reserved(m) >= reserve })
	eventually(t, "a write", func() bool { return m.node.Apply([]byte("k=v"), time.Second).Error() == nil })
}

// The master is short of disk space when its own disk is low, or when no majority
// can be had without a node whose disk is. Entries of the cluster itself are taken all the time,
// and whoever leads says the same.
func TestMajorityOfLowDisksIsShort(t *testing.T) {
	disks := map[string]*disk{"n1": {}, "n2": {}, "n3": {}}
	told(t, func(cfg *cluster.Config) { disks[cfg.NodeID].watch(cfg) }, func(t testing.TB, c *trio) {
		l := c.leader()
		rest := c.others(l)
		low := func(ids ...string) {
			for id, d := range disks {
				d.free.Store(100 * mark)
				for _, other := range ids {
					if id == other {
						d.free.Store(mark / 2)
					}
				}
			}
		}
		short := func(what string, m *member, want bool) {
			t.Helper()
			c.eventually(what, func() bool { return m.node.View().DiskShort == want })
		}
		low(rest[0].id)
		c.eventually("the leader hears of it", func() bool {
			for _, p := range l.node.View().Peers {
				if p.ID == rest[0].id {
					return p.DiskLow
				}
			}
			return false
		})
		short("one follower is not enough", l, false)
		low(rest[0].id, rest[1].id)
		short("two followers are", l, true)
		c.put("a", "b") // entries fit all the same
		low(rest[0].id)
		short("one follower again", l, false)
		c.kill(rest[1].id)
		short("one follower low and the other one gone", l, true)
		c.start(rest[1].id)
		low(rest[0].id)
		short("the other one is back", l, false)
		low(l.id)
		short("the leader's own", l, true)
		c.wires.isolate(l.id, rest[0].id, rest[1].id)
		next := c.leaderAmong(rest[0].id, rest[1].id)
		short("the new leader has space", next, false)
		c.wires.heal()
		c.sees(l, "a", "b")
	})
}

// No snapshot is begun that could use up what the log needs.
func TestSnapshotNeedsSpace(t *testing.T) {
	var d disk
	m := single(t, func(cfg *cluster.Config) {
		d.watch(cfg)
		cfg.Log.DatasetBytes = func() int64 { return 10 * mark }
	})
	eventually(t, "leadership", func() bool { return confirm(m, time.Second) == nil })
	d.free.Store(10 * mark)
	eventually(t, "the disk is seen", func() bool { return m.node.Stats().Disk.Free == 10*mark })
	if err := m.node.Snapshot(t.Context()); err == nil || m.node.Stats().Snapshots.Made != 0 {
		t.Errorf("a snapshot without space for it: %v", err)
	}
	d.free.Store(11 * mark)
	eventually(t, "the disk is seen", func() bool { return m.node.Stats().Disk.Free == 11*mark })
	if err := m.node.Snapshot(t.Context()); err != nil {
		t.Error(err)
	}
}
