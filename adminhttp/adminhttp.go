// Package adminhttp serves what monitoring and load balancers ask for over HTTP:
// /metrics, /healthz, /readyz and /leader. It knows nothing of the cluster: the
// answers come from functions it is given.
package adminhttp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check answers one question about the node: nil for yes, otherwise an error
// whose text is the reason, shown to whoever asks. It is safe for concurrent use
// and returns soon after ctx is done.
type Check func(ctx context.Context) error

// Config is what a Server is built from. All fields are required.
type Config struct {
	Metrics prometheus.Gatherer
	// Ready tells whether the node can serve clients.
	Ready Check
	// Leader tells whether the node is confirmed to be the master.
	Leader Check
	Log    *slog.Logger
}

const (
	checkTimeout    = 2 * time.Second  // a check that takes longer counts as failed
	readTimeout     = 5 * time.Second  // a whole request; they have no bodies to speak of
	writeTimeout    = 30 * time.Second // a reply; metrics are the longest
	idleTimeout     = 90 * time.Second // scrapes come every few seconds to a minute
	shutdownTimeout = 2 * time.Second
	maxHeaderBytes  = 16 << 10
	maxScrapes      = 4   // metrics requests served at once; more are refused with 503
	maxConnections  = 256 // open at once; further ones are closed: the process needs its descriptors elsewhere
)

// Handler answers the four paths. The three checks answer 200, or 503 with the
// reason, to GET and HEAD.
func Handler(cfg Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{
		ErrorLog:            gatherLog{cfg.Log},
		ErrorHandling:       promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes,
	}))
	mux.Handle("GET /healthz", answer(func(context.Context) error { return nil }))
	mux.Handle("GET /readyz", answer(cfg.Ready))
	mux.Handle("GET /leader", answer(cfg.Leader))
	return mux
}

// answer makes a reply of a check.
func answer(check Check) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		status, text := http.StatusOK, "ok"
		if err := check(ctx); err != nil {
			status, text = http.StatusServiceUnavailable, err.Error()
		}
		h := w.Header()
		h.Set("Content-Type", "text/plain; charset=utf-8")
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text+"\n") // nobody is left to tell if it fails
	})
}

// gatherLog writes down what promhttp could not gather.
type gatherLog struct{ log *slog.Logger }

func (g gatherLog) Println(v ...any) {
	for _, item := range v {
		if err, ok := item.(error); ok {
			g.log.Warn("metrics could not be gathered", "error", err)
		}
	}
}

// Server serves a Config over HTTP.
type Server struct {
	http *http.Server
}

// New returns a server that does nothing until Run.
func New(cfg Config) *Server {
	return &Server{&http.Server{
		Handler:        Handler(cfg),
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ErrorLog:       slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}}
}

// Run serves connections of l until ctx is done, then finishes the requests that
// are being answered, for two seconds at most. It closes l, returns nil if ctx
// ended it, and may be called once.
func (s *Server) Run(ctx context.Context, l net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(newLimited(l)) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.http.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.http.Close()
	}
	if stopped := <-served; !errors.Is(stopped, http.ErrServerClosed) {
		err = errors.Join(err, stopped)
	}
	return err
}

// limited accepts a bounded number of connections at a time and closes others at
// once.
type limited struct {
	net.Listener
	places chan struct{} // holds a token per connection that is open
}

func newLimited(l net.Listener) *limited {
	return &limited{l, make(chan struct{}, maxConnections)}
}

// Accept returns the next connection there is a place for.
func (l *limited) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.places <- struct{}{}:
			return &placed{Conn: conn, leave: sync.OnceFunc(func() { <-l.places })}, nil
		default:
			_ = conn.Close() // refused
		}
	}
}

// placed is a connection that gives its place back when it is closed.
type placed struct {
	net.Conn
	leave func()
}

// Close closes the connection.
func (c *placed) Close() error {
	c.leave()
	return c.Conn.Close()
}
