package script

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// Session is a server to play a script with, or something like one. A new one
// holds no data and has no connections; connections are made at their first use.
type Session interface {
	// Do sends a command on a connection and reads its reply; io.EOF if the
	// connection is closed.
	Do(conn string, args []string) (testkit.Reply, error)
}

// Sender is a Session that can send a command that must get no reply. If it gets
// one, that stands in the place of the next.
type Sender interface {
	Send(conn string, args []string) error
}

// Receiver is a Session whose connections can get messages without asking.
type Receiver interface {
	Receive(conn string) (testkit.Reply, error)
}

// Closer is a Session whose connections can end.
type Closer interface {
	Close(conn string) error  // the client closes
	Closed(conn string) error // nil if the server has closed or does so soon
}

// Passer is a Session that can let time pass.
type Passer interface {
	Pass(d time.Duration) error
}

// Eventer is a Session that knows the keyspace events of the last command, each
// as event(key), in order.
type Eventer interface {
	Events() ([]string, error)
}

// errCannot says that a session lacks what a step needs.
var errCannot = errors.New("this session cannot do that")

// Options say how to play a script.
type Options struct {
	Proto  int  // 2 or 3: which replies to expect
	Oracle bool // the session is the real redis-server: what it does otherwise or does not have is not played
}

// Run plays the script and reports every reply that is not the one wanted. After
// an error of the session itself it stops.
func (s *Script) Run(tb testing.TB, session Session, opt Options) {
	tb.Helper()
	for i := range s.steps {
		st := &s.steps[i]
		if opt.Oracle && st.skipped() {
			continue
		}
		reply, err := st.play(session)
		if err != nil {
			tb.Fatalf("%s:%d: %s: %v", s.Name, st.line, s.lines[st.line-1], err)
		}
		if want, got := st.want[opt.Proto-2], st.render(reply); !matches(want, got) {
			tb.Errorf("%s:%d: %s\n got %s\nwant %s", s.Name, st.line, s.lines[st.line-1], got, want)
		}
		events, err := st.happened(session)
		if err != nil {
			tb.Fatalf("%s:%d: events: %v", s.Name, st.line, err)
		}
		if st.eventsLine >= 0 && events != st.events {
			tb.Errorf("%s:%d: %s\n got events %q\nwant events %q", s.Name, st.line, s.lines[st.line-1], events, st.events)
		}
	}
}

// skipped tells whether the oracle does not have the command or answers otherwise.
func (st *step) skipped() bool { return st.since != "" || st.differs != "" }

// play does what the step says.
func (st *step) play(session Session) (testkit.Reply, error) {
	switch st.kind {
	case command:
		if !st.silent {
			return session.Do(st.conn, st.args)
		}
		if r, ok := session.(Sender); ok {
			return testkit.Reply{}, r.Send(st.conn, st.args)
		}
	case receive:
		if r, ok := session.(Receiver); ok {
			return r.Receive(st.conn)
		}
	case clientCloses, serverCloses:
		if c, ok := session.(Closer); ok && st.kind == clientCloses {
			return testkit.Reply{}, c.Close(st.conn)
		} else if ok {
			return testkit.Reply{}, c.Closed(st.conn)
		}
	case pass:
		if p, ok := session.(Passer); ok {
			return testkit.Reply{}, p.Pass(st.wait)
		}
	}
	return testkit.Reply{}, errCannot
}

// render shows a reply to this step.
func (st *step) render(r testkit.Reply) string {
	if st.sorted {
		r = Sorted(r)
	}
	return Render(r)
}

// happened are the events since the last step; nothing if nobody can tell.
func (st *step) happened(session Session) (string, error) {
	e, ok := session.(Eventer)
	if !ok {
		return st.events, nil
	}
	events, err := e.Events()
	return strings.Join(events, " "), err
}

// Update plays a script file with a fresh session for each version of the
// protocol and takes over the replies and events where they are not what the
// file wants already. What the oracle does not have or does otherwise on purpose
// stays as it is.
func Update(path string, open func(proto int) (Session, error)) error {
	s, err := Parse(path)
	if err != nil {
		return err
	}
	var got [2][]string
	var events []string
	for v := range got {
		if s.Proto != 0 && s.Proto != v+2 {
			continue
		}
		session, err := open(v + 2)
		if err != nil {
			return err
		}
		if got[v], events, err = s.record(session); err != nil {
			return err
		}
	}
	if s.Proto != 0 { // what the other version would give is never asked for
		got[3-s.Proto] = got[s.Proto-2]
	}
	return os.WriteFile(path, []byte(s.rewritten(got, events)), 0o644) //nolint:gosec // a test file of the repository
}

// record plays the script and returns what each step gave.
func (s *Script) record(session Session) (replies, events []string, err error) {
	for i := range s.steps {
		st := &s.steps[i]
		reply, happened := st.want[0], st.events
		if !st.skipped() {
			r, err := st.play(session)
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, nil, fmt.Errorf("%s:%d: %w", s.Name, st.line, err)
			}
			reply = st.render(r)
			if happened, err = st.happened(session); err != nil {
				return nil, nil, fmt.Errorf("%s:%d: events: %w", s.Name, st.line, err)
			}
		}
		replies, events = append(replies, reply), append(events, happened)
	}
	return replies, events, nil
}

// rewritten is the text of the script with the given replies and events.
func (s *Script) rewritten(got [2][]string, events []string) string {
	var out []string
	at := 0
	for i := range s.steps {
		st := &s.steps[i]
		if st.skipped() {
			continue
		}
		out = append(out, s.lines[at:st.wantFrom]...)
		at = st.wantTo
		switch a, b := got[0][i], got[1][i]; {
		case matches(st.want[0], a) && matches(st.want[1], b):
			out = append(out, s.lines[st.wantFrom:st.wantTo]...)
		case a == b:
			out = append(out, a)
		default:
			out = append(out, "2 "+a, "3 "+b)
		}
		if st.eventsLine >= 0 {
			out = append(out, s.lines[at:st.eventsLine]...)
			out = append(out, strings.TrimSpace("! "+events[i]))
			at = st.eventsLine + 1
		}
	}
	out = append(out, s.lines[at:]...)
	return strings.Join(out, "\n") + "\n"
}
