package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/holdfast/holdfast/internal/testkit"
)

// result is one measurement.
type result struct {
	system, op string
	pipeline   int
	perSecond  float64       // commands
	p50, p99   time.Duration // from the sending of a pipeline to its last reply
	cpu        float64       // seconds of all server processes per 100,000 commands
}

// fill writes every key once, so that each GET finds its key.
func fill(sys system, opts options) error {
	client, err := testkit.Dial(sys.addr, 30*time.Second)
	if err != nil {
		return err
	}
	defer client.Close()
	const atOnce = 1000
	value := strings.Repeat("v", opts.size)
	for first := 0; first < opts.keys; first += atOnce {
		var batch [][]string
		for i := first; i < min(first+atOnce, opts.keys); i++ {
			batch = append(batch, []string{"SET", keyName(i), value})
		}
		replies, err := client.Pipeline(batch...)
		if err != nil {
			return err
		}
		for _, r := range replies {
			if err := r.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// measure puts one kind of load on a system.
func measure(sys system, o op, pipeline int, opts options) (result, error) {
	l, err := newLoad(sys.addr, o, pipeline, opts)
	if err != nil {
		return result{}, err
	}
	defer l.close()
	if err := l.begin(); err != nil {
		return result{}, err
	}
	if err := l.run(opts.warmup, false); err != nil {
		return result{}, err
	}
	before, err := processorTime(sys.pids)
	if err != nil {
		return result{}, err
	}
	start := testkit.Now()
	if err := l.run(opts.duration, true); err != nil {
		return result{}, err
	}
	took := (testkit.Now() - start).Seconds()
	after, err := processorTime(sys.pids)
	if err != nil {
		return result{}, err
	}
	if l.done == 0 {
		return result{}, fmt.Errorf("no command was answered")
	}
	const unit = 100_000
	return result{
		system: sys.name, op: o.name, pipeline: pipeline,
		perSecond: float64(l.done) / took,
		p50:       time.Duration(l.hist.ValueAtQuantile(50)) * time.Microsecond,
		p99:       time.Duration(l.hist.ValueAtQuantile(99)) * time.Microsecond,
		cpu:       (after - before) / float64(l.done) * unit,
	}, nil
}

// processorTime is the time used so far by the given processes together, in seconds.
func processorTime(pids []int) (float64, error) {
	var sum float64
	for _, pid := range pids {
		t, err := testkit.CPUSeconds(pid)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}
