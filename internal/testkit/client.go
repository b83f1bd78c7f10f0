package testkit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds the making of a connection by a client that looks for a master.
const dialTimeout = time.Second

// Reply is one reply as it stood on the wire, in either protocol.
type Reply struct {
	Type  byte    // the first byte of the reply: + - : $ * % ~ > _ , # = (
	Null  bool    // $-1, *-1 or _
	Text  []byte  // what a simple, error, integer, bulk, double, boolean or verbatim reply says
	Elems []Reply // of an array, set or push; of a map key, value, key, value …
}

// Err is the reply's text as an error if it is one.
func (r Reply) Err() error {
	if r.Type == '-' {
		return ReplyError(r.Text)
	}
	return nil
}

// ReplyError is an error that the server answered.
type ReplyError string

// Error is the text without the leading dash.
func (e ReplyError) Error() string { return string(e) }

// Int is the reply's text as a number, 0 if it is none.
func (r Reply) Int() int64 {
	n, _ := strconv.ParseInt(string(r.Text), 10, 64)
	return n
}

// String shows the reply for messages and for comparing two servers: one line,
// types kept, bytes quoted.
func (r Reply) String() string {
	switch r.Type {
	case '*', '%', '~', '>':
		if r.Null {
			return string(r.Type) + "null"
		}
		parts := make([]string, len(r.Elems))
		for i, e := range r.Elems {
			parts[i] = e.String()
		}
		return string(r.Type) + "[" + strings.Join(parts, " ") + "]"
	case '$', '=':
		if r.Null {
			return "$null"
		}
		return string(r.Type) + strconv.Quote(string(r.Text))
	case 0:
		return "(no reply)"
	}
	return string(r.Type) + string(r.Text)
}

// Strings are the texts of the elements of an array, in order.
func (r Reply) Strings() []string {
	out := make([]string, len(r.Elems))
	for i, e := range r.Elems {
		out[i] = string(e.Text)
	}
	return out
}

// Map is a map or a flat array of pairs by key.
func (r Reply) Map() map[string]Reply {
	out := make(map[string]Reply, len(r.Elems)/2)
	for i := 0; i+1 < len(r.Elems); i += 2 {
		out[string(r.Elems[i].Text)] = r.Elems[i+1]
	}
	return out
}

// Client is a raw connection to one server: no retries, no knowledge of commands.
// It is for one goroutine at a time, except that Close may be called from any.
type Client struct {
	conn    net.Conn
	in      *bufio.Reader
	raw     *bytes.Buffer // every byte read, if recording
	timeout time.Duration // of each read and write
}

// Dial connects to addr, a path if it begins with a slash. Every later read and write
// is bounded by timeout.
func Dial(addr string, timeout time.Duration) (*Client, error) {
	return dial(addr, min(timeout, dialTimeout), timeout)
}

func dial(addr string, made, timeout time.Duration) (*Client, error) {
	dialer := net.Dialer{Timeout: made}
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := dialer.DialContext(context.Background(), network, addr)
	if err != nil {
		return nil, err
	}
	return NewClient(conn, timeout), nil
}

// NewClient is a client on a connection, which it owns.
func NewClient(conn net.Conn, timeout time.Duration) *Client {
	return &Client{conn: conn, in: bufio.NewReaderSize(conn, 64<<10), timeout: timeout}
}

// MustDial is Dial for a test, which it fails; the client is closed when the test ends.
func MustDial(tb testing.TB, addr string) *Client {
	tb.Helper()
	c, err := dial(addr, 10*time.Second, 30*time.Second) // a lost SYN is sent again after a second
	if err != nil {
		tb.Fatalf("connect: %v", err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Addr is the local address, as CLIENT LIST of the server shows it.
func (c *Client) Addr() string { return c.conn.LocalAddr().String() }

// Record keeps the exact bytes of all replies from now on; see Recorded.
func (c *Client) Record() { c.raw = new(bytes.Buffer) }

// Recorded returns the bytes read since the last call.
func (c *Client) Recorded() []byte {
	out := bytes.Clone(c.raw.Bytes())
	c.raw.Reset()
	return out
}

// Do sends one command and reads its reply. An error reply is returned as
// ReplyError together with the reply.
func (c *Client) Do(args ...string) (Reply, error) {
	if err := c.Send(args...); err != nil {
		return Reply{}, err
	}
	r, err := c.Read()
	if err != nil {
		return r, err
	}
	return r, r.Err()
}

// MustDo is Do that fails the test on any error.
func (c *Client) MustDo(tb testing.TB, args ...string) Reply {
	tb.Helper()
	r, err := c.Do(args...)
	if err != nil {
		tb.Fatalf("%s: %v", brief(args), err)
	}
	return r
}

// brief shows the beginning of a command.
func brief(args []string) string {
	text := strings.Join(args, " ")
	if len(text) > 80 {
		text = text[:80] + "…"
	}
	return text
}

// Pipeline sends all commands at once and reads as many replies.
func (c *Client) Pipeline(commands ...[]string) ([]Reply, error) {
	var out []byte
	for _, args := range commands {
		out = AppendCommand(out, args...)
	}
	if err := c.SendBytes(out); err != nil {
		return nil, err
	}
	replies := make([]Reply, 0, len(commands))
	for range commands {
		r, err := c.Read()
		if err != nil {
			return replies, err
		}
		replies = append(replies, r)
	}
	return replies, nil
}

// Send sends one command and reads nothing.
func (c *Client) Send(args ...string) error { return c.SendBytes(AppendCommand(nil, args...)) }

// SendBytes sends bytes as they are.
func (c *Client) SendBytes(b []byte) error {
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	_, err := c.conn.Write(b)
	return err
}

// AppendCommand appends a command in the form of an array of bulk strings.
func AppendCommand(b []byte, args ...string) []byte {
	b = append(b, '*')
	b = strconv.AppendInt(b, int64(len(args)), 10)
	b = append(b, '\r', '\n')
	for _, a := range args {
		b = append(b, '$')
		b = strconv.AppendInt(b, int64(len(a)), 10)
		b = append(b, '\r', '\n')
		b = append(b, a...)
		b = append(b, '\r', '\n')
	}
	return b
}

// Read reads one reply, waiting for it at most the client's timeout.
func (c *Client) Read() (Reply, error) { return c.ReadWithin(c.timeout) }

// ReadWithin reads one reply, waiting for it at most limit.
func (c *Client) ReadWithin(limit time.Duration) (Reply, error) {
	if err := c.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return Reply{}, err
	}
	return c.read()
}

// Readable waits until there is something to read, or the stream has ended, and tells
// whether that came within limit.
func (c *Client) Readable(limit time.Duration) bool {
	if c.conn.SetReadDeadline(time.Now().Add(limit)) != nil {
		return true // reading says why
	}
	_, err := c.in.Peek(1)
	var timeout net.Error
	return !errors.As(err, &timeout) || !timeout.Timeout()
}

// Closed waits until the server has closed the connection and says how long at
// most. Bytes that come before are dropped.
func (c *Client) Closed(limit time.Duration) error {
	if err := c.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c.in)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("connection still open after %v", limit)
	}
	return nil
}

// Ended tells, without waiting, whether the server has closed the connection and
// everything it sent before was read.
func (c *Client) Ended() bool {
	tcp, ok := c.conn.(*net.TCPConn)
	if !ok || c.in.Buffered() > 0 {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return true
	}
	ended := false
	var room [1]byte
	err = raw.Control(func(fd uintptr) {
		n, _, err := unix.Recvfrom(int(fd), room[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		ended = n == 0 && err == nil || err != nil && err != unix.EAGAIN && err != unix.EINTR
	})
	return ended || err != nil
}

// CloseWrite sends the end of the stream and keeps reading possible.
func (c *Client) CloseWrite() error {
	tcp, ok := c.conn.(*net.TCPConn)
	if !ok {
		return errors.New("not a TCP connection")
	}
	return tcp.CloseWrite()
}

func (c *Client) read() (Reply, error) {
	line, err := c.line()
	if err != nil {
		return Reply{}, err
	}
	if len(line) == 0 {
		return Reply{}, errors.New("empty line in reply")
	}
	r := Reply{Type: line[0]}
	rest := line[1:]
	switch r.Type {
	case '+', '-', ':', ',', '#', '(':
		r.Text = rest
		return r, nil
	case '_':
		r.Null = true
		return r, nil
	}
	n, err := strconv.Atoi(string(rest))
	if err != nil {
		return r, fmt.Errorf("length in reply: %w", err)
	}
	if n < 0 {
		r.Null = true
		return r, nil
	}
	switch r.Type {
	case '$', '=':
		r.Text, err = c.bytes(n)
	case '%':
		r.Elems, err = c.elems(2 * n)
	case '*', '~', '>':
		r.Elems, err = c.elems(n)
	default:
		err = fmt.Errorf("unknown type of reply %q", line)
	}
	return r, err
}

func (c *Client) elems(n int) ([]Reply, error) {
	out := make([]Reply, 0, min(n, 1<<20))
	for range n {
		e, err := c.read()
		if err != nil {
			return out, err
		}
		out = append(out, e)
	}
	return out, nil
}

func (c *Client) line() ([]byte, error) {
	line, err := c.in.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	c.keep(line)
	if !bytes.HasSuffix(line, []byte("\r\n")) {
		return nil, fmt.Errorf("line without CR in reply: %q", line)
	}
	return line[:len(line)-2], nil
}

func (c *Client) bytes(n int) ([]byte, error) {
	b := make([]byte, n+2)
	if _, err := io.ReadFull(c.in, b); err != nil {
		return nil, err
	}
	c.keep(b)
	if b[n] != '\r' || b[n+1] != '\n' {
		return nil, errors.New("bulk string without CR LF at its end")
	}
	return b[:n:n], nil
}

func (c *Client) keep(b []byte) {
	if c.raw != nil {
		c.raw.Write(b)
	}
}
