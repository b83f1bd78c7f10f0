package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// stableStore keeps raft's term and vote. raft writes a vote in two steps, and a
// crash between them would leave a vote for the new term with the candidate of the
// old one; here the first step is only remembered and the second writes both under
// one key. The current term has a key of its own and is durable when SetUint64
// returns.
type stableStore struct {
	back    *raftboltdb.BoltStore
	fail    func(error)
	mayVote func(vote) error // tells why a vote must not be given; nil if nothing speaks against any
	running atomic.Bool      // raft's goroutines have started, or are about to
	failed  atomic.Bool      // a write has; none is made any more

	mu struct {
		sync.Mutex
		term   uint64 // as stored
		vote   vote   // as stored
		staged uint64 // the term of the vote to come
	}
}

// Keys of raft, and the one that votes are kept under.
const (
	keyTerm          = "CurrentTerm"
	keyVoteTerm      = "LastVoteTerm"
	keyVoteCandidate = "LastVoteCand"
	keyVote          = "Vote"
)

type vote struct {
	term      uint64
	candidate string
}

var _ raft.StableStore = (*stableStore)(nil)

// openStable opens the store and refuses one in which a vote is ahead of the term:
// a vote is only cast in a term that was stored before.
func openStable(path string, fail func(error)) (*stableStore, error) {
	back, err := openBolt(path)
	if err != nil {
		return nil, err
	}
	s := &stableStore{back: back, fail: fail}
	if err := s.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), back.Close())
	}
	return s, nil
}

func (s *stableStore) load() error {
	term, err := s.back.GetUint64([]byte(keyTerm))
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	raw, err := s.back.Get([]byte(keyVote))
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.term = term
	if len(raw) > 0 {
		f := fields{rest: raw}
		s.mu.vote = vote{term: f.uint64(), candidate: string(f.rest)}
		if f.bad {
			return errors.New("the stored vote is damaged")
		}
	}
	s.mu.staged = s.mu.vote.term
	if s.mu.vote.term > term {
		return fmt.Errorf("there is a vote for term %d, but the current term is %d: this is not the state this node left", s.mu.vote.term, term)
	}
	return nil
}

func appendVote(v vote) []byte {
	return append(binary.BigEndian.AppendUint64(nil, v.term), v.candidate...)
}

// Set stores a value. The candidate of a vote is stored together with its term, unless the
// vote must not be given: that is an error and nothing else.
func (s *stableStore) Set(k, val []byte) error {
	if string(k) != keyVoteCandidate {
		return s.write(func() error { return s.back.Set(k, val) })
	}
	v := vote{s.stagedTerm(), string(val)}
	if s.mayVote != nil {
		if err := s.mayVote(v); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.write(func() error { return s.back.Set([]byte(keyVote), appendVote(v)) }); err != nil {
		return err
	}
	s.mu.vote = v
	return nil
}

// stagedTerm is the term of the vote to come. raft stores both parts of a vote from one
// goroutine.
func (s *stableStore) stagedTerm() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.staged
}

// Get reads a value, empty if there is none.
func (s *stableStore) Get(k []byte) ([]byte, error) {
	if string(k) == keyVoteCandidate {
		s.mu.Lock()
		defer s.mu.Unlock()
		return []byte(s.mu.vote.candidate), nil
	}
	val, err := s.back.Get(k)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return nil, nil
	}
	return val, err
}

// SetUint64 stores a number. The term of a vote is kept until its candidate comes.
// A current term that is stored already is not stored again.
func (s *stableStore) SetUint64(k []byte, val uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch string(k) {
	case keyVoteTerm:
		s.mu.staged = val
		return nil
	case keyTerm:
		return s.setTerm(val)
	}
	return s.write(func() error { return s.back.SetUint64(k, val) })
}

// setTerm stores the current term. raft panics if that fails; its goroutine ends
// here instead, and the node stops with the error.
func (s *stableStore) setTerm(val uint64) error {
	if val == s.mu.term {
		return nil
	}
	if err := s.write(func() error { return s.back.SetUint64([]byte(keyTerm), val) }); err != nil {
		if s.running.Load() {
			runtime.Goexit() // the deferred calls, ours and raft's, are run
		}
		return err
	}
	s.mu.term = val
	return nil
}

// GetUint64 reads a number, 0 if there is none.
func (s *stableStore) GetUint64(k []byte) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch string(k) {
	case keyVoteTerm:
		return s.mu.vote.term, nil
	case keyTerm:
		return s.mu.term, nil
	}
	val, err := s.back.GetUint64(k)
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil
	}
	return val, err
}

// errBroken is why nothing is stored any more.
var errBroken = errors.New("an earlier write has failed")

// write does one write. The first that fails makes the node stop and is the last one:
// after it nobody knows what the disk holds, and the next fsync may not tell.
func (s *stableStore) write(do func() error) error {
	err := errBroken
	if !s.failed.Load() {
		err = do()
	}
	if err != nil {
		s.failed.Store(true)
		err = fmt.Errorf("store term or vote: %w", err)
		s.fail(err)
	}
	return err
}

// Close closes the file.
func (s *stableStore) Close() error { return s.back.Close() }
