package respserver_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/resp"
	"github.com/holdfast/holdfast/respserver"
)

const (
	readOnly   = "!READONLY You can't write against a read only replica."
	inDoubt    = "!INDOUBT leadership was lost on the way; the command may or may not have been executed"
	masterDown = "!MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
	loading    = "!LOADING Redis is loading the dataset in memory"
)

// All writes of a pipeline are submitted at once, with the short reads between
// them; a pipeline of reads costs one confirmation, and one view for the short
// reads in a row: one that may take long has a view of its own.
func TestPipelineTravelsTogether(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.send("SET a 1", "GET a", "INCR a", "PING", "SELECT 1", "SET a 9", "GET a", "SELECT 0", "GET a")
	p.wantAll("OK", "1", ":2", "PONG", "OK", "OK", "9", "OK", "2")
	if got := r.node.batchSizes(); !slices.Equal(got, []int{6}) {
		t.Errorf("batches of %v requests, want one of 6", got)
	}
	if n := r.node.confirms.Load(); n != 0 {
		t.Errorf("%d confirmations for reads that rode beside an entry", n)
	}
	p.send("GET a", "GET b", "MGET a b", "KEYS *", "GET a")
	p.wantAll("2", "null", "[2 null]", ":1", "2")
	if c, v := r.node.confirms.Load(), r.node.views.Load(); c != 1 || v != 3 {
		t.Errorf("%d confirmations and %d views for a pipeline of reads", c, v)
	}
}

// A read with many arguments does not hold up the state machine: it waits its
// turn instead of riding.
func TestLongReadsDoNotRide(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.send("SET a 1", "MGET a"+strings.Repeat(" b", 100), "SET a 2")
	p.wantAll("OK", "[1"+strings.Repeat(" null", 100)+"]", "OK")
	if got := r.node.batchSizes(); !slices.Equal(got, []int{1, 1}) {
		t.Errorf("batches of %v", got)
	}
}

// A random pipeline gets the replies of a map, whatever is carried out together.
func TestPipelineAgreesWithModel(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	p := start(t).dial(t)
	model := map[string]string{}
	for range 100 {
		var lines, want []string
		for range 1 + rnd.IntN(40) {
			line, reply := modelCommand(rnd, model)
			lines, want = append(lines, line), append(want, reply)
		}
		p.send(lines...)
		for i := range want {
			if got := show(p.read()); got != want[i] {
				t.Fatalf("seed %d: %s\n got %s\nwant %s\nof %q", seed, lines[i], got, want[i], lines)
			}
		}
	}
}

// modelCommand is a random command and what it must answer.
func modelCommand(rnd *rand.Rand, model map[string]string) (line, reply string) {
	key := string(rune('a' + rnd.IntN(4)))
	get := func(k string) string {
		if v, ok := model[k]; ok {
			return v
		}
		return "null"
	}
	switch rnd.IntN(7) {
	case 0:
		v := strconv.Itoa(rnd.IntN(100))
		model[key] = v
		return "SET " + key + " " + v, "OK"
	case 1:
		n, _ := strconv.Atoi(model[key])
		model[key] = strconv.Itoa(n + 1)
		return "INCR " + key, ":" + model[key]
	case 2:
		return "MGET a b", "[" + get("a") + " " + get("b") + "]"
	case 3:
		return "KEYS *", ":" + strconv.Itoa(len(model))
	case 4:
		return "PING " + key, key
	case 5:
		return "SET " + key, "!ERR wrong number of arguments for 'set' command"
	}
	return "GET " + key, get(key)
}

// A replica answers reads from what it has, without asking anybody, and refuses writes.
func TestReplicaReadsLocallyAndRefusesWrites(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.want("SET a 1", "OK")
	r.node.setRole(respserver.Role{MasterHost: "10.0.0.1", MasterPort: 6380, LinkUp: true})
	p.send("GET a", "SET a 2", "GET a", "INCR a")
	p.wantAll("1", readOnly, "1", readOnly)
	if n := r.node.confirms.Load(); n != 0 {
		t.Errorf("%d confirmations on a replica", n)
	}
}

// A master without space for its log refuses writes before the log, and an EXEC with
// writes even if they were queued before; it reads on, and writes as soon as there is space.
func TestWritesAreRefusedWithoutDiskSpace(t *testing.T) {
	const misconf = "!MISCONF Too little disk space is left for the log. Commands that may modify the data set are refused until there is more. See the log of the nodes."
	r := start(t)
	p, q := r.dial(t), r.dial(t)
	p.want("SET a 1", "OK")
	q.send("MULTI", "SET a 2")
	q.wantAll("OK", "QUEUED")
	batches := r.node.batches.Load()
	r.node.setRole(respserver.Role{Master: true, DiskShort: true})
	p.send("GET a", "SET a 3", "INCR a", "GET a", "PING")
	p.wantAll("1", misconf, misconf, "1", "PONG")
	q.send("EXEC", "MULTI", "GET a", "EXEC", "MULTI", "SET a 4", "EXEC")
	q.wantAll("!EXECABORT Transaction discarded because of: "+misconf[1:], "OK", "QUEUED", "[1]", "OK", misconf, execAbort)
	if n := r.node.batches.Load(); n != batches {
		t.Errorf("%d batches went to the log", n-batches)
	}
	r.node.setRole(respserver.Role{Master: true})
	p.want("SET a 5", "OK")
	q.want("GET a", "5")
}

// A master that cannot confirm its term answers no read, and goes on serving
// the connection.
func TestUnconfirmedReadsAreRefused(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	r.node.loseTerm(errNotMaster)
	p.send("GET a", "PING", "KEYS *", "WATCH a")
	p.wantAll(masterDown, "PONG", masterDown, masterDown)
	r.node.loseTerm(nil)
	p.want("GET a", "null")
}

// In read-mode local a master confirms nothing.
func TestLocalReadsAreNotConfirmed(t *testing.T) {
	r := start(t, func(c *respserver.Config) { c.LocalReads = true })
	p := r.dial(t)
	r.node.loseTerm(errNotMaster)
	p.send("GET a", "WATCH a", "MULTI", "GET a", "EXEC")
	p.wantAll("null", "OK", "OK", "QUEUED", "[null]")
	if n := r.node.confirms.Load(); n != 0 {
		t.Errorf("%d confirmations", n)
	}
}

// A node that has not caught up serves only what needs no state.
func TestLoadingNodeRefuses(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	r.node.setRole(respserver.Role{Loading: true})
	p.send("GET a", "SET a 1", "SELECT 1", "MULTI", "GET a", "EXEC", "WAIT 0 0", "PING")
	p.wantAll(loading, loading, "OK", "OK", loading, "!EXECABORT Transaction discarded because of previous errors.", loading, loading)
	if got := p.do("INFO persistence"); !strings.Contains(got, "loading:1\r\n") {
		t.Errorf("INFO persistence: %s", got)
	}
}

// A read that meets a due key answers only when its removal is committed; on a
// replica it says the same without waiting for anybody.
func TestDueKeysAreRemovedBeforeTheyAreMissed(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	p.want("SET a 1 PX 100", "OK")
	p.want("SET b 2", "OK")
	r.node.clock.Advance(200 * time.Millisecond)
	p.send("GET b", "GET a", "MGET a b")
	p.wantAll("2", "null", "[null 2]")
	if n := r.node.expires.Load(); n != 1 {
		t.Errorf("%d removals for one due key", n)
	}
	p.want("KEYS *", ":1")

	p.want("SET c 1 PX 100", "OK")
	r.node.clock.Advance(200 * time.Millisecond)
	r.node.setRole(respserver.Role{LinkUp: true})
	p.want("GET c", "null")
	if n := r.node.expires.Load(); n != 1 {
		t.Error("a replica had a key removed")
	}
}

// Reads over a whole big database leave the lock and run on a frozen view.
func TestBigEnumerationsRunFrozen(t *testing.T) {
	p := start(t).dial(t)
	var lines []string
	for i := range 1000 {
		lines = append(lines, fmt.Sprintf("SET k%d v", i))
	}
	p.send(lines...)
	for range lines {
		p.wantAll("OK")
	}
	p.want("KEYS *", ":1000")
	p.want("SET more v", "OK")
	p.send("KEYS *", "GET more")
	p.wantAll("frozen 1001", "v")
}

// A write that would not fit into the log is refused before it, an EXEC too.
func TestEntriesThatAreTooBigAreRefused(t *testing.T) {
	r := start(t, func(c *respserver.Config) {
		c.Tuning.MaxEntryBytes = 1000
		c.SizeOf = func(r *command.Request) int {
			n := 0
			for _, a := range r.Args {
				n += len(a)
			}
			if r.Exec != nil {
				for _, q := range r.Exec.Queue {
					for _, a := range q.Args {
						n += len(a) + 200
					}
				}
			}
			return n
		}
	})
	p := r.dial(t)
	const tooBig = "!ERR command exceeds max-entry-bytes"
	p.send("SET a 1", "SET a "+strings.Repeat("v", 1000), "GET a", "MULTI", "SET b 1", "SET b 2", "EXEC", "GET b",
		"MULTI", "SET c "+strings.Repeat("v", 1000), "SET c 1", "EXEC")
	p.wantAll("OK", tooBig, "1", "OK", "QUEUED", "QUEUED", tooBig, "null",
		"OK", tooBig, "QUEUED", "!EXECABORT Transaction discarded because of previous errors.")
}

// After an unknown outcome nothing later is submitted: what was read already is
// refused for certain, and the connection closes.
func TestInDoubtEndsTheConnection(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	r.node.setOutcome(command.InDoubt)
	p.send("SET a 1", "GET a", "KEYS *", "SET a 2", "PING", "EXEC")
	p.wantAll(inDoubt, inDoubt, readOnly, readOnly, readOnly, "!EXECABORT Transaction discarded because of: "+readOnly[1:])
	p.wantClosed()
	if got := r.node.batchSizes(); len(got) != 1 {
		t.Errorf("batches %v: something was submitted after INDOUBT", got)
	}
}

// A definite refusal by the log leaves the connection open.
func TestRefusedWritesLeaveTheConnection(t *testing.T) {
	r := start(t)
	p := r.dial(t)
	r.node.setOutcome(command.Refused)
	p.send("SET a 1", "SET a 2")
	p.wantAll(readOnly, readOnly)
	r.node.setOutcome(command.Pending)
	p.want("GET a", "null")
}

// When the master steps down idle connections close at once, and one with
// commands under way when these have got their endings.
func TestCloseClientsAnswersWhatIsUnderWay(t *testing.T) {
	r := start(t)
	idle, half, busy := r.dial(t), r.dial(t), r.dial(t)
	idle.want("PING", "PONG")
	half.want("PING", "PONG")
	half.sendBytes([]byte("*3\r\n$3\r\nSET\r\n$1\r\nx")) // the rest never comes
	r.node.setHold(true)
	busy.send("SET a 1", "SET a 2")
	r.node.awaitHeld(t)
	busy.send("SET a 3") // read after the end, and never executed

	r.CloseClients()
	idle.wantClosed()
	half.wantClosed()
	r.node.release(command.InDoubt)
	busy.wantAll(inDoubt, inDoubt)
	busy.wantClosed()
	if got := r.node.batchSizes(); len(got) != 1 {
		t.Errorf("batches %v after the end", got)
	}
	r.node.setHold(false)
	eventually(t, "no connection is left", func() bool { return r.Stats().Connected == 0 })
	r.dial(t).want("PING", "PONG")
}

// Commands that the log never answers do not hang a connection for ever.
func TestStuckCommandsAreGivenUp(t *testing.T) {
	short := func(c *respserver.Config) { c.CommandBound = 100 * time.Millisecond }
	t.Run("write", func(t *testing.T) {
		r := start(t, short)
		p := r.dial(t)
		r.node.setHold(true)
		p.send("SET a 1", "PING")
		r.node.awaitHeld(t)
		p.wantAll(inDoubt, "PONG")
		p.wantClosed()
		r.node.release(command.InDoubt)
	})
	t.Run("read", func(t *testing.T) {
		r := start(t, short)
		p := r.dial(t)
		r.node.mu.Lock()
		r.node.mu.stuck = true
		r.node.mu.Unlock()
		p.send("GET a")
		p.wantAll(masterDown)
		p.wantClosed()
	})
}

// A fault in a command's code ends its connection only.
func TestPanicEndsOneConnection(t *testing.T) {
	fault := &command.Spec{
		Name: "fault", Arity: 1, Group: "server",
		Do: command.Locally(func(command.Conn, [][]byte) resp.Value { panic("broken") }),
	}
	r := start(t, func(c *respserver.Config) {
		var err error
		if c.Table, err = command.Join(dataSpecs(), respserver.ConnectionSpecs(), []*command.Spec{fault}); err != nil {
			t.Fatal(err)
		}
	})
	p, q := r.dial(t), r.dial(t)
	q.want("PING", "PONG")
	p.send("FAULT")
	p.wantClosed()
	q.want("SET a 1", "OK")
	if st := r.Stats(); st.Panics != 1 {
		t.Errorf("%d panics counted", st.Panics)
	}
}

// CloseUnanswered sends what was answered before, and nothing after.
func TestCloseUnanswered(t *testing.T) {
	bye := &command.Spec{
		Name: "bye", Arity: 1, Group: "server",
		Do: command.Locally(func(c command.Conn, _ [][]byte) resp.Value {
			c.CloseUnanswered()
			return resp.None
		}),
	}
	r := start(t, func(c *respserver.Config) {
		var err error
		if c.Table, err = command.Join(dataSpecs(), respserver.ConnectionSpecs(), []*command.Spec{bye}); err != nil {
			t.Fatal(err)
		}
	})
	p := r.dial(t)
	p.send("SET a 1", "BYE", "SET a 2")
	p.wantAll("OK")
	p.wantClosed()
	r.dial(t).want("GET a", "1")
}
