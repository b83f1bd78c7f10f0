// Package loopback is a raft of one node, a few lines and no disk: it hands
// entries to a state machine in order and can lose its leadership, refuse, hold
// and forget them on demand. For tests only.
package loopback

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// FSM is the part of raft.FSM that a Loop calls.
type FSM interface {
	Apply(l *raft.Log) any
}

// Loop is a raft that knows Apply only. It starts as leader of term 1. It is
// safe for concurrent use; Close it.
type Loop struct {
	fsm  FSM
	wake chan struct{}
	jobs chan func()
	stop chan struct{}
	done chan struct{}

	mu struct {
		sync.Mutex
		term    uint64
		index   uint64
		leader  bool
		held    bool
		keep    bool
		delay   time.Duration
		waiting []*Future // accepted, not yet applied
		lost    []*Future // forgotten
		faults  []fault   // for the next entries, one each
		log     []*raft.Log
	}
}

// fault is what happens to one entry instead of being applied.
type fault struct {
	err error // the future's error; nil for never resolving
}

// Future is the ending of one entry.
type Future struct {
	log      *raft.Log
	since    time.Time
	done     chan struct{}
	err      error
	response any
}

var _ raft.ApplyFuture = (*Future)(nil)

// Error waits for the ending, for ever if there is none.
func (f *Future) Error() error {
	<-f.done
	return f.err
}

// Response is what the state machine answered.
func (f *Future) Response() any { return f.response }

// Index is the place of the entry in the log, 0 if it has none.
func (f *Future) Index() uint64 { return f.log.Index }

func (f *Future) end(err error) {
	f.err = err
	close(f.done)
}

// New returns a running Loop over fsm.
func New(fsm FSM) *Loop {
	l := &Loop{fsm: fsm, wake: make(chan struct{}, 1), jobs: make(chan func()), stop: make(chan struct{}), done: make(chan struct{})}
	l.mu.term, l.mu.leader = 1, true
	go l.run()
	return l
}

// Close stops the Loop. Entries not applied yet, the forgotten ones too, end with
// ErrRaftShutdown, so that nobody waits for them for ever.
func (l *Loop) Close() {
	close(l.stop)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range append(l.mu.waiting, l.mu.lost...) {
		f.end(raft.ErrRaftShutdown)
	}
	l.mu.waiting, l.mu.lost, l.mu.leader = nil, nil, false
}

// Apply appends an entry, as raft.Raft.Apply does. The timeout plays no role.
func (l *Loop) Apply(cmd []byte, _ time.Duration) raft.ApplyFuture {
	f := &Future{log: &raft.Log{Type: raft.LogCommand, Data: cmd}, since: time.Now(), done: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.mu.faults) > 0 {
		fault := l.mu.faults[0]
		l.mu.faults = l.mu.faults[1:]
		if fault.err != nil {
			f.end(fault.err)
		} else {
			l.mu.lost = append(l.mu.lost, f)
		}
		return f
	}
	if !l.mu.leader {
		f.end(raft.ErrNotLeader)
		return f
	}
	l.mu.index++
	f.log.Index, f.log.Term = l.mu.index, l.mu.term
	l.mu.waiting = append(l.mu.waiting, f)
	l.stir()
	return f
}

func (l *Loop) stir() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run applies what is waiting, one entry at a time.
func (l *Loop) run() {
	defer close(l.done)
	for {
		f, delay := l.next()
		if f == nil {
			select {
			case <-l.wake:
				continue
			case job := <-l.jobs:
				job()
				continue
			case <-l.stop:
				return
			}
		}
		if left := delay - time.Since(f.since); left > 0 {
			select {
			case <-time.After(left):
			case <-l.stop:
				return
			}
		}
		f.response = l.fsm.Apply(f.log)
		f.end(nil)
	}
}

// Do runs fn on the state machine's goroutine when nothing waits to be applied, as raft
// calls Snapshot and Restore.
func (l *Loop) Do(fn func()) {
	done := make(chan struct{})
	l.jobs <- func() {
		fn()
		close(done)
	}
	<-done
}

// next takes the first waiting entry, unless they are held.
func (l *Loop) next() (*Future, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.held || len(l.mu.waiting) == 0 {
		return nil, 0
	}
	f := l.mu.waiting[0]
	l.mu.waiting = l.mu.waiting[1:]
	if l.mu.keep {
		l.mu.log = append(l.mu.log, f.log)
	}
	return f, l.mu.delay
}

// Keep makes the Loop remember the entries it applies from now on, for Log.
func (l *Loop) Keep() {
	l.mu.Lock()
	l.mu.keep = true
	l.mu.Unlock()
}

// Log is the entries remembered so far.
func (l *Loop) Log() []*raft.Log {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*raft.Log(nil), l.mu.log...)
}

// Term is the present term.
func (l *Loop) Term() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mu.term
}

// Waiting is the number of accepted entries not yet applied.
func (l *Loop) Waiting() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.mu.waiting)
}

// SetDelay is the time from accepting an entry to applying it.
func (l *Loop) SetDelay(d time.Duration) {
	l.mu.Lock()
	l.mu.delay = d
	l.mu.Unlock()
}

// Hold keeps accepted entries from being applied until Release.
func (l *Loop) Hold() {
	l.mu.Lock()
	l.mu.held = true
	l.mu.Unlock()
}

// Release ends Hold.
func (l *Loop) Release() {
	l.mu.Lock()
	l.mu.held = false
	l.mu.Unlock()
	l.stir()
}

// Fail makes the next entry that is proposed end with err, never applied.
func (l *Loop) Fail(err error) {
	l.mu.Lock()
	l.mu.faults = append(l.mu.faults, fault{err})
	l.mu.Unlock()
}

// Forget makes the next entry that is proposed neither applied nor resolved before Close.
func (l *Loop) Forget() {
	l.mu.Lock()
	l.mu.faults = append(l.mu.faults, fault{nil})
	l.mu.Unlock()
}

// Lose ends the leadership. Entries waiting to be applied end with
// ErrLeadershipLost; if committed, they are applied nevertheless, as a next
// leader would have it.
func (l *Loop) Lose(committed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.leader = false
	lost := l.mu.waiting
	l.mu.waiting = nil
	for _, f := range lost {
		f.end(raft.ErrLeadershipLost)
		if committed {
			l.mu.waiting = append(l.mu.waiting, &Future{log: f.log, since: f.since, done: make(chan struct{})})
		}
	}
	l.stir()
}

// Elect makes the Loop leader of a new term, which it returns.
func (l *Loop) Elect() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.term++
	l.mu.leader = true
	return l.mu.term
}
