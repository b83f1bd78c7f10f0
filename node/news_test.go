package node

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/cluster"
	"github.com/holdfast/holdfast/pubsub"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// hearer hears all that a node publishes on its Sentinel port.
type hearer struct {
	n *Node
	s *pubsub.Subscriber
}

func listenTo(t *testing.T, n *Node) hearer {
	t.Helper()
	s := n.hub.Subscriber(nil)
	t.Cleanup(s.Close)
	s.PSubscribe("*")
	return hearer{n, s}
}

// after is what is published when the view has become v and was followed.
func (l hearer) after(v cluster.View) (heard []string) {
	l.n.follow(v)
	l.n.tellSubscribers(&v)
	for _, m := range l.s.Take(nil) {
		heard = append(heard, m.Channel+" "+string(m.Payload))
	}
	return heard
}

// channels are the first words.
func channels(events []string) string {
	var list []string
	for _, e := range events {
		name, _, _ := strings.Cut(e, " ")
		list = append(list, name)
	}
	return strings.Join(list, " ")
}

// naming is a view of n1 that names a master.
func naming(leader string, term uint64) cluster.View {
	return cluster.View{Self: "n1", Term: term, Quorum: true, Ready: true, Leader: leader, Voters: []string{"n1", "n2", "n3"}}
}

// logs has the node apply an entry: an establishing one if master is set, which records
// the health of all nodes, those that are named being down.
func (n *Node) logs(master string, term uint64, down ...string) {
	sys := *n.system.Load()
	sys.Health = map[string]store.Health{}
	for _, id := range []string{"n1", "n2", "n3"} {
		sys.Health[id] = store.Health{Down: slices.Contains(down, id), Process: 1}
	}
	n.system.Store(&sys)
	n.news.applied(&raftfsm.Update{Establishing: master != "", Master: master, Term: term}, &sys, n.clock.Boot())
}

// P3: replies show a new master for a moment before subscribers are told of it; that moment
// begins once, however often the node looks. Of the first master it knows nobody is told.
func TestRepliesComeBeforeEvents(t *testing.T) {
	n := still(t)
	l := listenTo(t, n)
	first, next, none := naming("n2", 5), naming("n3", 6), naming("", 6)
	if left := n.repliesFirst(&first); left != 0 {
		t.Errorf("the first master waits for %v", left)
	}
	l.after(first)
	for _, v := range []cluster.View{first, none} {
		if left := n.repliesFirst(&v); left != 0 {
			t.Errorf("without a new master %v are waited", left)
		}
	}
	if left := n.repliesFirst(&next); left != lead {
		t.Errorf("%v are waited, want %v", left, lead)
	}
	n.passes(lead / 2)
	if left := n.repliesFirst(&next); left != lead/2 {
		t.Errorf("%v are waited after half of it", left)
	}
	n.passes(lead / 2)
	if left := n.repliesFirst(&next); left != 0 {
		t.Errorf("another %v are waited", left)
	}
	if left := n.repliesFirst(&first); left != 0 {
		t.Errorf("the master that is known waits for %v", left)
	}
	if left := n.repliesFirst(&next); left != lead {
		t.Errorf("when it is master again %v are waited, want %v", left, lead)
	}
	if got := channels(l.after(next)); !strings.Contains(got, "+switch-master") {
		t.Errorf("heard %q", got)
	}
}

// P8: who asks for the master waits while there will be one in a moment, and then no
// longer: not without a majority, and not after an election has taken too long.
func TestQuestionsWaitForAnElection(t *testing.T) {
	n := still(t)
	now := n.clock.Boot()
	known, unknown, alone := naming("n2", 5), naming("", 6), naming("", 6)
	alone.Quorum = false
	check := func(name string, v *cluster.View, want time.Duration) {
		t.Helper()
		if got := n.betterUntil(v, now); got != want {
			t.Errorf("%s: until %v, want %v", name, got, want)
		}
	}
	check("a master is known", &known, 0)
	check("no majority", &alone, 0)
	check("none is known, and nobody has looked", &unknown, now+n.patience())
	n.follow(unknown)
	since := time.Duration(n.roles.masterless.Load())
	if since != now {
		t.Fatalf("without a master since %v, now is %v", since, now)
	}
	n.follow(unknown)
	check("none is known", &unknown, since+n.patience())
	n.follow(known)
	if n.roles.masterless.Load() != 0 {
		t.Error("a master is known, but it is as if there was none")
	}
	n.hush(5)
	until := n.handovers.hush.Load().until
	check("that one hands over", &known, until)
	known.LeaderTerm = 6
	check("a later one", &known, 0)
	now = until
	known.LeaderTerm = 5
	check("it has taken too long", &known, 0)
}

// Before masters record health subscribers hear of a new master as soon as replies name
// it, once, with one +slave per replica after it; they hear nothing of the master that
// was there when this node came, nor while it has not caught up.
func TestSubscribersHearOfChanges(t *testing.T) {
	n := still(t)
	l := listenTo(t, n)
	if got := l.after(naming("n2", 5)); len(got) > 0 {
		t.Errorf("the first master is announced: %q", got)
	}
	l.after(naming("", 5))
	late := naming("n3", 6)
	late.Ready = false
	if got := l.after(late); len(got) > 0 {
		t.Errorf("a master is announced by a node that has not caught up: %q", got)
	}
	v := naming("n3", 6)
	self := n.sentinelView(&v).Nodes[0]
	want := []string{
		"+switch-master mymaster 10.0.0.2 6379 10.0.0.3 6379",
		"+slave slave " + self.Data.String() + " " + self.Data.Host + " " + itoa(self.Data.Port) + " @ mymaster 10.0.0.3 6379",
		"+slave slave 10.0.0.2:6379 10.0.0.2 6379 @ mymaster 10.0.0.3 6379",
		"switch-master mymaster 10.0.0.2 6379 10.0.0.3 6379",
	}
	if got := l.after(v); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := l.after(v); len(got) > 0 {
		t.Errorf("told again: %q", got)
	}
}

// P8. Who listens to a node that is catching up hears of it afterwards if the master was
// another one meanwhile, once; what the log repeats nobody hears.
func TestNodeThatWasCatchingUpTellsTheMaster(t *testing.T) {
	n := still(t)
	l := listenTo(t, n)
	behind := func(leader string, term uint64) cluster.View {
		v := naming(leader, term)
		v.Ready = false
		return v
	}
	n.logs("n3", 3, "n1")
	l.after(behind("n2", 5))
	n.logs("n2", 5, "n3")
	l.after(behind("n2", 5))
	n.logs("n3", 6)
	if got := l.after(behind("n3", 6)); len(got) > 0 {
		t.Errorf("while it is behind: %q", got)
	}
	if got := channels(l.after(naming("n3", 6))); got != "+switch-master +slave +slave switch-master" && got != "+switch-master +slave +slave switch-master -sdown -sdown" {
		t.Errorf("when it has caught up: %q", got)
	}
	if got := l.after(naming("n3", 6)); len(got) > 0 {
		t.Errorf("told again: %q", got)
	}

	n = still(t)
	l = listenTo(t, n)
	n.logs("n2", 5, "n3")
	l.after(behind("n2", 5))
	n.logs("", 5)
	if got := l.after(naming("n2", 5)); len(got) > 0 {
		t.Errorf("the same master: %q", got)
	}
	n.logs("", 5, "n3")
	if got := channels(l.after(naming("n2", 5))); got != "+sdown +sdown" {
		t.Errorf("a replica goes: %q", got)
	}
}

// P3. What the log tells is published in its order, not before replies name the master it
// is about, and not at all of masters that were replaced meanwhile.
func TestNewsFollowTheLog(t *testing.T) {
	const failover = "+new-epoch +try-failover +elected-leader +selected-slave -role-change +promoted-slave +slave-reconf-done"
	const switched = "+failover-end +switch-master +slave +slave switch-master failover-end selected-slave"
	n := still(t)
	l := listenTo(t, n)
	n.logs("n2", 5)
	l.after(naming("n2", 5))

	n.logs("", 5, "n3")
	if got := channels(l.after(naming("n2", 5))); got != "+sdown +sdown" {
		t.Errorf("a replica goes: %s", got)
	}
	n.logs("", 5)
	n.logs("n3", 6, "n2")
	if got := channels(l.after(naming("n2", 5))); got != "-sdown -sdown" {
		t.Errorf("while the old master is named: %s", got)
	}
	if got := channels(l.after(naming("", 6))); got != "" {
		t.Errorf("while nobody is named: %s", got)
	}
	if got := l.after(naming("n3", 6)); channels(got) != "+sdown +odown "+failover+" -odown "+switched+" +sdown +sdown" || got[2] != "+new-epoch 6" {
		t.Errorf("the new master is named: %q", got)
	}
	n.logs("n1", 7)
	n.logs("n2", 8)
	n.logs("n3", 9)
	if got := channels(l.after(naming("n3", 9))); got != "-sdown -sdown" {
		t.Errorf("back after two that nobody saw: %s", got)
	}
	n.logs("n2", 10)
	if got := channels(l.after(naming("n2", 10))); got != failover+" "+switched+" +convert-to-slave +role-change" {
		t.Errorf("a handover: %s", got)
	}
}

// P8. A node whose log is behind announces the master all the same, after two election
// timeouts, and does not repeat it when the log comes.
func TestMasterIsAnnouncedWithoutTheLog(t *testing.T) {
	n := still(t)
	l := listenTo(t, n)
	n.logs("n2", 5)
	l.after(naming("n2", 5))
	if got := l.after(naming("n3", 6)); len(got) > 0 {
		t.Errorf("at once: %q", got)
	}
	n.passes(n.masterBound())
	if got := channels(l.after(naming("n3", 6))); got != "+switch-master +slave +slave switch-master" {
		t.Errorf("after two election timeouts: %s", got)
	}
	n.logs("n3", 6)
	if got := l.after(naming("n3", 6)); len(got) > 0 {
		t.Errorf("told again: %q", got)
	}
	n.news.applied(&raftfsm.Update{Restored: true}, n.system.Load(), n.clock.Boot())
	if got := n.news.master(); got != "" {
		t.Errorf("after a snapshot the master is %q", got)
	}
}

// P8. A node whose snapshot holds the establishing entry of the present master tells what
// that master records after it, and knows whom the cluster has lost when it is elected.
func TestNewsGoOnAfterASnapshot(t *testing.T) {
	n := still(t)
	l := listenTo(t, n)
	v := naming("n2", 5)
	v.LeaderTerm = 5
	restored := func(term uint64) {
		n.news.applied(&raftfsm.Update{Restored: true, Term: term}, n.system.Load(), n.clock.Boot())
	}
	restored(5)
	l.after(v)
	n.logs("", 5, "n3")
	if got := channels(l.after(v)); got != "+sdown +sdown" {
		t.Errorf("a replica goes: %q", got)
	}
	restored(5)
	n.logs("", 5)
	if got := channels(l.after(v)); got != "-sdown -sdown" {
		t.Errorf("it is back, after another snapshot: %q", got)
	}
	if got := n.news.master(); got != "n2" {
		t.Errorf("the master is %q", got)
	}
	next := naming("n3", 6)
	next.LeaderTerm = 6
	restored(6)
	if got := channels(l.after(next)); strings.Count(got, " +switch-master +slave +slave ") != 1 {
		t.Errorf("a snapshot has the next master's entry: %q", got)
	}
	if got := l.after(next); len(got) > 0 {
		t.Errorf("told again: %q", got)
	}
	v = next
	restored(4)
	n.logs("", 4, "n3")
	if got := channels(l.after(v)); got != "" || n.news.master() != "" {
		t.Errorf("recorded by a master before it: %q, by %q", got, n.news.master())
	}
}

// P3, P8. A node's new address is told when replies show it, which can be after the log
// has told it, once, and under every name of the master.
func TestMovedNodesAreAnnounced(t *testing.T) {
	n := still(t, "master-name", "one,two")
	l := listenTo(t, n)
	n.logs("n2", 5)
	v := naming("n2", 5)
	v.Peers = []cluster.PeerView{{ID: "n2", Info: []byte(`{"ID":"n2","RunID":"` + strings.Repeat("n2", 20) + `","DataHost":"10.0.0.2","DataPort":6379,"SentinelHost":"10.0.0.2","SentinelPort":26379}`)}}
	l.after(v)
	n.logs("", 5) // as the entry does that holds the new address
	if got := l.after(v); len(got) > 0 {
		t.Errorf("before replies show it: %q", got)
	}
	v.Peers = []cluster.PeerView{{ID: "n2", Info: []byte(strings.Replace(string(v.Peers[0].Info), "6379", "7000", 1))}}
	got := l.after(v)
	if channels(got) != strings.TrimSpace(strings.Repeat("+switch-master +slave +slave switch-master ", 2)) ||
		got[0] != "+switch-master one 10.0.0.2 6379 10.0.0.2 7000" || got[4] != "+switch-master two 10.0.0.2 6379 10.0.0.2 7000" {
		t.Errorf("the master's: %q", got)
	}
	if got := l.after(v); len(got) > 0 {
		t.Errorf("told again: %q", got)
	}
}

// P7. Without a master that can be named, what waits to be told is bounded, and nothing of
// how things are is lost.
func TestWaitingNewsAreBounded(t *testing.T) {
	n := still(t)
	l := listenTo(t, n)
	n.logs("n2", 5)
	l.after(naming("n2", 5))
	for i := range 10 * maxReports {
		n.logs("", 5, fmt.Sprint("n", 1+i%3))
	}
	n.logs("", 5, "n3")
	n.news.mu.Lock()
	if got := len(n.news.mu.queue); got > maxReports {
		t.Errorf("%d wait", got)
	}
	n.news.mu.Unlock()
	l.after(naming("n2", 5))
	for _, node := range n.news.told.Nodes {
		if node.Down != (node.ID == "n3") {
			t.Errorf("%s is told to be down: %t", node.ID, node.Down)
		}
	}
}

// A master that was lost is recorded as down, as are nodes that do not answer; each is up
// again when it has answered a question that was asked after that, and not by what it had
// answered before.
func TestHealthAsAMasterSeesIt(t *testing.T) {
	n := still(t)
	bound := n.masterBound()
	v := elected(6)
	v.Process = 77
	v.Peers = []cluster.PeerView{
		{ID: "n2", Contact: true, Age: bound / 2, Process: 22},
		{ID: "n3", Contact: false, Age: bound, Process: 33},
	}
	n.logs("n2", 5)
	want := map[string]store.Health{"n1": {Process: 77}, "n2": {Process: 22}, "n3": {Down: true, Process: 1}}
	if got := n.healthNow(&v, ""); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	want["n2"] = store.Health{Down: true, Deposed: true, Process: 22}
	got := n.healthNow(&v, "n2")
	if !maps.Equal(got, want) {
		t.Errorf("after an election: %v, want %v", got, want)
	}
	sys := *n.system.Load()
	sys.Health = got
	n.system.Store(&sys)
	n.news.applied(&raftfsm.Update{Establishing: true, Master: "n1", Term: 6}, &sys, n.clock.Boot())
	if got := n.healthNow(&v, ""); !maps.Equal(got, want) {
		t.Errorf("by an old answer: %v, want %v", got, want)
	}
	n.passes(bound)
	want["n2"] = store.Health{Process: 22}
	if got := n.healthNow(&v, ""); !maps.Equal(got, want) {
		t.Errorf("by a new answer: %v, want %v", got, want)
	}
	v.Voters = append(v.Voters, "n4") // nobody knows where it serves clients
	if got := n.healthNow(&v, ""); len(got) != 3 {
		t.Errorf("a node without an address is recorded: %v", got)
	}
}

// P3, P8. Replies show what subscribers were told: a replica that the master says is down
// is down; one that it says is up again is taken to be for a moment, until this node has to
// be in contact itself. The master named, and this node, are what this node sees.
func TestRepliesShowTheRecord(t *testing.T) {
	n := still(t)
	v := naming("n2", 5)
	v.Peers = []cluster.PeerView{{ID: "n2", Contact: true, Linked: true}, {ID: "n3", Contact: true, Linked: true}}
	down := func() (all []bool) {
		for _, node := range n.sentinelView(&v).Nodes {
			all = append(all, node.Down)
		}
		return all
	}
	expect := func(what string, want ...bool) {
		t.Helper()
		if got := down(); !slices.Equal(got, want) {
			t.Errorf("%s: down are %v, want %v", what, got, want)
		}
	}
	n.logs("n2", 5, "n1", "n2", "n3")
	expect("all recorded as down", false, false, true)
	v.Leader = ""
	expect("without a master", false, false, false)
	v.Leader = "n2"
	n.logs("", 5)
	expect("up again", false, false, false)
	v.Peers[1].Contact, v.Peers[1].Linked, v.Peers[1].Age = false, false, time.Minute
	expect("before this node is in contact", false, false, false)
	if node := n.sentinelView(&v).Nodes[2]; node.Cut || !node.LinkUp || node.DownFor != 0 {
		t.Errorf("it is shown as %+v", node)
	}
	n.passes(n.masterBound())
	expect("a while later", false, false, true)
}
