package main

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// cell identifies a row of the table within one system.
type cell struct {
	op       string
	pipeline int
}

// writeReport prints the median of the rounds as Markdown.
func writeReport(out io.Writer, opts options, all []result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%d connections, values of %d bytes, %d keys, %v per measurement, median of %d; %s/%s, %d processors, %s.\n\n",
		opts.connections, opts.size, opts.keys, opts.duration, opts.rounds, runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version())
	for _, name := range opts.systems {
		fmt.Fprintf(&b, "- `%s`: %s\n", name, describe(name))
	}
	b.WriteString("\n| command | pipeline | system | commands/s | p50 ms | p99 ms | CPU s per 100,000 | Holdfast is |\n")
	b.WriteString("|---|---:|---|---:|---:|---:|---:|---:|\n")
	for _, c := range cells(opts) {
		ours, measured := median(all, holdfast, c)
		for _, name := range opts.systems {
			r, ok := median(all, name, c)
			if !ok {
				continue
			}
			ratio := "–"
			if measured && name != holdfast {
				ratio = fmt.Sprintf("× %.2f", ours.perSecond/r.perSecond)
			}
			fmt.Fprintf(&b, "| %s | %d | %s | %.0f | %s | %s | %.2f | %s |\n",
				c.op, c.pipeline, name, r.perSecond, millis(r.p50), millis(r.p99), r.cpu, ratio)
		}
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func cells(opts options) []cell {
	var list []cell
	for _, op := range []string{"SET", "GET"} {
		for _, p := range opts.pipelines {
			list = append(list, cell{op, p})
		}
	}
	return list
}

// median is the measurement with the median throughput of a system's rounds.
func median(all []result, system string, c cell) (result, bool) {
	var own []result
	for _, r := range all {
		if r.system == system && r.op == c.op && r.pipeline == c.pipeline {
			own = append(own, r)
		}
	}
	if len(own) == 0 {
		return result{}, false
	}
	slices.SortFunc(own, func(a, b result) int { return int(a.perSecond - b.perSecond) })
	return own[len(own)/2], true
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.2f", float64(d.Microseconds())/1000)
}
