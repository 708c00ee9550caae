// Package build is the server side of image builds: BuildKit embedded in the
// process, on the same content store, snapshots and metadata as the images, with
// RUN executed by the engine's own runtime on the engine's own networks. The same
// BuildKit serves buildx (hijacked POST /grpc and /session), `muelle build` and the
// classic POST /build. Nothing of it is opened before the first build. No BuildKit
// type leaves the package.
package build

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"muelle/internal/event"
	"muelle/internal/image"
	"muelle/internal/linux/userns"
	"muelle/internal/network"
	"muelle/internal/remote"
	"muelle/internal/runtime"
	"muelle/internal/store"
)

// Options are the parts that builds are made of.
type Options struct {
	Root     string // data-root/buildkit; made at the first build
	ExecRoot string // exec-root/build: folders of running steps
	// Temp is the process's temporary folder if it is this daemon's alone, else empty.
	Temp         string
	Store        *store.Store
	Images       *image.Service
	Runtime      runtime.Runtime
	Networks     *network.Service
	Remote       *remote.Resolver
	Bus          *event.Bus
	Instance     string
	CgroupParent string // "muelle" or "muelle-INSTANCE"
	// AppArmor gives the loaded profile that steps run under; nil, or an empty name: none.
	AppArmor func() (string, error)
	// Remap gives the ids of steps; nil: the host's.
	Remap *userns.Map
	// Keep says how much of the build cache is kept without anybody asking.
	Keep Keep
	// NoHostNetwork refuses builds on the host's network.
	NoHostNetwork bool
	Log           *slog.Logger
}

// Service builds images. It is cheap until it is used for the first time.
type Service struct {
	o   Options
	log *slog.Logger

	// life ends with Close; every build is below it.
	life context.Context
	end  context.CancelCauseFunc
	work sync.WaitGroup // connections and builds that Close waits for

	counts counts

	mu     sync.Mutex
	engine *engine // nil before first use
	closed bool
	// active counts the work under way; ended is when the last of it did.
	active  int
	ended   time.Time
	classic map[string]context.CancelCauseFunc // running classic builds by build id
}

// Open gives a Service. It removes what a daemon that died left of its running
// steps, and opens nothing else.
func Open(ctx context.Context, o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	life, end := context.WithCancelCause(context.WithoutCancel(ctx))
	s := &Service{o: o, log: o.Log, life: life, end: end, classic: map[string]context.CancelCauseFunc{}}
	if err := removeLeftovers(ctx, o); err != nil {
		end(nil)
		return nil, fmt.Errorf("clean up interrupted builds: %w", err)
	}
	return s, nil
}

var errClosing = errdefs.ErrUnavailable.WithMessage("the daemon is shutting down")

// open gives the engine, opening it on first use, and counts the caller as work
// that Close waits for; done ends it.
func (s *Service) open() (e *engine, done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, errClosing
	}
	if s.engine == nil {
		e, err := openEngine(s.life, s.o, &s.counts)
		if err != nil {
			return nil, nil, fmt.Errorf("open the builder: %w", err)
		}
		s.engine = e
	}
	s.work.Add(1)
	s.active++
	return s.engine, func() {
		s.mu.Lock()
		s.active--
		s.ended = time.Now()
		s.mu.Unlock()
		s.work.Done()
	}, nil
}

// opened gives the engine if it is open, or was used by an earlier daemon and has
// something on disk; nil where nothing was ever built.
func (s *Service) opened() (e *engine, done func(), err error) {
	s.mu.Lock()
	idle := s.engine == nil && !exists(s.o.Root)
	s.mu.Unlock()
	if idle {
		return nil, func() {}, nil
	}
	return s.open()
}

// Close cancels running builds, waits for them and closes the databases.
func (s *Service) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	e := s.engine
	s.mu.Unlock()

	s.end(errClosing)
	if e == nil {
		s.work.Wait()
		return nil
	}
	if err := e.stopServing(); err != nil {
		return err
	}
	s.work.Wait()
	if err := e.close(); err != nil {
		return err
	}
	// Mounts that BuildKit gives back only after its steps may still be there.
	if err := removeLeftovers(context.Background(), s.o); err != nil {
		return fmt.Errorf("clean up cancelled builds: %w", err)
	}
	return nil
}
