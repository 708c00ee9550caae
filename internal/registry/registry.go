// Package registry is a small registry server: distribution's handler on a folder,
// spoken to by plain HTTP on loopback.
package registry

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	"github.com/sirupsen/logrus"
)

// shutdownTimeout is how long requests under way may go on after the end was asked
// for.
const shutdownTimeout = 5 * time.Second

// Options say where the registry listens and keeps its blobs.
type Options struct {
	Addr string // host:port
	Root string
	// AllowInsecure lets Addr be reachable from other machines, although everybody
	// there may then read and write.
	AllowInsecure bool
	Log           *slog.Logger
	// Ready is called with the address that is listened on; may be nil.
	Ready func(net.Addr)
}

// New gives the handler of a registry on a folder, made if absent, and what ends its
// background work. Blobs and tags may be deleted.
func New(ctx context.Context, root string) (_ http.Handler, stop func() error, err error) {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make registry: %w", err)
	}
	config := &configuration.Configuration{
		Storage: configuration.Storage{
			"filesystem": configuration.Parameters{"rootdirectory": root},
			"delete":     configuration.Parameters{"enabled": true},
		},
	}
	config.HTTP.RelativeURLs = true
	// It signs the state of uploads; those of an earlier process start again.
	config.HTTP.Secret = rand.Text()
	config.Catalog.MaxEntries = 1000
	// The library panics where it cannot use its configuration.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("open registry %s: %v", root, p)
		}
	}()
	app := handlers.NewApp(ctx, config)
	return app, app.Shutdown, nil
}

// Serve runs a registry until ctx ends.
func Serve(ctx context.Context, o Options) error {
	if err := checkAddr(o); err != nil {
		return err
	}
	bridgeLogrus(o.Log)
	handler, stop, err := New(ctx, o.Root)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.Addr)
	if err != nil {
		return errors.Join(fmt.Errorf("listen on %s: %w", o.Addr, err), stop())
	}
	server := &http.Server{Handler: logged(o.Log, handler), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	if o.Ready != nil {
		o.Ready(listener.Addr())
	}
	select {
	case err := <-ended:
		return errors.Join(fmt.Errorf("serve: %w", err), stop())
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err = server.Shutdown(last)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-ended
	return errors.Join(err, stop())
}

// checkAddr refuses plain HTTP for other machines unless it was asked for.
func checkAddr(o Options) error {
	host, _, err := net.SplitHostPort(o.Addr)
	if err != nil {
		return fmt.Errorf("invalid address %q: want host:port", o.Addr)
	}
	addr, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && addr.Unmap().IsLoopback() || o.AllowInsecure {
		return nil
	}
	return fmt.Errorf("refusing plain HTTP on %s: only loopback is served without --allow-insecure", o.Addr)
}

// logged writes one line for each request.
func logged(log *slog.Logger, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		s := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(s, r)
		log.Info("request", "method", r.Method, "path", r.URL.Path, "status", s.status, "took", time.Since(started))
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController find the rest.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// bridgeLogrus sends the library's warnings to log; its logger is process-wide.
func bridgeLogrus(log *slog.Logger) {
	logger := logrus.StandardLogger()
	logger.SetOutput(io.Discard)
	logger.SetLevel(logrus.WarnLevel)
	logger.AddHook(warnings{log})
}

type warnings struct{ log *slog.Logger }

func (warnings) Levels() []logrus.Level { return logrus.AllLevels[:logrus.WarnLevel+1] }

func (w warnings) Fire(e *logrus.Entry) error {
	w.log.Warn(e.Message)
	return nil
}
