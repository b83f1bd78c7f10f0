package respserver

import (
	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
)

// Digests tells how this node's state compares with that of the others.
type Digests interface {
	// Digests is the last comparison. It is cheap.
	Digests() DigestStatus
}

// DigestStatus is the comparison of the nodes' states at one index of the log.
type DigestStatus struct {
	Index   uint64 // of this node's last checkpoint, 0 before the first
	Verdict string // one of those below
	Agreed  uint64 // the last index at which most nodes agreed with this one
	// Nodes are the digests at Index: this node's first, then those of the others
	// that are known.
	Nodes []NodeDigest
}

// NodeDigest is the digest of one node, 16 hex digits each: computed from its
// contents, and as it has kept it up to date.
type NodeDigest struct {
	ID, Found, Kept string
}

// What a comparison can say.
const (
	VerdictNone    = "none"    // there was no checkpoint yet
	VerdictWaiting = "waiting" // too few nodes have told theirs
	VerdictAgree   = "agree"   // most nodes have this node's digest, and nobody another one
	VerdictDiffer  = "differ"  // somebody has another one
)

// raftSpec is the container of the commands about the cluster.
func raftSpec() *command.Spec {
	digest := said(serverSpec("digest", 2, flagsAdmin, "1.0.0", raftDigest), "", "Compares the states of the nodes at the last checkpoint.")
	digest.PerNode, digest.Newer = true, true
	raft := &command.Spec{
		Name: "raft", Arity: -2, Group: "server", Since: "1.0.0", Complexity: "Depends on subcommand.",
		Summary: "Holds the commands about the cluster.", Newer: true, Sub: append(memberSpecs(), digest),
	}
	help := helpSpec(raft, "1.0.0")
	help.Newer = true
	raft.Sub = append(raft.Sub, help)
	return raft
}

// raftDigest answers with the last comparison.
func raftDigest(conn command.Conn, _ [][]byte) resp.Value {
	d := conn.(*client).srv.cfg.Digests
	if d == nil {
		return resp.Err(resp.ErrInternal)
	}
	s := d.Digests()
	nodes := make([]resp.Value, len(s.Nodes))
	for i, n := range s.Nodes {
		nodes[i] = resp.Map(
			resp.BulkString("id"), resp.BulkString(n.ID),
			resp.BulkString("digest"), resp.BulkString(n.Found),
			resp.BulkString("kept"), resp.BulkString(n.Kept),
		)
	}
	return resp.Map(
		resp.BulkString("index"), resp.Int(int64(s.Index)),
		resp.BulkString("verdict"), resp.BulkString(s.Verdict),
		resp.BulkString("agreed-index"), resp.Int(int64(s.Agreed)),
		resp.BulkString("nodes"), resp.Array(nodes...),
	)
}
