//go:build faults

package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holdfast/holdfast/internal/clock"
)

// faultFile is read in the data directory, and again whenever it changes. Without
// it nothing is disturbed.
const faultFile = "faults.json"

const faultPoll = 20 * time.Millisecond

// faultPlan is what faultFile holds.
type faultPlan struct {
	WallOffset int64 `json:"wall_offset_ms"` // of this process's wall clock
	BootOffset int64 `json:"boot_offset_ms"` // of its CLOCK_BOOTTIME

	Store      string `json:"store"`          // "" hang eio enospc, or fsync: the data is written and the error comes after
	StoreDelay int64  `json:"store_delay_ms"` // before each append to the log,
	StoreEvery int64  `json:"store_every_ms"` // or before the first one after so much time

	Free *int64 `json:"free_bytes"` // on the disk of the data directory, whatever the file system says

	Cut   []string         `json:"cut"`      // nodes that nothing is sent to or taken from
	Delay map[string]int64 `json:"delay_ms"` // by node, before anything is sent to it

	Flip *struct {
		DB  int    `json:"db"`
		Key string `json:"key"`
	} `json:"flip"` // once each time the file changes
}

// hooks is where builds with the tag "faults" disturb a node.
type hooks struct {
	plan    atomic.Pointer[faultPlan]
	done    <-chan struct{} // closed when the node stops; set before plan
	delayed atomic.Int64    // when an append was delayed last, ms of the monotonic clock
}

// watch follows the control file until the node stops.
func (h *hooks) watch(n *Node) {
	h.done = n.ctx.Done()
	h.plan.Store(&faultPlan{})
	path := filepath.Join(n.cfg.Dir, faultFile)
	last := h.follow(n, path, nil)
	n.wg.Go(func() {
		tick := time.NewTicker(faultPoll)
		defer tick.Stop()
		for {
			select {
			case <-h.done:
				return
			case <-tick.C:
				last = h.follow(n, path, last)
			}
		}
	})
}

// follow takes the file's contents over if they differ from last.
func (h *hooks) follow(n *Node, path string, last []byte) []byte {
	text, err := os.ReadFile(path) //nolint:gosec // a fixed name in our own directory
	if err != nil || bytes.Equal(text, last) {
		if errors.Is(err, os.ErrNotExist) && last != nil {
			h.apply(n, &faultPlan{})
			return nil
		}
		return last
	}
	var plan faultPlan
	if err := json.Unmarshal(text, &plan); err != nil {
		return last // half written; looked at again
	}
	h.apply(n, &plan)
	return text
}

func (h *hooks) apply(n *Node, plan *faultPlan) {
	clock.SetWallOffset(plan.WallOffset)
	clock.SetBootOffset(time.Duration(plan.BootOffset) * time.Millisecond)
	h.plan.Store(plan)
	n.log.Warn("faults", "plan", fmt.Sprintf("%+v", *plan)) // tests wait for this line: all holds by now
	if f := plan.Flip; f != nil && n.cfg.Flip != nil {
		n.log.Warn("faults", "flipped", n.cfg.Flip(f.DB, []byte(f.Key)))
	}
}

// wait lets time pass while the node runs.
func (h *hooks) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-h.done:
	}
}

// beforeAppend delays, hangs or fails an append.
func (h *hooks) beforeAppend() error {
	plan := h.plan.Load()
	if plan == nil {
		return nil
	}
	if plan.StoreDelay > 0 && h.due(plan.StoreEvery) {
		h.wait(time.Duration(plan.StoreDelay) * time.Millisecond)
	}
	for h.plan.Load().Store == "hang" {
		select {
		case <-h.done:
			return errClosed
		default:
			h.wait(faultPoll)
		}
	}
	switch h.plan.Load().Store {
	case "eio":
		return unix.EIO
	case "enospc":
		return unix.ENOSPC
	}
	return nil
}

// due tells whether the time between two delays has passed, and begins it anew then.
func (h *hooks) due(every int64) bool {
	now := clock.System{}.Boot().Milliseconds()
	last := h.delayed.Load()
	return now-last >= every && h.delayed.CompareAndSwap(last, now)
}

// afterAppend fails an append whose data is written already.
func (h *hooks) afterAppend() error {
	if plan := h.plan.Load(); plan != nil && plan.Store == "fsync" {
		return fmt.Errorf("fsync: %w", unix.EIO)
	}
	return nil
}

// cut tells whether nothing may pass between this node and a peer now.
func (h *hooks) cut(peer string) error {
	plan := h.plan.Load()
	if plan == nil {
		return nil
	}
	if d := plan.Delay[peer]; d > 0 {
		h.wait(time.Duration(d) * time.Millisecond)
	}
	if slices.Contains(plan.Cut, peer) {
		return errors.New("cut off by a fault")
	}
	return nil
}

// free is how much of the disk counts as free.
func (h *hooks) free(bytes int64) int64 {
	if plan := h.plan.Load(); plan != nil && plan.Free != nil {
		return *plan.Free
	}
	return bytes
}
