package raftfsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"testing"

	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/store"
)

// block is one block of a stream.
type block struct {
	kind    byte
	sum     uint32 // as written
	payload []byte
}

// magicSize is what comes before the first block.
const magicSize = len(streamMagic) + 1

// blocksOf cuts a sound stream into its blocks.
func blocksOf(stream []byte) (list []block) {
	for rest := stream[magicSize:]; len(rest) > 0; {
		n := binary.LittleEndian.Uint32(rest[1:])
		list = append(list, block{rest[0], binary.LittleEndian.Uint32(rest[5:]), rest[blockHead : blockHead+n]})
		rest = rest[blockHead+n:]
	}
	return list
}

// joined writes blocks as a stream, with the checksums they have, or, sealed, with
// right ones, as somebody would who wants to deceive.
func joined(list []block, sealed bool) []byte {
	out := append([]byte(streamMagic), streamFormat)
	for place, b := range list {
		head := make([]byte, blockHead)
		head[0] = b.kind
		binary.LittleEndian.PutUint32(head[1:], uint32(len(b.payload)))
		sum := b.sum
		if sealed {
			sum = blockSum(head, b.payload, uint64(place))
		}
		binary.LittleEndian.PutUint32(head[5:], sum)
		out = append(append(out, head...), b.payload...)
	}
	return out
}

// manyBlocks is the stream of a state whose keys take several blocks, and the
// state's digest. Some records end with their block.
func manyBlocks(t *testing.T) ([]byte, uint64) {
	t.Helper()
	st := store.New(2)
	for i := range 12 {
		st.Update(5000, 1, func(tx *store.Tx) {
			tx.Begin(i % 2)
			tx.Set(fmt.Appendf(nil, "key %d", i), store.StringValue(bytes.Repeat([]byte{byte(i)}, 300_000+i)), int64(i%3)*9000)
		})
	}
	var buf bytes.Buffer
	f := st.Freeze()
	defer f.Release()
	if _, err := writeStream(&buf, streamHead{index: 9, term: 2, level: 1, clock: 5000, databases: 2}, f); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes(), f.Digest()
}

// restored is what becomes of a stream: the digest of the state, or an error that
// left the state as it was.
func restored(t *testing.T, stream []byte) (uint64, error) {
	t.Helper()
	st := store.New(2)
	before := st.Digest()
	f := New(Config{Store: st, Lookup: Lookup, Clock: &clock.Fake{}, Log: slog.New(slog.DiscardHandler)})
	err := f.Restore(io.NopCloser(bytes.NewReader(stream)))
	if err != nil && (st.Digest() != before || f.Applied() != 0) {
		t.Fatalf("a refused stream has changed the state: %v", err)
	}
	return st.Digest(), err
}

// Property: P6. No block can be lost, doubled, moved, cut or renamed unseen, although
// each of those that are left has its right checksum.
func TestBlocksKeepTheirPlaces(t *testing.T) {
	stream, digest := manyBlocks(t)
	list := blocksOf(stream)
	if len(list) < 7 {
		t.Fatalf("only %d blocks", len(list))
	}
	if got, err := restored(t, joined(list, false)); err != nil || got != digest {
		t.Fatalf("the sound one: %x, %v", got, err)
	}
	refuse := func(what string, damaged []block) {
		t.Helper()
		if _, err := restored(t, joined(damaged, false)); !errors.Is(err, ErrBadStream) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := range list {
		refuse(fmt.Sprint("without block ", i), slices.Delete(slices.Clone(list), i, i+1))
		refuse(fmt.Sprint("block twice: ", i), slices.Insert(slices.Clone(list), i, list[i]))
		refuse(fmt.Sprint("ends before block ", i), list[:i])
		if i > 0 {
			swapped := slices.Clone(list)
			swapped[i-1], swapped[i] = swapped[i], swapped[i-1]
			refuse(fmt.Sprint("swapped with the one before: ", i), swapped)
		}
		for _, kind := range []byte{blockHeader, blockSystem, blockSide, blockData, blockTrailer, 0} {
			if kind != list[i].kind {
				renamed := slices.Clone(list)
				renamed[i].kind = kind
				refuse(fmt.Sprintf("block %d as %c", i, kind), renamed)
			}
		}
	}
}

// Property: P6. Whoever can make checksums cannot make a wrong state of the right
// blocks: what is restored has the digest of the original, or nothing is restored.
func TestSealedDamageGivesTheStateOrNone(t *testing.T) {
	stream, digest := manyBlocks(t)
	list := blocksOf(stream)
	same := 0
	try := func(what string, damaged []block) {
		t.Helper()
		switch got, err := restored(t, joined(damaged, true)); {
		case err == nil && got == digest:
			same++
		case err == nil:
			t.Errorf("%s: a state with another digest was taken", what)
		case !errors.Is(err, ErrBadStream) && !errors.Is(err, ErrNewerStream):
			t.Errorf("%s: %v", what, err)
		}
	}
	try("nothing", list)
	if same != 1 {
		t.Fatal("the sound one was refused")
	}
	for i := range list {
		payload := list[i].payload
		try(fmt.Sprint("without block ", i), slices.Delete(slices.Clone(list), i, i+1))
		try(fmt.Sprint("block twice: ", i), slices.Insert(slices.Clone(list), i, list[i]))
		for _, other := range [][]byte{
			payload[1:], payload[:len(payload)-1], append(bytes.Clone(payload), 0), append([]byte{0}, payload...), payload[:1],
			bytes.Repeat([]byte{0xff}, min(len(payload), 1000)), make([]byte, min(len(payload), 1000)),
		} {
			changed := slices.Clone(list)
			changed[i].payload = other
			try(fmt.Sprintf("block %d with %d of %d bytes", i, len(other), len(payload)), changed)
		}
		for at := 0; at < len(payload); at += 1 + len(payload)/10 {
			changed := slices.Clone(list)
			changed[i].payload = bytes.Clone(payload)
			changed[i].payload[at] ^= 0x41
			try(fmt.Sprintf("byte %d of block %d", at, i), changed)
		}
	}
	// Only how the bytes are cut into blocks may differ without anybody minding.
	halved := slices.Clone(list)
	for i := len(halved) - 1; i >= 0; i-- {
		if b := halved[i]; b.kind == blockData {
			halved[i].payload = b.payload[:len(b.payload)/2]
			halved = slices.Insert(halved, i+1, block{kind: b.kind, payload: b.payload[len(b.payload)/2:]})
		}
	}
	before := same
	try("in other cuts", halved)
	if same != before+1 {
		t.Error("the same bytes in smaller blocks were refused")
	}
}

// Property: P7. A length that no block has is refused before anything is read or
// any memory is given to it.
func TestImpossibleBlockLengthsAreRefused(t *testing.T) {
	stream := sampleStream(t)
	for _, length := range []uint32{0, maxPayload + 1, 1 << 31, 1<<32 - 1} {
		damaged := bytes.Clone(stream)
		binary.LittleEndian.PutUint32(damaged[magicSize+1:], length)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := bytes.NewReader(damaged)
		if _, err := openStream(r); !errors.Is(err, ErrBadStream) {
			t.Fatalf("length %d: %v", length, err)
		}
		if read := len(damaged) - r.Len(); read > magicSize+blockHead {
			t.Fatalf("length %d: %d bytes were read", length, read)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > maxPayload/2 { // of everything that runs
			t.Errorf("length %d: %d bytes were allocated", length, got)
		}
	}
}
