package cluster

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// P2: no vote is given within an election timeout of the last contact with a leader, nor of
// the start of the process, or for as long as an earlier process may have pledged itself.
func TestPledgeForbidsVotes(t *testing.T) {
	const election = 100 * ms
	for name, c := range map[string]struct {
		first, now, silent time.Duration
		want               bool
	}{
		"long silence, long after the start": {election, time.Second, time.Hour, false},
		"contact within the timeout":         {election, time.Hour, 99 * ms, true},
		"contact a timeout ago":              {election, time.Hour, election, false},
		"just started":                       {election, 99 * ms, time.Hour, true},
		"started a timeout ago":              {election, election, time.Hour, false},
		"a longer timeout before":            {time.Second, 999 * ms, time.Hour, true},
		"a longer timeout before, over":      {time.Second, time.Second, time.Hour, false},
	} {
		p := &pledge{opened: time.Minute}
		p.mu.first = c.first
		if got := p.forbids(time.Minute+c.now, c.silent, election); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// P2: a handover sets the pledge aside for the term that follows the one whose leader has
// given up its lease, and for the candidate who asks in its name; for nothing else.
func TestHandoverSetsPledgeAsideForOneTermOnly(t *testing.T) {
	p := &pledge{}
	if p.setAside(vote{1, "n1"}, "n2") || p.stands(2) {
		t.Error("set aside for nothing")
	}
	p.heard(7)
	p.heard(5) // was delayed on the way
	for term, want := range map[uint64]bool{6: false, 7: false, 8: true, 9: false} {
		if p.setAside(vote{term, "n1"}, "n1") != want || p.stands(term) != want {
			t.Errorf("own vote in term %d: %v", term, !want)
		}
		if p.setAside(vote{term, "n2"}, "n1") {
			t.Errorf("a vote for another in term %d", term)
		}
	}
	p.asked(&raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{Addr: []byte("n3")}, Term: 8})
	if p.setAside(vote{8, "n3"}, "n1") {
		t.Error("set aside for an ordinary election")
	}
	p.asked(&raft.RequestVoteRequest{RPCHeader: raft.RPCHeader{Addr: []byte("n3")}, Term: 8, LeadershipTransfer: true})
	for v, want := range map[vote]bool{{8, "n3"}: true, {9, "n3"}: false, {8, "n4"}: false, {8, "n2"}: false} {
		if p.setAside(v, "n1") != want {
			t.Errorf("vote %v: %v", v, !want)
		}
	}
	p.asked(&raft.RequestVoteRequest{Candidate: []byte("n4"), Term: 9, LeadershipTransfer: true}) //nolint:staticcheck // as raft takes it
	if !p.setAside(vote{9, "n4"}, "n1") {
		t.Error("a candidate without address")
	}
}

// A vote that is withheld is not stored, is no failure of the disk, and can be given later.
func TestWithheldVoteIsNotStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "stable.db")
	s, err := openStable(path, func(err error) { t.Errorf("the node stops: %v", err) })
	must(t, err)
	defer s.Close()
	var asked []vote
	withhold := true
	s.mayVote = func(v vote) error {
		asked = append(asked, v)
		if withhold {
			return errPledged
		}
		return nil
	}
	must(t, s.SetUint64([]byte(keyTerm), 5))
	must(t, s.SetUint64([]byte(keyVoteTerm), 5))
	if err := s.Set([]byte(keyVoteCandidate), []byte("n2")); !errors.Is(err, errPledged) {
		t.Errorf("got %v", err)
	}
	if term, cand := s.read(t); term != 0 || cand != "" {
		t.Errorf("the vote is %d for %q", term, cand)
	}
	withhold = false
	must(t, s.SetUint64([]byte(keyVoteTerm), 6))
	must(t, s.Set([]byte(keyVoteCandidate), []byte("n3")))
	if term, cand := s.read(t); term != 6 || cand != "n3" {
		t.Errorf("the vote is %d for %q", term, cand)
	}
	if len(asked) != 2 || asked[0] != (vote{5, "n2"}) || asked[1] != (vote{6, "n3"}) {
		t.Errorf("asked for %v", asked)
	}
}

// reopened opens a node of three with an election timeout, and closes it again after f.
func reopened(t *testing.T, dir string, election time.Duration, f func(n *Node)) {
	t.Helper()
	n, err := Open(Config{
		NodeID: "n1", Dir: dir, Bind: "127.0.0.1:0", Secret: "s", ElectionTimeout: election,
		Peers: []Peer{{"n1", "127.0.0.1:1"}, {"n2", "127.0.0.1:2"}, {"n3", "127.0.0.1:3"}},
		FSM:   &raft.MockFSM{}, Source: still{},
	})
	must(t, err)
	f(n)
	must(t, n.Close())
}

// P2: a shorter election timeout than before counts from the first vote on, however often
// the node is started before that; a longer one at once.
func TestNewElectionTimeoutDoesNotShortenPledges(t *testing.T) {
	dir := t.TempDir()
	first := func(want time.Duration) func(n *Node) {
		return func(n *Node) {
			t.Helper()
			if got := n.pledge.mu.first; got != want {
				t.Errorf("no vote for %v, want %v", got, want)
			}
		}
	}
	reopened(t, dir, 300*ms, first(300*ms))
	reopened(t, dir, 2*time.Second, first(2*time.Second))
	reopened(t, dir, 100*ms, first(2*time.Second))
	reopened(t, dir, 100*ms, func(n *Node) {
		first(2 * time.Second)(n)
		if !n.pledge.forgets(n.cfg.ElectionTimeout) || n.pledge.forgets(n.cfg.ElectionTimeout) {
			t.Error("the longer time is not forgotten once")
		}
		must(t, n.stable.SetUint64([]byte(keyElection), 100)) // as mayVote does
	})
	reopened(t, dir, 100*ms, first(100*ms))
}

// P2: the time without votes counts from when the directory was taken: until then an
// earlier process may have heard from a leader.
func TestPledgeCountsFromTakingTheDirectory(t *testing.T) {
	reopened(t, t.TempDir(), 100*ms, func(n *Node) {
		n.pledge.opened = 0 // as if taking it had lasted since then
		before := clock.Mono()
		must(t, n.recall())
		if n.pledge.opened < before || !n.pledge.forbids(before+99*ms, time.Hour, 100*ms) {
			t.Errorf("counted from %v, the directory was taken at %v", n.pledge.opened, before)
		}
	})
}

// P8: a master of a release without leases has none to give up, and tells nobody so: a
// node it hands over to may stand, and mark its requests for votes. One that keeps
// leases has to say that it has given its lease up.
func TestMasterWithoutLeasesNeedNotGiveItUp(t *testing.T) {
	for name, c := range map[string]struct {
		said report
		want bool
	}{
		"master of an earlier release":  {report{term: 7, master: true}, true},
		"master":                        {report{term: 7, master: true, more: addition{keeps: true}}, false},
		"replica of an earlier release": {report{term: 7}, false},
	} {
		n, _ := viewer(t)
		l := n.peer("n2").link
		l.ping(n.cfg.Clock.Boot())
		l.told(&session{}, l.mu.nonce, &c.said)
		for term, want := range map[uint64]bool{7: false, 8: c.want, 9: false} {
			if n.pledge.stands(term) != want || n.pledge.setAside(vote{term, "n1"}, "n1") != want {
				t.Errorf("%s: may stand in term %d: %v", name, term, !want)
			}
		}
	}
}

// Before raft runs no vote is given.
func TestNoVoteBeforeRaftRuns(t *testing.T) {
	n, _ := viewer(t)
	n.pledge.opened -= time.Hour
	if err := n.mayVote(vote{3, "n2"}); !errors.Is(err, errPledged) {
		t.Errorf("got %v", err)
	}
	if n.Stats().Lease.Withheld != 1 {
		t.Error("not counted")
	}
}

// P7: bytes that are no term end the connection and change nothing.
func TestMalformedYieldIsIgnored(t *testing.T) {
	n, _ := viewer(t)
	for name, sent := range map[string][]byte{
		"nothing": nil, "short": {0, 3, 0, 0, 9}, "long": append([]byte{0, 9}, make([]byte, 9)...), "empty": {0, 0}, "cut off": {0, 8, 1, 2},
	} {
		near, far := net.Pipe()
		go func() {
			_, _ = near.Write(sent)
			_ = near.Close()
		}()
		n.serveYield(&session{Conn: far, said: hello{from: "n2"}})
		if n.pledge.mu.yielded != 0 {
			t.Errorf("%s: heard of term %d", name, n.pledge.mu.yielded)
		}
	}
	near, far := net.Pipe()
	got := make(chan []byte, 1)
	go func() {
		_ = writeFrame(near, []byte{0, 0, 0, 0, 0, 0, 0, 7})
		answer, _ := io.ReadAll(near)
		got <- answer
	}()
	n.serveYield(&session{Conn: far, said: hello{from: "n2"}})
	if answer := <-got; n.pledge.mu.yielded != 7 || !bytes.Equal(answer, []byte{0, 1, 1}) {
		t.Errorf("term %d, answer %x", n.pledge.mu.yielded, answer)
	}
}
