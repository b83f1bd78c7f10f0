package respserver_test

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"testing"
)

// benchPipeline sends the same pipeline again and again and reads its replies.
func benchPipeline(b *testing.B, line string, depth int) {
	b.Helper()
	r := start(b)
	p := r.dial(b)
	p.want("SET key "+string(bytes.Repeat([]byte("v"), 512)), "OK")
	request := bytes.Repeat(encode(line), depth)
	p.sendBytes(request)
	size := 0
	for range depth {
		size += len(p.read().Append(nil, 2))
	}
	reply := make([]byte, size)
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if _, err := p.conn.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(p.conn, reply); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*depth)/b.Elapsed().Seconds(), "commands/s")
}

// BenchmarkGet is what the server adds to a confirmed read.
func BenchmarkGet(b *testing.B) {
	for _, depth := range []int{1, 16} {
		b.Run("pipeline="+strconv.Itoa(depth), func(b *testing.B) { benchPipeline(b, "GET key", depth) })
	}
}

// BenchmarkPing is a command without a state behind it: the cost of the loop.
func BenchmarkPing(b *testing.B) {
	for _, depth := range []int{1, 16} {
		b.Run("pipeline="+strconv.Itoa(depth), func(b *testing.B) { benchPipeline(b, "PING", depth) })
	}
}

// BenchmarkSet is what the server adds to a write.
func BenchmarkSet(b *testing.B) {
	value := string(bytes.Repeat([]byte("v"), 512))
	for _, depth := range []int{1, 16} {
		b.Run("pipeline="+strconv.Itoa(depth), func(b *testing.B) { benchPipeline(b, "SET key "+value, depth) })
	}
}

// BenchmarkConnectPerCommand is a client that makes a connection for each command.
func BenchmarkConnectPerCommand(b *testing.B) {
	r := start(b)
	request := encode("PING")
	reply := make([]byte, len("+PONG\r\n"))
	b.ReportAllocs()
	for range b.N {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, reply); err != nil {
			b.Fatal(err)
		}
		_ = conn.Close()
	}
}
