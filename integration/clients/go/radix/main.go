// Radix tells the story with radix.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/mediocregopher/radix/v4"

	"github.com/holdfast/holdfast/integration/clients/go/story"
)

func main() {
	s := story.FromEnvironment()
	config := radix.SentinelConfig{
		PoolConfig:     radix.PoolConfig{Dialer: radix.Dialer{AuthPass: s.Password}},
		SentinelDialer: radix.Dialer{AuthPass: s.SentinelPassword},
	}
	all, err := config.New(context.Background(), s.MasterName, s.Sentinels)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	do := func(where func(context.Context, radix.Action) error, command string) func(context.Context) (int64, error) {
		return func(ctx context.Context) (int64, error) {
			var n int64
			err := where(ctx, radix.Cmd(&n, command, s.Key))
			return n, err
		}
	}
	os.Exit(story.Run(story.Client{
		Increment:   do(all.Do, "INCR"),
		Read:        do(all.Do, "GET"),
		ReadReplica: do(all.DoSecondary, "GET"),
	}))
}
