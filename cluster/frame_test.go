package cluster

import (
	"bufio"
	"bytes"
	"slices"
	"testing"
	"time"
)

// Frames come back as they were sent, and nothing longer than a frame may be is
// written or read.
func TestFramesAreBounded(t *testing.T) {
	var b bytes.Buffer
	if err := writeFrame(&b, []byte("body")); err != nil {
		t.Fatal(err)
	}
	got, err := readFrame(&b, make([]byte, maxFrame))
	if err != nil || string(got) != "body" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := writeFrame(&b, make([]byte, maxFrame+1)); err == nil {
		t.Error("a frame over the limit was written")
	}
	if _, err := readFrame(bytes.NewReader([]byte{0xff, 0xff, 1, 2}), make([]byte, maxFrame)); err == nil {
		t.Error("a frame over the limit was read")
	}
	if _, err := readFrame(bytes.NewReader([]byte{0, 0}), make([]byte, maxFrame)); err == nil {
		t.Error("an empty frame was read")
	}
}

// Reports of nodes come back as they were sent, ages rounded up to the next ms so
// that they never look younger.
func TestReportsComeBack(t *testing.T) {
	for _, r := range []report{
		{term: 8, low: true, election: time.Second},
		{term: 7, election: time.Second, applied: 9, instant: -5, hash: 11},
		{term: 1 << 60, master: true, age: 1500 * time.Microsecond, election: 250 * time.Millisecond, info: []byte("record"), hash: 1},
	} {
		got, err := readReport(bufio.NewReader(bytes.NewReader(r.append(nil))))
		if err != nil {
			t.Fatal(err)
		}
		if got.age < r.age || got.age > r.age+time.Millisecond {
			t.Errorf("age %v became %v", r.age, got.age)
		}
		got.age = r.age
		if got.term != r.term || got.master != r.master || got.low != r.low || got.applied != r.applied || got.instant != r.instant ||
			got.election != r.election || got.hash != r.hash || !bytes.Equal(got.info, r.info) {
			t.Errorf("%+v became %+v", r, got)
		}
	}
}

// Additions to reports come back as they were sent. What a later release adds at the
// end is skipped, one that is cut off is refused, and a clock beyond reason is none.
func TestAdditionsComeBack(t *testing.T) {
	read := func(b []byte) (addition, int, error) {
		rd := bufio.NewReader(bytes.NewReader(b))
		a, err := readAddition(rd)
		return a, rd.Buffered(), err
	}
	for _, a := range []addition{{}, {wall: 1_800_000_000_000}, {wall: latestWall, timed: true}} {
		if got, rest, err := read(a.append(nil)); got != a || rest != 0 || err != nil {
			t.Errorf("%+v became %+v, %d bytes left, %v", a, got, rest, err)
		}
	}
	a := addition{wall: 5, timed: true}
	later := append(a.append(nil), 1, 2, 3)
	later[0] += 3
	if got, rest, err := read(append(later, 'p')); got != a || rest != 1 || err != nil {
		t.Errorf("a longer one became %+v, %d bytes left, %v", got, rest, err)
	}
	for n := range moreLen {
		short := append([]byte{byte(n)}, a.append(nil)[1:]...)
		if _, _, err := read(short); err == nil {
			t.Errorf("one of %d bytes was taken", n)
		}
	}
	for _, wall := range []int64{-1, latestWall + 1, 1<<63 - 1} {
		a := addition{wall: wall, timed: true}
		if got, _, err := read(a.append(nil)); err != nil || got.wall != 0 || !got.timed {
			t.Errorf("a wall clock at %d became %+v, %v", wall, got, err)
		}
	}
}

// Earlier releases know a master by flags of 1: a master never says anything else.
func TestMasterWithLowDiskStaysMasterForEarlierReleases(t *testing.T) {
	r := report{term: 7, master: true, low: true}
	if flags := r.append(nil)[8]; flags != 1 {
		t.Errorf("flags %d", flags)
	}
}

// No bytes of a peer make the reader of reports break or take more than a record may
// be long.
func FuzzReport(f *testing.F) {
	r := report{term: 7, master: true, info: []byte("record")}
	f.Add(r.append(nil))
	f.Add(r.more.append(r.append(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		rd := bufio.NewReader(bytes.NewReader(b))
		got, err := readReport(rd)
		if err == nil && len(got.info) > MaxInfo {
			t.Errorf("a record of %d bytes", len(got.info))
		}
		if err != nil {
			return
		}
		if more, err := readAddition(rd); err == nil && (more.wall < 0 || more.wall > latestWall) {
			t.Errorf("a wall clock at %d", more.wall)
		}
	})
}

// A formation state that can be read says the same when written again.
func FuzzState(f *testing.F) {
	for _, s := range []state{
		{stage: stageEmpty, peers: []Peer{{"n1", "a:1"}, {"n2", "b:1"}}},
		{stage: stageFormed, cluster: "c"},
	} {
		f.Add(s.encode())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			return
		}
		again, err := parseState(s.encode())
		if err != nil || again.stage != s.stage || again.cluster != s.cluster || !slices.Equal(again.peers, s.peers) {
			t.Errorf("%+v became %+v, %v", s, again, err)
		}
	})
}
