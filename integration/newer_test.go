package integration_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/crc64"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"

	"github.com/holdfast/holdfast/internal/testkit"
	"github.com/holdfast/holdfast/raftfsm"
)

// P1, P7: a data directory that a newer release has written to (its identity, a
// snapshot, an entry of the log) is refused: the process ends with a code above 0
// and a line that says why, and leaves it to the newer release as it was.
func TestNewerDataDirectoryIsRefused(t *testing.T) {
	for what, c := range map[string]struct {
		update func(t testing.TB, dir string) // what a newer release does to the directory
		says   string
	}{
		"identity": {newerIdentity, "written by a newer release"},
		"snapshot": {newerSnapshot, "needs a newer release"},
		"entry":    {newerEntry, "needs a newer release"},
	} {
		t.Run(what, func(t *testing.T) {
			cluster := start(t, testkit.ClusterOptions{Size: 1})
			n := cluster.Nodes[0]
			m := master(t, cluster)
			for range 2 { // raft keeps two snapshots, and takes the older one if it must
				m.MustDo(t, "SET", "k", "v")
				m.MustDo(t, "SAVE")
			}
			m.MustDo(t, "SET", "k", "v")
			n.Kill9()
			c.update(t, n.DataDir)
			before := contents(t, n.DataDir)
			for range 2 { // and again: the first refusal has not spoilt anything
				refusesToStart(t, n, c.says)
				if !n.LogContains("level=ERROR", c.says) {
					t.Error("the reason is no error in its log")
				}
				compareContents(t, before, contents(t, n.DataDir))
			}
		})
	}
}

// compareContents fails if anything was changed, removed or added.
func compareContents(t testing.TB, before, after map[string]string) {
	t.Helper()
	if len(before) < 4 {
		t.Fatalf("only %d things compared: %v", len(before), before)
	}
	for name, sum := range before {
		if after[name] != sum {
			t.Errorf("%s is not what it was", name)
		}
	}
	for name := range after {
		if _, was := before[name]; !was {
			t.Errorf("%s was added", name)
		}
	}
}

// contents are the checksums of all files below dir. Those of bolt change when they
// are opened, so what they hold counts instead.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		var text []byte
		if filepath.Ext(path) == ".db" {
			text, err = boltContents(path)
		} else {
			text, err = os.ReadFile(path)
		}
		all[name] = fmt.Sprintf("%x", sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// boltContents are the buckets, keys and values of a bolt file, in their order.
func boltContents(path string) ([]byte, error) {
	db, err := bbolt.Open(path, 0, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return nil, err
	}
	defer db.Close()
	var all []byte
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			all = fmt.Appendf(all, "bucket %q\n", name)
			return b.ForEach(func(k, v []byte) error {
				all = fmt.Appendf(all, "%q %q\n", k, v)
				return nil
			})
		})
	})
	return all, err
}

// newerIdentity raises the format of the directory.
func newerIdentity(t testing.TB, dir string) {
	t.Helper()
	editJSON(t, filepath.Join(dir, "node.json"), func(fields map[string]any) { fields["format"] = 2 })
}

// newerSnapshot raises the format of the last snapshot's stream.
func newerSnapshot(t testing.TB, dir string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "raft", "snapshots", "*", "state.bin"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no snapshot: %v", err)
	}
	path := slices.Max(found)
	stream, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(stream, []byte("HOLDFAST\x01")) {
		t.Fatalf("%s is no snapshot of this release: %v", path, err)
	}
	stream[8] = 2
	if err := os.WriteFile(path, stream, 0o600); err != nil {
		t.Fatal(err)
	}
	sum := crc64.New(crc64.MakeTable(crc64.ECMA)) // which raft keeps beside it
	_, _ = sum.Write(stream)
	editJSON(t, filepath.Join(filepath.Dir(path), "meta.json"), func(fields map[string]any) { fields["CRC"] = sum.Sum(nil) })
}

// newerEntry appends a copy of the last entry to the log, of the next apply level.
func newerEntry(t testing.TB, dir string) {
	t.Helper()
	log := openLog(t, dir)
	defer log.Close()
	last, err := log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	var entry raft.Log
	if err := log.GetLog(last, &entry); err != nil || entry.Type != raft.LogCommand || entry.Data[1] > raftfsm.Level {
		t.Fatalf("the last entry is not of this release: %v, %v", entry.Type, err)
	}
	entry.Index++
	entry.Data[1] = raftfsm.Level + 1
	if err := log.StoreLog(&entry); err != nil {
		t.Fatal(err)
	}
}

func editJSON(t testing.TB, path string, edit func(fields map[string]any)) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	edit(fields)
	if text, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
