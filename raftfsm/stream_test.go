package raftfsm

import (
	"bytes"
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/holdfast/holdfast/store"
)

// sampleStream is the stream of a small state.
func sampleStream(tb testing.TB) []byte {
	tb.Helper()
	st := store.New(3)
	st.Update(5000, 1, func(tx *store.Tx) {
		tx.Begin(0)
		tx.ChangeSystem(func(s *store.System) {
			s.ClusterID, s.HashSeed, s.Settings = "c1", [2]uint64{3, 4}, store.Settings{Databases: 3, MaxEntryBytes: 1}
			s.Members["a"] = store.Member{ID: "a", DataPort: 1}
		})
		tx.Set([]byte("k"), store.StringValue([]byte("v")), 0)
		tx.Begin(2)
		tx.Set([]byte("e"), store.StringValue([]byte("until")), 9000)
		tx.Set([]byte("gone"), store.StringValue(nil), 0)
		tx.Begin(2)
		tx.Delete([]byte("gone"))
	})
	var buf bytes.Buffer
	f := st.Freeze()
	defer f.Release()
	h := streamHead{clusterID: "c1", index: 9, term: 2, level: 1, clock: 5000, databases: 3}
	if _, err := writeStream(&buf, h, f); err != nil {
		tb.Fatal(err)
	}
	return buf.Bytes()
}

// Property: the stream tells everything it was given, in its order.
func TestStreamTellsWhatWasWritten(t *testing.T) {
	var told []string
	err := readStream(bytes.NewReader(sampleStream(t)), visitor{
		head: func(h streamHead) error {
			if h != (streamHead{clusterID: "c1", index: 9, term: 2, level: 1, clock: 5000, databases: 3}) {
				t.Errorf("head %+v", h)
			}
			told = append(told, "head")
			return nil
		},
		system: func(sys store.System) error {
			if sys.ClusterID != "c1" || sys.Stamp != 5000 || sys.Members["a"].DataPort != 1 || sys.HashSeed != [2]uint64{3, 4} {
				t.Errorf("system %+v", sys)
			}
			told = append(told, "system")
			return nil
		},
		side: func(db int, s store.Side) error {
			if (db == 2) != (len(s.Removals) > 0) {
				t.Errorf("side %d: %d removals", db, len(s.Removals))
			}
			told = append(told, "side")
			return nil
		},
		command: func(cmd []byte) error {
			told = append(told, strings.ReplaceAll(string(cmd), "\r\n", " "))
			return nil
		},
		trailer: func(uint64) error {
			told = append(told, "trailer")
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"head", "system", "side", "side", "side",
		"*2 $6 SELECT $1 0 ", "*3 $3 SET $1 k $1 v ",
		"*2 $6 SELECT $1 2 ", "*5 $3 SET $1 e $5 until $4 PXAT $4 9000 ",
		"trailer",
	}
	if strings.Join(told, "|") != strings.Join(want, "|") {
		t.Fatalf("got  %q\nwant %q", told, want)
	}
}

// Property: an error of a visitor ends the reading and is what is returned.
func TestVisitorEndsTheReading(t *testing.T) {
	enough := errors.New("enough")
	for i, v := range []visitor{
		{head: func(streamHead) error { return enough }},
		{system: func(store.System) error { return enough }},
		{side: func(int, store.Side) error { return enough }},
		{command: func([]byte) error { return enough }},
		{key: func(store.Record) error { return enough }},
		{trailer: func(uint64) error { return enough }},
	} {
		if err := readStream(bytes.NewReader(sampleStream(t)), v); !errors.Is(err, enough) {
			t.Errorf("visitor %d: %v", i, err)
		}
	}
}

// forge writes a stream of blocks with right checksums and any contents.
func forge(blocks ...any) []byte {
	var buf bytes.Buffer
	b := newBlockWriter(&buf)
	for i := 0; i < len(blocks); i += 2 {
		b.begin(blocks[i].(byte))
		b.write(blocks[i+1].([]byte))
	}
	b.flush()
	return buf.Bytes()
}

// Property: contents that make no sense are refused even under right checksums,
// and a length never leads to more memory than the stream has bytes.
func TestForgedStreamIsRefused(t *testing.T) {
	head := encodeStreamHead(streamHead{level: 1, databases: 1})
	system := encodeSystem(store.System{}, 1)
	side := appendSide(nil, 0, store.Side{})
	end := encodeTrailer([]uint64{0}, 0)
	one := encodeTrailer([]uint64{1}, 0)
	record := func(kind byte, cmd string) []byte {
		return append(appendInt([]byte{kind, 1}, len(cmd)), cmd...)
	}
	pick := record(recordSelect, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
	data := func(kind byte, cmd string) []byte { return append(bytes.Clone(pick), record(kind, cmd)...) }
	if err := readStream(bytes.NewReader(forge(blockHeader, head, blockSystem, system, blockSide, side, blockTrailer, end)), visitor{}); err != nil {
		t.Fatalf("the sound one: %v", err)
	}
	for name, stream := range map[string][]byte{
		"no head":       forge(blockSystem, system, blockSide, side, blockTrailer, end),
		"no system":     forge(blockHeader, head, blockSide, side, blockTrailer, end),
		"no side":       forge(blockHeader, head, blockSystem, system, blockTrailer, end),
		"no trailer":    forge(blockHeader, head, blockSystem, system, blockSide, side),
		"long head":     forge(blockHeader, append(bytes.Clone(head), 0), blockSystem, system, blockSide, side, blockTrailer, end),
		"no databases":  forge(blockHeader, encodeStreamHead(streamHead{level: 1}), blockSystem, system, blockTrailer, end),
		"two sides":     forge(blockHeader, head, blockSystem, system, blockSide, append(bytes.Clone(side), side...), blockTrailer, end),
		"wrong side":    forge(blockHeader, head, blockSystem, system, blockSide, appendSide(nil, 1, store.Side{}), blockTrailer, end),
		"many removals": forge(blockHeader, head, blockSystem, system, blockSide, []byte{0, 0, 0xff, 0xff, 0xff, 7}, blockTrailer, end),
		"wrong count":   forge(blockHeader, head, blockSystem, system, blockSide, side, blockTrailer, one),
		"other block":   forge(blockHeader, head, blockSystem, system, blockSide, side, byte('?'), end, blockTrailer, end),
		"no select":     forge(blockHeader, head, blockSystem, system, blockSide, side, blockData, record(recordKey, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"), blockTrailer, one),
		"no such db":    forge(blockHeader, head, blockSystem, system, blockSide, side, blockData, record(recordSelect, "*2\r\n$6\r\nSELECT\r\n$1\r\n1\r\n"), blockTrailer, end),
		"other command": forge(blockHeader, head, blockSystem, system, blockSide, side, blockData, data(recordKey, "*3\r\n$4\r\nHSET\r\n$1\r\nk\r\n$1\r\nv\r\n"), blockTrailer, one),
		"other record":  forge(blockHeader, head, blockSystem, system, blockSide, side, blockData, data(9, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"), blockTrailer, one),
		"short command": forge(blockHeader, head, blockSystem, system, blockSide, side, blockData, data(recordKey, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$9\r\nv\r\n"), blockTrailer, one),
		"bad deadline":  forge(blockHeader, head, blockSystem, system, blockSide, side, blockData, data(recordKey, "*5\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n$4\r\nPXAT\r\n$2\r\n-1\r\n"), blockTrailer, one),
		"huge record":   forge(blockHeader, head, blockSystem, system, blockSide, side, blockData, []byte{recordKey, 1, 0xff, 0xff, 0xff, 0xff, 3}, blockTrailer, one),
		"many members":  forge(blockHeader, head, blockSystem, append(system[:len(system)-1:len(system)-1], 0xff, 0xff, 3), blockSide, side, blockTrailer, end),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := readStream(bytes.NewReader(stream), visitor{})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrBadStream) && !errors.Is(err, ErrNewerStream) {
			t.Errorf("%s: %v", name, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
			t.Errorf("%s: %d bytes of memory", name, used)
		}
	}
}

// Property: Export writes nothing but RESP commands, and tells of damage.
func TestExportIsTheCommandsAlone(t *testing.T) {
	stream := sampleStream(t)
	var out bytes.Buffer
	if err := Export(&out, bytes.NewReader(stream)); err != nil {
		t.Fatal(err)
	}
	want := "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n" +
		"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n*5\r\n$3\r\nSET\r\n$1\r\ne\r\n$5\r\nuntil\r\n$4\r\nPXAT\r\n$4\r\n9000\r\n"
	if out.String() != want {
		t.Fatalf("got %q", out.String())
	}
	stream[len(stream)-1] ^= 1
	if err := Export(&out, bytes.NewReader(stream)); !errors.Is(err, ErrBadStream) {
		t.Fatal(err)
	}
	closed, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Export(closed, bytes.NewReader(sampleStream(t))); err == nil {
		t.Fatal("a writer that fails went unnoticed")
	}
}

func FuzzStream(f *testing.F) {
	f.Add(sampleStream(f))
	f.Add(StreamOfLevel(1))
	f.Add(StreamOfLevel(2))
	f.Fuzz(func(t *testing.T, data []byte) {
		err := readStream(bytes.NewReader(data), visitor{})
		if err != nil && !errors.Is(err, ErrBadStream) && !errors.Is(err, ErrNewerStream) {
			t.Fatal(err)
		}
	})
}

// FuzzStreamContents fuzzes what stands under right checksums.
func FuzzStreamContents(f *testing.F) {
	head := encodeStreamHead(streamHead{level: 1, databases: 2})
	f.Add(head, encodeSystem(store.System{}, 1), appendSide(appendSide(nil, 0, store.Side{}), 1, store.Side{Removals: []uint64{0, 5}}),
		append([]byte{recordSelect, 0, 23}, "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"...), encodeTrailer([]uint64{0, 0}, 1))
	f.Fuzz(func(t *testing.T, head, system, side, data, end []byte) {
		stream := forge(blockHeader, head, blockSystem, system, blockSide, side, blockData, data, blockTrailer, end)
		err := readStream(bytes.NewReader(stream), visitor{})
		if err != nil && !errors.Is(err, ErrBadStream) && !errors.Is(err, ErrNewerStream) {
			t.Fatal(err)
		}
	})
}
