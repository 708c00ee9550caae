// Package build is the server side of image builds: BuildKit embedded in the
// process, on the same content store, snapshots and metadata as the images, with
// RUN executed by the engine's own runtime on the engine's own networks. The same
// BuildKit serves buildx (hijacked POST /grpc and /session), `muelle build` and the
// classic POST /build. Nothing of it is opened before the first build. No BuildKit
// type leaves the package.
package build

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"

	"muelle/internal/event"
	"muelle/internal/filter"
	"muelle/internal/image"
	"muelle/internal/network"
	"muelle/internal/remote"
	"muelle/internal/runtime"
	"muelle/internal/store"
)

// Options are the parts that builds are made of.
type Options struct {
	Root         string // data-root/buildkit; made at the first build
	ExecRoot     string // exec-root/build: folders of running steps
	Store        *store.Store
	Images       *image.Service
	Runtime      runtime.Runtime
	Networks     *network.Service
	Remote       *remote.Resolver
	Bus          *event.Bus
	Instance     string
	CgroupParent string // "muelle" or "muelle-INSTANCE"
	Log          *slog.Logger
}

// Service builds images. It is cheap until it is used for the first time.
type Service struct {
	o   Options
	log *slog.Logger

	mu      sync.Mutex
	engine  *engine // nil before first use
	closed  bool
	classic map[string]context.CancelCauseFunc // running classic builds by build id
}

// Request is a classic build, the query of POST /build.
type Request struct {
	// Tags are what the image is called, "name" or "name:tag".
	Tags       []string
	Dockerfile string // path inside the context; empty means Dockerfile
	// Remote is a context that the daemon would have to fetch; unsupported.
	Remote       string
	BuildArgs    map[string]*string // nil value: not set, as Docker's
	Labels       map[string]string
	Target       string
	NoCache      bool
	Pull         bool
	Quiet        bool
	Remove       bool // of intermediate containers; there never are any
	ForceRemove  bool
	NetworkMode  string
	Platform     string
	ExtraHosts   []string
	CacheFrom    []string
	ShmSize      int64
	Memory       int64
	MemorySwap   int64
	CPUShares    int64
	CPUPeriod    int64
	CPUQuota     int64
	CPUSetCPUs   string
	CPUSetMems   string
	CgroupParent string
	Ulimits      []Ulimit
	SecurityOpt  []string
	Squash       bool
	// BuildID names the build for Cancel.
	BuildID string
	// Auth holds credentials by registry host, of X-Registry-Config.
	Auth map[string]registry.AuthConfig
}

// Ulimit is one resource limit for RUN steps.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// PruneOptions selects cache records, as POST /build/prune does.
type PruneOptions struct {
	All           bool
	ReservedSpace int64
	MaxUsedSpace  int64
	MinFreeSpace  int64
	Filters       filter.Args
}

// Open gives a Service that has not done anything yet.
func Open(_ context.Context, o Options) (*Service, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Service{o: o, log: o.Log, classic: map[string]context.CancelCauseFunc{}}, nil
}

var _ interface {
	// ServeGRPC serves BuildKit's gRPC services on a hijacked connection until the
	// peer closes it or ctx ends. It closes conn.
	ServeGRPC(ctx context.Context, conn net.Conn) error
	// ServeSession attaches a client's session (its files, secrets, credentials) on
	// a hijacked POST /session; header is the request's. It closes conn.
	ServeSession(ctx context.Context, conn net.Conn, header http.Header) error
	// Build runs a classic build of the tar stream body and reports it in the
	// stream format of the classic builder. The error is also what belongs in the
	// stream's last message; nothing has been sent for it.
	Build(ctx context.Context, r Request, body io.Reader, out func(jsonstream.Message)) (imageID string, err error)
	Cancel(buildID string) error
	Prune(ctx context.Context, o PruneOptions) (*build.CachePruneReport, error)
	DiskUsage(ctx context.Context) ([]build.CacheRecord, error)
	Close() error
} = (*Service)(nil)
