package config_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/config"
)

// quote writes a word so that the grammar of redis.conf gives it back.
func quote(word string) string {
	var b strings.Builder
	for i := range len(word) {
		fmt.Fprintf(&b, `\x%02x`, word[i])
	}
	return `"` + b.String() + `"`
}

// dump is a configuration file that says the same as c.
func dump(c *config.Config) string {
	s := config.NewSettings(c)
	var b strings.Builder
	for _, d := range config.Directives() {
		value := get(s, d.Name)
		if d.Hidden {
			value = c.ClusterSecret
		}
		switch {
		case d.Kind() == "address …" || strings.HasPrefix(d.Kind(), "class "):
			words := strings.Fields(value)
			for i := range words {
				words[i] = quote(words[i])
			}
			value = strings.Join(words, " ")
		default:
			value = quote(value)
		}
		fmt.Fprintf(&b, "%s %s\n", d.Name, value)
	}
	return b.String()
}

// No file makes the reader panic; an accepted one is valid and comes back the
// same from its own dump; a refused one is refused with its place.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", "port 1", "PORT 1\r\n#x\n", `requirepass "\x41\n\"" `, "bind * -::* ::1", "bind",
		"peers a=h:1,b=[::1]:2\nnode-id b\ncluster-secret 's'", "client-output-buffer-limit normal 1mb 2k 3 replica 0 0 0",
		"election-timeout 1s\nmax-entry-bytes 60mb\nproto-max-bulk-len 1gb", "save \"\"\nappendonly yes", "logfile 'a\\'b'",
		"databases 9999999999999999999", "raft-announce [::1%lo]:9", "\ufeffport 2", "tls-port 0", "log-store boltdb\nread-mode local",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := fromFile(text)
		if err != nil {
			if err.Error() == "" || c != nil {
				t.Fatalf("got %v with error %q", c, err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("accepted and not valid: %v", err)
		}
		again, err := fromFile(dump(c))
		if err != nil {
			t.Fatalf("dump refused: %v\n%s", err, dump(c))
		}
		c.Warnings, again.Warnings = nil, nil
		if !reflect.DeepEqual(c, again) {
			t.Fatalf("got %+v\nwant %+v", again, c)
		}
	})
}

// No values given to CONFIG SET make it panic or leave an invalid configuration.
func FuzzSet(f *testing.F) {
	for _, d := range config.Directives() {
		f.Add(d.Name, d.Default)
	}
	f.Add("CLIENT-output-buffer-limit", "pubsub 1mb 2k 3")
	f.Add("maxmemory", "0")
	f.Fuzz(func(t *testing.T, name, value string) {
		s := config.NewSettings(config.Default())
		s.Replicate(func(*config.Config) error { return nil })
		before := s.Config()
		if err := set(s, name, value); err != nil {
			if s.Config() != before {
				t.Fatalf("refused (%v) and changed", err)
			}
			return
		}
		if err := s.Config().Validate(); err != nil {
			t.Fatalf("CONFIG SET %q %q leaves %v", name, value, err)
		}
	})
}
