package config_test

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/config"
)

// fromFile loads a configuration file with the given text.
func fromFile(text string) (*config.Config, error) {
	return config.Load(config.Sources{
		File:     "holdfast.conf",
		ReadFile: func(string) ([]byte, error) { return []byte(text), nil },
	})
}

// mustLoad fails the test if the sources are refused.
func mustLoad(t *testing.T, src config.Sources) *config.Config {
	t.Helper()
	c, err := config.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantError fails the test unless err holds every one of the texts.
func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no error, want one with %q", texts)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("got error %q, want %q in it", err, text)
		}
	}
}

// Without any setting a node is a cluster of one with its data in ./data, on the
// ports of Redis and Sentinel.
func TestDefaultsAreAClusterOfOne(t *testing.T) {
	c := mustLoad(t, config.Sources{})
	if c.Port != 6379 || c.SentinelPort != 26379 || c.RaftPort != 16379 || c.MetricsPort != 9121 {
		t.Errorf("got ports %d %d %d %d", c.Port, c.SentinelPort, c.RaftPort, c.MetricsPort)
	}
	if c.Dir != "./data" || c.NodeID != "n1" || len(c.Peers) != 0 || !slices.Equal(c.MasterNames, []string{"mymaster"}) {
		t.Errorf("got dir %q node-id %q peers %v master-name %v", c.Dir, c.NodeID, c.Peers, c.MasterNames)
	}
	if !c.ProtectedMode || c.RequirePass != "" || c.Databases != 16 || c.MaxClients != 10000 {
		t.Errorf("got %+v", c)
	}
	if c.ElectionTimeout != 250*time.Millisecond || c.ReadMode != config.ReadQuorum || c.LogStore != config.LogStoreWAL {
		t.Errorf("got %v %q %q", c.ElectionTimeout, c.ReadMode, c.LogStore)
	}
	if c.MaxEntryBytes != 32<<20 || c.ProtoMaxBulkLen != 32<<20 {
		t.Errorf("got max-entry-bytes %d proto-max-bulk-len %d", c.MaxEntryBytes, c.ProtoMaxBulkLen)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("got warnings %q for no setting", c.Warnings)
	}
}

// The three-node cluster on one machine needs exactly these flags.
func TestFlagsOfAThreeNodeCluster(t *testing.T) {
	c := mustLoad(t, config.Sources{Flags: []config.Setting{
		{Name: "node-id", Value: "n2"},
		{Name: "dir", Value: "D2"},
		{Name: "bind", Value: "127.0.0.1"},
		{Name: "port", Value: "6380"},
		{Name: "sentinel-port", Value: "26380"},
		{Name: "raft-port", Value: "16380"},
		{Name: "metrics-port", Value: "9122"},
		{Name: "cluster-secret", Value: "S"},
		{Name: "peers", Value: "n1=127.0.0.1:16379,n2=127.0.0.1:16380,n3=127.0.0.1:16381"},
	}})
	if c.NodeID != "n2" || len(c.Peers) != 3 || c.Peers[2] != (config.Peer{ID: "n3", Addr: "127.0.0.1:16381"}) {
		t.Errorf("got %q %v", c.NodeID, c.Peers)
	}
	if c.AnnouncedRaft() != "127.0.0.1:16380" {
		t.Errorf("got raft address %q", c.AnnouncedRaft())
	}
}

// A later source wins over an earlier one, and within one the later line.
func TestLaterSourceWins(t *testing.T) {
	src := config.Sources{
		File: "f",
		ReadFile: func(string) ([]byte, error) {
			return []byte("port 1\nport 2\ntimeout 2\nmaxclients 2\ndatabases 2\n"), nil
		},
		Environ: []string{"HOLDFAST_TIMEOUT=3", "HOLDFAST_MAXCLIENTS=3", "PATH=/bin", "HOLDFAST_DATABASES="},
		Flags:   []config.Setting{{Name: "maxclients", Value: "4"}, {Name: "maxclients", Value: "5"}},
	}
	c := mustLoad(t, src)
	if c.Port != 2 || c.Timeout != 3*time.Second || c.MaxClients != 5 {
		t.Errorf("got port %d timeout %v maxclients %d, want 2 3s 5", c.Port, c.Timeout, c.MaxClients)
	}
	if c.Databases != 2 {
		t.Errorf("got %d databases: an empty variable counts as not set", c.Databases)
	}
}

// Every directive can be set by its variable.
func TestEveryDirectiveHasAVariable(t *testing.T) {
	for _, d := range config.Directives() {
		name := config.EnvName(d.Name)
		_, err := config.Load(config.Sources{Environ: []string{name + "=\x00 no directive accepts this \x00"}})
		if d.Kind() == "text" || d.Kind() == "path" && d.Name == "logfile" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "environment variable "+name+": ") || strings.Contains(err.Error(), "unknown") {
			t.Errorf("%s: got %v, want a complaint about its value", name, err)
		}
	}
}

// Unknown names are refused wherever they stand, with the nearest name.
func TestUnknownNamesAreRefusedWithASuggestion(t *testing.T) {
	for name, load := range map[string]func() error{
		"holdfast.conf:2: unknown directive 'raft-prot'; did you mean 'raft-port'?": func() error {
			_, err := fromFile("port 1\nraft-prot 5\n")
			return err
		},
		"environment variable HOLDFAST_REQUIREPAS: unknown directive 'requirepas'; did you mean 'requirepass'?": func() error {
			_, err := config.Load(config.Sources{Environ: []string{"HOLDFAST_REQUIREPAS=x"}})
			return err
		},
		"flag --maxclinets: unknown directive 'maxclinets'; did you mean 'maxclients'?": func() error {
			_, err := config.Load(config.Sources{Flags: []config.Setting{{Name: "maxclinets", Value: "1"}}})
			return err
		},
		"holdfast.conf:1: unknown directive 'xylophone'": func() error {
			_, err := fromFile("xylophone 1")
			return err
		},
	} {
		if err := load(); err == nil || err.Error() != name {
			t.Errorf("got %v, want %s", err, name)
		}
	}
}

// An error names its source and line, and all problems are told at once.
func TestErrorsNameTheirPlace(t *testing.T) {
	_, err := fromFile("# comment\n\n  port 70000\r\nbind\nrequirepass a b\nloglevel loud\nport \"1\n")
	want := []string{
		"holdfast.conf:3: port: argument must be between 0 and 65535 inclusive",
		"holdfast.conf:4: bind: at least one address is needed",
		"holdfast.conf:5: requirepass: wrong number of arguments",
		"holdfast.conf:6: loglevel: argument(s) must be one of the following: debug, verbose, notice, warning",
		"holdfast.conf:7: unbalanced quotes",
	}
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("got\n%v\nwant\n%s", err, strings.Join(want, "\n"))
	}
	_, err = config.Load(config.Sources{Flags: []config.Setting{{Name: "port", Value: "x"}}})
	wantError(t, err, "flag --port: argument couldn't be parsed into an integer")
	_, err = config.Load(config.Sources{File: "gone.conf", ReadFile: os.ReadFile})
	wantError(t, err, "configuration file: ", "gone.conf")
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want it to be os.ErrNotExist", err)
	}
}

// No error repeats a secret, however the secret came to stand in the wrong place.
func TestErrorsHoldNoSecret(t *testing.T) {
	const secret = "hunter2-S3cret"
	for _, text := range []string{
		"requirepass " + secret + " x",
		"requirepass \"" + secret,
		"cluster-secret '" + secret + "'x",
		"sentinel-requirepass",
		secret,
		"requirepas " + secret,
		"port " + secret,
		"election-timeout " + secret,
		"client-output-buffer-limit " + secret + " 1 2 3",
		"loglevel " + secret,
		"appendonly " + secret,
		"bind " + secret + "/",
		"max-entry-bytes " + secret,
		"protected-mode " + secret,
	} {
		if _, err := fromFile(text); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// The grammar of a line is that of redis.conf.
func TestLineGrammar(t *testing.T) {
	for line, want := range map[string]string{
		`logfile plain`:           "plain",
		"\tLogFile  \t spaced  ":  "spaced",
		`logfile "two words"`:     "two words",
		`logfile 'two words'`:     "two words",
		`logfile ""`:              "",
		`logfile "\x41\x7a\x4A"`:  "AzJ",
		`logfile "\xg1"`:          "xg1",
		`logfile "\n\r\t\b\a\q"`:  "\n\r\t\b\aq",
		`logfile "\"\\"`:          `"\`,
		`logfile '\'\n'`:          `'\n`,
		`logfile pre"quoted"`:     "prequoted",
		`"logfile" x`:             "x",
		`logfile a#b`:             "a#b",
		`logfile "# no comment"`:  "# no comment",
		"logfile \"\\x\x10\x11\"": "x\x10\x11",
	} {
		c, err := fromFile(line)
		if err != nil || c.LogFile != want {
			t.Errorf("%s: got %q, %v; want %q", line, value(c), err, want)
		}
	}
	for _, line := range []string{`logfile "a`, `logfile 'a`, `logfile "a"b`, `logfile 'a'"b"`, `logfile "a\"`, `logfile "\`} {
		_, err := fromFile(line)
		wantError(t, err, "unbalanced quotes")
	}
}

func value(c *config.Config) string {
	if c == nil {
		return ""
	}
	return c.LogFile
}

// A byte order mark, Windows line ends and a missing last line end do no harm.
func TestFilesOfOtherEditors(t *testing.T) {
	c, err := fromFile("\ufeffport 1\r\n# x\r\ntimeout 2")
	if err != nil || c.Port != 1 || c.Timeout != 2*time.Second {
		t.Errorf("got %v, %v", c, err)
	}
}

// Directives of Redis that are constants here are accepted with their value and
// refused with another.
func TestConstantsInAFile(t *testing.T) {
	if _, err := fromFile("appendonly YES\nsave \"\"\nmaxmemory-policy noeviction\ndaemonize no\n"); err != nil {
		t.Error(err)
	}
	_, err := fromFile("appendonly no")
	wantError(t, err, "holdfast.conf:1: appendonly: it is always 'yes' here")
	_, err = fromFile("save 900 1")
	wantError(t, err, "save: it is always '' here")
}

// What Kubernetes puts into the environment for services named holdfast… is not
// taken for directives; what looks similar and is none of it is refused.
func TestServiceLinksAreNotDirectives(t *testing.T) {
	c := mustLoad(t, config.Sources{Environ: []string{
		"HOLDFAST_PORT=tcp://10.0.0.1:6379",
		"HOLDFAST_SERVICE_HOST=10.0.0.1",
		"HOLDFAST_SERVICE_PORT=6379",
		"HOLDFAST_SERVICE_PORT_REDIS=6379",
		"HOLDFAST_PORT_6379_TCP=tcp://10.0.0.1:6379",
		"HOLDFAST_PORT_6379_TCP_PROTO=tcp",
		"HOLDFAST_PORT_6379_TCP_PORT=6379",
		"HOLDFAST_PORT_6379_TCP_ADDR=10.0.0.1",
		"HOLDFAST_SENTINEL_PORT=tcp://10.0.0.1:26379",
		"HOLDFAST_SENTINEL_SERVICE_HOST=10.0.0.1",
		"HOLDFAST_FULL=1",
	}})
	if c.Port != 6379 || c.SentinelPort != 26379 {
		t.Errorf("got ports %d %d", c.Port, c.SentinelPort)
	}
	_, err := config.Load(config.Sources{Environ: []string{"HOLDFAST_PORT_X=1"}})
	wantError(t, err, "environment variable HOLDFAST_PORT_X: unknown directive")
}
