package config_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holdfast/holdfast/config"
)

// set is CONFIG SET with names and values in turn.
func set(s *config.Settings, words ...string) error {
	var pairs [][2]string
	for pair := range slices.Chunk(words, 2) {
		pairs = append(pairs, [2]string{pair[0], pair[1]})
	}
	return s.Set(pairs)
}

// get is the value CONFIG GET shows for a name, "<none>" if it shows nothing.
func get(s *config.Settings, name string) string {
	if got := s.Get([]string{name}); len(got) == 1 {
		return got[0][1]
	}
	return "<none>"
}

// The errors of CONFIG SET are those redis-server 7.0.15 gives.
func TestSetRefusesAsRedisDoes(t *testing.T) {
	const about = "CONFIG SET failed (possibly related to argument '%s') - %s"
	for _, c := range []struct {
		words []string
		want  string
	}{
		{[]string{"foo", "bar"}, "Unknown option or number of arguments for CONFIG SET - 'foo'"},
		{[]string{"timeout", "10", "foo", "bar"}, "Unknown option or number of arguments for CONFIG SET - 'foo'"},
		{[]string{"foo", "bar", "databases", "3"}, "Unknown option or number of arguments for CONFIG SET - 'foo'"},
		{[]string{"databases", "3"}, fmt.Sprintf(about, "databases", "can't set immutable config")},
		{[]string{"timeout", "x", "databases", "3"}, fmt.Sprintf(about, "databases", "can't set immutable config")},
		{[]string{"timeout", "1", "TIMEOUT", "2"}, fmt.Sprintf(about, "TIMEOUT", "duplicate parameter")},
		{[]string{"timeout", "abc"}, fmt.Sprintf(about, "timeout", "argument couldn't be parsed into an integer")},
		{[]string{"timeout", "-1"}, fmt.Sprintf(about, "timeout", "argument must be between 0 and 2147483647 inclusive")},
		{[]string{"loglevel", "foo"}, fmt.Sprintf(about, "loglevel", "argument(s) must be one of the following: debug, verbose, notice, warning")},
		{[]string{"maxclients", "0"}, fmt.Sprintf(about, "maxclients", "argument must be between 1 and 4294967295 inclusive")},
		{[]string{"client-output-buffer-limit", "pubsub 1mb 2mb"}, fmt.Sprintf(about, "client-output-buffer-limit", "Wrong number of arguments in buffer limit configuration.")},
		{[]string{"protected-mode", "foo"}, fmt.Sprintf(about, "protected-mode", "argument must be 'yes' or 'no'")},
		{[]string{"client-query-buffer-limit", "1.5mb"}, fmt.Sprintf(about, "client-query-buffer-limit", "argument must be a memory value")},
		{[]string{"maxmemory", "1gb"}, fmt.Sprintf(about, "maxmemory", "can't set immutable config")},
		{[]string{"cluster-secret", "x"}, fmt.Sprintf(about, "cluster-secret", "can't set immutable config")},
	} {
		s := config.NewSettings(config.Default())
		before := s.Config()
		if err := set(s, c.words...); err == nil || err.Error() != c.want {
			t.Errorf("%q: got %v, want %s", c.words, err, c.want)
		}
		if s.Config() != before {
			t.Errorf("%q changed something", c.words)
		}
	}
}

// CONFIG SET makes all changes or none.
func TestSetIsAllOrNothing(t *testing.T) {
	s := config.NewSettings(config.Default())
	before := s.Config()
	if err := set(s, "maxclients", "5", "requirepass", "p", "timeout", "x"); err == nil {
		t.Fatal("a wrong value is accepted")
	}
	if s.Config() != before {
		t.Error("a refused CONFIG SET replaced the configuration")
	}
	if err := set(s, "maxclients", "5", "RequirePass", "p", "timeout", "7", "maxmemory", "0"); err != nil {
		t.Fatal(err)
	}
	if c := s.Config(); c.MaxClients != 5 || c.RequirePass != "p" || c.Timeout != 7*time.Second {
		t.Errorf("got %d %q %v", c.MaxClients, c.RequirePass, c.Timeout)
	}
	if before.MaxClients != 10000 || before.RequirePass != "" {
		t.Error("a configuration that was given out has changed")
	}
}

// CONFIG GET takes names and patterns in any case, answers each name once, in
// order, and echoes plain names as they were written.
func TestGet(t *testing.T) {
	s := config.NewSettings(config.Default())
	for _, c := range []struct {
		patterns []string
		want     [][2]string
	}{
		{[]string{"port"}, [][2]string{{"port", "6379"}}},
		{[]string{"PoRt", "port"}, [][2]string{{"PoRt", "6379"}}},
		{[]string{"TIME*"}, [][2]string{{"timeout", "0"}}},
		{[]string{"timeout", "data*", "nothing"}, [][2]string{{"databases", "16"}, {"timeout", "0"}}},
		{[]string{"*-announce-ip"}, [][2]string{{"replica-announce-ip", ""}, {"sentinel-announce-ip", ""}, {"slave-announce-ip", ""}}},
		{[]string{"*-read-only"}, [][2]string{{"replica-read-only", "yes"}, {"slave-read-only", "yes"}}},
		{[]string{"[a"}, nil},
		{nil, nil},
	} {
		if got := s.Get(c.patterns); !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, want %q", c.patterns, got, c.want)
		}
	}
	for name, want := range map[string]string{
		"bind": "* -::*", "appendonly": "yes", "save": "", "maxmemory": "0", "maxmemory-policy": "noeviction",
		"notify-keyspace-events": "", "proto-max-bulk-len": "33554432", "election-timeout": "250ms", "protected-mode": "yes",
		"client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
	} {
		if got := get(s, name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// The secret of the cluster is never shown; passwords are, as Redis shows them.
func TestGetHidesTheClusterSecret(t *testing.T) {
	c := config.Default()
	c.ClusterSecret, c.RequirePass = "hidden", "shown"
	s := config.NewSettings(c)
	if got := get(s, "cluster-secret"); got != "<none>" {
		t.Errorf("got %q", got)
	}
	for _, pair := range s.Get([]string{"*"}) {
		if pair[0] == "cluster-secret" || pair[1] == "hidden" {
			t.Errorf("CONFIG GET * shows %q", pair)
		}
	}
	if got := get(s, "requirepass"); got != "shown" {
		t.Errorf("got %q", got)
	}
}

// Whatever CONFIG GET shows of a directive that can be changed, CONFIG SET accepts.
func TestGetAndSetSpeakTheSameLanguage(t *testing.T) {
	s := config.NewSettings(config.Default())
	s.Replicate(func(*config.Config) error { return nil })
	before := s.Get([]string{"*"})
	for _, d := range config.Directives() {
		if !d.Mutable {
			continue
		}
		if err := set(s, d.Name, get(s, d.Name)); err != nil {
			t.Errorf("%s: %v", d.Name, err)
		}
	}
	if after := s.Get([]string{"*"}); !slices.Equal(before, after) {
		t.Errorf("got %q, want %q", after, before)
	}
}

// Watchers see the new configuration, with no lock held, and the logger's level
// has moved by then.
func TestWatchersAreTold(t *testing.T) {
	c := config.Default()
	c.Verbosity = new(slog.LevelVar)
	s := config.NewSettings(c)
	told := 0
	s.OnChange(func(now *config.Config) {
		told++
		if now.LogLevel != "debug" || c.Verbosity.Level() != slog.LevelDebug {
			t.Errorf("got %q, logger at %v", now.LogLevel, c.Verbosity.Level())
		}
		if told == 1 { // would block for ever under a lock
			if err := set(s, "timeout", "1"); err != nil {
				t.Error(err)
			}
		}
	})
	if err := set(s, "loglevel", "debug"); err != nil || told != 2 {
		t.Errorf("told %d times, %v; want 2", told, err)
	}
	if err := set(s, "loglevel", "loud"); err == nil || told != 2 {
		t.Errorf("told %d times of a refused change, %v", told, err)
	}
}

// A replicated directive changes only with the cluster's consent.
func TestReplicatedDirectives(t *testing.T) {
	s := config.NewSettings(config.Default())
	if err := set(s, "proto-max-bulk-len", "2mb"); err == nil {
		t.Error("accepted without a cluster to ask")
	}
	no := errors.New("no majority")
	s.Replicate(func(*config.Config) error { return no })
	if err := set(s, "timeout", "3", "proto-max-bulk-len", "2mb"); !errors.Is(err, no) || s.Config().Timeout != 0 {
		t.Errorf("got %v, timeout %v; want the cluster's refusal and no change", err, s.Config().Timeout)
	}
	var asked int64
	s.Replicate(func(next *config.Config) error { asked = next.ProtoMaxBulkLen; return nil })
	if err := set(s, "timeout", "3"); err != nil || asked != 0 {
		t.Errorf("the cluster was asked about timeout: %v", err)
	}
	if err := set(s, "proto-max-bulk-len", "2mb"); err != nil || asked != 2<<20 || s.Config().ProtoMaxBulkLen != 2<<20 {
		t.Errorf("got %v, asked for %d", err, asked)
	}
	err := set(s, "proto-max-bulk-len", "1gb")
	wantError(t, err, "argument must be between 1048576 and 33554432 inclusive")
}

// What Set would make can be seen before, with its errors, and which of the directives
// that all nodes share it would change.
func TestPreview(t *testing.T) {
	s := config.NewSettings(config.Default())
	before := s.Config()
	next, err := s.Preview([][2]string{{"timeout", "7"}, {"proto-max-bulk-len", "2mb"}})
	if err != nil || next.Timeout != 7*time.Second || s.Config() != before {
		t.Fatalf("%+v, %v", next, err)
	}
	if got := s.Replicated(next); !slices.Equal(got, [][2]string{{"proto-max-bulk-len", "2097152"}}) {
		t.Errorf("replicated: %v", got)
	}
	if got := s.Replicated(before); len(got) != 0 {
		t.Errorf("replicated without a change: %v", got)
	}
	for name, want := range map[string]bool{"PROTO-MAX-BULK-LEN": true, "timeout": false, "nosuch": false} {
		if got := config.IsReplicated(name); got != want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if _, err := s.Preview([][2]string{{"timeout", "x"}}); err == nil {
		t.Error("a wrong value is previewed")
	}
}

// Values decided elsewhere replace the node's own.
func TestAdopt(t *testing.T) {
	s := config.NewSettings(config.Default())
	old := s.Config()
	told := 0
	s.OnChange(func(c *config.Config) { told = c.Databases })
	s.Adopt(func(c *config.Config) { c.Databases = 4 })
	if get(s, "databases") != "4" || told != 4 || old.Databases != 16 {
		t.Errorf("got %s, told %d, old configuration has %d", get(s, "databases"), told, old.Databases)
	}
}

// Changes made at the same time are all kept.
func TestConcurrentChangesAreAllKept(t *testing.T) {
	s := config.NewSettings(config.Default())
	var wg sync.WaitGroup
	for _, pair := range [][2]string{
		{"timeout", "1"}, {"maxclients", "2"}, {"requirepass", "3"}, {"tcp-keepalive", "4"}, {"sentinel-requirepass", "5"},
	} {
		wg.Go(func() {
			for range 200 {
				if err := set(s, pair[0], pair[1]); err != nil {
					t.Error(err)
				}
				_ = s.Get([]string{"*"})
			}
		})
	}
	wg.Wait()
	c := s.Config()
	if c.Timeout != time.Second || c.MaxClients != 2 || c.RequirePass != "3" || c.TCPKeepAlive != 4*time.Second || c.SentinelRequirePass != "5" {
		t.Errorf("a change was lost: %+v", c)
	}
}
