package sessions

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// fake is a server that is its own Sentinel: a map of strings, and whatever a test
// has it do instead.
type fake struct {
	host, port string

	mu struct {
		sync.Mutex

		keys map[string]string
		// instead answers in place of the map if it returns true. An empty answer
		// closes the connection.
		instead func(args []string) (string, bool)
	}
}

func newFake(t *testing.T) *fake {
	t.Helper()
	var cfg net.ListenConfig
	l, err := cfg.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f := &fake{}
	f.host, f.port, _ = net.SplitHostPort(l.Addr().String())
	f.mu.keys = map[string]string{}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go f.serve(conn)
		}
	}()
	return f
}

func (f *fake) find() (string, error) { return f.addr(), nil }

func (f *fake) addr() string { return net.JoinHostPort(f.host, f.port) }

// answerWith has the server answer otherwise.
func (f *fake) answerWith(instead func(args []string) (string, bool)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mu.instead = instead
}

func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for {
		args, err := readCommand(in)
		if err != nil {
			return
		}
		answer := f.answer(args)
		if answer == "" {
			return
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

func (f *fake) answer(args []string) string {
	f.mu.Lock()
	instead := f.mu.instead
	f.mu.Unlock()
	switch args[0] {
	case "SENTINEL":
		return fmt.Sprintf("*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(f.host), f.host, len(f.port), f.port)
	case "ROLE":
		return "*1\r\n$6\r\nmaster\r\n"
	}
	if instead != nil {
		if answer, ok := instead(args); ok {
			return answer
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.data(args)
}

// data answers with the lock held.
func (f *fake) data(args []string) string {
	bulk := func(key string) string {
		if value, ok := f.mu.keys[key]; ok {
			return fmt.Sprintf("$%d\r\n%s\r\n", len(value), value)
		}
		return "$-1\r\n"
	}
	switch args[0] {
	case "SET":
		f.mu.keys[args[1]] = args[2]
		return "+OK\r\n"
	case "GET":
		return bulk(args[1])
	case "MGET":
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(args)-1)
		for _, key := range args[1:] {
			b.WriteString(bulk(key))
		}
		return b.String()
	case "SCAN":
		return "*2\r\n$1\r\n0\r\n*0\r\n"
	}
	_, ok := f.mu.keys[args[1]]
	switch args[0] {
	case "DEL":
		delete(f.mu.keys, args[1])
	case "PTTL":
		return ":1800000\r\n"
	}
	if ok {
		return ":1\r\n"
	}
	return ":0\r\n"
}

// readCommand reads an array of bulk strings.
func readCommand(in *bufio.Reader) ([]string, error) {
	line, err := in.ReadString('\n')
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(strings.Trim(line, "*\r\n"))
	if err != nil {
		return nil, err
	}
	args := make([]string, n)
	for i := range args {
		if line, err = in.ReadString('\n'); err != nil {
			return nil, err
		}
		size, err := strconv.Atoi(strings.Trim(line, "$\r\n"))
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		args[i] = string(text[:size])
	}
	return args, nil
}
