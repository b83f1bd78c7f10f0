package raftfsm_test

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/holdfast/holdfast/command"
	"github.com/holdfast/holdfast/internal/clock"
	"github.com/holdfast/holdfast/raftfsm"
	"github.com/holdfast/holdfast/store"
)

// BenchmarkSet is small SETs from 50 connections through Proposer, loopback raft
// and state machine.
func BenchmarkSet(b *testing.B) {
	for _, pipeline := range []int{1, 16} {
		b.Run(fmt.Sprintf("pipeline=%d", pipeline), func(b *testing.B) {
			r := newFSMOn(b, clock.System{})
			r.run()
			r.establish(1)
			value := strings.Repeat("v", 64)
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			const conns = 50
			for c := range conns {
				wg.Go(func() {
					batch := command.NewBatch()
					for n := 0; n < b.N/conns+1; n += pipeline {
						batch.Reset()
						for i := range pipeline {
							batch.Requests = append(batch.Requests, set(fmt.Sprint("key:", c, ":", (n+i)%1000), value))
						}
						r.prop.Submit(batch)
						<-batch.Done()
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "cmds/s")
			s := r.prop.Stats()
			b.ReportMetric(float64(s.Requests)/float64(s.Entries), "cmds/entry")
		})
	}
}

// BenchmarkApply is the state machine alone, on entries of 100 SETs.
func BenchmarkApply(b *testing.B) {
	r := newFSMOn(b, clock.System{})
	var logs []*raft.Log
	value := strings.Repeat("v", 64)
	for e := range 100 {
		var reqs []command.Request
		for i := range 100 {
			reqs = append(reqs, set(fmt.Sprint("key:", e, ":", i), value))
		}
		logs = append(logs, &raft.Log{Term: 1, Data: raftfsm.Entry(1000, 1, reqs...)})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += 100 {
		l := logs[n/100%100]
		l.Index = uint64(n/100 + 1)
		if err := r.fsm.Apply(l); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSizeOf is what every command pays for the limit on entries.
func BenchmarkSizeOf(b *testing.B) {
	q := set("key:1", strings.Repeat("v", 512))
	for b.Loop() {
		raftfsm.SizeOf(&q)
	}
}

// benchStream is the stream of n keys of 512 bytes with deadlines.
func benchStream(b *testing.B, n int) []byte {
	b.Helper()
	r := newFSMOn(b, clock.System{})
	value := strings.Repeat("v", 512)
	for i := 0; i < n; i += 1000 {
		var reqs []command.Request
		for k := range 1000 {
			reqs = append(reqs, req(raftfsm.SpecSet, fmt.Sprint("session:", i+k), value, "PXAT", fmt.Sprint(wall+i+k)))
		}
		r.apply(uint64(i/1000+1), raftfsm.Entry(1000, 1, reqs...))
	}
	return r.snapshot()
}

// BenchmarkRestore is restoring 200,000 keys of 512 bytes.
func BenchmarkRestore(b *testing.B) {
	stream := benchStream(b, 200_000)
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		r := newFSMOn(b, clock.System{})
		if err := r.restore(stream); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPersist is writing 200,000 keys of 512 bytes.
func BenchmarkPersist(b *testing.B) {
	r := newFSMOn(b, clock.System{})
	stream := benchStream(b, 200_000)
	if err := r.restore(stream); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		snap, err := r.fsm.Snapshot()
		if err != nil {
			b.Fatal(err)
		}
		if err := snap.Persist(&discardSink{}); err != nil {
			b.Fatal(err)
		}
		snap.Release()
	}
}

// discardSink is a raft.SnapshotSink that keeps nothing.
type discardSink struct{ memorySink }

func (*discardSink) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkExport is stripping a stream of 200,000 keys to its commands.
func BenchmarkExport(b *testing.B) {
	stream := benchStream(b, 200_000)
	b.SetBytes(int64(len(stream)))
	for b.Loop() {
		if err := raftfsm.Export(io.Discard, bytes.NewReader(stream)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkView is a read by the state machine's instant.
func BenchmarkView(b *testing.B) {
	r := newFSMOn(b, clock.System{})
	r.apply(1, raftfsm.Entry(1000, 1, set("k", "v")))
	key := []byte("k")
	b.ReportAllocs()
	for b.Loop() {
		r.fsm.View(0, func(rd *store.Reader) { rd.Find(key) })
	}
}
