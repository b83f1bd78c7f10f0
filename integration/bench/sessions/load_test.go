package sessions

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }

// All connections together are due exactly rate x duration times, each at most
// once in each of its slots and in order, whatever the numbers are.
func TestScheduleKeepsTheRate(t *testing.T) {
	for _, o := range []Options{
		{Connections: 200, Rate: 5000, Duration: 10 * time.Second},
		{Connections: 7, Rate: 100, Duration: 1500 * time.Millisecond},
		{Connections: 50, Rate: 3, Duration: 2 * time.Second},
	} {
		total, inFirstHalf := 0, 0
		for i := range o.Connections {
			s := newSchedule(o, i, random())
			for n := 0; ; n++ {
				due, ok := s.next()
				if !ok {
					break
				}
				if from := time.Duration(n) * s.slot; due < from || due >= from+s.slot {
					t.Fatalf("command %d of connection %d is due at %v, outside its slot of %v", n, i, due, s.slot)
				}
				total++
				if due < o.Duration/2 {
					inFirstHalf++
				}
			}
		}
		if want := totalCommands(o); total != want {
			t.Errorf("%d connections at %d/s for %v: %d commands, want %d", o.Connections, o.Rate, o.Duration, total, want)
		}
		if o.Rate >= 1000 && math.Abs(float64(inFirstHalf)/float64(total)-0.5) > 0.01 {
			t.Errorf("%d of %d commands are due in the first half", inFirstHalf, total)
		}
	}
}

// The sorts of commands come up in the proportions of the blend: of 900 commands
// 500 are GET, 280 EXPIRE, 100 SET, 15 DEL, and 5 look at many sessions.
func TestBlendProportions(t *testing.T) {
	const draws = 900_000
	got := map[string]int{}
	shares, r := blend(), random()
	for range draws {
		got[choose(shares, r).name]++
	}
	got["many"] = got["SCAN"] + got["MGET"]
	for name, per900 := range map[string]float64{"GET": 500, "EXPIRE": 280, "SET": 100, "DEL": 15, "many": 5} {
		want := per900 / 900 * draws
		if off := math.Abs(float64(got[name]) - want); off > 5*math.Sqrt(want) {
			t.Errorf("%d of %d commands are %s, want about %.0f", got[name], draws, name, want)
		}
	}
}

// Values have the sizes of real session data: so many of a hundred in each band,
// about 1,150 bytes in the mean.
func TestValueSizes(t *testing.T) {
	const n = 100_000
	v := newValues(1)
	in, sum := make([]int, len(bands)), 0
	for id := range n {
		size := v.size(id, 1)
		sum += size
		if got := len(v.value(id, 1)); id < 100 && got != size {
			t.Fatalf("session %d has %d bytes, want %d", id, got, size)
		}
		for i, b := range bands {
			if size >= b.from && size < b.to {
				in[i]++
			}
		}
	}
	for i, b := range bands {
		if got := 100 * float64(in[i]) / n; math.Abs(got-float64(b.percent)) > 1 {
			t.Errorf("%.1f %% of the values have %d to %d bytes, want %d %%", got, b.from, b.to, b.percent)
		}
	}
	if mean := sum / n; mean < 1000 || mean > 1300 {
		t.Errorf("the mean value has %d bytes", mean)
	}
}

// A value is recognised, and nothing else is taken for it.
func TestValuesAreRecognised(t *testing.T) {
	v := newValues(1)
	good := []byte(v.value(12, 3))
	if !v.is(good, 12, 3) {
		t.Fatal("a value is not recognised")
	}
	for _, at := range []int{0, 9, len(good) / 2, len(good) - 1} {
		bad := append([]byte(nil), good...)
		bad[at] ^= 1
		if v.is(bad, 12, 3) {
			t.Errorf("a value with byte %d changed is taken for the right one", at)
		}
	}
	if v.is(good, 12, 4) || v.is(good, 13, 3) || v.is(good[:len(good)-1], 12, 3) || v.is(nil, 12, 3) || newValues(2).is(good, 12, 3) {
		t.Error("another version, session, length or seed is taken for the right one")
	}
	for text, want := range map[string]string{
		string(good): "version 3 of session 12", string(good[:60]): "a damaged version 3 of session 12", "foo": "3 bytes that nobody wrote",
	} {
		if got := v.describe([]byte(text)); got != want {
			t.Errorf("described as %q, want %q", got, want)
		}
	}
}

// Keys are all different and as long as those of the libraries.
func TestKeysAreDistinct(t *testing.T) {
	v := newValues(1)
	seen := map[string]bool{}
	for id := range 100_000 {
		key := v.key(id)
		if seen[key] || len(key) < 35 || len(key) > 110 {
			t.Fatalf("key %q of session %d: seen before %v", key, id, seen[key])
		}
		seen[key] = true
	}
}

// The options' mistakes are told.
func TestOptions(t *testing.T) {
	good := Options{Sessions: 10, Connections: 5, Rate: 1, Duration: time.Second, TTL: time.Second, Handover: HandoverKill}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	for name, spoil := range map[string]func(o *Options){
		"fewer sessions than connections": func(o *Options) { o.Sessions = 4 },
		"no rate":                         func(o *Options) { o.Rate = 0 },
		"a life of half a second":         func(o *Options) { o.TTL = time.Second / 2 },
		"a life of a second and a half":   func(o *Options) { o.TTL = 3 * time.Second / 2 },
		"no such handover":                func(o *Options) { o.Handover = "reboot" },
	} {
		o := good
		spoil(&o)
		if o.Check() == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}
