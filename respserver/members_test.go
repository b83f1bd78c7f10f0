package respserver_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// fakeMembers is a membership that takes every change down and ends it as it is told.
type fakeMembers struct {
	mu        sync.Mutex
	changes   []respserver.MemberChange
	transfers []string
	err       error
}

func (f *fakeMembers) Status() []respserver.Pair {
	return []respserver.Pair{{Name: "node", Value: "n1"}, {Name: "term", Value: "7"}}
}

func (f *fakeMembers) Members() []respserver.MemberState {
	return []respserver.MemberState{
		{ID: "n1", Addr: "h:1", Role: "leader", Self: true, Contact: true, Applied: 9},
		{ID: "n2", Addr: "h:2", Role: "learner", Age: 1500, Applied: 8, Acked: 7},
	}
}

func (f *fakeMembers) Change(_ context.Context, c respserver.MemberChange) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes = append(f.changes, c)
	return f.err
}

func (f *fakeMembers) Transfer(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.transfers = append(f.transfers, id)
	return f.err
}

func (f *fakeMembers) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// RAFT shows what the node knows and hands each change over as it was asked for; what
// the node says about one that it does not make is told after ERR.
func TestRaftShowsAndChangesMembers(t *testing.T) {
	f := &fakeMembers{}
	p := start(t, func(c *respserver.Config) { c.Members = f }).dial(t)
	p.want("RAFT STATUS", "[node n1 term 7]")
	p.want("RAFT MEMBERS", "[[id n1 addr h:1 role leader self yes contact yes last-contact-ms :0 applied :9 acked :0] "+
		"[id n2 addr h:2 role learner self no contact no last-contact-ms :1500 applied :8 acked :7]]")
	for _, line := range []string{"RAFT ADD n4 h:4", "RAFT REMOVE n1", "RAFT REPLACE n1 n4", "RAFT DEMOTE n2", "RAFT PROMOTE n2"} {
		p.want(line, "OK")
	}
	want := []respserver.MemberChange{
		{Kind: respserver.AddMember, ID: "n4", Addr: "h:4"},
		{Kind: respserver.RemoveMember, ID: "n1"},
		{Kind: respserver.ReplaceMember, ID: "n1", With: "n4"},
		{Kind: respserver.DemoteMember, ID: "n2"},
		{Kind: respserver.PromoteMember, ID: "n2"},
	}
	if !slices.Equal(f.changes, want) {
		t.Errorf("changes: %+v", f.changes)
	}
	p.want("RAFT TRANSFER", "OK")
	p.want("RAFT TRANSFER n2", "OK")
	if !slices.Equal(f.transfers, []string{"", "n2"}) {
		t.Errorf("transfers: %q", f.transfers)
	}
	f.end(errors.New("n9 is no member"))
	p.want("RAFT TRANSFER n9", "!ERR n9 is no member")
	p.want("RAFT TRANSFER n2 n9", "!"+resp.Arity("raft|transfer").Error())
	p.want("RAFT REMOVE n9", "!ERR n9 is no member")
	p.want("RAFT SNAPSHOT", "OK")
}

// P5: a change that may still be made is answered as a write whose outcome is unknown,
// and ends the connection.
func TestUnknownChangeIsInDoubt(t *testing.T) {
	f := &fakeMembers{err: resp.ErrInDoubt}
	p := start(t, func(c *respserver.Config) { c.Members = f }).dial(t)
	p.want("RAFT REMOVE n2", "!"+resp.ErrInDoubt.Error())
	p.wantClosed()
}
