// Program redis-clients runs go-redis. Arguments: host, port, "tls" or "plain".
package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func must(err error) {
	if err != nil && err != redis.Nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func fails(err error) {
	if err == nil {
		fmt.Fprintln(os.Stderr, "did not fail")
		os.Exit(1)
	}
}

func main() {
	options := &redis.Options{Addr: net.JoinHostPort(os.Args[1], os.Args[2]), PoolSize: 1, MaxRetries: -1}
	if os.Args[3] == "tls" {
		options.TLSConfig = &tls.Config{InsecureSkipVerify: true}
	}
	ctx := context.Background()
	client := redis.NewClient(options)
	must(client.Set(ctx, "go:a", "value", time.Hour).Err())
	must(client.Get(ctx, "go:a").Err())
	must(client.HSet(ctx, "go:h", "f", 1, "g", 2).Err())
	must(client.HGetAll(ctx, "go:h").Err())
	fails(client.LPop(ctx, "go:a").Err())
	fails(client.Do(ctx, "NOSUCHCOMMAND", "x").Err())
	must(client.ConfigGet(ctx, "maxmemory").Err())
	_, err := client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for i := range 100 {
			pipe.Set(ctx, fmt.Sprintf("go:%d", i), strings.Repeat("x", i), 0)
		}
		return nil
	})
	must(err)
	_, err = client.TxPipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.Incr(ctx, "go:n")
		pipe.LPop(ctx, "go:a")
		pipe.Get(ctx, "go:n")
		return nil
	})
	fails(err)
	must(client.Do(ctx, "SELECT", 5).Err())
	must(client.Set(ctx, "go:in5", 5, 0).Err())
	must(client.Do(ctx, "SELECT", 0).Err())
	must(redis.NewScript(`return redis.call("SET", KEYS[1], ARGV[1])`).Run(ctx, client, []string{"go:lua"}, 1).Err())
	must(client.Set(ctx, "go:large", strings.Repeat("x", 3_000_000), 0).Err())
	must(client.Get(ctx, "go:large").Err())
	must(client.BLPop(ctx, time.Second, "go:none").Err())
	must(client.XAdd(ctx, &redis.XAddArgs{Stream: "go:stream", Values: []string{"a", "1"}}).Err())
	must(client.Close())
}
