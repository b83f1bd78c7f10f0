package command_test

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/testkit/script"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/store"
)

// A string grows up to the smaller of the two limits, to the byte, and not beyond.
func TestStringsGrowUpToTheLimits(t *testing.T) {
	m := newMemory(t, 2)
	const limit = 3 << 20
	for name, settings := range map[string]store.Settings{
		"bulk":  {Databases: 16, MaxBulkBytes: limit, MaxEntryBytes: 2 * limit},
		"entry": {Databases: 16, MaxBulkBytes: 2 * limit, MaxEntryBytes: limit},
	} {
		t.Run(name, func(t *testing.T) {
			m.update(func(tx *store.Tx) {
				tx.Begin(0)
				tx.ChangeSystem(func(s *store.System) { s.Settings = settings })
			})
			const tooBig = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)"
			for _, c := range []struct {
				want string
				args []string
			}{
				{tooBig, []string{"SETRANGE", "a", strconv.Itoa(limit), "x"}},
				{":0", []string{"EXISTS", "a"}},
				{":" + strconv.Itoa(limit), []string{"SETRANGE", "a", strconv.Itoa(limit - 1), "x"}},
				{tooBig, []string{"APPEND", "a", "x"}},
				{":" + strconv.Itoa(limit), []string{"APPEND", "a", ""}},
				{":" + strconv.Itoa(limit), []string{"STRLEN", "a"}},
				{":" + strconv.Itoa(limit), []string{"SETRANGE", "a", "0", "xyz"}},
				{":1", []string{"DEL", "a"}},
			} {
				if got := script.Render(ask(t, m, c.args...)); got != c.want {
					t.Errorf("%.40q: got %s, want %s", c.args, got, c.want)
				}
			}
		})
	}
}

// Values are copies: what happens to the memory of a command afterwards, and to
// one of two copies of a key, changes nothing.
func TestValuesAreCopies(t *testing.T) {
	m := newMemory(t, 2)
	args := byteArgs([]string{"SET", "key", "value"})
	m.run("c1", args)
	copy(args[1], "XXX")
	copy(args[2], "XXXXX")
	m.run("c1", byteArgs([]string{"COPY", "key", "twin"}))
	before := m.run("c1", byteArgs([]string{"GET", "key"}))
	m.run("c1", byteArgs([]string{"APPEND", "key", "-1"}))
	m.run("c1", byteArgs([]string{"APPEND", "twin", "-2"}))
	m.run("c1", byteArgs([]string{"SETRANGE", "key", "0", "V"}))
	for key, want := range map[string]string{"key": "Value-1", "twin": "value-2"} {
		if got := script.Render(ask(t, m, "GET", key)); got != strconv.Quote(want) {
			t.Errorf("%s is %s, want %q", key, got, want)
		}
	}
	if string(before.Bytes()) != "value" {
		t.Errorf("an earlier reply became %q", before.Bytes())
	}
}

// A whole scan returns every key that was there all the time, once or more, and
// ends, whatever is added and removed meanwhile.
func TestScanReturnsEveryKeyThatStays(t *testing.T) {
	m := newMemory(t, 2)
	for i := range 3_000 {
		ask(t, m, "SET", "stays:"+strconv.Itoa(i), "v")
	}
	seen := map[string]bool{}
	cursor, calls := "0", 0
	for {
		r := ask(t, m, "SCAN", cursor, "COUNT", "50", "MATCH", "stays:*")
		for _, key := range r.Elems[1].Strings() {
			seen[key] = true
		}
		cursor = string(r.Elems[0].Text)
		if n, err := strconv.ParseUint(cursor, 10, 64); err != nil || n >= 1<<53 {
			t.Fatalf("cursor %s is no number below 2^53", cursor)
		}
		if calls++; cursor == "0" {
			break
		}
		ask(t, m, "SET", "comes:"+strconv.Itoa(calls), "v")
		ask(t, m, "DEL", "comes:"+strconv.Itoa(calls/2))
		if calls > 3_000 {
			t.Fatal("the scan does not end")
		}
	}
	if len(seen) != 3_000 {
		t.Errorf("%d of 3000 keys were returned", len(seen))
	}
}

// KEYS tells the same in the store and on a frozen view, keys that are due left out.
func TestKeysOnAFrozenViewAreTheSame(t *testing.T) {
	m := newMemory(t, 2)
	for i := range 500 {
		ask(t, m, "SET", fmt.Sprintf("k%03d", i), "v")
	}
	ask(t, m, "SET", "k-late", "v", "PX", "1000")
	ask(t, m, "SET", "k-soon", "v", "PX", "10")
	_ = m.Pass(500 * time.Millisecond)
	ask(t, m, "SET", "other", "v")
	args := byteArgs([]string{"KEYS", "k*[-5]*"})
	spec, err := m.table.Lookup(args)
	if err != nil {
		t.Fatal(err)
	}
	frozen := m.store.Freeze()
	defer frozen.Release()
	got, want := names(spec.Do.Frozen(frozen, 0, args)), names(m.run("c1", args))
	if !slices.Equal(got, want) || !slices.Contains(want, "k-late") || slices.Contains(want, "k-soon") {
		t.Errorf("frozen %d keys %q, read %d keys %q", len(got), got, len(want), want)
	}
	if got := names(spec.Do.Frozen(frozen, 1, args)); len(got) != 0 {
		t.Errorf("another database has %q", got)
	}
}

func names(v resp.Value) []string {
	var out []string
	for _, e := range v.Elems() {
		out = append(out, string(e.Bytes()))
	}
	slices.Sort(out)
	return out
}

// P7. However many keys a call of SCAN asks for, it holds the lock for a bounded
// number of them, and the iteration goes on where it stopped.
func TestScanLooksAtABoundedNumberOfKeys(t *testing.T) {
	const keys = 25_000
	m := newMemory(t, 2)
	for i := range keys {
		ask(t, m, "SET", strconv.Itoa(i), "v")
	}
	seen, calls, cursor := 0, 0, "0"
	for calls == 0 || cursor != "0" {
		page := ask(t, m, "SCAN", cursor, "COUNT", "9223372036854775807")
		cursor = string(page.Elems[0].Text)
		if n := len(page.Elems[1].Elems); n > 10_000 {
			t.Fatalf("a call looked at %d keys", n)
		} else {
			seen += n
		}
		calls++
	}
	if seen != keys || calls > 4 {
		t.Errorf("%d of %d keys in %d calls", seen, keys, calls)
	}
}

// P7. A pattern that takes very long to match, as one that is almost found at
// every byte of a long key, is refused before it holds up anybody; what is long
// but easy is not, and no number of usual keys is too large.
func TestPatternsMayNotHoldTheLock(t *testing.T) {
	m := newMemory(t, 2)
	ask(t, m, "SET", strings.Repeat("a", 1<<16), "v")
	hard := "*" + strings.Repeat("a", 1<<14) + "b"
	class := "*[" + strings.Repeat("b", 1<<14) + "]"
	for _, pattern := range []string{hard, class} {
		for _, args := range [][]string{
			{"KEYS", pattern}, {"SCAN", "0", "MATCH", pattern}, {"COMMAND", "LIST", "FILTERBY", "PATTERN", "*[" + strings.Repeat("b", 1<<20) + "]"},
		} {
			if got := ask(t, m, args...); got.Err() == nil || !strings.Contains(got.String(), "pattern") {
				t.Errorf("%s with a hard pattern answers %.60s", args[0], got)
			}
		}
	}
	easy := strings.Repeat("a", 1<<15) + "*"
	if got := ask(t, m, "KEYS", easy); len(got.Elems) != 1 {
		t.Errorf("a long pattern found %d keys", len(got.Elems))
	}
	for i := range 20_000 {
		ask(t, m, "SET", fmt.Sprintf("%0100d", i), "v")
	}
	if got := ask(t, m, "KEYS", "*0*0*0*0*0*1?[0-9]"); len(got.Elems) != 2_000 {
		t.Errorf("%d of 2000 keys match", len(got.Elems))
	}
	frozen := m.store.Freeze()
	defer frozen.Release()
	keys := dataTable(t).ByName("keys")
	if got := keys.Do.Frozen(frozen, 0, byteArgs([]string{"KEYS", hard})); !got.IsError() {
		t.Error("a frozen view is searched for ever")
	}
}

// RANDOMKEY names keys that exist, and all of them in the long run, even at one instant.
func TestRandomKeyNamesEveryKeyInTheLongRun(t *testing.T) {
	m := newMemory(t, 2)
	for i := range 20 {
		ask(t, m, "SET", strconv.Itoa(i), "v")
	}
	seen := map[string]bool{}
	for range 2_000 {
		seen[string(ask(t, m, "RANDOMKEY").Text)] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d of 20 keys were named: %v", len(seen), seen)
	}
}

// OBJECT IDLETIME counts from the last access; looking at a key is none.
func TestIdleTimeCountsFromTheLastAccess(t *testing.T) {
	m := newMemory(t, 2)
	ask(t, m, "SET", "k", "v")
	for _, c := range []struct{ line, want string }{
		{"EXISTS k", ":10"},
		{"TTL k", ":20"},
		{"TYPE k", ":30"},
		{"OBJECT ENCODING k", ":40"},
		{"MEMORY USAGE k", ":50"},
		{"GET k", ":0"},
		{"STRLEN k", ":0"},
		{"TOUCH k", ":0"},
		{"MGET k", ":0"},
		{"GETRANGE k 0 0", ":0"},
		{"EXISTS k", ":10"},
	} {
		_ = m.Pass(10_010 * time.Millisecond)
		ask(t, m, strings.Fields(c.line)...)
		if got := script.Render(ask(t, m, "OBJECT", "IDLETIME", "k")); got != c.want {
			t.Errorf("after %s: idle for %s, want %s", c.line, got, c.want)
		}
	}
}

// Numbers are what Redis takes for one: exactly the texts that formatting them gives.
func TestIntegersAreTheTextsTheyFormatTo(t *testing.T) {
	for _, n := range []int64{0, 1, -1, 9, 10, -10, 99, 1 << 31, -1 << 31, math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, math.MinInt64 + 1} {
		if got, ok := command.ParseInt([]byte(strconv.FormatInt(n, 10))); !ok || got != n {
			t.Errorf("%d is read as %d, %v", n, got, ok)
		}
	}
	for _, text := range []string{
		"", "-", "+1", "01", "-01", "-0", "00", " 1", "1 ", "1.0", "1e3", "0x1", "a", "--1", "1\x00",
		"9223372036854775808", "-9223372036854775809", "18446744073709551616", "99999999999999999999", "00000000000000000000001",
	} {
		if got, ok := command.ParseInt([]byte(text)); ok {
			t.Errorf("%q is read as %d", text, got)
		}
	}
}

// A floating-point number that was written is read as itself again.
func TestFloatsAreReadAsTheyWereWritten(t *testing.T) {
	for _, text := range []string{"0", "1", "-1", "0.5", "3.25", "-2.125", "1000000000000000000000", "0.00000000000000001", "0.1", "1234.75"} {
		n, ok := command.ParseFloat([]byte(text))
		if !ok || string(command.FloatText(n)) != text {
			t.Errorf("%s: read %v, written %s", text, ok, command.FloatText(n))
		}
	}
}
