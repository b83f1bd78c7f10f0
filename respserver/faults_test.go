package respserver_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/resp"
)

// verdict is what a client was told of a write.
type verdict uint8

const (
	unheard verdict = iota // the connection ended first
	done
	refused
	inTheDark
)

// diary is what one client wrote, each key once, and what it was told.
type diary struct {
	keys     []string
	verdicts []verdict
	wrong    string // what must never happen
}

// write sends pipelines of writes of all kinds until the connection ends, and
// notes what became of each.
func (d *diary) write(p *peer, name string, rnd *rand.Rand) {
	for n := 0; ; n++ {
		var lines []string
		var writes []int // which of the replies tell of a write
		replies := 0
		for range 1 + rnd.IntN(8) {
			key := fmt.Sprintf("%s:%d:%d", name, n, replies)
			switch rnd.IntN(5) {
			case 0:
				lines = append(lines, "GET "+key)
				replies++
				continue
			case 1:
				lines = append(lines, "MULTI", "SET "+key+" 1", "GET "+key, "EXEC")
				replies += 4
			case 2:
				lines = append(lines, "KEYS nothing*", "SET "+key+" 1")
				replies += 2
			default:
				lines = append(lines, "SET "+key+" 1")
				replies++
			}
			d.keys, d.verdicts = append(d.keys, key), append(d.verdicts, unheard)
			writes = append(writes, replies-1)
		}
		var out []byte
		for _, l := range lines {
			out = append(out, encode(l)...)
		}
		if _, err := p.conn.Write(out); err != nil {
			return
		}
		if !d.hear(p, replies, writes) {
			return
		}
	}
}

// hear reads the replies to one pipeline and tells whether all came.
func (d *diary) hear(p *peer, replies int, writes []int) bool {
	first, ended := len(d.verdicts)-len(writes), false
	for i := range replies {
		v, err := p.tryRead(testBound)
		if err != nil {
			return false
		}
		k := slices.Index(writes, i)
		if k < 0 {
			continue
		}
		told := verdictOf(v)
		if ended && told == done {
			d.wrong = "executed after an unknown outcome: " + show(v)
		}
		ended = ended || told == inTheDark
		d.verdicts[first+k] = told
	}
	if ended {
		if v, err := p.tryRead(testBound); err == nil {
			d.wrong = "after an unknown outcome the connection goes on: " + show(v)
		} else if late, ok := errors.AsType[net.Error](err); ok && late.Timeout() {
			d.wrong = "after an unknown outcome the connection stays"
		}
	}
	return !ended
}

func verdictOf(v resp.Value) verdict {
	switch text := string(v.Bytes()); {
	case !v.IsError():
		return done
	case strings.HasPrefix(text, "INDOUBT "):
		return inTheDark
	default:
		return refused
	}
}

// Whatever happens to the leadership and to entries: what was answered stands, what
// was refused never happened, and after an unknown outcome nothing more is
// executed for that connection, which is closed. Clients write random pipelines
// and transactions meanwhile.
func TestEveryEndingIsHonest(t *testing.T) {
	rounds := 12
	if testing.Short() {
		rounds = 4
	}
	w := startWhole(t)
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 23))
	counts := map[verdict]int{}
	for round := range rounds {
		diaries := make([]diary, 8)
		var clients sync.WaitGroup
		for i := range diaries {
			p, own := w.dial(t), rand.New(rand.NewPCG(seed, uint64(round*100+i)))
			clients.Go(func() { diaries[i].write(p, fmt.Sprintf("r%dc%d", round, i), own) })
		}
		before := w.Stats().Commands
		eventually(t, "the clients are at work", func() bool { return w.Stats().Commands > before+500 })
		for range rnd.IntN(4) {
			w.loop.Fail([]error{raft.ErrEnqueueTimeout, raft.ErrLeadershipTransferInProgress}[rnd.IntN(2)])
		}
		w.loop.Hold()
		eventually(t, "raft holds an entry", func() bool { return w.loop.Waiting() > 0 })
		switch rnd.IntN(3) {
		case 0:
			w.loop.Lose(rnd.IntN(2) == 0)
			w.stepDown()
		case 1: // the node notices first
			w.stepDown()
			w.loop.Lose(rnd.IntN(2) == 0)
		default: // nobody else was elected
			w.stepDown()
		}
		w.loop.Release()
		clients.Wait()
		w.again(t)
		judge := w.dial(t)
		for i := range diaries {
			d := &diaries[i]
			if d.wrong != "" {
				t.Errorf("seed %d: %s", seed, d.wrong)
			}
			for k, key := range d.keys {
				counts[d.verdicts[k]]++
				got := judge.do("GET " + key)
				if (d.verdicts[k] == done && got != "1") || (d.verdicts[k] == refused && got != "null") {
					t.Fatalf("seed %d: client %d was told %d of %s, which is %s", seed, i, d.verdicts[k], key, got)
				}
			}
		}
		_ = judge.conn.Close()
	}
	t.Logf("done %d, refused %d, in doubt %d, unheard %d", counts[done], counts[refused], counts[inTheDark], counts[unheard])
	if counts[done] == 0 || counts[inTheDark] == 0 {
		t.Errorf("endings %v: the faults met nobody", counts)
	}
}
