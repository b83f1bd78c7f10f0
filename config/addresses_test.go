package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/config"
)

// Each word of bind becomes an address with the network that listens on nothing else.
func TestBindAddresses(t *testing.T) {
	c, err := fromFile("bind * -::* 127.0.0.1 ::1 [::1] -fe80::1%eth0 node.example")
	if err != nil {
		t.Fatal(err)
	}
	want := []config.BindAddress{
		{Network: "tcp4", Host: "0.0.0.0"},
		{Network: "tcp6", Host: "::", Optional: true},
		{Network: "tcp4", Host: "127.0.0.1"},
		{Network: "tcp6", Host: "::1"},
		{Network: "tcp6", Host: "::1"},
		{Network: "tcp6", Host: "fe80::1%eth0", Optional: true},
		{Network: "tcp", Host: "node.example"},
	}
	got := c.BindAddresses()
	if !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if a := got[3].Address(6379); a != "[::1]:6379" {
		t.Errorf("got address %q", a)
	}
	for _, line := range []string{"bind -", "bind a/b", "bind 1:2", "bind" + strings.Repeat(" h", 17)} {
		if _, err := fromFile(line); err == nil {
			t.Errorf("%s is accepted", line)
		}
	}
}

// Clients and nodes are told the announced address; without one, the best that
// other directives hold.
func TestAnnouncedAddresses(t *testing.T) {
	const cluster = "\nnode-id b\ncluster-secret s\npeers a=10.0.0.1:1,b=[2001:db8::2]:2\n"
	for _, c := range []struct {
		text, data, sentinel, raft string
	}{
		{"", "127.0.0.1 6379", "127.0.0.1 26379", "127.0.0.1:16379"},
		{"bind * 192.0.2.7 192.0.2.8", "192.0.2.7 6379", "192.0.2.7 26379", "192.0.2.7:16379"},
		{"bind 192.0.2.7" + cluster, "2001:db8::2 6379", "2001:db8::2 26379", "[2001:db8::2]:2"},
		{"raft-announce db.example:9" + cluster, "db.example 6379", "db.example 26379", "db.example:9"},
		{"replica-announce-ip 192.0.2.1\nreplica-announce-port 7" + cluster, "192.0.2.1 7", "192.0.2.1 26379", "[2001:db8::2]:2"},
		{"slave-announce-ip 192.0.2.1\nsentinel-announce-ip 192.0.2.3\nsentinel-announce-port 8\nport 5", "192.0.2.1 5", "192.0.2.3 8", "127.0.0.1:16379"},
	} {
		got, err := fromFile(c.text)
		if err != nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		if s := place(got.AnnouncedData()); s != c.data {
			t.Errorf("%q: data port announced as %s, want %s", c.text, s, c.data)
		}
		if s := place(got.AnnouncedSentinel()); s != c.sentinel {
			t.Errorf("%q: Sentinel port announced as %s, want %s", c.text, s, c.sentinel)
		}
		if s := got.AnnouncedRaft(); s != c.raft {
			t.Errorf("%q: raft port announced as %s, want %s", c.text, s, c.raft)
		}
	}
}

// The node's own ports are asked where they listen.
func TestLocalHost(t *testing.T) {
	for bind, want := range map[string]string{
		"* -::*": "127.0.0.1", "::*": "::1", "192.0.2.7 ::1": "192.0.2.7", "-192.0.2.7 192.0.2.8": "192.0.2.8",
		"192.0.2.7 *": "127.0.0.1", "-192.0.2.9": "192.0.2.9",
	} {
		c, err := fromFile("bind " + bind)
		if err != nil || c.LocalHost() != want {
			t.Errorf("bind %s: got %v, %v; want %s", bind, c.LocalHost(), err, want)
		}
	}
}

func place(host string, port int) string { return fmt.Sprintf("%s %d", host, port) }

// master-name takes one name or several, by commas or blanks, and is shown by commas.
func TestMasterNames(t *testing.T) {
	for text, want := range map[string][]string{
		"":                      {"mymaster"},
		"master-name sessions":  {"sessions"},
		"master-name a,b.c-d,":  {"a", "b.c-d"},
		"master-name a b, c":    {"a", "b", "c"},
		"master-name \"a b\",c": nil,
	} {
		c, err := fromFile(text)
		if want == nil {
			if err == nil {
				t.Errorf("%q is accepted as %q", text, c.MasterNames)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if !slices.Equal(c.MasterNames, want) {
			t.Errorf("%q: names are %q, want %q", text, c.MasterNames, want)
		}
		if got := config.NewSettings(c).Get([]string{"master-name"}); got[0][1] != strings.Join(want, ",") {
			t.Errorf("%q is shown as %q", text, got)
		}
	}
}
