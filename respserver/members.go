package respserver

import (
	"context"
	"errors"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// Members shows and changes which nodes are in the cluster.
type Members interface {
	// Status are the lines of RAFT STATUS. It is cheap.
	Status() []Pair
	// Members are all nodes of the cluster in the order of ids. It is cheap.
	Members() []MemberState
	// Change makes one change and returns when it is made. The error's text is what
	// the client is told after "ERR ", unless it is a resp.Error; resp.ErrInDoubt is
	// one that may still be made.
	Change(ctx context.Context, c MemberChange) error
	// Transfer hands the leadership over to the node with the given id, or to any if it
	// is empty, and returns when that one is master. Its errors are like those of Change.
	Transfer(ctx context.Context, id string) error
}

// MemberState is one node as the one that is asked sees it.
type MemberState struct {
	ID, Addr string // of its raft port
	Role     string // leader, voter, or learner, which follows without a vote
	Self     bool
	Contact  bool   // it answers, or is the node that is asked
	Age      int64  // ms since its last answer
	Applied  uint64 // index its state had reached then
	Acked    uint64 // index up to which it has acknowledged the leader's log; 0 if a follower is asked
}

// ChangeKind is what a change of the membership does.
type ChangeKind int

// The kinds of changes.
const (
	AddMember     ChangeKind = iota + 1 // ID at Addr, without a vote until it has caught up
	RemoveMember                        // ID
	ReplaceMember                       // ID by With
	DemoteMember                        // ID follows without a vote
	PromoteMember                       // ID gets a vote
)

// MemberChange is one change of the membership.
type MemberChange struct {
	Kind ChangeKind
	ID   string
	Addr string // host:port of the raft port of an added node
	With string // the node that takes the place of ID
}

// memberSpecs are the subcommands of RAFT about the nodes.
func memberSpecs() []*command.Spec {
	sub := func(name string, arity int, syntax, summary string, do body) *command.Spec {
		s := said(serverSpec(name, arity, flagsAdmin|command.FlagNoMulti, "1.0.0", do), syntax, summary)
		s.Newer, s.PerNode = true, true
		return s
	}
	changing := func(kind ChangeKind) body {
		return func(conn command.Conn, args [][]byte) resp.Value { return changeMember(conn, kind, args) }
	}
	snapshot := sub("snapshot", 2, "", "Makes a snapshot and cuts the log behind it.", save)
	snapshot.Complexity = "O(N) where N is the total number of keys in all databases"
	return []*command.Spec{
		sub("status", 2, "", "Returns this node's part in the cluster.", raftStatus),
		sub("members", 2, "", "Returns the nodes of the cluster.", raftMembers),
		sub("add", 4, "id host:port", "Lets a node with an empty directory into the cluster.", changing(AddMember)),
		sub("remove", 3, "id", "Takes a node out of the cluster for good.", changing(RemoveMember)),
		sub("replace", 4, "old new", "Waits until a new node has a vote and removes an old one.", changing(ReplaceMember)),
		sub("demote", 3, "id", "Takes a node's vote away; it goes on to follow.", changing(DemoteMember)),
		sub("promote", 3, "id", "Gives a node that keeps up a vote.", changing(PromoteMember)),
		sub("transfer", -2, "[id]", "Hands the role of the master over to another node.", raftTransfer),
		snapshot,
	}
}

func raftStatus(conn command.Conn, _ [][]byte) resp.Value {
	members := conn.(*client).srv.cfg.Members
	if members == nil {
		return resp.Err(resp.ErrInternal)
	}
	var pairs []resp.Value
	for _, p := range members.Status() {
		pairs = append(pairs, resp.BulkString(p.Name), resp.BulkString(p.Value))
	}
	return resp.Map(pairs...)
}

func raftMembers(conn command.Conn, _ [][]byte) resp.Value {
	members := conn.(*client).srv.cfg.Members
	if members == nil {
		return resp.Err(resp.ErrInternal)
	}
	var list []resp.Value
	for _, m := range members.Members() {
		list = append(list, resp.Map(
			resp.BulkString("id"), resp.BulkString(m.ID),
			resp.BulkString("addr"), resp.BulkString(m.Addr),
			resp.BulkString("role"), resp.BulkString(m.Role),
			resp.BulkString("self"), resp.BulkString(yesNo(m.Self)),
			resp.BulkString("contact"), resp.BulkString(yesNo(m.Contact)),
			resp.BulkString("last-contact-ms"), resp.Int(m.Age),
			resp.BulkString("applied"), resp.Int(int64(m.Applied)),
			resp.BulkString("acked"), resp.Int(int64(m.Acked)),
		))
	}
	return resp.Array(list...)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// changeMember makes a change.
func changeMember(conn command.Conn, kind ChangeKind, args [][]byte) resp.Value {
	c := conn.(*client)
	if c.srv.cfg.Members == nil {
		return resp.Err(resp.ErrInternal)
	}
	change := MemberChange{Kind: kind, ID: string(args[2])}
	switch kind {
	case AddMember:
		change.Addr = string(args[3])
	case ReplaceMember:
		change.With = string(args[3])
	default:
	}
	c.card.stays.Store(true) // should the master hand over before it is changed itself
	defer c.card.stays.Store(false)
	return c.changed(c.srv.cfg.Members.Change(c.life.ctx, change))
}

// raftTransfer hands over the leadership. The connection is closed behind the reply, as
// all are that the old master serves.
func raftTransfer(conn command.Conn, args [][]byte) resp.Value {
	c := conn.(*client)
	switch {
	case c.srv.cfg.Members == nil:
		return resp.Err(resp.ErrInternal)
	case len(args) > 3:
		return resp.Err(resp.Arity("raft|transfer"))
	}
	id := ""
	if len(args) == 3 {
		id = string(args[2])
	}
	return c.changed(c.srv.cfg.Members.Transfer(c.life.ctx, id))
}

// changed is the reply to a change that ended with err. An unknown outcome ends the
// connection as that of a write does.
func (c *client) changed(err error) resp.Value {
	switch {
	case err == nil:
		return resp.OK
	case errors.Is(err, resp.ErrInDoubt), errors.Is(err, c.life.ctx.Err()):
		c.sess.lost = true
		return errInDoubtReply
	}
	return resp.Err(err)
}
