package testkit

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Outcome says what a client knows about its command afterwards.
type Outcome int

// The outcomes.
const (
	Done    Outcome = iota // answered; it was executed, or refused for its own fault
	Refused                // definitely not executed
	Unknown                // may have been executed, or may be yet
)

// askLimit bounds each question to a Sentinel port, and each dial.
const askLimit = 200 * time.Millisecond

// Follower is a client that finds the master through the Sentinel ports as
// libraries do, and tells apart what was executed, what was not, and what nobody
// can know. It repeats nothing by itself. It is for one goroutine at a time.
type Follower struct {
	sentinels []string
	timeout   time.Duration // of a command
	next      int           // the Sentinel to ask first
	conn      *Client       // nil when not connected
	addr      string        // where conn leads
}

// NewFollower makes a follower of the cluster behind the given Sentinel ports;
// each command may take timeout.
func NewFollower(sentinels []string, timeout time.Duration) *Follower {
	return &Follower{sentinels: sentinels, timeout: timeout}
}

// Close closes the connection, if there is one.
func (f *Follower) Close() {
	if f.conn != nil {
		_ = f.conn.Close()
		f.conn = nil
	}
}

// Connected tells whether there is a connection that the server has not closed.
// One that it has is given up, as libraries do that listen to idle connections:
// nothing sent on it would be executed, but its sender could not know.
func (f *Follower) Connected() bool {
	if f.conn != nil && f.conn.Ended() {
		f.Close()
	}
	return f.conn != nil
}

// Addr is the master's address that the last command was sent to.
func (f *Follower) Addr() string { return f.addr }

// Connect finds the master, connects to it and makes sure with ROLE that it says
// so itself, unless already connected.
func (f *Follower) Connect() error {
	if f.conn != nil {
		return nil
	}
	addr, err := f.find()
	if err != nil {
		return err
	}
	conn, err := Dial(addr, f.timeout)
	if err != nil {
		return err
	}
	role, err := conn.Do("ROLE")
	if err == nil && (len(role.Elems) == 0 || string(role.Elems[0].Text) != "master") {
		err = fmt.Errorf("%s is no master but answers ROLE with %v", addr, role)
	}
	if err != nil {
		_ = conn.Close()
		return err
	}
	f.conn, f.addr = conn, addr
	return nil
}

// find asks the Sentinels in turn, beginning with the one that answered last.
func (f *Follower) find() (string, error) {
	var last error
	for range f.sentinels {
		addr, err := AskSentinel(f.sentinels[f.next])
		if err == nil {
			return addr, nil
		}
		last = err
		f.next = (f.next + 1) % len(f.sentinels)
	}
	return "", fmt.Errorf("no Sentinel port names a master: %w", last)
}

// AskSentinel asks one Sentinel port where the master is.
func AskSentinel(sentinel string) (string, error) {
	c, err := Dial(sentinel, askLimit)
	if err != nil {
		return "", err
	}
	defer c.Close()
	r, err := c.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MasterName)
	if err != nil {
		return "", err
	}
	if len(r.Elems) != 2 {
		return "", fmt.Errorf("no address but %v", r)
	}
	return net.JoinHostPort(string(r.Elems[0].Text), string(r.Elems[1].Text)), nil
}

// Do sends one command to the master, connecting first if need be. The error is
// nil only for a reply that is no error. A definite refusal of the master's role
// (READONLY, LOADING) closes the connection, so that the next call asks anew.
func (f *Follower) Do(args ...string) (Reply, Outcome, error) {
	if err := f.Connect(); err != nil {
		return Reply{}, Refused, err
	}
	r, err := f.conn.Do(args...)
	if err == nil {
		return r, Done, nil
	}
	var answer ReplyError
	if !errors.As(err, &answer) {
		f.Close()
		return r, Unknown, err
	}
	outcome := OutcomeOf(answer)
	if outcome != Done {
		f.Close()
	}
	return r, outcome, err
}

// OutcomeOf reads an error reply: INDOUBT leaves the outcome unknown, READONLY and
// its like were refused because of the node's state, anything else is the answer.
func OutcomeOf(err ReplyError) Outcome {
	code, _, _ := strings.Cut(string(err), " ")
	switch code {
	case "INDOUBT":
		return Unknown
	case "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS":
		return Refused
	}
	return Done
}
