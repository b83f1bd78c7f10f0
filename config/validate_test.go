package config_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/config"
)

// What no directive can check alone is refused, naming the directive.
func TestValidate(t *testing.T) {
	const peers = "peers a=h:1,b=h:2\n"
	for text, want := range map[string]string{
		peers + "node-id a":                                            "peers: a cluster needs cluster-secret, the same on every node",
		peers + "cluster-secret s":                                     "node-id: one of the ids in peers is needed: a, b",
		peers + "cluster-secret s\nnode-id c":                          "node-id: 'c' is not in peers, which lists a, b",
		peers + "cluster-secret s\nnode-id a\nraft-port 0":             "raft-port: a cluster needs one",
		peers + "node-id a\ncluster-secret s\njoin h:1\nbind 10.0.0.1": "join: peers form a new cluster",
		"join h:1\nnode-id d\nbind 10.0.0.1":                           "join: a cluster needs cluster-secret",
		"join h:1\ncluster-secret s\nbind 10.0.0.1":                    "node-id: a node that joins needs one",
		"join h:1\ncluster-secret s\nnode-id d":                        "raft-announce: a node that joins has to say",
		"join h:1\ncluster-secret s\nnode-id d\nraft-port 0":           "raft-port: a cluster needs one",
		"join h:1,nowhere\ncluster-secret s\nnode-id d":                "'nowhere': must have the form host:port",
		"port 26379":                                    "sentinel-port: 26379 is port already",
		"metrics-port 6379":                             "metrics-port: 6379 is port already",
		"raft-port 5\nsentinel-port 5":                  "raft-port: 5 is sentinel-port already",
		"node-id 'a b'":                                 "a node id has",
		"node-id " + strings.Repeat("x", 65):            "a node id has",
		"master-name a,b,a":                             "the name 'a' is listed twice",
		"master-name ''":                                "between 1 and 16 names",
		"master-name ,":                                 "between 1 and 16 names",
		"master-name caf\u00e9":                         "names of at most 128 printable characters",
		"master-name " + strings.Repeat("x", 129):       "names of at most 128 printable characters",
		"master-name a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q": "between 1 and 16 names",
		"sentinel-announce-hostnames maybe":             "argument must be 'yes' or 'no'",
		"dir ''":                                        "a path is needed",
		"raft-announce h":                               "must have the form host:port",
		"replica-announce-ip 'a b'":                     "must be an IP address or a host name",
		"sentinel-announce-ip 10.0.0.1:5":               "must be an IP address or a host name",
	} {
		_, err := fromFile(text)
		wantError(t, err, want)
	}
	if _, err := fromFile("port 0\nsentinel-port 0\nmetrics-port 0\nraft-port 0"); err != nil {
		t.Errorf("ports that are off are no conflict: %v", err)
	}
}

// An argument cannot be larger than a log entry; a file made for Redis that
// allows larger ones is accepted with a warning.
func TestBulkLengthIsCappedByTheEntry(t *testing.T) {
	c, err := fromFile("proto-max-bulk-len 512mb\nmax-entry-bytes 16mb")
	if err != nil {
		t.Fatal(err)
	}
	if c.ProtoMaxBulkLen != 16<<20 || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "proto-max-bulk-len") {
		t.Errorf("got %d, warnings %q", c.ProtoMaxBulkLen, c.Warnings)
	}
	c.ProtoMaxBulkLen++
	wantError(t, c.Validate(), "proto-max-bulk-len: at most max-entry-bytes, which is 16777216")
}

// The levels keep Redis's order on slog's scale.
func TestLogLevels(t *testing.T) {
	for name, want := range map[string]slog.Level{
		"debug": slog.LevelDebug, "verbose": slog.LevelDebug + 2, "notice": slog.LevelInfo, "warning": slog.LevelWarn,
	} {
		if got := config.SlogLevel(name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}
