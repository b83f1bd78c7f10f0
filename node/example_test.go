package node_test

import (
	"context"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast/holdfast/config"
	"github.com/holdfast/holdfast/node"
)

// One node inside a program, without any port: only the program itself is served.
func ExampleOpen() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	directives, err := config.Load(config.Sources{Flags: []config.Setting{{Name: "dir", Value: dir}}})
	if err != nil {
		log.Fatal(err)
	}
	n, err := node.Open(node.Config{
		Directives: directives,
		Data:       node.Nowhere(), Sentinel: node.Nowhere(), Metrics: node.Nowhere(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer n.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := n.WaitReady(ctx); err != nil {
		log.Fatal(err)
	}

	client := redis.NewClient(&redis.Options{
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) { return n.Dial(ctx) },
	})
	defer client.Close()
	if err := client.Set(ctx, "session:1", "ada", time.Hour).Err(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.Get(ctx, "session:1").Val())
	// Output: ada
}

// Three nodes in one program. Ports are those the kernel gives; the ones for the other
// nodes have to be known before the first node is opened, so they are opened first.
func ExampleOpen_threeNodes() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	ids := []string{"n1", "n2", "n3"}
	raft := make([]net.Listener, len(ids))
	peers := make([]string, len(ids))
	for i, id := range ids {
		if raft[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			log.Fatal(err)
		}
		peers[i] = id + "=" + raft[i].Addr().String()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nodes := make([]*node.Instance, len(ids))
	sentinels := make([]string, len(ids))
	for i, id := range ids {
		if nodes[i], err = openExample(dir, id, strings.Join(peers, ","), raft[i]); err != nil {
			log.Fatal(err)
		}
		defer nodes[i].Close() //nolint:gocritic // at the end, all of them
		sentinels[i] = nodes[i].SentinelAddr().String()
	}
	for _, n := range nodes {
		if err := n.WaitReady(ctx); err != nil {
			log.Fatal(err)
		}
	}

	client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "mymaster", SentinelAddrs: sentinels})
	defer client.Close()
	persist := func(command func() error) {
		for err := command(); err != nil && ctx.Err() == nil; { // another node takes over in a second
			err = command()
		}
	}
	persist(func() error { return client.Set(ctx, "session:1", "ada", time.Hour).Err() })
	for _, n := range nodes {
		if n.Leader(ctx) == nil { // the master goes
			if err := n.Close(); err != nil {
				log.Fatal(err)
			}
			break
		}
	}
	persist(func() error { return client.Set(ctx, "session:2", "grace", time.Hour).Err() })
	var names []any
	persist(func() (err error) {
		names, err = client.MGet(ctx, "session:1", "session:2").Result()
		return err
	})
	fmt.Println(names...)
	// Output: ada grace
}

// openExample opens one of three nodes.
func openExample(dir, id, peers string, raft net.Listener) (*node.Instance, error) {
	directives, err := config.Load(config.Sources{Flags: []config.Setting{
		{Name: "node-id", Value: id},
		{Name: "peers", Value: peers},
		{Name: "cluster-secret", Value: "shared by the three"},
		{Name: "dir", Value: dir + "/" + id},
		{Name: "bind", Value: "127.0.0.1"},
	}})
	if err != nil {
		return nil, err
	}
	return node.Open(node.Config{
		Directives: directives,
		Data:       node.AnyPort(), Sentinel: node.AnyPort(), Metrics: node.Nowhere(),
		Raft: []net.Listener{raft},
	})
}
