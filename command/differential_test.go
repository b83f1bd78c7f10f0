package command_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/internal/testkit/script"
)

// dice draws random commands over few keys, so that they meet each other.
type dice struct{ *rand.Rand }

func (d dice) of(words ...string) string { return words[d.IntN(len(words))] }

func (d dice) key() string { return d.of("a", "b", "c", "d") }

// value draws texts that are numbers, almost numbers and none.
func (d dice) value() string {
	return d.of("", "0", "1", "-1", "17", "007", "+3", " 4", "3.5", "1e3", "-2.25e-3", "abc", "x y\r\n\x00z", "0x1F",
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", strings.Repeat("v", 50))
}

// number draws numbers at the edges of what is right.
func (d dice) number() string {
	return d.of("0", "1", "-1", "2", "10", "-5", "100", "01", "abc", "", "9223372036854775807", "-9223372036854775808",
		"9223372036854775806", "9223372036854775", "99999999999999999999", "1.5")
}

// life draws numbers of seconds that end a key at once, or never while the test
// runs, so that the two clocks cannot matter.
func (d dice) life() string {
	return d.of("0", "-1", "-100", "500000", "100000", "99999999", "abc", "9223372036854775807", "9223372036854775", "-9223372036854775808")
}

// instant draws instants in seconds, past and future.
func (d dice) instant() string {
	return d.of("0", "1", "-1", "1000", "33177117420", "33177117421", "44177117420", "9223372036854775807", "9223372036854775", "x")
}

// future draws instants in seconds that are not past, or not right. (A SET with
// a past one is in the scripts: Redis keeps its key until somebody asks for it.)
func (d dice) future() string {
	return d.of("0", "-1", "33177117420", "33177117421", "44177117420", "9223372036854775807", "9223372036854775", "x")
}

// cased writes a word in some mix of cases.
func (d dice) cased(word string) string {
	b := []byte(word)
	for i := range b {
		if d.IntN(2) == 0 {
			b[i] = strings.ToLower(word[i : i+1])[0]
		}
	}
	return string(b)
}

// some draws up to n words of the options, each in some case.
func (d dice) some(n int, options ...string) []string {
	var out []string
	for range d.IntN(n + 1) {
		option := d.of(options...)
		switch option {
		case "EX", "PX":
			out = append(out, d.cased(option), d.life())
		case "EXAT":
			out = append(out, d.cased(option), d.future())
		case "PXAT":
			out = append(out, d.cased(option), d.future()+"123")
		default:
			out = append(out, d.cased(option))
		}
	}
	return out
}

// command draws a command.
func (d dice) command() []string {
	makers := []func() []string{
		func() []string {
			return append([]string{"SET", d.key(), d.value()}, d.some(3, "NX", "XX", "GET", "KEEPTTL", "EX", "PX", "EXAT", "PXAT", "EX", "FOO")...)
		},
		func() []string {
			return append([]string{"SET", d.key(), d.value()}, d.some(1, "EX", "NX", "XX", "GET")...)
		},
		func() []string { return append([]string{"GETEX", d.key()}, d.some(2, "PERSIST", "EXAT", "PXAT")...) },
		func() []string {
			return append([]string{d.of("EXPIRE", "PEXPIRE"), d.key(), d.life()}, d.some(2, "NX", "XX", "FOO")...)
		},
		func() []string {
			return append([]string{d.of("EXPIREAT", "PEXPIREAT"), d.key(), d.instant()}, d.some(2, "NX", "XX", "GT", "LT")...)
		},
		func() []string { return []string{d.of("SETEX", "PSETEX"), d.key(), d.life(), d.value()} },
		func() []string {
			return []string{d.of("SETNX", "GETSET", "APPEND", "INCRBYFLOAT"), d.key(), d.value()}
		},
		func() []string { return []string{d.of("INCRBY", "DECRBY"), d.key(), d.number()} },
		func() []string {
			return []string{d.of("GET", "STRLEN", "GETDEL", "INCR", "DECR", "TYPE", "PERSIST", "EXPIRETIME", "PEXPIRETIME", "GET", "GET"), d.key()}
		},
		func() []string { return []string{d.of("GETRANGE", "SUBSTR"), d.key(), d.number(), d.number()} },
		func() []string {
			return []string{"SETRANGE", d.key(), d.of("0", "1", "5", "60", "-1", "x", "600000000"), d.value()}
		},
		func() []string {
			return []string{d.of("DEL", "UNLINK", "EXISTS", "TOUCH", "MGET", "DEL"), d.key(), d.key(), d.key()}
		},
		func() []string { return []string{d.of("MSET", "MSETNX"), d.key(), d.value(), d.key(), d.value()} },
		func() []string { return []string{d.of("RENAME", "RENAMENX", "COPY"), d.key(), d.key()} },
		func() []string {
			return append([]string{"COPY", d.key(), d.key()}, d.of("REPLACE", "DB 1", "DB 1 REPLACE", "db 0", "DB x", "DB 77", "DB 99999999999", "FOO"))
		},
		func() []string { return []string{"MOVE", d.key(), d.of("0", "1", "1", "2", "x", "16")} },
		func() []string { return []string{"SELECT", d.of("0", "1", "0")} },
		func() []string {
			return []string{"SWAPDB", d.of("0", "1", "2", "x", "16", "-1"), d.of("0", "1", "2", "y")}
		},
		func() []string { return []string{d.of("DBSIZE", "DBSIZE", "DBSIZE", "FLUSHDB")} },
		func() []string { return []string{"KEYS", d.of("*", "a*", "[abc]", "?", "[^a]", "")} },
	}
	args := makers[d.IntN(len(makers))]()
	if args[0] == "COPY" && len(args) == 4 {
		return append(args[:3], strings.Fields(args[3])...)
	}
	return args
}

// outcome is a reply as it is compared: without order where there is none, and
// without the instants that follow from a life, because the clocks differ.
func outcome(args []string, r testkit.Reply) string {
	if args[0] == "KEYS" {
		return script.Render(script.Sorted(r))
	}
	stated := func(instant string) bool { return strings.HasPrefix(string(r.Text), instant) }
	if strings.HasSuffix(args[0], "EXPIRETIME") && len(r.Text) >= 10 && !slices.ContainsFunc([]string{"33177", "44177", "92233"}, stated) {
		return "some time"
	}
	return script.Render(r)
}

// Whatever comes, the commands on a store answer as the real server does, and
// the same events happen.
func TestRandomCommandsAnswerAsRedis(t *testing.T) {
	steps := 20_000
	if testing.Short() {
		steps = 2_000
	}
	server := startOracle(t)
	seed := rand.Uint64()
	d := dice{rand.New(rand.NewPCG(seed, 1))}
	oracle, err := script.DialWatched(server.Addr(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer oracle.End()
	ours := newMemory(t, 2)
	var history []string
	for range steps {
		args := d.command()
		history = append(history, fmt.Sprintf("%q", args))
		got, want := outcome(args, ask(t, ours, args...)), outcome(args, ask(t, oracle, args...))
		ourEvents, _ := ours.Events()
		events, err := oracle.Events()
		if err != nil {
			t.Fatal(err)
		}
		if args[0] == "GETEX" && want == "null" && strings.HasPrefix(got, "-ERR ") {
			continue // a number that cannot be right is refused before the log, key or no key
		}
		if got != want || fmt.Sprint(ourEvents) != fmt.Sprint(events) {
			t.Fatalf("seed %d, after\n%s\n got %s %q\nwant %s %q", seed,
				strings.Join(history[max(0, len(history)-15):], "\n"), got, ourEvents, want, events)
		}
	}
}

// Sums of floating-point numbers are written as the real server writes them.
func TestRandomFloatsAddAsInRedis(t *testing.T) {
	client := testkit.MustDial(t, startOracle(t).Addr())
	ours := newMemory(t, 2)
	seed := rand.Uint64()
	d := dice{rand.New(rand.NewPCG(seed, 2))}
	number := func() string {
		digits := strconv.FormatUint(d.Uint64()>>d.IntN(64), 10)
		at := d.IntN(len(digits) + 1)
		text := d.of("", "-", "+") + digits[:at] + "." + digits[at:]
		switch d.IntN(4) {
		case 0:
			text += d.of("e", "E") + strconv.Itoa(d.IntN(40)-20)
		case 1:
			text += "e" + strconv.Itoa(d.IntN(9000)-4500)
		}
		return text
	}
	for range 3_000 {
		a, b := number(), number()
		for _, args := range [][]string{{"SET", "f", a}, {"INCRBYFLOAT", "f", b}, {"INCRBYFLOAT", "f", "0.1"}} {
			want, _ := client.Do(args...) // an error is a reply to compare as well
			if got := ask(t, ours, args...); got.String() != want.String() {
				t.Fatalf("seed %d: %q + %q: %q\n got %s\nwant %s", seed, a, b, args, got, want)
			}
		}
	}
}
