package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/defaults"
	"github.com/moby/buildkit/cache/remotecache"
	inlinecache "github.com/moby/buildkit/cache/remotecache/inline"
	localcache "github.com/moby/buildkit/cache/remotecache/local"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/cmd/buildkitd/config"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	dockerfileversion "github.com/moby/buildkit/frontend/dockerfile/version"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/grpcerrors"
	"github.com/moby/buildkit/worker"
	"github.com/moby/buildkit/worker/base"
	bolt "go.etcd.io/bbolt"
	"google.golang.org/grpc"
)

// engine is BuildKit, opened.
type engine struct {
	counts     *counts
	sessions   *session.Manager
	workers    *worker.Controller
	worker     *imageWorker
	controller *control.Controller
	steps      *stepExecutor
	server     *grpc.Server
	conns      *connListener
	serving    chan error // gets the result of server.Serve
}

// openEngine wires BuildKit on the store's parts. life ends when the daemon stops.
func openEngine(life context.Context, o Options, c *counts) (_ *engine, err error) {
	// That ExecRoot is there tells the next daemon that this one did not end well.
	for _, dir := range []string{o.Root, o.ExecRoot} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	var undo []func() error
	defer func() {
		if err == nil {
			return
		}
		for i := len(undo) - 1; i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()

	nameVersion()
	e := &engine{workers: &worker.Controller{}, counts: c}
	if e.sessions, err = session.NewManager(); err != nil {
		return nil, err
	}
	e.steps = newExecutor(o)
	opt, err := workerOptions(life, o, e.steps)
	if err != nil {
		return nil, err
	}
	undo = append(undo, opt.MetadataStore.Close)
	w, err := base.NewWorker(life, opt)
	if err != nil {
		return nil, err
	}
	e.worker = &imageWorker{Worker: w, images: o.Store.Images(), bus: o.Bus}
	if err := e.workers.Add(e.worker); err != nil {
		return nil, err
	}

	cacheStore, err := bboltcachestorage.NewStore(filepath.Join(o.Root, "cache.db"))
	if err != nil {
		return nil, err
	}
	undo = append(undo, cacheStore.Close)
	// History is a convenience: losing its last records in a power cut harms nobody.
	historyDB, err := boltutil.SafeOpen(filepath.Join(o.Root, "history.db"), 0o600,
		&bolt.Options{FreelistType: bolt.FreelistMapType, NoSync: true})
	if err != nil {
		return nil, err
	}
	undo = append(undo, historyDB.Close)

	gatewayFrontend, err := gateway.NewGatewayFrontend(e.workers.Infos(), nil)
	if err != nil {
		return nil, err
	}
	builtin := forwarder.NewGatewayForwarder(e.workers.Infos(), dockerfile.Build)
	hosts := opt.RegistryHosts
	maxEntries := int64(historyEntries)
	e.controller, err = control.NewController(control.Opt{
		SessionManager:   e.sessions,
		WorkerController: e.workers,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": builtin,
			"gateway.v0":    syntaxFrontend{builtin: builtin, image: gatewayFrontend, version: dockerfileversion.Version()},
		},
		CacheManager: solver.NewCacheManager(life, "local", cacheStore, worker.NewCacheResultStorage(e.workers)),
		CacheStore:   cacheStore,
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"registry": registrycache.ResolveCacheExporterFunc(e.sessions, hosts),
			"local":    localcache.ResolveCacheExporterFunc(e.sessions),
			"inline":   inlinecache.ResolveCacheExporterFunc(),
		},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"registry": registrycache.ResolveCacheImporterFunc(e.sessions, opt.ContentStore, hosts),
			"local":    localcache.ResolveCacheImporterFunc(e.sessions),
		},
		// As Docker's: RUN --security=insecure is off unless the daemon is told otherwise.
		Entitlements:   entitlements(o),
		HistoryDB:      historyDB,
		HistoryConfig:  &config.HistoryConfig{MaxAge: config.Duration{Duration: historyAge}, MaxEntries: &maxEntries},
		LeaseManager:   opt.LeaseManager,
		ContentStore:   opt.ContentStore,
		GarbageCollect: w.GarbageCollect,
		GracefulStop:   life.Done(),
	})
	if err != nil {
		return nil, err
	}
	e.serve(life)
	return e, nil
}

func entitlements(o Options) []string {
	if o.NoHostNetwork {
		return nil
	}
	return []string{"network.host"}
}

const (
	historyAge     = 48 * time.Hour
	historyEntries = 50
)

// serve starts the gRPC server on connections that are handed to e.conns.
func (e *engine) serve(life context.Context) {
	e.server = grpc.NewServer(
		grpc.ChainUnaryInterceptor(preferLocal, e.counts.solve, grpcerrors.UnaryServerInterceptor),
		grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor),
		grpc.MaxRecvMsgSize(defaults.DefaultMaxRecvMsgSize),
		grpc.MaxSendMsgSize(defaults.DefaultMaxSendMsgSize),
		grpc.WaitForHandlers(true), // they write to the databases that are closed next
	)
	e.controller.Register(e.server)
	e.conns = newConnListener()
	e.serving = make(chan error, 1)
	go func() { e.serving <- e.server.Serve(e.conns) }()
}

// stopPatience bounds the wait for cancelled builds at the daemon's end; the next
// daemon removes what is left then.
const stopPatience = 2 * killPatience

// stopServing ends every connection, and with it the builds behind them, and waits
// for their steps.
func (e *engine) stopServing() error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.server.Stop()
	}()
	patience := time.After(stopPatience)
	for _, ended := range []<-chan struct{}{stopped, e.steps.close()} {
		select {
		case <-ended:
		case <-patience:
			return errors.New("cancelled builds do not end")
		}
	}
	return nil
}

func (e *engine) close() error {
	err := <-e.serving
	if errors.Is(err, grpc.ErrServerStopped) {
		err = nil
	}
	if cerr := e.controller.Close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close the builder: %w", cerr))
	}
	return err
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
