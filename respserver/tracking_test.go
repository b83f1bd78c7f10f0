package respserver_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

// three is a connection in RESP3.
func (r *rig) three(tb testing.TB) *peer {
	tb.Helper()
	p := r.dial(tb)
	p.send("HELLO 3")
	p.read()
	return p
}

// A change that is applied while the pipeline of a reader is under way is told behind
// the replies of that pipeline, whether they show it or not.
func TestChangesAreToldBehindTheReply(t *testing.T) {
	w := startWhole(t)
	a, b := w.three(t), w.dial(t)
	b.want("MSET k 1 other 1", "OK")
	a.want("CLIENT TRACKING ON", "OK")
	w.loop.Hold()
	b.send("SET k 2")
	w.waiting(t, 1)
	a.send("GET k", "SET mine 1", "GET other") // beside an entry behind the change
	eventually(t, "the reader's commands wait", func() bool { return w.proposer.Stats().Queued == 1 })
	w.loop.Release()
	b.wantAll("OK")
	a.wantAll("2", "OK", "1", "<invalidate [k]>")
}

// An invalidation that waits when a pipeline comes is told before its replies: who
// hears from another client that a change was made and asks for anything has then heard
// of the change itself.
func TestWhatWasAcknowledgedWasTold(t *testing.T) {
	w := startWhole(t)
	a, b := w.three(t), w.dial(t)
	a.want("CLIENT TRACKING ON", "OK")
	for i := range 500 {
		a.send("GET k")
		a.read()
		b.want("SET k "+strconv.Itoa(i), "OK")
		a.send("PING")
		a.wantAll("<invalidate [k]>", "PONG")
	}
}

// The connection that messages are redirected to ends: who redirects is told with the
// next change, and CLIENT shows it.
func TestBrokenRedirection(t *testing.T) {
	w := startWhole(t)
	a, b, target := w.three(t), w.dial(t), w.dial(t)
	id := strings.TrimPrefix(target.do("CLIENT ID"), ":")
	a.want("CLIENT TRACKING ON REDIRECT "+id, "OK")
	a.want("CLIENT GETREDIR", ":"+id)
	_ = target.conn.Close()
	eventually(t, "the target is gone", func() bool { return b.do("CLIENT LIST ID "+id) == "" })
	a.want("GET k", "null")
	b.want("SET k 1", "OK")
	a.wantAll("<tracking-redir-broken :" + id + ">")
	a.want("CLIENT TRACKINGINFO", "{flags ~on broken_redirect~ redirect :"+id+" prefixes []}")
	if got := a.do("CLIENT INFO"); !strings.Contains(got, " flags=tR ") || !strings.Contains(got, " redir="+id+" ") {
		t.Errorf("CLIENT INFO: %s", got)
	}
	a.want("CLIENT TRACKING ON REDIRECT "+id, "!ERR The client ID you want redirect to does not exist")
	a.want("CLIENT TRACKING ON", "OK")
	a.want("GET k", "1")
	b.want("SET k 2", "OK")
	a.wantAll("<invalidate [k]>")
}

// A command that waits does not keep a client from being told.
func TestWaitingClientsAreTold(t *testing.T) {
	w := startWhole(t)
	a, b := w.three(t), w.dial(t)
	a.want("CLIENT TRACKING ON", "OK")
	a.send("GET k", "WAIT 5 0")
	a.wantAll("null")
	eventually(t, "it waits", func() bool { return w.Stats().Blocked == 1 })
	b.want("SET k 1", "OK")
	a.wantAll("<invalidate [k]>")
	b.want("CLIENT UNBLOCK "+strings.TrimPrefix(idOf(a, b), ":"), ":1")
	a.wantAll(":0")
}

// idOf is the id of the connection that blocks.
func idOf(_, asking *peer) string {
	asking.tb.Helper()
	for line := range strings.Lines(asking.do("CLIENT LIST")) {
		if strings.Contains(line, " flags=bt ") || strings.Contains(line, " flags=tb ") {
			id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
			return id
		}
	}
	asking.tb.Fatal("nobody who tracks is blocked")
	return ""
}

// A client that does not read what it is told is cut off by the limit of clients that
// receive messages, while the writer goes on.
func TestSlowTrackingClientIsCutOff(t *testing.T) {
	w := startWhole(t, func(c *respserver.Config, _ *raftfsm.ProposerConfig) {
		c.Tuning.PubSubOutput = respserver.OutputLimit{Hard: 64 << 10}
	})
	a, b := w.three(t), w.dial(t)
	a.want("CLIENT TRACKING ON BCAST", "OK")
	key := strings.Repeat("k", 8<<10)
	for i := 0; w.Stats().TooSlow == 0 && i < 20_000; i++ {
		b.want("SET "+key+" 1", "OK")
	}
	eventually(t, "the slow client is closed", func() bool { return w.Stats().Connected == 1 && w.Stats().Tracking.Clients == 0 })
	b.want("GET "+key, "1")
}

// A state that is put in the place of the present one ends the connections that could
// not be told what that changes, and no others.
func TestRestoringClosesWhoTracks(t *testing.T) {
	w := startWhole(t)
	tracks, subscribed, target, redirects, plain := w.three(t), w.dial(t), w.dial(t), w.dial(t), w.dial(t)
	tracks.want("CLIENT TRACKING ON", "OK")
	subscribed.want("SUBSCRIBE c", "[subscribe c :1]")
	redirects.want("CLIENT TRACKING ON REDIRECT "+strings.TrimPrefix(target.do("CLIENT ID"), ":"), "OK")
	w.CloseTracking()
	for _, p := range []*peer{tracks, subscribed, target, redirects} {
		p.wantClosed()
	}
	plain.want("PING", "PONG")
	eventually(t, "nobody tracks", func() bool { return !w.tracked.Watching() })
}

// RESET and the end of a connection end its tracking; figures show who tracks.
func TestTrackingEnds(t *testing.T) {
	w := startWhole(t)
	a, b := w.three(t), w.three(t)
	a.want("CLIENT TRACKING ON", "OK")
	b.want("CLIENT TRACKING ON BCAST PREFIX x PREFIX y", "OK")
	a.want("MGET k l", "[null null]")
	if st := w.Stats().Tracking; st.Clients != 2 || st.Keys != 2 || st.Items != 2 || st.Prefixes != 2 {
		t.Errorf("figures %+v", st)
	}
	text := a.do("INFO everything")
	for _, line := range []string{"tracking_clients:2", "tracking_total_keys:2", "tracking_total_items:2", "tracking_total_prefixes:2"} {
		if !strings.Contains(text, line+"\r\n") {
			t.Errorf("INFO has no %s", line)
		}
	}
	a.want("RESET", "RESET")
	a.want("CLIENT GETREDIR", ":-1")
	_ = b.conn.Close()
	eventually(t, "nobody tracks", func() bool { st := w.Stats().Tracking; return st.Clients == 0 && st.Keys == 0 && st.Prefixes == 0 })
}

// What a client may have broadcast is bounded.
func TestPrefixesAreBounded(t *testing.T) {
	w := startWhole(t)
	a := w.three(t)
	a.want("CLIENT TRACKING ON BCAST PREFIX "+strings.Repeat("x", 513), "!"+string(resp.ErrPrefixTooLong))
	var line strings.Builder
	line.WriteString("CLIENT TRACKING ON BCAST")
	for i := range 1025 {
		fmt.Fprintf(&line, " PREFIX %05d", i)
	}
	a.want(line.String(), "!"+string(resp.ErrTooManyPrefixes))
	a.want("CLIENT GETREDIR", ":-1")
}

// CLIENT TRACKING inside a transaction concerns what stands behind it, although it runs
// after the transaction: what was read there is taken back at once.
func TestTrackingSwitchedOnInATransaction(t *testing.T) {
	w := startWhole(t)
	a := w.three(t)
	for _, option := range []string{"", " BCAST"} {
		a.send("MULTI", "GET before", "CLIENT TRACKING ON"+option, "GET k", "SET s 1", "EXEC")
		a.wantAll("OK", "QUEUED", "QUEUED", "QUEUED", "QUEUED", "[null OK null OK]", "<invalidate [k]>")
		a.want("CLIENT TRACKING OFF", "OK")
	}
}

// reader is a client with a cache: it keeps what it reads until it is told to forget.
type reader struct {
	*peer
	cache  map[string]string
	rnd    *rand.Rand
	optIn  bool
	noLoop bool
}

// next reads one reply and forgets what is told before it.
func (r *reader) next() resp.Value {
	for {
		v := r.read()
		if v.Kind() != resp.KindPush {
			return v
		}
		if keys := v.Elems()[1]; keys.Kind() == resp.KindNull {
			clear(r.cache)
		} else {
			for _, k := range keys.Elems() {
				delete(r.cache, string(k.Bytes()))
			}
		}
	}
}

func (r *reader) key() string { return "k" + strconv.Itoa(r.rnd.IntN(8)) }

// turn is one pipeline of reads, own changes and transactions.
func (r *reader) turn() {
	var lines []string
	var took []func(v resp.Value)
	add := func(line string, take func(v resp.Value)) { lines, took = append(lines, line), append(took, take) }
	skip := func(resp.Value) {}
	keep := func(k string) func(v resp.Value) {
		return func(v resp.Value) { r.cache[k] = show(v) }
	}
	for range 1 + r.rnd.IntN(4) {
		k, l := r.key(), r.key()
		if r.optIn {
			add("CLIENT CACHING YES", skip)
		}
		switch n := strconv.Itoa(r.rnd.IntN(1000)); r.rnd.IntN(8) {
		case 0:
			add("MGET "+k+" "+l, func(v resp.Value) {
				r.cache[k], r.cache[l] = show(v.Elems()[0]), show(v.Elems()[1])
			})
		case 1:
			add("MULTI", skip)
			add("GET "+k, skip)
			add("SET "+l+" "+n, skip)
			add("EXEC", func(v resp.Value) {
				if k != l {
					r.cache[k] = show(v.Elems()[0])
				}
				delete(r.cache, l)
			})
		case 2:
			add("SET "+k+" "+n, func(resp.Value) {
				delete(r.cache, k)
				if r.noLoop {
					r.cache[k] = n
				}
			})
			add("GET "+k, skip)
			if !r.optIn {
				took[len(took)-1] = keep(k)
			}
		case 3:
			add("KEYS k*", skip) // a long read, and so a segment of its own
			if r.optIn {
				add("CLIENT CACHING YES", skip)
			}
			add("GET "+k, keep(k))
		default:
			add("GET "+k, keep(k))
		}
	}
	r.send(lines...)
	for _, take := range took {
		take(r.next())
	}
}

// Caches of clients that track in every mode are never stale: when all writers are
// done, whatever a client still keeps once it has asked for anything is the present
// value.
func TestCachesAreNeverStale(t *testing.T) {
	const rounds, turns = 15, 40
	w := startWhole(t)
	modes := []string{"", " OPTIN", " NOLOOP", " BCAST", " BCAST NOLOOP PREFIX k", " OPTOUT"}
	var readers []*reader
	for i, mode := range modes {
		p := w.three(t)
		p.want("CLIENT TRACKING ON"+mode, "OK")
		readers = append(readers, &reader{
			peer: p, cache: map[string]string{}, rnd: rand.New(rand.NewPCG(uint64(i), 5)),
			optIn: mode == " OPTIN", noLoop: strings.Contains(mode, "NOLOOP"),
		})
	}
	kept := 0
	for round := range rounds {
		var group sync.WaitGroup
		for i := range 3 {
			p := w.dial(t)
			rnd := rand.New(rand.NewPCG(uint64(round), uint64(i)))
			group.Go(func() {
				for range turns {
					randomWrites(p, rnd)
				}
			})
		}
		for _, r := range readers {
			group.Go(func() {
				for range turns {
					r.turn()
				}
			})
		}
		group.Wait()
		truth := w.dial(t)
		eventually(t, "no key ends any more", func() bool {
			lives := 0
			for i := range 8 {
				if truth.do("PTTL k" + strconv.Itoa(i))[:2] != ":-" {
					lives++
				}
			}
			return lives == 0
		})
		for _, r := range readers {
			r.send("PING")
			r.next()
			for k, v := range r.cache {
				kept++
				if now := truth.do("GET " + k); now != v {
					t.Fatalf("round %d: mode %q keeps %s = %s, which is %s", round, modes[indexOf(readers, r)], k, v, now)
				}
			}
		}
	}
	if kept == 0 {
		t.Error("nobody ever kept anything")
	}
}

func indexOf(all []*reader, r *reader) int {
	for i := range all {
		if all[i] == r {
			return i
		}
	}
	return -1
}

// randomWrites sends one pipeline of changes and reads its replies.
func randomWrites(p *peer, rnd *rand.Rand) {
	var lines []string
	for range 1 + rnd.IntN(3) {
		k, l := "k"+strconv.Itoa(rnd.IntN(8)), "k"+strconv.Itoa(rnd.IntN(8))
		n := strconv.Itoa(rnd.IntN(1000))
		switch rnd.IntN(12) {
		case 0:
			lines = append(lines, "DEL "+k)
		case 1:
			lines = append(lines, "RENAME "+k+" "+l)
		case 2:
			lines = append(lines, "SET "+k+" "+n+" PX "+strconv.Itoa(1+rnd.IntN(3)))
		case 3:
			lines = append(lines, "MULTI", "SET "+k+" "+n, "COPY "+k+" "+l+" REPLACE", "EXEC")
		case 4:
			if rnd.IntN(6) == 0 {
				lines = append(lines, []string{"FLUSHALL", "FLUSHDB", "SWAPDB 0 1"}[rnd.IntN(3)])
			}
		default:
			lines = append(lines, "SET "+k+" "+n)
		}
	}
	p.send(lines...)
	for range lines {
		p.read()
	}
}

// On a node that passes commands on, what a tracking client reads is answered from this
// node's own state once that is fresh, never by the master, also between writes.
func TestTrackedReadsAreNotPassedOn(t *testing.T) {
	r := start(t, forwarding(passed{}))
	a, plain := r.three(t), r.three(t)
	a.want("CLIENT TRACKING ON", "OK")
	before := r.node.confirms.Load()
	a.want("GET k", "null")
	if r.node.batches.Load() != 0 || r.node.confirms.Load() == before {
		t.Errorf("%d batches were passed on, asked %d times whether the state is fresh", r.node.batches.Load(), r.node.confirms.Load()-before)
	}
	a.send("SET k 1", "GET k", "SET l 1", "MULTI", "GET k", "EXEC")
	a.wantAll("OK", "1", "OK", "OK", "QUEUED", "[1]")
	if sizes := r.node.batchSizes(); len(sizes) != 2 || sizes[0] != 1 || sizes[1] != 1 {
		t.Errorf("batches of %v requests were passed on, want the two writes alone", sizes)
	}
	plain.want("GET k", "1")
	if n := r.node.batches.Load(); n != 3 {
		t.Errorf("%d batches, want the read of the client that does not track as the third", n)
	}
}
