package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/internal/clock"
)

// Forming a cluster takes two steps, so that a node that has lost its disk can
// never pass for a new one.
//
//  1. An empty node that hears "empty" or "ready", with its own list of peers, from
//     every listed peer, stores a ready mark: the list and the cluster's id. The node
//     with the smallest id draws that id, the others take it over from a mark.
//  2. A node with a mark writes raft's first configuration once every peer answers
//     "ready" or "formed" with that cluster id.
//
// Nothing can be committed before two nodes have taken the second step, and after
// the first has, no empty node hears "ready" from everyone any more. So an empty
// node that hears "formed" has lost its disk, or was never part: it must not vote
// until it is made a new member (see membership.go).

// state is what nodes tell each other while forming.
type state struct {
	stage   stage
	cluster string
	peers   []Peer // in the order of ids
}

var stageCodes = []stage{stageEmpty, stageReady, stageFormed, stageJoining}

func (s *state) encode() []byte {
	b := []byte{byte(slices.Index(stageCodes, s.stage))}
	b = appendText(b, s.cluster)
	b = append(b, byte(len(s.peers)))
	for _, p := range s.peers {
		b = appendText(appendText(b, p.ID), p.Addr)
	}
	return b
}

// parseState takes the state of another node apart.
func parseState(b []byte) (state, error) {
	f := fields{rest: b}
	code := int(f.byte())
	s := state{cluster: f.text()}
	count := int(f.byte())
	for i := 0; i < count && !f.bad; i++ {
		s.peers = append(s.peers, Peer{ID: f.text(), Addr: f.text()})
	}
	if !f.done() || code >= len(stageCodes) || count > maxNodes || len(s.cluster) > maxCluster {
		return state{}, errFrame
	}
	s.stage = stageCodes[code]
	if (s.stage == stageEmpty) != (s.cluster == "") {
		return state{}, errFrame
	}
	return s, nil
}

// state is this node's.
func (n *Node) state() state {
	id := n.identity.Load()
	return state{id.Stage, id.ClusterID, n.cfg.sortedPeers()}
}

// serveForm answers one question for this node's state.
func (n *Node) serveForm(c *session) {
	defer closeConn(c)
	inTime := limit(c)
	defer inTime()
	if _, err := readFrame(c, make([]byte, maxFrame)); err != nil {
		return
	}
	own := n.state()
	if err := writeFrame(c, own.encode()); err != nil {
		n.log.Debug("formation: cannot answer", "node", c.said.from, "err", err)
	}
}

// askState asks a peer for its state.
func (n *Node) askState(ctx context.Context, p *peer) (state, error) {
	c, err := n.dial(ctx, p, kindForm)
	if err != nil {
		return state{}, err
	}
	defer closeConn(c)
	inTime := limit(c)
	defer inTime()
	own := n.state()
	if err := writeFrame(c, own.encode()); err != nil {
		return state{}, err
	}
	body, err := readFrame(c, make([]byte, maxFrame))
	if err != nil {
		return state{}, err
	}
	return parseState(body)
}

// form returns when this node may open raft: nil, or why it never may.
func (n *Node) form(ctx context.Context) error {
	if !n.identity.Load().entered() && n.cfg.alone() {
		return n.formAlone()
	}
	for !n.identity.Load().entered() {
		if err := n.formOrEnter(ctx); err != nil {
			return err
		}
		if !n.identity.Load().entered() && !sleep(ctx, n.cfg.ElectionTimeout/2) {
			return ctx.Err()
		}
	}
	n.setWaiting("")
	return nil
}

// formOrEnter takes one step toward a cluster, if one can be taken.
func (n *Node) formOrEnter(ctx context.Context) error {
	if len(n.cfg.Join) > 0 {
		return n.enter(ctx, n.cfg.Join, "")
	}
	heard, missing := n.askAll(ctx)
	at, wait := formedPeer(heard)
	if n.identity.Load().Stage != stageEmpty || at == "" {
		return n.step(heard, missing)
	}
	return n.enter(ctx, n.known(), wait)
}

// formedPeer is a node that belongs to a cluster, and what that means for an empty one.
func formedPeer(heard map[string]state) (id, wait string) {
	for _, id := range sortedKeys(heard) {
		if s := heard[id]; s.stage == stageFormed || s.stage == stageJoining {
			return id, fmt.Sprintf("node %s belongs to cluster %s already and this node's data directory is empty: "+
				"it takes no part until the cluster has removed it and taken it in again", id, s.cluster)
		}
	}
	return "", ""
}

// formAlone makes a cluster of one.
func (n *Node) formAlone() error {
	id, err := newClusterID()
	if err != nil {
		return err
	}
	if err := n.advance(stageReady, id); err != nil {
		return err
	}
	return n.bootstrap()
}

// askAll asks every peer at the same time. missing are those without an answer.
func (n *Node) askAll(ctx context.Context) (heard map[string]state, missing []string) {
	others := n.others()
	type answer struct {
		id    string
		state state
		err   error
	}
	answers := make(chan answer, len(others))
	for _, p := range others {
		n.wg.Go(func() {
			s, err := n.askState(ctx, p)
			answers <- answer{p.id, s, err}
		})
	}
	heard = map[string]state{}
	for range others {
		a := <-answers
		if cluster := strangeTo(a.err); cluster != "" {
			heard[a.id] = state{stage: stageFormed, cluster: cluster}
			continue
		}
		if a.err != nil {
			missing = append(missing, a.id)
			continue
		}
		heard[a.id] = a.state
	}
	slices.Sort(missing)
	return heard, missing
}

// strangeTo is the cluster of a node that has refused this empty one because it does
// not know it, "" if that is not why.
func strangeTo(err error) string {
	var r *refusal
	if errors.As(err, &r) && r.verdict == unknownNode && r.proved {
		return r.cluster
	}
	return ""
}

// step does what the answers allow, and says for whom this node waits otherwise.
func (n *Node) step(heard map[string]state, missing []string) error {
	own := n.state()
	next, cluster, wait := decide(&own, n.cfg.NodeID, heard, missing)
	n.setWaiting(wait)
	switch {
	case next == stageReady && cluster == "":
		id, err := newClusterID()
		if err != nil {
			return err
		}
		return n.advance(stageReady, id)
	case next == stageReady:
		return n.advance(stageReady, cluster)
	case next == stageFormed:
		return n.bootstrap()
	}
	return nil
}

// decide is the rule of formation: which stage a node may enter, with which
// cluster id ("" for a new one), or what it waits for.
func decide(own *state, self string, heard map[string]state, missing []string) (next stage, cluster, wait string) {
	if at, wait := formedPeer(heard); at != "" && own.stage == stageEmpty {
		return "", "", wait
	}
	for _, id := range sortedKeys(heard) {
		s := heard[id]
		switch {
		case !slices.Equal(s.peers, own.peers):
			return "", "", fmt.Sprintf("node %s has another list of peers", id)
		case s.stage == stageEmpty:
		case own.stage == stageReady && s.cluster != own.cluster, cluster != "" && s.cluster != cluster:
			return "", "", fmt.Sprintf("node %s is forming another cluster: empty the directories of the nodes that never ran", id)
		default:
			cluster = s.cluster
		}
	}
	if len(missing) > 0 {
		return "", "", "waiting for " + strings.Join(missing, ", ")
	}
	if own.stage == stageEmpty {
		if cluster == "" && self != own.peers[0].ID {
			return "", "", "waiting for " + own.peers[0].ID + " to name the cluster"
		}
		return stageReady, cluster, ""
	}
	for _, id := range sortedKeys(heard) {
		if heard[id].stage == stageEmpty {
			return "", "", "waiting for " + id + " to get ready"
		}
	}
	return stageFormed, own.cluster, ""
}

func sortedKeys(m map[string]state) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// advance stores a new stage.
func (n *Node) advance(s stage, cluster string) error {
	id := *n.identity.Load()
	id.Stage, id.ClusterID, id.Peers = s, cluster, n.cfg.sortedPeers()
	if err := n.dir.writeIdentity(id); err != nil {
		return err
	}
	n.identity.Store(&id)
	n.log.Info("formation", "stage", string(s), "cluster", cluster)
	return nil
}

// bootstrap writes raft's first configuration and enters the last stage. It can be
// repeated after a crash at any point, which raft.BootstrapCluster cannot: that
// refuses when the term is there and the configuration is not.
func (n *Node) bootstrap() error {
	id := n.identity.Load()
	last, err := n.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("look for raft's state: %w", err)
	}
	if last == 0 {
		var c raft.Configuration
		for _, p := range id.Peers {
			c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Addr)})
		}
		first := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(c)}
		if err := n.stable.SetUint64([]byte(keyTerm), first.Term); err != nil {
			return err
		}
		if err := n.logs.StoreLog(first); err != nil {
			return err
		}
	}
	return n.advance(stageFormed, id.ClusterID)
}

// checkList compares the list of peers with the one the cluster was formed of. Nodes
// are not taken in or left out by changing the list; a cluster of one that seems to be
// one of several would keep every write to itself.
func (n *Node) checkList() error {
	id := n.identity.Load()
	if id.Stage != stageFormed || id.Joined > 0 || len(n.cfg.Join) > 0 {
		return nil
	}
	now := n.cfg.sortedPeers()
	if len(id.Peers) == 1 && len(now) > 1 {
		return fmt.Errorf("%s belongs to a cluster of one node, and peers are set: start it without them, "+
			"or with an empty directory to form a new cluster", identityFile)
	}
	if !slices.EqualFunc(id.Peers, now, func(a, b Peer) bool { return a.ID == b.ID }) {
		n.log.Warn("the list of peers names other nodes than the cluster was formed of; that takes none in and leaves none out",
			"formed_of", ids(id.Peers), "peers", ids(now))
	}
	return nil
}

// ids are those of a list of peers.
func ids(peers []Peer) string {
	var list []string
	for _, p := range peers {
		list = append(list, p.ID)
	}
	return strings.Join(list, " ")
}

// checkFiles refuses a node that is part of a cluster if its vote or its log is gone,
// before new ones are made in their places: it would vote again, and for candidates
// who lack what it has acknowledged.
func (n *Node) checkFiles() error {
	if n.identity.Load().Stage != stageFormed {
		return nil
	}
	entries, err := os.ReadDir(n.dir.raft())
	if err != nil {
		return fmt.Errorf("look for raft's state: %w", err)
	}
	var vote, log bool
	for _, e := range entries {
		switch e.Name() {
		case stableFile:
			vote = true
		case snapshotDir:
		default: // whatever the store of the log is, and not a place where it was
			log = log || !e.IsDir() || !isEmpty(filepath.Join(n.dir.raft(), e.Name()))
		}
	}
	switch {
	case !vote:
		return n.lost("term and vote")
	case !log:
		return n.lost("log")
	}
	return nil
}

// isEmpty tells whether a directory has nothing in it.
func isEmpty(path string) bool {
	entries, err := os.ReadDir(path)
	return err == nil && len(entries) == 0
}

func (n *Node) lost(what string) error {
	return fmt.Errorf("%s says that this node is part of a cluster, but its %s in %s is gone; restore it, or empty the whole directory",
		identityFile, what, n.dir.raft())
}

// checkState refuses a directory whose parts do not belong together.
func (n *Node) checkState() error {
	term, err := n.stable.GetUint64([]byte(keyTerm))
	if err != nil {
		return fmt.Errorf("look for raft's state: %w", err)
	}
	last, err := n.logs.LastIndex()
	if err != nil {
		return fmt.Errorf("look for raft's state: %w", err)
	}
	snapshots, err := n.snaps.List()
	if err != nil {
		return fmt.Errorf("look for raft's state: %w", err)
	}
	logged := last > 0 || len(snapshots) > 0
	switch s := n.identity.Load().Stage; {
	case s == stageFormed && term == 0:
		return n.lost("term and vote")
	case s == stageFormed && !logged:
		return n.lost("log")
	case s == stageEmpty && (term > 0 || logged):
		return fmt.Errorf("%s is gone, but raft's files in %s are there; restore it", identityFile, n.dir.raft())
	}
	return nil
}

// setWaiting says what formation, or a new member, waits for, in the View and, when it changes or
// goes on for long, in the log.
func (n *Node) setWaiting(text string) {
	old := n.waiting.Swap(&text)
	now := clock.Mono()
	since := now - n.waitLogged
	// The text may change with every attempt, as it does if it names a port.
	if text != "" && (n.waitLogged == 0 || text != n.waitText && since > time.Second || since > 10*time.Second) {
		n.waitLogged, n.waitText = now, text
		n.log.Info("formation waits", "for", text)
	}
	if old == nil || *old != text {
		n.look()
	}
}
