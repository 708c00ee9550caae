// Package server speaks the Docker Engine API, versions 1.24 to 1.56, and
// Muelle's own paths below /muelle/v1/. It translates HTTP to calls of the
// engine's services and their errors to statuses, carries the streams of attach,
// exec, logs, builds and events, and decides nothing.
package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"
	"time"

	"muelle/api"
	"muelle/internal/event"
)

// Options are the services that the endpoints are made of. A nil service answers
// as one that is not there: 503.
type Options struct {
	Containers Containers
	Images     Images
	Networks   Networks
	Volumes    Volumes
	Build      Builds
	Projects   Projects
	System     System
	Why        Why
	Exposure   Exposure
	Zones      Zones
	Bus        *event.Bus
	// Version is the engine's, for the Server header.
	Version string
	// MinVersion is the oldest API version to serve; empty means api.MinVersion.
	MinVersion string
	// Experimental is what clients are told in Docker-Experimental; nothing depends on it.
	Experimental bool
	// Debug serves /debug/pprof and /debug/vars.
	Debug bool
	// Idle is called when no request has come or ended for some seconds.
	Idle func()
	// Shutdown ends the daemon; containers are stopped if stop says so.
	Shutdown func(stop bool)
	Log      *slog.Logger
}

// Server answers requests on any number of listeners.
type Server struct {
	o      Options
	log    *slog.Logger
	routes *router
	idle   *idle
	// least is the minor number of the oldest version that is served.
	least int

	// streams are the hijacked connections, which http.Server no longer knows.
	streams struct {
		sync.Mutex
		open   map[net.Conn]struct{}
		closed bool
		wait   sync.WaitGroup
	}
}

// New makes a Server. It does nothing before Serve.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{o: o, log: o.Log, least: leastOf(o.MinVersion)}
	s.streams.open = map[net.Conn]struct{}{}
	s.routes = newRouter(s.table())
	s.idle = newIdle(o.Idle)
	return s
}

// grace is how long requests may take to end once the daemon shuts down.
const grace = 2 * time.Second

// Serve answers requests on l until ctx ends, then lets running requests finish
// for a moment, closes every stream and returns when all handlers have ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	h := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 30 * time.Second,
		MaxHeaderBytes:    256 << 10,
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.closeStreams()
	finish, stop := context.WithTimeout(requests, grace)
	defer stop()
	if err := h.Shutdown(finish); err != nil {
		cancel()
		if err := h.Close(); err != nil {
			s.log.Debug("close listener", "err", err)
		}
	}
	s.streams.wait.Wait()
	s.idle.stop()
	<-ended
	return nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Server", "Muelle/"+s.o.Version+" (linux)")
	h.Set("Api-Version", api.DefaultVersion)
	h.Set("Ostype", "linux")
	h.Set("Docker-Experimental", strconv.FormatBool(s.o.Experimental))
	reply := &reply{ResponseWriter: w}
	start := time.Now()
	s.idle.touch()
	defer s.idle.touch()
	defer s.recover(reply, r)
	err := s.serve(reply, r)
	if err != nil {
		s.fail(reply, r, err)
	}
	if s.log.Enabled(r.Context(), slog.LevelDebug) {
		s.log.Debug("request", "req", r.Method+" "+r.URL.Path, "took", time.Since(start), "err", err)
	}
}

func (s *Server) serve(w *reply, r *http.Request) error {
	if r.Method == http.MethodOptions {
		// As Docker, for every path: nothing is allowed to web pages by it.
		w.WriteHeader(http.StatusOK)
		return nil
	}
	version, path, err := splitVersion(r.URL.Path, s.least)
	if err != nil {
		return err
	}
	handle, name, ok := s.routes.find(r.Method, path)
	if !ok {
		return errPageNotFound
	}
	return handle(w, &request{Request: r, name: name, version: version})
}

// fail answers with an error, or ends the answer that has begun already.
func (s *Server) fail(w *reply, r *http.Request, err error) {
	code := statusOf(err)
	gone := r.Context().Err() != nil || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
	if code == http.StatusInternalServerError && !gone {
		s.log.Error("request failed", "req", r.Method+" "+r.URL.Path, "err", err)
	}
	if w.begun {
		return
	}
	if code == http.StatusNotModified {
		w.WriteHeader(code)
		return
	}
	if werr := writeJSON(w, code, errorBody(err)); werr != nil {
		s.log.Debug("write error", "req", r.URL.Path, "err", werr)
	}
}

// recover keeps one broken handler from ending the daemon and every container's
// supervision with it.
func (s *Server) recover(w *reply, r *http.Request) {
	p := recover()
	switch p {
	case nil:
		return
	case http.ErrAbortHandler:
		panic(p)
	}
	s.log.Error("handler panicked", "req", r.Method+" "+r.URL.Path, "err", p, "stack", string(debug.Stack()))
	if !w.begun {
		_ = writeJSON(w, http.StatusInternalServerError, errorBody(errors.New("internal error: see the daemon's log")))
	}
}

// request is one request with what the path told.
type request struct {
	*http.Request
	name    string // what the pattern's {name} matched
	version int    // minor API version, 24 to 56
}

// reply remembers whether the answer has begun, after which no error status can
// be sent any more.
type reply struct {
	http.ResponseWriter
	begun bool
}

func (w *reply) WriteHeader(code int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(code)
}

func (w *reply) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps the response writer's own way of copying.
func (w *reply) ReadFrom(r io.Reader) (int64, error) {
	w.begun = true
	return io.Copy(w.ResponseWriter, r)
}

// flush sends what was written so far, the headers at least.
func (w *reply) flush() {
	w.begun = true
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}
