package script

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/resp"
)

// canned is a session that answers each command from a list, and hands out
// messages, events and ends as told.
type canned struct {
	replies map[string]resp.Value
	proto   int
	events  []string
	asked   []string
}

func (c *canned) Do(conn string, args []string) (testkit.Reply, error) {
	line := strings.Join(args, " ")
	c.asked = append(c.asked, conn+">"+line)
	v, ok := c.replies[line]
	if !ok {
		return testkit.Reply{}, io.EOF
	}
	return FromValue(v, c.proto)
}

func (c *canned) Send(conn string, args []string) error {
	c.asked = append(c.asked, conn+">"+strings.Join(args, " "))
	return nil
}

func (c *canned) Receive(conn string) (testkit.Reply, error) {
	return FromValue(resp.Push(resp.BulkString("message"), resp.BulkString("to "+conn)), c.proto)
}

func (c *canned) Close(conn string) error {
	c.asked = append(c.asked, conn+" close")
	return nil
}

func (c *canned) Closed(conn string) error {
	c.asked = append(c.asked, conn+" closed")
	return nil
}

func (c *canned) Pass(d time.Duration) error {
	c.asked = append(c.asked, "pass "+d.String())
	return nil
}

func (c *canned) Events() ([]string, error) {
	events := c.events
	c.events = nil
	return events, nil
}

func newCanned(proto int) *canned {
	return &canned{proto: proto, events: []string{"set(k)", "expire(k)"}, replies: map[string]resp.Value{
		"SET k v":      resp.OK,
		"KEYS *":       resp.Array(resp.BulkString("b"), resp.BulkString("a")),
		"TTL k":        resp.Int(99),
		"CONFIG":       resp.Map(resp.BulkString("a"), resp.BulkString("1")),
		"SILENCE":      resp.None,
		"NEW":          resp.Err(errors.New("unknown command")),
		"ECHO a b\x00": resp.BulkString("a b\x00"),
	}}
}

const story = `# a comment
> SET k v
+OK
! set(k) expire(k)
@pass 60ms
@sorted
b> KEYS *
["a" "b"]
> TTL k
:<int 90..100>
> CONFIG
2 ["a" "1"]
3 map{"a": "1"}
@silent
> SILENCE
@since 7.2
> NEW
-ERR unknown command
> ECHO "a b\x00"
"a b\x00"
b<
2 ["message" "to b"]
3 push["message" "to b"]
b closed
c1 close
`

// A script is played line by line, with every kind of line.
func TestRunPlaysEveryKindOfLine(t *testing.T) {
	s, err := ParseText("story", story)
	if err != nil {
		t.Fatal(err)
	}
	for proto := 2; proto <= 3; proto++ {
		c := newCanned(proto)
		s.Run(t, c, Options{Proto: proto})
		want := []string{
			"c1>SET k v", "pass 60ms", "b>KEYS *", "c1>TTL k", "c1>CONFIG", "c1>SILENCE", "c1>NEW", "c1>ECHO a b\x00", "b closed", "c1 close",
		}
		if !slices.Equal(c.asked, want) {
			t.Errorf("the session was asked %q", c.asked)
		}
	}
	oracle := newCanned(2)
	s.Run(t, oracle, Options{Proto: 2, Oracle: true})
	if slices.Contains(oracle.asked, "c1>NEW") {
		t.Error("the oracle was asked for what it does not have")
	}
}

// failures counts what a script finds wrong.
type failures struct {
	testing.TB
	errors, fatal int
}

func (f *failures) Helper()               {}
func (f *failures) Errorf(string, ...any) { f.errors++ }
func (f *failures) Fatalf(string, ...any) { f.fatal++; panic(f) }

// Every reply and event that is not the one wanted is a failure, and so is a
// session that cannot go on.
func TestRunFailsOnWhateverIsNotWanted(t *testing.T) {
	for text, want := range map[string]int{
		"> SET k v\n+OK":                             0,
		"> SET k v\n+KO":                             1,
		"> SET k v":                                  1,
		"> SET k v\n+OK\n!":                          1,
		"> SET k v\n+OK\n! set(k)":                   1,
		"> TTL k\n:<int 1..98>":                      1,
		"> TTL k\n:<int>\n> TTL k\n:98":              1,
		"> KEYS *\n[\"a\" \"b\"]":                    1,
		"@sorted\n> KEYS *\n[\"a\" \"b\"]":           0,
		"> CONFIG\n2 [\"a\" \"2\"]\n3 [\"a\" \"1\"]": 1,
		"> SET k v\n+OK\n@silent\n> SET k v\n+OK":    1,
		"> CLOSES":                                   -1,
	} {
		s, err := ParseText("t", text)
		if err != nil {
			t.Fatal(err)
		}
		f := &failures{TB: t}
		func() {
			defer func() { _ = recover() }()
			s.Run(f, newCanned(2), Options{Proto: 2})
		}()
		if want < 0 && f.fatal != 1 || want >= 0 && f.errors != want {
			t.Errorf("%q: %d failures, %d of them fatal, want %d", text, f.errors, f.fatal, want)
		}
	}
}

// A line that means nothing where it stands is refused with its number.
func TestParseRefusesWhatMeansNothing(t *testing.T) {
	for text, line := range map[string]string{
		"+OK":               "1:",
		"> A\n\n+OK":        "3:",
		"> A\n+OK\n+OK":     "3:",
		"> A\n2 +OK\n2 +OK": "3:",
		"> A\n!\n+OK":       "3:",
		">":                 "1:",
		"> \"open":          "1:",
		"> \"x\"*y":         "1:",
		"@nosuch\n> A":      "1:",
		"@since\n> A":       "1:",
		"@sorted":           "1:",
		"@sorted\n+OK":      "2:",
		"@pass long":        "1:",
		"> A\n+OK\n@socket": "3:",
		"@proto 4\n> A":     "1:",
		"c1 close\n+OK":     "2:",
	} {
		if _, err := ParseText("t", text); err == nil || !strings.HasPrefix(err.Error(), line) {
			t.Errorf("%q: got error %v, want one in line %s", text, err, line)
		}
	}
}

// Words are cut at spaces; quotes keep bytes of any kind together.
func TestWordsAreCutAtSpaces(t *testing.T) {
	s, err := ParseText("t", `> SET "a b"   plain "" "\x00\r\n" "x"*3 "ab"*2 é`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"SET", "a b", "plain", "", "\x00\r\n", "xxx", "abab", "é"}
	if got := s.Commands()[0]; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// What a file says of the whole script is known before it is played.
func TestFileDirectives(t *testing.T) {
	s, err := ParseText("t", "# about connections\n@socket\n@proto 3\n> A\n+OK")
	if err != nil || !s.Socket || s.Proto != 3 || s.Name != "t" {
		t.Errorf("got %+v, %v", s, err)
	}
}

// Every kind of reply has one rendering, the same off the wire and from a value.
func TestEveryReplyHasARendering(t *testing.T) {
	all := resp.Array(resp.OK, resp.Err(resp.ErrSyntax), resp.Int(-5), resp.BulkString("a\r\n\"b"), resp.Null, resp.NullArray,
		resp.Map(resp.Simple("k"), resp.Zero), resp.Set(resp.One), resp.Push(resp.One), resp.Double(1.5), resp.Bool(true), resp.Verbatim("t"), resp.Empty)
	for proto, want := range map[int]string{
		2: `[+OK -ERR syntax error :-5 "a\r\n\"b" null nullarray [+k :0] [:1] [:1] "1.5" :1 "t" []]`,
		3: `[+OK -ERR syntax error :-5 "a\r\n\"b" null null map{+k: :0} set[:1] push[:1] ,1.5 #t txt"t" []]`,
	} {
		r, err := FromValue(all, proto)
		if got := Render(r); err != nil || got != want {
			t.Errorf("RESP%d: %v\n got %s\nwant %s", proto, err, got, want)
		}
	}
	if got := Render(testkit.Reply{}); got != "" {
		t.Errorf("no reply renders as %q", got)
	}
}

// Bytes that are no reply, or more than one, are an error and no panic.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{"+OK\r\n", "+OK\r\n+OK\r\n", "$3\r\nab\r\n", "$-2\r\n", "*2\r\n:1\r\n", "%1\r\n+a\r\n", "*999999999\r\n", "?\r\n", "_\r\n", "=5\r\ntxt:a\r\n", "=1\r\nx\r\n"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := Decode(b); err == nil {
			_ = Render(Sorted(r))
		}
	})
}

// Masks hold what they say, as often as they stand in a line.
func TestMasks(t *testing.T) {
	for _, c := range []struct {
		want, got string
		match     bool
	}{
		{":<int>", ":5", true},
		{":<int>", ":-5", true},
		{":<int>", ":x", false},
		{":<int 1..9>", ":9", true},
		{":<int 1..9>", ":10", false},
		{":<int -9..-1>", ":-5", true},
		{"[:<int 1..2> :<int>]", "[:2 :7]", true},
		{"[:<int 1..2> :<int>]", "[:3 :7]", false},
		{`"<any>"`, `"what (ever)"`, true},
		{"-ERR <any>", "-ERR x", true},
		{"-ERR <any>", "+OK", false},
		{`"<float>"`, `"-1.25"`, true},
		{":<int 1..9>", ":99999999999999999999", false},
		{"a.c", "abc", false},
	} {
		if matches(c.want, c.got) != c.match {
			t.Errorf("%s against %s: want %v", c.got, c.want, c.match)
		}
	}
}

// Update takes over replies and events that are new, and leaves alone what is
// right already, comments, and what the oracle cannot know.
func TestUpdateRewritesOnlyWhatIsNotRight(t *testing.T) {
	path := filepath.Join(t.TempDir(), "story.txt")
	stale := strings.NewReplacer("+OK\n!", "+OLD\n!", "2 [\"a\" \"1\"]\n3 map{\"a\": \"1\"}\n", "", "! set(k) expire(k)", "! old(k)").Replace(story)
	if stale == story {
		t.Fatal("nothing is stale")
	}
	if err := os.WriteFile(path, []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Update(path, func(proto int) (Session, error) { return newCanned(proto), nil })
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != story {
		t.Errorf("got\n%s\nwant\n%s", got, story)
	}
}

// A session over a socket with the real server can do all that scripts need.
func TestSocketSessionAgainstRedis(t *testing.T) {
	server := testkit.StartRedis(t, "--notify-keyspace-events", "KEA", "--enable-debug-command", "yes")
	s, err := ParseText("socket", `> SET k v PX 30
+OK
! set(k) expire(k)
@pass 50ms
> GET k
null
! expired(k)
b> SUBSCRIBE ch
2 ["subscribe" "ch" :1]
3 push["subscribe" "ch" :1]
> PUBLISH ch hi
:1
b<
2 ["message" "ch" "hi"]
3 push["message" "ch" "hi"]
> CLIENT REPLY SKIP
@silent
> PING
> PING
+PONG
c> QUIT
+OK
c closed
b close
> PUBLISH ch hi
:<int 0..1>
`)
	if err != nil {
		t.Fatal(err)
	}
	for proto := 2; proto <= 3; proto++ {
		session, err := DialWatched(server.Addr(), proto)
		if err != nil {
			t.Fatal(err)
		}
		s.Run(t, session, Options{Proto: proto, Oracle: true})
		session.End()
	}
}
