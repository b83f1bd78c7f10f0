// Rueidis tells the story with rueidis, its client-side cache on as it is by default.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/redis/rueidis"

	"github.com/holdfast/holdfast/integration/clients/go/story"
)

func main() {
	client, err := tell(story.FromEnvironment())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(story.Run(client))
}

func tell(s story.Settings) (story.Client, error) {
	master, err := rueidis.NewClient(options(s))
	if err != nil {
		return story.Client{}, err
	}
	// Reads from replicas take a client of their own.
	only := options(s)
	only.ReplicaOnly = true
	replicas, err := rueidis.NewClient(only)
	if err != nil {
		return story.Client{}, err
	}
	return story.Client{
		Increment: func(ctx context.Context) (int64, error) {
			return master.Do(ctx, master.B().Incr().Key(s.Key).Build()).AsInt64()
		},
		// A cached read: the server tells when the counter has changed.
		Read: func(ctx context.Context) (int64, error) {
			return master.DoCache(ctx, master.B().Get().Key(s.Key).Cache(), time.Hour).AsInt64()
		},
		ReadReplica: func(ctx context.Context) (int64, error) {
			return replicas.Do(ctx, replicas.B().Get().Key(s.Key).Build()).AsInt64()
		},
	}, nil
}

func options(s story.Settings) rueidis.ClientOption {
	return rueidis.ClientOption{
		InitAddress: s.Sentinels,
		Password:    s.Password,
		Sentinel: rueidis.SentinelOption{
			MasterSet: s.MasterName,
			Password:  s.SentinelPassword,
			// It hears of a new master from one Sentinel only. Asking now and then finds
			// what was said while that connection was down.
			TopologyRefreshInterval: time.Second,
		},
	}
}
