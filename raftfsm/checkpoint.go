package raftfsm

import "github.com/holdfast/holdfast/store"

// Checkpoints say when a state machine offers its state to be compared with that of
// other nodes. All nodes do so at the same places of the log, without a word in it:
// where the index passes a multiple of Every, doubled as often as it takes until the
// keys and values have no more than checkpointBytes for each multiple of Every. So
// the work of computing digests grows no faster than the log.
type Checkpoints struct {
	// Every is a number of log entries; 0 for no checkpoints.
	Every uint64
	// Take is offered the state as it is after the entry with the given index, on
	// the FSM's goroutine; it must be quick. If it wants it, it calls freeze, before
	// it returns, and releases the view later. It is called after an entry with a
	// command that panicked, too.
	Take func(index uint64, freeze func() *store.Frozen)
}

// checkpointBytes is how much of keys and values one multiple of Every is good for:
// some 50 ms of one processor.
const checkpointBytes = 64 << 20

// passes tells whether there is a checkpoint between two indexes, the later one
// included, in a state of some size.
func (c *Checkpoints) passes(before, index uint64, used func() int64) bool {
	if c.Every == 0 || before/c.Every == index/c.Every {
		return false
	}
	every := c.Every
	for size := used(); size > checkpointBytes && every < 1<<62; size /= 2 {
		every *= 2
	}
	return before/every != index/every
}

// checkpoint offers the state to be compared if the entry just applied is the place
// for it. before is the index of the entry applied before it.
func (f *FSM) checkpoint(before uint64) {
	suspect := f.suspect
	f.suspect = false
	if f.cfg.Checkpoints.Take == nil {
		return
	}
	if suspect || f.cfg.Checkpoints.passes(before, f.index, f.used) {
		f.cfg.Checkpoints.Take(f.index, f.cfg.Store.Freeze)
	}
}

// used is what keys and values take, bytes.
func (f *FSM) used() int64 { return f.cfg.Store.Stats(0).UsedBytes }
