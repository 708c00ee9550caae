package server

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"time"

	"muelle/internal/metric"
)

// metrics answers Prometheus.
func (s *Server) metrics(w *reply, r *request) error {
	// Gathered first, so that a failure still has a status.
	var b bytes.Buffer
	if err := s.o.System.Metrics(r.Context(), &b); err != nil {
		return err
	}
	w.Header().Set("Content-Type", metric.ContentType)
	_, err := w.Write(b.Bytes())
	return err
}

// ServeMetrics serves GET /metrics on l and nothing else, until ctx ends: the
// listener of --metrics-addr, which has no authentication.
func (s *Server) ServeMetrics(ctx context.Context, l net.Listener) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		reply := &reply{ResponseWriter: w}
		if err := s.metrics(reply, &request{Request: r, version: newest}); err != nil {
			s.fail(reply, r, err)
		}
	})
	h := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		BaseContext: func(net.Listener) context.Context { return requests }}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	cancel()
	err := h.Close()
	<-ended
	return err
}
