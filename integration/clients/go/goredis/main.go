// Goredis tells the story with go-redis. Its argument is how the client is made:
//
//	failover   NewFailoverClient: everything goes to the master
//	latency    NewFailoverClusterClient: reads go to the nearest node
//	random     NewFailoverClusterClient: reads go to any node
package main

import (
	"context"
	"os"

	"github.com/redis/go-redis/v9"

	"github.com/holdfast/holdfast/integration/clients/go/story"
)

func main() {
	os.Exit(story.Run(client(story.FromEnvironment(), os.Args[1])))
}

func client(s story.Settings, kind string) story.Client {
	o := options(s)
	switch kind {
	case "latency":
		o.RouteByLatency = true
		return routed(redis.NewFailoverClusterClient(o), s.Key)
	case "random":
		o.RouteRandomly = true
		return routed(redis.NewFailoverClusterClient(o), s.Key)
	}
	// Reads from replicas take a client of their own.
	ro := options(s)
	ro.ReplicaOnly = true
	master, replicas := redis.NewFailoverClient(o), redis.NewFailoverClient(ro)
	return story.Client{
		Increment:   func(ctx context.Context) (int64, error) { return master.Incr(ctx, s.Key).Result() },
		Read:        func(ctx context.Context) (int64, error) { return master.Get(ctx, s.Key).Int64() },
		ReadReplica: func(ctx context.Context) (int64, error) { return replicas.Get(ctx, s.Key).Int64() },
	}
}

// routed is a client that sends writes to the master and reads where it likes; a read
// that must see the last write has to ask for the master.
func routed(all *redis.ClusterClient, key string) story.Client {
	return story.Client{
		Increment: func(ctx context.Context) (int64, error) {
			n, err := all.Incr(ctx, key).Result()
			if err != nil {
				// It hears of a new master from one Sentinel only, and looks for it by itself once
				// a minute: when that Sentinel dies with the master, it must be told to look.
				all.ReloadState(ctx)
			}
			return n, err
		},
		Read: func(ctx context.Context) (int64, error) {
			master, err := all.MasterForKey(ctx, key)
			if err != nil {
				return 0, err
			}
			return master.Get(ctx, key).Int64()
		},
		ReadReplica: func(ctx context.Context) (int64, error) { return all.Get(ctx, key).Int64() },
	}
}

func options(s story.Settings) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName:       s.MasterName,
		SentinelAddrs:    s.Sentinels,
		SentinelPassword: s.SentinelPassword,
		Password:         s.Password,
		// By default a failed dial is tried five times, 100 ms apart, and a Sentinel four
		// times: one that dies together with the master costs 2.5 s. With a single dial
		// it costs half a second. Commands are tried again in any case.
		DialerRetries: 1,
	}
}
