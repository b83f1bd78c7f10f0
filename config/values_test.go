package config_test

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/holdfast/holdfast/config"
)

// Memory units are Redis's: k, m, g are decimal, kb, mb, gb binary, in any case.
func TestMemoryUnits(t *testing.T) {
	for text, want := range map[string]int64{
		"1048576":              1 << 20,
		"1048576b":             1 << 20,
		"2000k":                2_000_000,
		"2048kb":               2 << 20,
		"2m":                   2_000_000,
		"2mb":                  2 << 20,
		"1g":                   1_000_000_000,
		"1GB":                  1 << 30,
		"3Mb":                  3 << 20,
		"9223372036854775807":  math.MaxInt64,
		"99999999999999999999": math.MaxInt64,
		"9999999999999gb":      math.MaxInt64,
	} {
		c, err := fromFile("client-query-buffer-limit " + text)
		if err != nil || c.ClientQueryBufferLimit != want {
			t.Errorf("%s: got %v, %v; want %d", text, c, err, want)
		}
	}
	for _, text := range []string{"''", "mb", "-1mb", "+2mb", "1.5mb", "2 mb", "2bm", "2kbb", "2tb", "0x100000", "1_048_576"} {
		_, err := fromFile("client-query-buffer-limit " + text)
		if err == nil {
			t.Errorf("%s is accepted", text)
		}
	}
	_, err := fromFile("client-query-buffer-limit 1kb")
	wantError(t, err, "argument must be between 1048576 and 9223372036854775807 inclusive")
}

// Numbers are written in one way only, as Redis reads them.
func TestIntegers(t *testing.T) {
	for _, text := range []string{"x", "''", "+1", "01", "1.0", "0x10", "' 1'", "1_0"} {
		_, err := fromFile("timeout " + text)
		wantError(t, err, "argument couldn't be parsed into an integer")
	}
	for text, want := range map[string]string{
		"timeout -1":                         "argument must be between 0 and 2147483647 inclusive",
		"timeout 2147483648":                 "argument must be between 0 and 2147483647 inclusive",
		"tcp-keepalive 99999999999999999999": "argument must be between 0 and 2147483647 inclusive",
		"maxclients 0":                       "argument must be between 1 and 4294967295 inclusive",
		"databases 0":                        "argument must be between 1 and 1024 inclusive",
		"raft-port 65536":                    "argument must be between 0 and 65535 inclusive",
		"max-entry-bytes 61mb":               "argument must be between 1048576 and 62914560 inclusive",
	} {
		_, err := fromFile(text)
		wantError(t, err, want)
	}
}

// A duration needs its unit and stays within sensible bounds.
func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"50ms": 50 * time.Millisecond, "1s": time.Second, "10s": 10 * time.Second, "0.5s": 500 * time.Millisecond,
	} {
		c, err := fromFile("election-timeout " + text)
		if err != nil || c.ElectionTimeout != want {
			t.Errorf("%s: got %v, %v", text, c, err)
		}
	}
	for text, want := range map[string]string{
		"250": "argument must be a duration such as 250ms or 1s", "ms": "must be a duration", "''": "must be a duration",
		"49ms": "argument must be between 50ms and 10s inclusive", "-1s": "between", "11s": "between", "9999999h": "must be",
	} {
		_, err := fromFile("election-timeout " + text)
		wantError(t, err, want)
	}
}

// Choices and yes/no are read in any case.
func TestWordsInAnyCase(t *testing.T) {
	c, err := fromFile("protected-mode NO\nloglevel Warning\nread-mode LOCAL\nlog-store BoltDB\nenable-debug-command Local\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.ProtectedMode || c.LogLevel != "warning" || c.ReadMode != config.ReadLocal || c.LogStore != config.LogStoreBolt || c.EnableDebugCommand != config.DebugLocal {
		t.Errorf("got %+v", c)
	}
	_, err = fromFile("protected-mode maybe")
	wantError(t, err, "argument must be 'yes' or 'no'")
}

// The limits of the classes that a line does not name stay, so lines add up.
func TestOutputBufferLimitsAddUp(t *testing.T) {
	c, err := fromFile("client-output-buffer-limit pubsub 1mb 2k 3\nclient-output-buffer-limit Normal 4gb 0 0 replica 5 6 7\n")
	if err != nil {
		t.Fatal(err)
	}
	want := config.OutputLimits{
		Normal:  config.OutputLimit{Hard: 4 << 30},
		Replica: config.OutputLimit{Hard: 5, Soft: 6, SoftFor: 7 * time.Second},
		PubSub:  config.OutputLimit{Hard: 1 << 20, Soft: 2000, SoftFor: 3 * time.Second},
	}
	if c.ClientOutputBufferLimit != want {
		t.Errorf("got %+v, want %+v", c.ClientOutputBufferLimit, want)
	}
	for line, text := range map[string]string{
		"pubsub 1 2":             "Wrong number of arguments in buffer limit configuration.",
		"pubsub 1 2 3 normal":    "Wrong number of arguments in buffer limit configuration.",
		"master 1 2 3":           "Invalid client class specified in buffer limit configuration.",
		"pubsub x 2 3":           "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
		"pubsub 1 -2 3":          "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
		"pubsub 1 2 -3":          "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
		"pubsub 1 2 99999999999": "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
	} {
		_, err := fromFile("client-output-buffer-limit " + line)
		wantError(t, err, text)
	}
}

// Peers may be separated by commas or blanks, and have IPv6 addresses in brackets.
func TestPeers(t *testing.T) {
	const rest = "\nnode-id a\ncluster-secret s\n"
	want := []config.Peer{{ID: "a", Addr: "db-1.example:1"}, {ID: "b_2.c", Addr: "[2001:db8::1]:65535"}, {ID: "c", Addr: "[fe80::1%eth0]:2"}}
	for _, line := range []string{
		"peers a=db-1.example:1,b_2.c=[2001:db8::1]:65535,c=[fe80::1%eth0]:2",
		"peers a=db-1.example:1 b_2.c=[2001:db8::1]:65535, c=[fe80::1%eth0]:2,",
	} {
		c, err := fromFile(line + rest)
		if err != nil || !slices.Equal(c.Peers, want) {
			t.Errorf("%s: got %v, %v", line, c, err)
		}
	}
	for line, text := range map[string]string{
		"a":                 "'a' must have the form id=host:port",
		"a=h":               "node 'a': must have the form host:port, an IPv6 address in brackets",
		"a=2001:db8::1:5":   "node 'a': must have the form host:port, an IPv6 address in brackets",
		"a=[2001:db8::x]:5": "must be an IP address or a host name",
		"a=:5":              "the host is missing",
		"a=h:0":             "the port must be between 1 and 65535 inclusive",
		"a=h:65536":         "the port must be between 1 and 65535 inclusive",
		"a=h:x":             "the port must be between 1 and 65535 inclusive",
		"=h:1":              "a node id has 1 to 64 letters, digits, '_', '.' or '-'",
		"ä=h:1":             "a node id has",
		"a=h:1,a=i:1":       "id or address of 'a=i:1' is listed twice",
		"a=h:1,b=h:1":       "id or address of 'b=h:1' is listed twice",
		"a=h\x00:1":         "must be an IP address or a host name",
		"1=h:1,2=h:2,3=h:3,4=h:4,5=h:5,6=h:6,7=h:7,8=h:8,9=h:9,10=h:10": "at most 9 nodes",
	} {
		_, err := fromFile("peers " + line + rest)
		wantError(t, err, text)
	}
}
