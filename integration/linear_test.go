package integration_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/holdfast/holdfast/internal/testkit"
)

// action is what a client asks of one key.
type action struct {
	name string // GET, SET or INCR
	key  string
	arg  int64 // of SET
}

// answer is what it was told.
type answer struct {
	value   int64 // of GET and INCR; a missing key counts as 0, which no SET writes
	unknown bool  // it may have happened, now, later or never
}

// register is the model: each key is a number of its own. An unknown outcome stays
// open to the end of the history, where it may be put without any effect.
var register = porcupine.Model{
	Partition: byKey,
	Init:      func() any { return int64(0) },
	Step: func(state, input, output any) (bool, any) {
		value, in, out := state.(int64), input.(action), output.(answer)
		switch in.name {
		case "SET":
			return true, in.arg
		case "INCR":
			return out.unknown || out.value == value+1, value + 1
		default:
			return out.value == value, value
		}
	},
	DescribeOperation: func(input, output any) string {
		in, out := input.(action), output.(answer)
		if out.unknown {
			return fmt.Sprintf("%s %d → ?", in.name, in.arg)
		}
		return fmt.Sprintf("%s %d → %d", in.name, in.arg, out.value)
	},
}

func byKey(history []porcupine.Operation) [][]porcupine.Operation {
	parts := map[string][]porcupine.Operation{}
	for _, op := range history {
		key := op.Input.(action).key
		parts[key] = append(parts[key], op)
	}
	var list [][]porcupine.Operation
	for _, part := range parts {
		list = append(list, part)
	}
	return list
}

// The model accepts a history that is linearizable and refuses a stale read: the
// check below can fail.
func TestRegisterModelRefusesStaleReads(t *testing.T) {
	set := porcupine.Operation{Input: action{"SET", "k", 5}, Output: answer{}, Call: 1, Return: 2}
	lost := porcupine.Operation{Input: action{"INCR", "k", 0}, Output: answer{unknown: true}, Call: 3, Return: math.MaxInt64}
	read := func(value int64) porcupine.Operation {
		return porcupine.Operation{Input: action{"GET", "k", 0}, Output: answer{value: value}, Call: 10, Return: 11}
	}
	for value, want := range map[int64]bool{5: true, 6: true, 0: false, 7: false} {
		if got := porcupine.CheckOperations(register, []porcupine.Operation{set, lost, read(value)}); got != want {
			t.Errorf("reading %d is linearizable: %v, want %v", value, got, want)
		}
	}
}

// P2: histories of GET, SET and INCR on few keys are linearizable while masters
// are killed.
func TestLinearizableUnderKills(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	linearizable(t, c, func() { killMaster(c) })
}

// killMaster kills the master and starts it again.
func killMaster(c *testkit.Cluster) {
	node := c.Nodes[c.WaitMaster(formLimit)]
	node.Kill9()
	time.Sleep(1500 * time.Millisecond)
	node.Start()
	time.Sleep(1500 * time.Millisecond)
}

// P2: histories of GET, SET and INCR on few keys are linearizable while masters
// are suspended and go on.
func TestLinearizableUnderSuspension(t *testing.T) {
	c := start(t, testkit.ClusterOptions{})
	linearizable(t, c, func() { suspendMaster(c) })
}

// suspendMaster has the master stand still for a while.
func suspendMaster(c *testkit.Cluster) {
	node := c.Nodes[c.WaitMaster(formLimit)]
	node.Stop()
	time.Sleep(1200 * time.Millisecond)
	node.Cont()
	time.Sleep(1300 * time.Millisecond)
}

// linearizable records what clients see while the nemesis strikes again and again,
// and checks the history.
func linearizable(t testing.TB, c *testkit.Cluster, nemesis func()) {
	t.Helper()
	linearizableFor(t, c, nemesis, func(int) commander { return testkit.NewFollower(c.Sentinels(), time.Second) })
}

// commander is a client of the history.
type commander interface {
	Connect() error
	Do(args ...string) (testkit.Reply, testkit.Outcome, error)
	Close()
}

// checkLimit bounds the search for an order that explains a history.
const checkLimit = 2 * time.Minute

// linearizableFor is linearizable with clients of any kind, made by their numbers. When
// there is no time to explain a history another one is recorded.
func linearizableFor(t testing.TB, c *testkit.Cluster, nemesis func(), dial func(i int) commander) {
	t.Helper()
	const most = 3
	for n := int64(1); ; n++ {
		h := &history{dial: dial, stop: make(chan struct{})}
		h.era.Store(n * 1000) // no history has the keys of another
		h.record(t, c, nemesis)
		result, info := porcupine.CheckOperationsVerbose(register, h.ops, checkLimit)
		t.Logf("%d operations, %d with unknown outcome: %s", len(h.ops), h.open, result)
		if result == porcupine.Unknown && n < most {
			continue
		}
		if result != porcupine.Ok {
			path := filepath.Join(os.TempDir(), "holdfast-"+strings.ReplaceAll(t.Name(), "/", "-")+".html")
			if err := porcupine.VisualizePath(register, info, path); err != nil {
				t.Log(err)
			}
			t.Errorf("the history is %s; see %s", result, path)
		}
		if h.open == len(h.ops) || len(h.ops) < 100 {
			t.Errorf("a history of %d operations, %d of them unknown, shows nothing", len(h.ops), h.open)
		}
		return
	}
}

// record has clients work while the nemesis strikes, and reads everything at the end.
func (h *history) record(t testing.TB, c *testkit.Cluster, nemesis func()) {
	t.Helper()
	seed, first := rand.Uint64(), h.era.Load()
	t.Logf("seed %d", seed)
	const clients, keys = 8, 4
	var wait sync.WaitGroup
	for i := range clients {
		wait.Go(func() { h.client(i, keys, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	for range pick(3, 15) {
		nemesis()
		h.era.Add(1)
	}
	close(h.stop)
	wait.Wait()
	c.WaitWhole(formLimit)
	h.finish(t, first, keys, insist(t, c))
}

// history collects operations.
type history struct {
	dial func(i int) commander
	stop chan struct{}
	// era is part of every key. With new keys for each, the unknown outcomes of one
	// do not have to be tried at every place of the others.
	era atomic.Int64

	mu   sync.Mutex
	ops  []porcupine.Operation // guarded by mu
	open int                   // unknown outcomes among them; guarded by mu
}

func (h *history) client(id, keys int, random *rand.Rand) {
	f := h.dial(id)
	defer f.Close()
	for n := int64(1); ; n++ {
		select {
		case <-h.stop:
			return
		case <-time.After(3 * time.Millisecond):
		}
		if f.Connect() != nil {
			continue
		}
		a := action{key: keyOf(h.era.Load(), random.IntN(keys))}
		switch random.IntN(3) {
		case 0:
			a.name = "GET"
		case 1:
			a.name, a.arg = "SET", int64(id+1)*1_000_000+n
		default:
			a.name = "INCR"
		}
		h.do(id, a, f)
	}
}

func keyOf(era int64, i int) string { return fmt.Sprintf("key%d:%d", era, i) }

// do runs one operation and records it, unless it was a read without an answer or
// was certainly not executed.
func (h *history) do(id int, a action, f commander) {
	args := []string{a.name, a.key}
	if a.name == "SET" {
		args = append(args, strconv.FormatInt(a.arg, 10))
	}
	call := testkit.Now()
	reply, outcome, err := f.Do(args...)
	op := porcupine.Operation{ClientId: id, Input: a, Call: int64(call), Return: int64(testkit.Now())}
	switch {
	case err == nil:
		op.Output = answer{value: reply.Int()}
	case outcome == testkit.Unknown && a.name != "GET":
		op.Output, op.Return = answer{unknown: true}, math.MaxInt64
	default:
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
	if err != nil {
		h.open++
	}
}

// finish reads every key once more when all is calm: what was acknowledged must
// be there at the end too.
func (h *history) finish(t testing.TB, first int64, keys int, c asker) {
	t.Helper()
	for i := range int64(keys) * (h.era.Load() - first + 1) {
		key := keyOf(first+i/int64(keys), int(i)%keys)
		call := testkit.Now()
		reply := c.MustDo(t, "GET", key)
		h.ops = append(h.ops, porcupine.Operation{
			Input: action{name: "GET", key: key}, Output: answer{value: reply.Int()},
			Call: int64(call), Return: int64(testkit.Now()),
		})
	}
}
