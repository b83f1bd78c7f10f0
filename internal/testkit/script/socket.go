package script

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// patience bounds every wait of a Socket.
const patience = 10 * time.Second

// Socket is a Session with a server that listens on a TCP port. It sends
// FLUSHALL first. It is for one goroutine; close it with End.
type Socket struct {
	addr  string
	proto int
	conns map[string]*testkit.Client
	ids   map[string]string // of connections that a command has named
}

var (
	_ Session  = (*Socket)(nil)
	_ Sender   = (*Socket)(nil)
	_ Receiver = (*Socket)(nil)
	_ Closer   = (*Socket)(nil)
	_ Passer   = (*Socket)(nil)
)

// Dial opens a session with the server at addr whose connections speak the given
// version of the protocol.
func Dial(addr string, proto int) (*Socket, error) {
	s := &Socket{addr: addr, proto: proto, conns: map[string]*testkit.Client{}, ids: map[string]string{}}
	if _, err := s.Do("c1", []string{"FLUSHALL"}); err != nil {
		s.End()
		return nil, err
	}
	return s, nil
}

// End closes all connections.
func (s *Socket) End() {
	for _, c := range s.conns {
		_ = c.Close()
	}
}

// conn is the named connection, made if need be.
func (s *Socket) conn(name string) (*testkit.Client, error) {
	if c := s.conns[name]; c != nil {
		return c, nil
	}
	c, err := testkit.Dial(s.addr, patience)
	if err != nil {
		return nil, err
	}
	s.conns[name] = c
	if s.proto == 3 {
		if _, err := c.Do("HELLO", "3"); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Do sends a command and reads its reply. CLIENT REPLY OFF and CLIENT REPLY SKIP
// have none.
func (s *Socket) Do(conn string, args []string) (testkit.Reply, error) {
	if err := s.Send(conn, args); err != nil {
		return testkit.Reply{}, err
	}
	switch strings.ToLower(strings.Join(args, " ")) {
	case "client reply off", "client reply skip":
		return testkit.Reply{}, nil
	}
	return s.conns[conn].Read()
}

// Send sends a command and reads nothing.
func (s *Socket) Send(conn string, args []string) error {
	c, err := s.conn(conn)
	if err != nil {
		return err
	}
	if args, err = s.named(args); err != nil {
		return err
	}
	return c.Send(args...)
}

// named puts the ids of connections in the place of <id name>. A connection is asked
// for it the first time it is named.
func (s *Socket) named(args []string) ([]string, error) {
	args = slices.Clone(args)
	for i, a := range args {
		name, ok := strings.CutPrefix(a, "<id ")
		if !ok {
			continue
		}
		name = strings.TrimSuffix(name, ">")
		if s.ids[name] == "" {
			r, err := s.Do(name, []string{"CLIENT", "ID"})
			if err != nil {
				return nil, err
			}
			s.ids[name] = string(r.Text)
		}
		args[i] = s.ids[name]
	}
	return args, nil
}

// Receive reads the next message of a connection.
func (s *Socket) Receive(conn string) (testkit.Reply, error) {
	c, err := s.conn(conn)
	if err != nil {
		return testkit.Reply{}, err
	}
	return c.Read()
}

// Close closes a connection; the name stands for a new one afterwards.
func (s *Socket) Close(conn string) error {
	c, err := s.conn(conn)
	if err != nil {
		return err
	}
	delete(s.conns, conn)
	delete(s.ids, conn)
	return c.Close()
}

// Closed waits until the server has closed a connection.
func (s *Socket) Closed(conn string) error {
	c := s.conns[conn]
	if c == nil {
		return fmt.Errorf("there is no connection %s", conn)
	}
	delete(s.conns, conn)
	delete(s.ids, conn)
	defer c.Close()
	r, err := c.Read()
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("connection is open and got %s", Render(r))
}

// Pass has the server sleep, which needs DEBUG SLEEP to be allowed.
func (s *Socket) Pass(d time.Duration) error {
	_, err := s.Do("(time)", []string{"DEBUG", "SLEEP", strconv.FormatFloat(d.Seconds(), 'f', 3, 64)})
	return err
}

// Watched is a Socket that also hears the keyspace events of the server.
type Watched struct {
	*Socket
	sub *testkit.Client
}

var _ Eventer = (*Watched)(nil)

// DialWatched is Dial for a redis-server that publishes all keyspace events
// (notify-keyspace-events KEA). It stops removing keys that are due until a
// command touches them, so that events follow from commands only.
func DialWatched(addr string, proto int) (*Watched, error) {
	s, err := Dial(addr, proto)
	if err != nil {
		return nil, err
	}
	sub, err := testkit.Dial(addr, patience)
	if err != nil {
		s.End()
		return nil, err
	}
	s.conns["(events)"] = sub
	if _, err := sub.Do("DEBUG", "SET-ACTIVE-EXPIRE", "0"); err != nil {
		s.End()
		return nil, err
	}
	_, err = sub.Do("PSUBSCRIBE", "__keyevent@*")
	return &Watched{Socket: s, sub: sub}, err
}

// Events reads the events up to now: those before the answer to a PING.
func (w *Watched) Events() ([]string, error) {
	if err := w.sub.Send("PING"); err != nil {
		return nil, err
	}
	var events []string
	for {
		r, err := w.sub.Read()
		if err != nil {
			return events, err
		}
		parts := r.Strings()
		if len(parts) != 4 {
			return events, nil
		}
		_, name, _ := strings.Cut(parts[2], "__:")
		events = append(events, name+"("+parts[3]+")")
	}
}
