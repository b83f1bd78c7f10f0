package raftfsm

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/store"
)

func words(w ...string) [][]byte {
	var args [][]byte
	for _, s := range w {
		args = append(args, []byte(s))
	}
	return args
}

// sampleRequests are requests of every shape a log can carry.
func sampleRequests() []command.Request {
	return []command.Request{
		{Spec: SpecSet, DB: 3, Args: words("SeT", "key", "")},
		{Spec: SpecSet, Args: words("set", strings.Repeat("k", 300), strings.Repeat("v", 70000))},
		{Spec: SpecDel, DB: 15, Args: words("DEL", "\x00\xff")},
		{Spec: SpecExec, Exec: &command.Exec{}},
		{Spec: SpecExec, Exec: &command.Exec{
			Watch: []command.Watched{{DB: 2, Key: []byte("w"), Version: 1 << 60}, {Key: []byte{}}},
			Queue: []command.Queued{
				{Spec: SpecGet, DB: 1, Args: words("GET", "k")},
				{Spec: SpecIncr, Args: words("incr", "n")},
			},
		}},
	}
}

// sampleEntry is an entry with a unit of every kind.
func sampleEntry() []byte {
	reqs := sampleRequests()
	h := entryHead{level: LevelHealth, stamp: 1_700_000_000_000, seed: 1 << 63, proposal: proposalID{process: 7, seq: 300}}
	data := appendHead(nil, h, len(reqs)+6)
	data = appendTick(data, []store.Victim{{DB: 1, Key: "k", Deadline: 5}, {Key: "", Deadline: 1 << 40}})
	data = appendEstablish(data, establishment{
		node: "n1", clusterID: "c", hashSeed: [2]uint64{1, 2}, settings: store.Settings{Databases: 16, MaxEntryBytes: 1},
	})
	data = appendMember(append(data, byte(unitMember)), store.Member{ID: "n1", DataPort: 6379, SentinelPort: -1, Level: 1})
	data = appendSettings(append(data, byte(unitSettings)), store.Settings{MaxBulkBytes: 512 << 20})
	data = append(data, byte(unitLevel))
	data = appendHealth(append(data, byte(unitHealth)), map[string]store.Health{"n2": {Down: true, Deposed: true, Process: 1 << 63}, "n1": {Process: 7}, "": {Down: true}})
	for i := range reqs {
		data = appendRequest(data, &reqs[i])
	}
	return data
}

// encodeUnits encodes what a decoder made of an entry.
func encodeUnits(h entryHead, units []unit) []byte {
	dst := appendHead(nil, h, len(units))
	for i := range units {
		switch u := &units[i]; u.kind {
		case unitCommand:
			dst = encodeInvocation(append(dst, byte(unitCommand)), &u.cmd)
		case unitExec:
			dst = appendWatch(append(dst, byte(unitExec)), u.watch)
			dst = appendInt(dst, len(u.queue))
			for k := range u.queue {
				dst = encodeInvocation(dst, &u.queue[k])
			}
		case unitTick:
			dst = appendTick(dst, u.victims)
		case unitEstablish:
			dst = appendEstablish(dst, u.establish)
		case unitMember:
			dst = appendMember(append(dst, byte(unitMember)), u.member)
		case unitSettings:
			dst = appendSettings(append(dst, byte(unitSettings)), u.settings)
		case unitLevel:
			dst = append(dst, byte(unitLevel))
		case unitHealth:
			dst = appendHealth(append(dst, byte(unitHealth)), u.health)
		}
	}
	return dst
}

func encodeInvocation(dst []byte, inv *invocation) []byte {
	return appendInvocation(dst, inv.spec.FullName(), inv.db, inv.user, inv.args)
}

// Property: encoding what was decoded gives the same bytes.
func TestEntryRoundTrip(t *testing.T) {
	x := newEntryDecoder(Lookup)
	data := sampleEntry()
	for range 2 { // the second time in used memory
		h, units, err := x.decode(data)
		if err != nil {
			t.Fatal(err)
		}
		if h.stamp != 1_700_000_000_000 || h.seed != 1<<63 || h.proposal != (proposalID{7, 300}) || len(units) != 11 {
			t.Fatalf("head %+v, %d units", h, len(units))
		}
		if !bytes.Equal(encodeUnits(h, units), data) {
			t.Fatal("another encoding")
		}
	}
}

// Property: SizeOf is never below the size of the entry, and close to it.
func TestSizeOfBoundsTheEntry(t *testing.T) {
	for i, r := range sampleRequests() {
		h := entryHead{level: Level, stamp: 1 << 62, seed: 1, proposal: proposalID{1, 1 << 63}}
		data := appendRequest(appendHead(nil, h, 1024), &r)
		if size := SizeOf(&r); size < len(data) || size > len(data)+100 {
			t.Errorf("request %d: size %d, encoded %d", i, size, len(data))
		}
		if n := len(appendRequest(nil, &r)); n != unitSize(&r) {
			t.Errorf("request %d: unit size %d, encoded %d", i, unitSize(&r), n)
		}
	}
}

// Property: every prefix of an entry, and an entry with a byte more, is an
// error and no panic.
func TestCutEntryIsAnError(t *testing.T) {
	x := newEntryDecoder(Lookup)
	data := sampleEntry()
	for n := range len(data) {
		if n > 400 && n < len(data)-400 {
			continue // within one long value
		}
		if _, _, err := x.decode(data[:n]); !errors.Is(err, ErrBadEntry) {
			t.Fatalf("cut at %d: %v", n, err)
		}
	}
	if _, _, err := x.decode(append(data, 0)); !errors.Is(err, ErrBadEntry) {
		t.Fatalf("a byte more: %v", err)
	}
}

// Property: a length that is not there costs no memory.
func TestHugeCountsAllocateNothing(t *testing.T) {
	x := newEntryDecoder(Lookup)
	huge := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}
	head := appendHead(nil, entryHead{level: 1}, 1)
	for name, unit := range map[string][]byte{
		"units":   nil,
		"tick":    append([]byte{byte(unitTick)}, huge...),
		"watch":   append([]byte{byte(unitExec)}, huge...),
		"queue":   append([]byte{byte(unitExec), 0}, huge...),
		"args":    append([]byte("\x01\x03set\x00\x00"), huge...),
		"name":    append([]byte{byte(unitCommand)}, huge...),
		"member":  append([]byte{byte(unitMember)}, huge...),
		"cluster": append([]byte{byte(unitEstablish), 0}, huge...),
	} {
		data := append(bytes.Clone(head), unit...)
		if name == "units" {
			data = append(data[:len(data)-1], huge...)
		}
		allocs := testing.AllocsPerRun(10, func() {
			if _, _, err := x.decode(data); err == nil {
				t.Fatalf("%s: accepted", name)
			}
		})
		if allocs > 4 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
	}
}

// Property: a number in a longer form than needed is refused: equal entries are
// equal bytes.
func TestLongFormOfNumberIsRefused(t *testing.T) {
	d := decoder{in: []byte{0x81, 0x00}}
	if d.uvarint(); !d.bad {
		t.Fatal("accepted")
	}
	d = decoder{in: []byte{0x80, 0x01}}
	if n := d.uvarint(); d.bad || n != 128 {
		t.Fatalf("got %d", n)
	}
}

// Property: the decoder does not keep an entry's bytes once it is released.
func TestReleaseForgetsTheEntry(t *testing.T) {
	x := newEntryDecoder(Lookup)
	if _, _, err := x.decode(sampleEntry()); err != nil {
		t.Fatal(err)
	}
	x.release()
	for _, a := range x.args[:cap(x.args)] {
		if a != nil {
			t.Fatal("an argument is kept")
		}
	}
	for _, u := range x.units[:cap(x.units)] {
		if u.kind != 0 || u.rare != nil || u.cmd.args != nil {
			t.Fatal("a unit is kept")
		}
	}
}

func FuzzEntry(f *testing.F) {
	f.Add(sampleEntry())
	for _, r := range sampleRequests() {
		f.Add(Entry(1000, 1, r))
	}
	f.Add(TickEntry(5, store.Victim{Key: "k", Deadline: 3}))
	f.Add(EstablishEntry(5, "c", store.Settings{}))
	f.Fuzz(func(t *testing.T, data []byte) {
		x := newEntryDecoder(Lookup)
		h, units, err := x.decode(data)
		if err != nil {
			if !errors.Is(err, ErrBadEntry) && !errors.Is(err, ErrNewerEntry) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(encodeUnits(h, units), data) {
			t.Fatal("another encoding")
		}
	})
}
