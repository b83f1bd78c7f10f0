package node

import (
	"context"
	"errors"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/forward"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// The first words of orders between nodes, and what follows them.
const (
	orderSettings = "settings" // name value…, of replicated directives
	orderRemove   = "remove"   // id
	orderDemote   = "demote"   // id
	orderReplace  = "replace"  // old new
)

// order does as master what another node asks for.
func (n *Node) order(ctx context.Context, words []string) (uint64, error) {
	if !n.roles.Role().Master {
		return 0, errNotMaster
	}
	var err error
	switch kind, args := cutFirst(words); {
	case kind == orderSettings && len(args) > 0 && len(args)%2 == 0:
		err = n.setForAll(ctx, args)
	case kind == orderRemove && len(args) == 1:
		err = membership{n}.Change(ctx, respserver.MemberChange{Kind: respserver.RemoveMember, ID: args[0]})
	case kind == orderDemote && len(args) == 1:
		err = membership{n}.Change(ctx, respserver.MemberChange{Kind: respserver.DemoteMember, ID: args[0]})
	case kind == orderReplace && len(args) == 2:
		err = membership{n}.Change(ctx, respserver.MemberChange{Kind: respserver.ReplaceMember, ID: args[0], With: args[1]})
	default:
		err = errOrder
	}
	_, coded := errors.AsType[resp.Error](err)
	switch {
	case errors.Is(err, errNotMaster):
		return 0, errNotMaster
	case err != nil && !coded:
		return 0, resp.Error("ERR " + err.Error())
	}
	return n.fsm.Answered(), err
}

// errOrder refuses what a node of a later release may ask for.
var errOrder = errors.New("the master's release does not know this order")

func cutFirst(words []string) (string, []string) {
	if len(words) == 0 {
		return "", nil
	}
	return words[0], words[1:]
}

// setForAll changes replicated directives. Every node adopts them from the log.
func (n *Node) setForAll(ctx context.Context, args []string) error {
	var list [][2]string
	for i := 0; i < len(args); i += 2 {
		if !config.IsReplicated(args[i]) {
			return errOrder
		}
		list = append(list, [2]string{args[i], args[i+1]})
	}
	next, err := n.settings.Preview(list)
	if err != nil {
		return err
	}
	err = n.proposer.PutSettings(ctx, replicated(next))
	if errors.Is(err, raftfsm.ErrRefused) {
		return errNotMaster
	}
	return inDoubt(err)
}

// orderMaster has the master do what words say and returns a log index that covers it. It
// asks again only if nothing was done.
func (n *Node) orderMaster(ctx context.Context, words ...string) (index uint64, err error) {
	index, err = n.relay.order(ctx, n.order, words)
	switch {
	case errors.Is(err, forward.ErrRefused):
		return 0, errNotMaster
	case errors.Is(err, forward.ErrUnknown):
		return 0, resp.ErrInDoubt
	}
	return index, err
}
