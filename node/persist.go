package node

import (
	"context"
	"sync"
	"time"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// saves is what is known of the snapshots clients asked for and raft made.
type saves struct {
	mu      sync.Mutex
	running int
	status  respserver.SaveStatus // Running is left to running
	applied uint64                // commands applied when the last one was made
}

// init says that no snapshot was made yet by a node started at startUnix.
func (s *saves) init(startUnix int64) {
	s.status = respserver.SaveStatus{LastUnix: startUnix, LastOK: true, LastSeconds: -1}
}

var _ respserver.Persister = (*Node)(nil)

// Save makes a snapshot and waits for it. There being nothing new since the last
// one is success.
func (n *Node) Save(ctx context.Context) error {
	n.saves.mu.Lock()
	n.saves.running++
	n.saves.mu.Unlock()
	err := n.raft.Snapshot(ctx)
	n.saves.mu.Lock()
	n.saves.running--
	n.saves.mu.Unlock()
	return err
}

// saved hears of every finished snapshot, whoever asked for it.
func (n *Node) saved(took time.Duration, err error) {
	applied := n.fsm.Stats().Commands
	n.saves.mu.Lock()
	defer n.saves.mu.Unlock()
	s := &n.saves.status
	s.LastOK = err == nil
	if err != nil {
		return
	}
	s.Saves++
	s.LastSeconds = int(took.Seconds())
	s.LastUnix = n.clock.WallMilli() / 1000
	n.saves.applied = applied
}

// Status is what is known of snapshots.
func (n *Node) Status() respserver.SaveStatus {
	applied := n.fsm.Stats().Commands
	n.saves.mu.Lock()
	defer n.saves.mu.Unlock()
	s := n.saves.status
	s.Running = n.saves.running > 0
	s.Changes = int64(applied - n.saves.applied)
	return s
}

// shutdown is SHUTDOWN: the node stops as after SIGTERM. With SAVE a snapshot is
// made first; there is no need for one, as the log holds everything.
func (n *Node) shutdown(mode respserver.ShutdownMode) error {
	if mode.Abort {
		return errNoShutdown
	}
	if mode.Save {
		ctx, cancel := context.WithTimeout(context.Background(), shutdownSave)
		defer cancel()
		if err := n.Save(ctx); err != nil && !mode.Force {
			n.log.Error("no snapshot at SHUTDOWN SAVE", "err", err)
			return errShutdownSave
		}
	}
	n.alerts.inHaste.Store(mode.Now)
	select {
	case n.alerts.stopAsked <- struct{}{}:
	default: // asked for already
	}
	return nil
}

// shutdownSave bounds the snapshot of SHUTDOWN SAVE.
const shutdownSave = 5 * time.Minute

// What SHUTDOWN answers when it does nothing, in the words of Redis.
var (
	errNoShutdown   = resp.Error("ERR No shutdown in progress.")
	errShutdownSave = resp.Error("ERR Errors trying to SHUTDOWN. Check logs.")
)
