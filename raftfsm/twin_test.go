package raftfsm_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// chapter is a run of requests at one instant, after the clock has moved.
type chapter struct {
	after time.Duration
	reqs  []command.Request
}

// story makes random chapters over few keys, so that everything meets.
func story(rnd *rand.Rand, chapters int) []chapter {
	key := func() string { return fmt.Sprint("k", rnd.IntN(12)) }
	now := int64(wall + 3_600_000)
	var out []chapter
	for range chapters {
		c := chapter{after: time.Duration(rnd.IntN(400)) * time.Millisecond}
		now += c.after.Milliseconds()
		for range 1 + rnd.IntN(12) {
			one := func() command.Request {
				var r command.Request
				switch rnd.IntN(9) {
				case 0, 1:
					r = setUntil(key(), now+rnd.Int64N(1500)+1)
				case 2:
					r = set(key(), fmt.Sprint(rnd.IntN(1000)))
				case 3:
					r = incr(key())
				case 4:
					r = req(raftfsm.SpecDel, key())
				case 5:
					r = req(raftfsm.SpecExpire, key(), fmt.Sprint(now+rnd.Int64N(1500)))
				case 6:
					r = req(raftfsm.SpecBoom, key())
				default:
					r = get(key())
				}
				r.DB = rnd.IntN(3)
				return r
			}
			if rnd.IntN(6) == 0 {
				x := transaction([]command.Watched{{DB: 0, Key: []byte(key()), Version: uint64(rnd.IntN(40))}}, one(), one(), one())
				if rnd.IntN(2) == 0 {
					x.Exec.Watch = nil
				}
				c.reqs = append(c.reqs, x)
				continue
			}
			c.reqs = append(c.reqs, one())
		}
		// The last of a chapter is a write, so that all tellings end at one stamp.
		c.reqs = append(c.reqs, incr("chapter"))
		out = append(out, c)
	}
	return out
}

// tell lives the chapters on a master, submitting each in batches that cut
// makes of it, with pause called between batches.
func tell(t *testing.T, chapters []chapter, cut func(reqs []command.Request) [][]command.Request, pause func(r *rig)) (*rig, []string) {
	t.Helper()
	r := newMaster(t)
	r.loop.Keep()
	var replies []string
	for _, c := range chapters {
		r.clock.Advance(c.after)
		for _, reqs := range cut(c.reqs) {
			replies = append(replies, endings(r.submit(slices.Clone(reqs)...))...)
			pause(r)
		}
		victims, _ := r.store.Due(nil, r.fsm.Instant(), 100)
		if err := r.prop.Expire(t.Context(), victims); err != nil {
			t.Fatal(err)
		}
	}
	return r, replies
}

// Property: P6. The same requests applied straight, in other cuts, and with
// snapshot and restore between any two entries, give the same replies and the
// same digest.
func TestTwinsAgree(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	for round := range uint64(15) {
		rnd := rand.New(rand.NewPCG(seed, round))
		chapters := story(rnd, 30)
		whole := func(reqs []command.Request) [][]command.Request { return [][]command.Request{reqs} }
		pieces := func(reqs []command.Request) (cuts [][]command.Request) {
			for len(reqs) > 0 {
				n := 1 + rnd.IntN(len(reqs))
				cuts = append(cuts, reqs[:n])
				reqs = reqs[n:]
			}
			return cuts
		}
		straight, want := tell(t, chapters, whole, func(*rig) {})
		for name, twin := range map[string]func() (*rig, []string){
			"cut": func() (*rig, []string) { return tell(t, chapters, pieces, func(*rig) {}) },
			"restored": func() (*rig, []string) {
				return tell(t, chapters, pieces, func(r *rig) {
					if rnd.IntN(4) == 0 {
						if err := r.restore(r.snapshot()); err != nil {
							t.Fatal(err)
						}
					}
				})
			},
		} {
			other, got := twin()
			if !slices.Equal(got, want) {
				for i := range want {
					if got[i] != want[i] {
						t.Fatalf("%s, round %d: reply %d is %q, want %q", name, round, i, got[i], want[i])
					}
				}
			}
			if other.fsm.Digest() != straight.fsm.Digest() {
				t.Fatalf("%s, round %d: another digest", name, round)
			}
		}
		replay(t, straight, rnd)
	}
}

// replay gives the master's log to a fresh node, which restores the snapshot of
// another at some index and goes on from there.
func replay(t *testing.T, master *rig, rnd *rand.Rand) {
	t.Helper()
	log := append([]*raft.Log{{Index: 1, Term: 1, Data: raftfsm.EstablishEntry(wall, "c1", settings)}}, master.loop.Log()...)
	at := rnd.IntN(len(log))
	first, second, all := newFSM(t), newFSM(t), newFSM(t)
	for i, l := range log {
		if i == at {
			if err := second.restore(first.snapshot()); err != nil {
				t.Fatal(err)
			}
		}
		if i < at {
			first.fsm.Apply(l)
		} else {
			second.fsm.Apply(l)
		}
		all.fsm.Apply(l)
	}
	if second.fsm.Digest() != all.fsm.Digest() || !bytes.Equal(second.snapshot(), all.snapshot()) {
		t.Fatalf("restored at entry %d of %d: not the same state", at, len(log))
	}
	var a, b map[string]store.Member
	master.fsm.View(0, func(r *store.Reader) { a = r.System().Members })
	all.fsm.View(0, func(r *store.Reader) { b = r.System().Members })
	if len(a) != len(b) {
		t.Fatal("members differ")
	}
}
