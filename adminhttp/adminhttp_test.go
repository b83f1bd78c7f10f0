package adminhttp_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast/holdfast/adminhttp"
)

// config is a healthy master with one metric; the test changes what it needs.
func config() adminhttp.Config {
	metrics := prometheus.NewRegistry()
	up := prometheus.NewGauge(prometheus.GaugeOpts{Name: "redis_up", Help: "Whether the server serves."})
	up.Set(1)
	metrics.MustRegister(up)
	yes := func(context.Context) error { return nil }
	return adminhttp.Config{Metrics: metrics, Ready: yes, Leader: yes, Log: slog.New(slog.DiscardHandler)}
}

func get(cfg adminhttp.Config, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	adminhttp.Handler(cfg).ServeHTTP(w, httptest.NewRequest(method, path, http.NoBody))
	return w
}

// Each check has its path; a failed one answers 503 with its reason, and only
// that one.
func TestChecksAnswerByStatus(t *testing.T) {
	loading, replica := errors.New("loading"), errors.New("the master is n2")
	tests := []struct {
		name          string
		ready, leader error
		want          map[string]string
	}{
		{"a master", nil, nil, map[string]string{"/healthz": "200 ok", "/readyz": "200 ok", "/leader": "200 ok"}},
		{"a replica", nil, replica, map[string]string{"/healthz": "200 ok", "/readyz": "200 ok", "/leader": "503 the master is n2"}},
		{"loading", loading, replica, map[string]string{"/healthz": "200 ok", "/readyz": "503 loading", "/leader": "503 the master is n2"}},
	}
	for _, tt := range tests {
		cfg := config()
		cfg.Ready = func(context.Context) error { return tt.ready }
		cfg.Leader = func(context.Context) error { return tt.leader }
		for path, want := range tt.want {
			w := get(cfg, http.MethodGet, path)
			status, text, _ := strings.Cut(want, " ")
			if w.Code != map[string]int{"200": 200, "503": 503}[status] || w.Body.String() != text+"\n" {
				t.Errorf("%s, %s: %d %q, want %s", tt.name, path, w.Code, w.Body, want)
			}
			if w.Header().Get("Cache-Control") != "no-store" {
				t.Errorf("%s, %s: may be cached", tt.name, path)
			}
		}
	}
}

// A check that does not come to an end counts as failed after two seconds.
func TestStuckCheckFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		cfg.Leader = func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}
		if w := get(cfg, http.MethodGet, "/leader"); w.Code != http.StatusServiceUnavailable {
			t.Errorf("status %d, want 503", w.Code)
		}
	})
}

// Other paths and methods are refused.
func TestNothingElseIsServed(t *testing.T) {
	tests := []struct {
		method, path string
		want         int
	}{
		{http.MethodHead, "/leader", http.StatusOK},
		{http.MethodPost, "/leader", http.StatusMethodNotAllowed},
		{http.MethodPut, "/metrics", http.StatusMethodNotAllowed},
		{http.MethodGet, "/", http.StatusNotFound},
		{http.MethodGet, "/leader/x", http.StatusNotFound},
		{http.MethodGet, "/debug/pprof/", http.StatusNotFound},
	}
	for _, tt := range tests {
		if w := get(config(), tt.method, tt.path); w.Code != tt.want {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
	}
}

// Metrics come in Prometheus's text format, and what can be gathered comes even
// if a part fails, which is logged.
func TestMetricsSurviveFailingPart(t *testing.T) {
	var log strings.Builder
	cfg := config()
	cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	cfg.Metrics = prometheus.Gatherers{cfg.Metrics, config().Metrics} // the same metric twice
	w := get(cfg, http.MethodGet, "/metrics")
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "redis_up 1") {
		t.Errorf("%d %q, want redis_up", w.Code, w.Body)
	}
	if !strings.Contains(log.String(), "was collected before") {
		t.Errorf("logged %q, want the error", log.String())
	}
}

// Run serves until its context ends, lets the request under way finish, and
// leaves nothing listening.
func TestRunFinishesRequestsAtShutdown(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan struct{})
	stopping := make(chan struct{})
	cfg := config()
	cfg.Ready = func(context.Context) error {
		close(asked)
		<-stopping
		return nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- adminhttp.New(cfg).Run(ctx, l) }()

	replied := make(chan string, 1)
	go func() {
		r, err := http.Get("http://" + l.Addr().String() + "/readyz")
		if err != nil {
			replied <- err.Error()
			return
		}
		defer r.Body.Close()
		text, _ := io.ReadAll(r.Body)
		replied <- r.Status + " " + string(text)
	}()
	<-asked
	cancel()
	close(stopping)
	if got := <-replied; got != "200 OK ok\n" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
	if c, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String()); err == nil {
		c.Close()
		t.Error("still listening")
	}
}

// A listener that fails ends Run with its error.
func TestRunReturnsListenerError(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := adminhttp.New(config()).Run(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v, want %v", err, net.ErrClosed)
	}
}

// Whoever opens connections and says nothing takes no more than a few of the
// process's descriptors, and gives them back.
func TestConnectionsAreBounded(t *testing.T) {
	const bound, tries = 256, 300
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- adminhttp.New(config()).Run(ctx, l) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	ask := func(conn net.Conn) bool {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		answer := make([]byte, 12)
		_, err := io.ReadFull(conn, answer)
		return err == nil && string(answer) == "HTTP/1.1 200"
	}
	dial := func() net.Conn {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	var open []net.Conn
	for range tries {
		if conn := dial(); ask(conn) {
			open = append(open, conn)
		}
	}
	if len(open) != bound {
		t.Errorf("%d connections are served at once, want %d", len(open), bound)
	}
	_ = open[0].Close()
	for deadline := time.Now().Add(5 * time.Second); !ask(dial()); {
		if time.Now().After(deadline) {
			t.Fatal("a place that was given back is not used again")
		}
	}
}
