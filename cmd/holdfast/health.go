package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/holdfast/holdfast/config"
)

// healthLimit bounds the whole check.
const healthLimit = 3 * time.Second

// healthcheck asks the node on this machine whether it is healthy.
func (p program) healthcheck(ctx context.Context, cfg *config.Config) int {
	if err := healthy(ctx, cfg); err != nil {
		fmt.Fprintf(p.stderr, "holdfast: not healthy: %v\n", err)
		return exitFailed
	}
	fmt.Fprintln(p.stdout, "healthy")
	return exitOK
}

// healthy is nil if GET /healthz on the metrics port answers 200.
func healthy(ctx context.Context, cfg *config.Config) error {
	if cfg.MetricsPort == 0 {
		return errors.New("metrics-port is 0, so there is nothing to ask")
	}
	ctx, cancel := context.WithTimeout(ctx, healthLimit)
	defer cancel()
	url := "http://" + net.JoinHostPort(cfg.LocalHost(), strconv.Itoa(cfg.MetricsPort)) + "/healthz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // without a proxy
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		const enough = 512
		text, _ := io.ReadAll(io.LimitReader(resp.Body, enough))
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return nil
}
