package respserver

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// role answers ROLE; see confirmedRole for when it says master.
func role(conn command.Conn, _ [][]byte) resp.Value {
	c := conn.(*client)
	r := c.confirmedRole()
	offset := int64(0)
	if c.srv.cfg.Replication != nil {
		offset = int64(c.srv.cfg.Replication.Index())
	}
	if !r.Master {
		state, host := "connect", resp.BulkString(r.MasterHost)
		switch {
		case r.Loading && r.LinkUp:
			state = "sync"
		case r.LinkUp:
			state = "connected"
		}
		return resp.Array(resp.BulkString("slave"), host, resp.Int(int64(r.MasterPort)), resp.BulkString(state), resp.Int(offset))
	}
	up := c.srv.replicas()
	list := make([]resp.Value, len(up))
	for i, p := range up {
		list[i] = resp.Array(resp.BulkString(p.Host), resp.BulkInt(int64(p.Port)), resp.BulkInt(int64(p.Acked)))
	}
	return resp.Array(resp.BulkString("master"), resp.Int(offset), resp.Array(list...))
}

// timeCommand answers cluster time, which is kept in milliseconds.
func timeCommand(conn command.Conn, _ [][]byte) resp.Value {
	c := conn.(*client)
	var ms int64
	c.srv.cfg.Data.View(0, func(r *store.Reader) { ms = r.Now() })
	return resp.Array(resp.BulkInt(ms/1000), resp.BulkInt(ms%1000*1000))
}

func lastSave(conn command.Conn, _ [][]byte) resp.Value {
	return resp.Int(conn.(*client).srv.cfg.Persist.Status().LastUnix)
}

// bgSave begins a snapshot. SCHEDULE is accepted: nothing keeps one from
// beginning now.
func bgSave(conn command.Conn, args [][]byte) resp.Value {
	s := conn.(*client).srv
	switch {
	case len(args) > 2 || (len(args) == 2 && !word(args[1], "SCHEDULE")):
		return resp.Err(resp.ErrSyntax)
	case s.cfg.Persist.Status().Running || !s.saving.CompareAndSwap(false, true):
		return resp.Err(resp.ErrSaving)
	}
	s.mu.Lock()
	jobs := s.mu.jobs
	s.mu.Unlock()
	s.jobs.Go(func() {
		defer s.saving.Store(false)
		if err := s.cfg.Persist.Save(jobs); err != nil {
			s.cfg.Log.Error("cannot make a snapshot", "error", err)
		}
	})
	return resp.Simple("Background saving started")
}

func save(conn command.Conn, _ [][]byte) resp.Value {
	c := conn.(*client)
	if c.srv.cfg.Persist.Status().Running || !c.srv.saving.CompareAndSwap(false, true) {
		return resp.Err(resp.ErrSaving)
	}
	defer c.srv.saving.Store(false)
	if err := c.srv.cfg.Persist.Save(c.life.ctx); err != nil {
		c.srv.cfg.Log.Error("cannot make a snapshot", "error", err)
		return resp.Err(resp.ErrSaveFailed)
	}
	return resp.OK
}

func parseShutdown(args [][]byte) (mode ShutdownMode, err error) {
	for _, a := range args {
		switch strings.ToUpper(string(a)) {
		case "NOSAVE":
			mode.NoSave = true
		case "SAVE":
			mode.Save = true
		case "NOW":
			mode.Now = true
		case "FORCE":
			mode.Force = true
		case "ABORT":
			mode.Abort = true
		default:
			return mode, resp.ErrSyntax
		}
	}
	if (mode.Abort && len(args) > 1) || (mode.Save && mode.NoSave) {
		return mode, resp.ErrSyntax
	}
	return mode, nil
}

// shutdown leaves the process to the node. As in Redis there is no reply when it
// ends.
func shutdown(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	mode, err := parseShutdown(args[1:])
	if err != nil {
		return resp.Err(err)
	}
	switch {
	case c.srv.cfg.Sentinel && !c.Trusted():
		return resp.Err(resp.ErrUntrusted)
	case c.srv.cfg.Shutdown == nil:
		return resp.Err(resp.ErrShutdown)
	}
	if err := c.srv.cfg.Shutdown(mode); err != nil {
		if known, ok := errors.AsType[resp.Error](err); ok {
			return resp.Err(known)
		}
		c.srv.cfg.Log.Error("cannot shut down", "error", err)
		return resp.Err(resp.ErrShutdown)
	}
	if mode.Abort {
		return resp.OK
	}
	c.CloseUnanswered()
	return resp.None
}

// debugAllowed follows enable-debug-command.
func (c *client) debugAllowed() bool {
	switch c.srv.tuning().DebugCommand {
	case "yes":
		return true
	case "local":
		return local(c.conn)
	}
	return false
}

// debug has one subcommand, SLEEP, which holds up this connection only.
func debugCommand(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	if !c.debugAllowed() {
		return resp.Err(resp.ErrNoDebug)
	}
	if !word(args[1], "SLEEP") || len(args) != 3 {
		return resp.Err(resp.SubcommandArity("debug", args[1]))
	}
	seconds, err := strconv.ParseFloat(string(args[2]), 64)
	if err != nil || seconds < 0 || seconds > maxSleep.Seconds() {
		return resp.Err(resp.ErrNotFloat)
	}
	t := time.NewTimer(time.Duration(seconds * float64(time.Second)))
	defer t.Stop()
	woken, unblock := c.block()
	defer unblock()
	select {
	case <-t.C:
	case <-woken:
	case <-c.life.ctx.Done():
	}
	return resp.OK
}

// maxSleep is how long DEBUG SLEEP may take.
const maxSleep = time.Hour

func configGet(conn command.Conn, args [][]byte) resp.Value {
	s := conn.(*client).srv
	seen := make(map[string]bool)
	var pairs []resp.Value
	for _, pattern := range args[2:] {
		for _, p := range s.cfg.Settings.Get(string(pattern)) {
			name := strings.ToLower(p.Name)
			if seen[name] {
				continue
			}
			seen[name] = true
			if strings.EqualFold(name, string(pattern)) {
				name = string(pattern) // Redis repeats a name as it was asked for
			}
			pairs = append(pairs, resp.BulkString(name), resp.BulkString(p.Value))
		}
	}
	return resp.Map(pairs...)
}

// configSet changes all settings that are named, or none. An unknown outcome ends
// the connection as that of a write does.
func configSet(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	if len(args)%2 != 0 {
		return resp.Err(resp.ErrSyntax)
	}
	pairs := make([]Pair, 0, len(args)/2-1)
	for i := 2; i < len(args); i += 2 {
		pairs = append(pairs, Pair{strings.ToLower(string(args[i])), string(args[i+1])})
	}
	c.life.waits.Store(c.srv.gate.tick.Load())
	err := c.srv.cfg.Settings.Set(c.life.ctx, pairs)
	c.life.waits.Store(0)
	if err == nil {
		return resp.OK
	}
	if errors.Is(err, resp.ErrInDoubt) || errors.Is(err, c.life.ctx.Err()) {
		c.sess.lost = true
		return errInDoubtReply
	}
	return resp.Err(err)
}

func configResetStat(conn command.Conn, _ [][]byte) resp.Value {
	s := conn.(*client).srv
	s.counters.reset()
	s.gate.sent.Store(0)
	s.errors.reset()
	for _, e := range s.table.sorted {
		e.reset()
	}
	return resp.OK
}

// waitPoll is how often WAIT looks at what the replicas have acknowledged.
const waitPoll = 5 * time.Millisecond

// parseTimeout reads a timeout in ms, 0 for ever.
func parseTimeout(arg []byte) (time.Duration, error) {
	ms, err := parseInt(arg)
	switch {
	case err != nil || ms > int64(1<<62/time.Millisecond):
		return 0, resp.ErrTimeout
	case ms < 0:
		return 0, resp.ErrTimeoutSign
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// wait answers how many replicas have acknowledged everything this connection
// has written. The log index that is waited for is the one this node has reached:
// it covers the connection's writes, all of which have been answered.
func waitCommand(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	want, err := parseInt(args[1])
	if err != nil {
		return resp.Err(err)
	}
	timeout, err := parseTimeout(args[2])
	switch {
	case err != nil:
		return resp.Err(err)
	case !c.sess.role.serves():
		return resp.Err(resp.ErrWaitReplica)
	}
	n, refusal := c.awaitReplicas(want, timeout)
	if refusal != nil {
		return resp.Err(refusal)
	}
	return resp.Int(n)
}

// waitAOF is WAIT for logs that are fsynced. Here every acknowledgement means
// that, this node's included.
func waitAOF(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	local, err := parseInt(args[1])
	if err != nil {
		return resp.Err(err)
	}
	if local < 0 || local > 1 {
		return resp.Err(resp.ErrNotZeroOrOne)
	}
	want, err := parseInt(args[2])
	switch {
	case err != nil:
		return resp.Err(err)
	case want < 0:
		return resp.Err(resp.ErrNotPositive)
	}
	timeout, err := parseTimeout(args[3])
	switch {
	case err != nil:
		return resp.Err(err)
	case !c.sess.role.serves():
		return resp.Err(resp.ErrWaitAOFReplica)
	}
	n, refusal := c.awaitReplicas(want, timeout)
	if refusal != nil {
		return resp.Err(refusal)
	}
	return resp.Array(resp.One, resp.Int(n))
}

// written is a log index that covers what this connection has written, 0 if that is
// nothing.
func (c *client) written() (index uint64) {
	if !c.sess.wrote {
		return 0
	}
	if c.srv.cfg.Replication != nil {
		index = c.srv.cfg.Replication.Index()
	}
	if c.sess.role.Forward {
		index = max(index, c.srv.cfg.Passed.Written())
	}
	return index
}

// acknowledged is the number of replicas whose log has reached index, as far as the
// master can be asked.
func (c *client) acknowledged(index uint64) (n int64) {
	if c.sess.role.Forward {
		n, err := c.srv.cfg.Passed.Acknowledged(c.life.ctx, index)
		if err != nil {
			return 0
		}
		return n
	}
	for _, p := range c.srv.replicas() {
		if p.Acked >= index {
			n++
		}
	}
	return n
}

// awaitReplicas waits until want replicas have acknowledged the connection's
// writes, but no longer than timeout, 0 for ever; inside EXEC it does not wait.
func (c *client) awaitReplicas(want int64, timeout time.Duration) (n int64, refusal error) {
	index := c.written()
	n = c.acknowledged(index)
	if n >= want || c.inExec() {
		return n, nil
	}
	var expired <-chan time.Time
	if timeout > 0 {
		t := time.NewTimer(timeout)
		defer t.Stop()
		expired = t.C
	}
	if err := c.flush(); err != nil { // what was answered before need not wait
		c.sess.failed = err
		return n, nil
	}
	poll := time.NewTicker(waitPoll)
	defer poll.Stop()
	woken, unblock := c.block()
	defer unblock()
	for n < want {
		select {
		case <-poll.C:
			n = c.acknowledged(index)
			c.tellMeanwhile()
		case <-expired:
			return n, nil
		case why := <-woken:
			return n, c.wakeError(why)
		case <-c.life.ctx.Done():
			return n, resp.ErrForceUnblocked
		}
	}
	return n, nil
}

// wakeError is what a command that was woken answers, nil to answer as if its time was up.
func (c *client) wakeError(why wakeup) error {
	switch why {
	case wakeTimeout:
		return nil
	case wakeError:
		return resp.ErrUnblocked
	case wakeDoomed, wakeGone:
		c.sess.ending = true
	}
	return resp.ErrForceUnblocked
}
