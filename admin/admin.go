package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// headerTimeout bounds how long a client may take to send its request's header.
const headerTimeout = 10 * time.Second

// Server serves the admin port.
type Server struct {
	http http.Server
}

// New makes the server: metrics from g; health tells whether the process works at all, ready whether it serves clients now; profiles,
// unless nil, answers below /debug/pprof/.
func New(g prometheus.Gatherer, health, ready func() error, profiles http.Handler) *Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(g, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", check(health))
	mux.HandleFunc("GET /readyz", check(ready))
	if profiles != nil {
		mux.Handle("/debug/pprof/", profiles)
	}
	return &Server{http: http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout}}
}

func check(f func() error) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := f(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
}

// Serve answers until Close.
func (s *Server) Serve(l net.Listener) error {
	if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close ends the server; requests under way have until the context ends.
func (s *Server) Close(ctx context.Context) error {
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(err, s.http.Close())
	}
	return nil
}
