package resp_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/holdfast/holdfast/resp"
)

// chunks is a source that hands out data in pieces of the given sizes, used in
// turn; 0 stands for all that is left.
type chunks struct {
	data  []byte
	sizes []int
	reads int
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := c.sizes[c.reads%len(c.sizes)]
	c.reads++
	if n == 0 {
		n = len(c.data)
	}
	n = min(n, len(c.data), len(p))
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

// readAll reads commands up to the first error. A command is shown as its size
// and its quoted arguments.
func readAll(r *resp.Reader) (commands []string, err error) {
	for {
		cmds, err := r.ReadPipeline()
		if err != nil {
			return commands, err
		}
		for _, c := range cmds {
			commands = append(commands, fmt.Sprintf("%d %q", c.Size, c.Args))
		}
	}
}

// wire is a command as an array of bulk strings.
func wire(args ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b.String()
}

// small are limits that tests can reach.
func small() resp.Limits {
	return resp.Limits{MaxBulk: 1 << 20, MaxArgs: 1000, MaxQuery: 2 << 20}
}

// The commands in a stream, and what it ends with, were compared with those of
// redis-server 7.0.15 and do not depend on how the stream is cut.
func TestReaderReadsAsRedis(t *testing.T) {
	eof := io.EOF
	long := strings.Repeat("a", 64<<10+1)
	tests := []struct {
		name, stream string
		want         []string
		err          error
	}{
		{"array", wire("SET", "k", ""), []string{`26 ["SET" "k" ""]`}, eof},
		{"binary", wire("\x00\r\n\xff"), []string{`14 ["\x00\r\n\xff"]`}, eof},
		{"pipeline", wire("A") + wire("B", "c"), []string{`11 ["A"]`, `18 ["B" "c"]`}, eof},
		{"nothing", "*0\r\n*-1\r\n\r\n  \r\n\n*-9223372036854775808\r\n" + wire("A"), []string{`11 ["A"]`}, eof},
		{"cut", wire("A") + "*1\r\n$4\r\nPIN", []string{`11 ["A"]`}, eof},
		{"any byte for LF", "*1\rX$1\rXAyy" + wire("B"), []string{`11 ["A"]`, `11 ["B"]`}, eof},

		{"inline", "PING\r\nSET k  v\n", []string{`6 ["PING"]`, `9 ["SET" "k" "v"]`}, eof},
		{"spaces", "\t\vecho\va\fb \r\r\n", []string{`14 ["echo\va\fb"]`}, eof},
		{"double quotes", `e "\x41\n\r\t\b\a\q\"'" ""` + "\r\n", []string{`28 ["e" "A\n\r\t\b\aq\"'" ""]`}, eof},
		{"half an escape", `e "\x4g\x"` + "\n", []string{`11 ["e" "x4gx"]`}, eof},
		{"hex in both cases", `"\xaB\xFf"` + "\n", []string{`11 ["\xab\xff"]`}, eof},
		{"single quotes", `e 'a\'b\n"' ''` + "\n", []string{`15 ["e" "a'b\\n\"" ""]`}, eof},
		{"quotes within a word", `e a"b c" x\n` + "\n", []string{`13 ["e" "ab c" "x\\n"]`}, eof},
		{"open double quote", wire("A") + "e \"a\n", []string{`11 ["A"]`}, resp.ErrProtoQuotes},
		{"open after escape", "e \"a\\\n", nil, resp.ErrProtoQuotes},
		{"open single quote", "e 'a\n", nil, resp.ErrProtoQuotes},
		{"text after a quote", "e \"a\"b\n", nil, resp.ErrProtoQuotes},
		{"longest inline", long[1:] + "\n", []string{`65537 ["` + long[1:] + `"]`}, eof},
		{"too long inline", long + "\n", nil, resp.ErrProtoInlineLine},

		{"count is a word", "*a\r\n", nil, resp.ErrProtoMultibulk},
		{"count is missing", "*\r\n", nil, resp.ErrProtoMultibulk},
		{"count has a sign", "*+1\r\n", nil, resp.ErrProtoMultibulk},
		{"count has a zero in front", "*01\r\n", nil, resp.ErrProtoMultibulk},
		{"count is minus zero", "*-0\r\n", nil, resp.ErrProtoMultibulk},
		{"count over the limit", "*1001\r\n", nil, resp.ErrProtoMultibulk},
		{"count over 64 bits", "*18446744073709551617\r\n", nil, resp.ErrProtoMultibulk},
		{"count line without end", "*" + long, nil, resp.ErrProtoMultibulkLine},
		{"size is negative", "*1\r\n$-1\r\n", nil, resp.ErrProtoBulk},
		{"size is a word", "*1\r\n$x\r\n", nil, resp.ErrProtoBulk},
		{"size has a zero in front", "*1\r\n$04\r\n", nil, resp.ErrProtoBulk},
		{"size over the limit", "*1\r\n$1048577\r\n", nil, resp.ErrProtoBulk},
		{"size is the largest number", "*1\r\n$9223372036854775807\r\n", nil, resp.ErrProtoBulk},
		{"size line without end", "*1\r\n$" + long, nil, resp.ErrProtoBulkLine},
		{"no dollar", wire("A") + "*1\r\nfoo\r\n", []string{`11 ["A"]`}, resp.Error("ERR Protocol error: expected '$', got 'f'")},
		{"empty line for a dollar", "*1\r\n\r\n", nil, resp.Error("ERR Protocol error: expected '$', got ' '")},
		{"whole command over the limit", "*3\r\n$1048576\r\n" + strings.Repeat("x", 1<<20) + "\r\n$1048556\r\n", nil, resp.ErrQueryLimit},
	}
	for _, tt := range tests {
		for _, sizes := range [][]int{{0}, {1}, {2, 3, 5}, {4096, 1}} {
			got, err := readAll(resp.NewReader(&chunks{data: []byte(tt.stream), sizes: sizes}, small()))
			if !slices.Equal(got, tt.want) || !errors.Is(err, tt.err) {
				t.Errorf("%s, cut at %v: %.200q, %v, want %.200q, %v", tt.name, sizes, got, err, tt.want, tt.err)
			}
		}
	}
}

// Before AUTH a command has at most 10 arguments of 16 KiB, and the limits of a
// pipelined command follow from what the one before it did.
func TestReaderLimitsStrangers(t *testing.T) {
	stranger := small()
	stranger.Unauthenticated = true
	big := wire("SET", "k", strings.Repeat("x", 16<<10+1))
	tests := []struct {
		name, stream string
		want         error
	}{
		{"as many as allowed", wire(strings.Split("1 2 3 4 5 6 7 8 9 10", " ")...), io.EOF},
		{"one too many", "*11\r\n", resp.ErrProtoAuthMultibulk},
		{"as big as allowed", wire(strings.Repeat("x", 16<<10)), io.EOF},
		{"too big", big, resp.ErrProtoAuthBulk},
	}
	for _, tt := range tests {
		if _, err := readAll(resp.NewReader(strings.NewReader(tt.stream), stranger)); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}

	r := resp.NewReader(strings.NewReader(wire("AUTH", "secret")+big+wire("PING")), stranger)
	if cmds, err := r.ReadPipeline(); err != nil || len(cmds) != 1 {
		t.Fatalf("%d commands, %v, want AUTH alone", len(cmds), err)
	}
	r.SetLimits(small())
	if rest, err := readAll(r); len(rest) != 2 || !errors.Is(err, io.EOF) {
		t.Errorf("%d commands after AUTH, %v, want 2", len(rest), err)
	}
}

// A call returns 1024 commands at most; the rest comes without another read.
func TestReaderReturnsBoundedPipelines(t *testing.T) {
	const sent = 3000
	src := &chunks{data: []byte(strings.Repeat(wire("PING"), sent)), sizes: []int{0}}
	r := resp.NewReader(src, small())
	got := 0
	for got < sent {
		before, reads := r.Buffered(), src.reads
		cmds, err := r.ReadPipeline()
		if err != nil {
			t.Fatal(err)
		}
		if len(cmds) > 1024 {
			t.Fatalf("%d commands at once", len(cmds))
		}
		if before >= len(wire("PING")) && src.reads > reads {
			t.Fatalf("read again with %d bytes buffered", before)
		}
		got += len(cmds)
	}
	if got != sent || r.Buffered() != 0 {
		t.Errorf("%d commands, %d bytes buffered, want %d and 0", got, r.Buffered(), sent)
	}
}

// What a client announces costs nothing until it arrives.
func TestReaderTrustsNoHeader(t *testing.T) {
	for _, stream := range []string{
		"*1048576\r\n$536870912\r\nabc",
		"*2\r\n$3\r\nSET\r\n$536870912\r\n" + strings.Repeat("v", 5000),
		"*1048576\r\n",
	} {
		cost := allocated(func() {
			if _, err := readAll(resp.NewReader(strings.NewReader(stream), resp.DefaultLimits())); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		})
		if cost > 200<<10 {
			t.Errorf("%.40q took %d bytes of memory", stream, cost)
		}
	}
}

// allocated is the memory that run asks for, in bytes.
func allocated(run func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	run()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A command that trickles in byte by byte is not parsed again and again, and a
// big one is moved a bounded number of times: the memory asked for stays a small
// multiple of its size. (A quadratic reader would not end.)
func TestReaderWorkIsLinear(t *testing.T) {
	args := slices.Repeat([]string{"x"}, 200_000)
	value := strings.Repeat("v", 16<<20)
	tests := []struct {
		name, stream string
		chunk        int
	}{
		{"many arguments, one byte at a time", wire(args...), 1},
		{"arguments of some size", wire(slices.Repeat([]string{value[:1000]}, 4000)...), 1400},
		{"a big value, a packet at a time", wire("SET", "k", value), 1400},
	}
	limits := resp.DefaultLimits()
	for _, tt := range tests {
		src := &chunks{data: []byte(tt.stream), sizes: []int{tt.chunk}}
		r := resp.NewReader(src, limits)
		cost := allocated(func() {
			if cmds, err := r.ReadPipeline(); err != nil || len(cmds) != 1 {
				t.Errorf("%s: %d commands, %v", tt.name, len(cmds), err)
			}
		})
		if bound := uint64(30 * len(tt.stream)); cost > bound {
			t.Errorf("%s: %d bytes of memory, want at most %d", tt.name, cost, bound)
		}
	}
}

// After a big command its memory is given back before the reader waits again.
func TestReaderShrinks(t *testing.T) {
	tests := []struct{ name, stream string }{
		{"big value", wire("SET", "k", strings.Repeat("v", 8<<20))},
		{"many arguments", wire(slices.Repeat([]string{"x"}, 300_000)...)},
	}
	for _, tt := range tests {
		stream := tt.stream + wire("PING")
		r := resp.NewReader(strings.NewReader(stream), resp.DefaultLimits())
		if cmds, err := readAll(r); len(cmds) != 2 || !errors.Is(err, io.EOF) {
			t.Fatalf("%s: %d commands, %v", tt.name, len(cmds), err)
		}
		before := heap()
		runtime.KeepAlive(r) // from here on nothing refers to it
		if freed := int64(before) - int64(heap()); freed > 96<<10 {
			t.Errorf("%s: an idle reader holds %d bytes", tt.name, freed)
		}
		runtime.KeepAlive(stream)
	}
}

// heap is the memory in use, in bytes.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// The arguments of one call do not reach into each other's memory.
func TestReaderArgumentsCannotGrowIntoEachOther(t *testing.T) {
	r := resp.NewReader(strings.NewReader(wire("SET", "a", "b")), small())
	cmds, err := r.ReadPipeline()
	if err != nil {
		t.Fatal(err)
	}
	args := cmds[0].Args
	_ = append(args[1], "XXXXXXXX"...)
	if string(args[2]) != "b" {
		t.Errorf("third argument is %q after the second was appended to", args[2])
	}
}

// An error of the source comes after the commands that arrived with it, once;
// then the reader goes on where it stood.
func TestReaderGoesOnAfterSourceError(t *testing.T) {
	const half = "*1\r\n$3"
	src := &steps{
		{wire("A") + half, iotest.ErrTimeout},
		{"\r\nabc\r\n", nil},
	}
	r := resp.NewReader(src, small())
	if cmds, err := r.ReadPipeline(); err != nil || len(cmds) != 1 {
		t.Fatalf("%d commands, %v, want 1", len(cmds), err)
	}
	if _, err := r.ReadPipeline(); !errors.Is(err, iotest.ErrTimeout) || r.Buffered() != len(half) {
		t.Fatalf("%v with %d bytes buffered, want %v and %d", err, r.Buffered(), iotest.ErrTimeout, len(half))
	}
	if got, err := readAll(r); !slices.Equal(got, []string{`13 ["abc"]`}) || !errors.Is(err, io.EOF) {
		t.Errorf("%q, %v after the error", got, err)
	}
}

// steps is a source that returns bytes and errors as listed, then EOF.
type steps []struct {
	data string
	err  error
}

func (s *steps) Read(p []byte) (int, error) {
	if len(*s) == 0 {
		return 0, io.EOF
	}
	step := (*s)[0]
	*s = (*s)[1:]
	return copy(p, step.data), step.err
}

// A protocol error is the answer to every later call too.
func TestReaderStaysFailed(t *testing.T) {
	r := resp.NewReader(strings.NewReader("*x\r\n"+wire("PING")), small())
	for range 3 {
		if cmds, err := r.ReadPipeline(); err != resp.ErrProtoMultibulk { //nolint:errorlint // the value itself is the reply
			t.Fatalf("%d commands, %v", len(cmds), err)
		}
	}
}

// A source that never brings anything is not asked for ever.
func TestReaderGivesUpOnEmptyReads(t *testing.T) {
	r := resp.NewReader(emptySource{}, small())
	if _, err := r.ReadPipeline(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("%v, want %v", err, io.ErrNoProgress)
	}
}

type emptySource struct{}

func (emptySource) Read([]byte) (int, error) { return 0, nil }

// loop hands out the same bytes again and again, as much as fits.
type loop struct {
	data []byte
	at   int
}

func (l *loop) Read(p []byte) (n int, err error) {
	for n < len(p) {
		m := copy(p[n:], l.data[l.at:])
		n += m
		l.at = (l.at + m) % len(l.data)
	}
	return n, nil
}

// Small commands cost no memory once the buffers have their size.
func TestReaderDoesNotAllocatePerCommand(t *testing.T) {
	for _, stream := range []string{wire("SET", "key:1234", strings.Repeat("v", 100)), "PING\r\n"} {
		r := resp.NewReader(&loop{data: []byte(stream)}, small())
		read := func() {
			if _, err := r.ReadPipeline(); err != nil {
				t.Error(err)
			}
		}
		for range 200 {
			read()
		}
		if n := testing.AllocsPerRun(500, read); n != 0 {
			t.Errorf("%v allocations per pipeline of %.10q, want 0", n, stream)
		}
	}
}

// Arbitrary bytes in arbitrary pieces give the same commands and the same end as
// in one piece, and never a panic.
func FuzzReaderIgnoresChunking(f *testing.F) {
	f.Add([]byte(wire("SET", "k", "v")+"PING\r\n"), []byte{1, 2, 3}, false)
	f.Add([]byte("*2\r\n$1\r\na\r\n$100\r\nb\r\n*0\r\n"), []byte{5}, false)
	f.Add([]byte("e \"a\\x41\" 'b'\r\n*11\r\n"), []byte{7, 1}, true)
	f.Add([]byte("*1\r\n$9223372036854775807\r\n"), []byte{0}, false)
	f.Add(bytes.Repeat([]byte(wire("GET", "k")), 200), []byte{255, 9}, false)
	f.Fuzz(func(t *testing.T, stream, cuts []byte, unauthenticated bool) {
		limits := resp.Limits{MaxBulk: 1000, MaxArgs: 50, MaxQuery: 5000, Unauthenticated: unauthenticated}
		sizes := []int{1}
		if len(cuts) > 0 {
			sizes = sizes[:0]
		}
		for _, c := range cuts {
			sizes = append(sizes, int(c)+1)
		}
		want, wantErr := readAll(resp.NewReader(bytes.NewReader(stream), limits))
		got, gotErr := readAll(resp.NewReader(&chunks{data: bytes.Clone(stream), sizes: sizes}, limits))
		if !slices.Equal(got, want) || gotErr.Error() != wantErr.Error() {
			t.Errorf("%q cut at %v: %q, %v, want %q, %v", stream, sizes, got, gotErr, want, wantErr)
		}
	})
}

func BenchmarkReader(b *testing.B) {
	for _, bb := range []struct{ name, stream string }{
		{"get", wire("GET", "key:000012345678")},
		{"set512", wire("SET", "key:000012345678", strings.Repeat("v", 512))},
		{"set32k", wire("SET", "key:000012345678", strings.Repeat("v", 32<<10))},
		{"set1m", wire("SET", "key:000012345678", strings.Repeat("v", 1<<20))},
		{"inline", "GET key:000012345678\r\n"},
	} {
		b.Run(bb.name, func(b *testing.B) {
			r := resp.NewReader(&loop{data: []byte(bb.stream)}, small())
			b.SetBytes(int64(len(bb.stream)))
			b.ReportAllocs()
			for n := 0; n < b.N; {
				cmds, err := r.ReadPipeline()
				if err != nil {
					b.Fatal(err)
				}
				n += len(cmds)
			}
		})
	}
}
