package raftfsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/store"
)

// smallEntry is an entry with a unit of every kind and no long value.
func smallEntry() []byte {
	reqs := []command.Request{
		{Spec: SpecSet, DB: 3, Args: words("SET", "key", "v")},
		{Spec: SpecIncr, Args: words("INCR", "n")},
		{Spec: SpecExec, Exec: &command.Exec{
			Watch: []command.Watched{{DB: 2, Key: []byte("w")}},
			Queue: []command.Queued{{Spec: SpecGet, DB: 1, Args: words("GET", "k")}, {Spec: SpecRandom, Args: words("RANDOM", "r")}},
		}},
	}
	data := appendHead(nil, entryHead{level: 1, stamp: 1000, seed: 5, proposal: proposalID{process: 7, seq: 3}}, len(reqs)+4)
	data = appendTick(data, []store.Victim{{DB: 1, Key: "k", Deadline: 5}, {Key: "", Deadline: 1 << 40}})
	data = appendEstablish(data, establishment{node: "n1", clusterID: "c", settings: store.Settings{Databases: 16}})
	data = appendMember(append(data, byte(unitMember)), store.Member{ID: "n1", DataPort: 6379})
	data = appendSettings(append(data, byte(unitSettings)), store.Settings{MaxBulkBytes: 512 << 20})
	for i := range reqs {
		data = appendRequest(data, &reqs[i])
	}
	return data
}

// hostileNumbers are encoded numbers that a length, a count or a database must not
// be trusted with, and encodings that no encoder writes.
func hostileNumbers() [][]byte {
	var list [][]byte
	for _, n := range []uint64{
		0, 1, 127, 128, 1000, maxDatabases, maxDatabases + 1, math.MaxInt32, math.MaxUint32, math.MaxInt64 - 1, math.MaxInt64, 1 << 63, math.MaxUint64,
	} {
		list = append(list, binary.AppendUvarint(nil, n))
	}
	return append(list, []byte{0x80, 0x00}, bytes.Repeat([]byte{0xff}, 11), bytes.Repeat([]byte{0x80}, 9))
}

// hostileEntries calls try with entries in which a hostile number stands at each
// place in turn, instead of a byte or between two.
func hostileEntries(try func(what string, data []byte)) {
	sound := smallEntry()
	for at := range sound {
		for _, number := range hostileNumbers() {
			for instead := range 2 {
				data := append(bytes.Clone(sound[:at]), number...)
				data = append(data, sound[at+instead:]...)
				try(fmt.Sprintf("%x at byte %d, instead of %d", number, at, instead), data)
			}
		}
	}
}

// Property: P7. Whatever number stands in an entry, decoding it ends with an error
// or with units that encode to the same bytes, and takes no more memory than a small
// multiple of the entry.
func TestHostileNumbersInEntries(t *testing.T) {
	x := newEntryDecoder(Lookup)
	tried, accepted := 0, 0
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	hostileEntries(func(what string, data []byte) {
		tried++
		h, units, err := x.decode(data)
		switch {
		case err == nil && !bytes.Equal(encodeUnits(h, units), data):
			t.Errorf("%s: taken for another entry", what)
		case err == nil:
			accepted++
		case !errors.Is(err, ErrBadEntry) && !errors.Is(err, ErrNewerEntry):
			t.Errorf("%s: %v", what, err)
		}
	})
	runtime.ReadMemStats(&after)
	used := int(after.TotalAlloc-before.TotalAlloc) / tried
	t.Logf("%d entries, %d of them taken, %d bytes of memory each", tried, accepted, used)
	if accepted < 100 || accepted > tried/4 {
		t.Errorf("%d of %d were taken: the test shows little", accepted, tried)
	}
	if used > 50*len(smallEntry()) {
		t.Errorf("%d bytes of memory for an entry of %d", used, len(smallEntry()))
	}
}

// Property: P6, P7. An entry that can be decoded can be applied, whatever it holds,
// and means the same to every node.
func TestHostileEntriesMeanTheSameEverywhere(t *testing.T) {
	a, b := newQuiet(), newQuiet()
	x := newEntryDecoder(Lookup)
	index := uint64(0)
	hostileEntries(func(what string, data []byte) {
		if _, _, err := x.decode(data); err != nil {
			return
		}
		index++
		for _, f := range []*FSM{a, b} {
			if err := f.Apply(&raft.Log{Index: index, Term: 1, Data: data}); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if a.Digest() != b.Digest() {
			t.Fatalf("%s: two nodes differ", what)
		}
	})
	if a.Stats() != b.Stats() || a.Applied() != index || index == 0 {
		t.Errorf("%+v and %+v after %d entries", a.Stats(), b.Stats(), index)
	}
}

func newQuiet() *FSM {
	return New(Config{Store: store.New(16), Lookup: Lookup, Clock: &clock.Fake{}, Log: slog.New(slog.DiscardHandler)})
}
