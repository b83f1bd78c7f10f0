package cluster

import (
	"path/filepath"
	"strings"
	"testing"
)

func mustStable(t *testing.T, path string) *stableStore {
	t.Helper()
	s, err := openStable(path, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read is the vote as raft sees it.
func (s *stableStore) read(t *testing.T) (term uint64, candidate string) {
	t.Helper()
	term, err := s.GetUint64([]byte(keyVoteTerm))
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Get([]byte(keyVoteCandidate))
	if err != nil {
		t.Fatal(err)
	}
	return term, string(c)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A crash between the two steps in which raft stores a vote leaves the old vote
// whole: never the new term with the old candidate.
func TestVoteIsStoredWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stable.db")
	s := mustStable(t, path)
	must(t, s.SetUint64([]byte(keyTerm), 5))
	must(t, s.SetUint64([]byte(keyVoteTerm), 4))
	must(t, s.Set([]byte(keyVoteCandidate), []byte("n1")))
	must(t, s.SetUint64([]byte(keyVoteTerm), 5)) // and then the crash
	must(t, s.Close())

	s = mustStable(t, path)
	if term, cand := s.read(t); term != 4 || cand != "n1" {
		t.Fatalf("vote is %d for %q, want the old one", term, cand)
	}
	must(t, s.SetUint64([]byte(keyVoteTerm), 5))
	must(t, s.Set([]byte(keyVoteCandidate), []byte("n2")))
	if term, cand := s.read(t); term != 5 || cand != "n2" {
		t.Errorf("vote is %d for %q", term, cand)
	}
	must(t, s.Close())
	s = mustStable(t, path)
	defer s.Close()
	if term, cand := s.read(t); term != 5 || cand != "n2" {
		t.Errorf("after reopening the vote is %d for %q", term, cand)
	}
}

// The current term is on disk when SetUint64 returns, votes or not.
func TestCurrentTermIsDurableAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stable.db")
	s := mustStable(t, path)
	must(t, s.SetUint64([]byte(keyTerm), 41))
	must(t, s.Close())
	s = mustStable(t, path)
	defer s.Close()
	if term, err := s.GetUint64([]byte(keyTerm)); err != nil || term != 41 {
		t.Errorf("term %d, %v", term, err)
	}
}

// A vote ahead of the term cannot have come about: the node refuses to start on it.
func TestVoteAheadOfTermRefusesToOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stable.db")
	s := mustStable(t, path)
	must(t, s.SetUint64([]byte(keyTerm), 3))
	must(t, s.SetUint64([]byte(keyVoteTerm), 9))
	must(t, s.Set([]byte(keyVoteCandidate), []byte("n1")))
	must(t, s.Close())
	if _, err := openStable(path, func(error) {}); err == nil || !strings.Contains(err.Error(), "term") {
		t.Errorf("got %v", err)
	}
}

// Other keys are kept, absent ones read as raft wants them.
func TestStableStoreKeepsOtherKeys(t *testing.T) {
	s := mustStable(t, filepath.Join(t.TempDir(), "stable.db"))
	defer s.Close()
	must(t, s.Set([]byte("a"), []byte("b")))
	must(t, s.SetUint64([]byte("n"), 8))
	if v, err := s.Get([]byte("a")); err != nil || string(v) != "b" {
		t.Errorf("a is %q, %v", v, err)
	}
	if v, err := s.GetUint64([]byte("n")); err != nil || v != 8 {
		t.Errorf("n is %d, %v", v, err)
	}
	if v, err := s.Get([]byte("none")); err != nil || len(v) != 0 {
		t.Errorf("none is %q, %v", v, err)
	}
	if v, err := s.GetUint64([]byte("none")); err != nil || v != 0 {
		t.Errorf("none is %d, %v", v, err)
	}
	if term, cand := s.read(t); term != 0 || cand != "" {
		t.Errorf("vote is %d for %q", term, cand)
	}
}

// A failed write of the term stops the node, and ends the goroutine of raft that
// would panic otherwise.
func TestFailedTermStopsTheNode(t *testing.T) {
	var failed error
	s, err := openStable(filepath.Join(t.TempDir(), "stable.db"), func(err error) { failed = err })
	must(t, err)
	must(t, s.Close()) // every write fails from here on
	s.running.Store(true)
	returned, ended := false, make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.SetUint64([]byte(keyTerm), 2)
		returned = true
	}()
	<-ended
	if returned || failed == nil {
		t.Errorf("returned %v, failed with %v", returned, failed)
	}
	if err := s.Set([]byte(keyVoteCandidate), []byte("n1")); err == nil {
		t.Error("a failed vote is no error")
	}
}

// P1: after one write that failed none succeeds, although the disk seems to be well
// again: nobody knows what it holds.
func TestNothingIsStoredAfterAFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stable.db")
	s := mustStable(t, path)
	must(t, s.SetUint64([]byte(keyTerm), 2))
	must(t, s.Close())
	if s.SetUint64([]byte(keyTerm), 3) == nil {
		t.Fatal("a write to a closed file succeeded")
	}
	back, err := openBolt(path)
	must(t, err)
	s.back = back
	defer s.Close()
	must(t, s.SetUint64([]byte(keyVoteTerm), 2)) // is only remembered
	if s.Set([]byte(keyVoteCandidate), []byte("n1")) == nil || s.SetUint64([]byte(keyTerm), 3) == nil || s.Set([]byte("a"), []byte("b")) == nil {
		t.Error("a write succeeded after a failure")
	}
	if term, cand := s.read(t); term != 0 || cand != "" {
		t.Errorf("vote is %d for %q", term, cand)
	}
}
