// Package system tells what the engine as a whole is: its identity and version,
// what the host and its kernel offer to containers, how many of each noun there
// are, and what they take on disk.
package system

import (
	"context"
	"log/slog"
	"sync/atomic"

	buildtypes "github.com/moby/moby/api/types/build"
	containertypes "github.com/moby/moby/api/types/container"
	imagetypes "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	volumetypes "github.com/moby/moby/api/types/volume"

	"muelle/api"
	"muelle/internal/build"
	"muelle/internal/check"
	"muelle/internal/container"
	"muelle/internal/image"
	"muelle/internal/linux/du"
	"muelle/internal/metric"
	"muelle/internal/oci"
	"muelle/internal/remote"
	"muelle/internal/runtime"
	"muelle/internal/runtime/outside"
)

type containers interface {
	leaker
	Runs(id string) bool
	List(ctx context.Context, o container.ListOptions) ([]containertypes.Summary, error)
	Usage(ctx context.Context, c *du.Counter) (container.Usage, error)
	Measure(ctx context.Context) []container.Measurement
	Timers() *container.Timers
	Logged(ctx context.Context) runtime.Logged
}

type images interface {
	leaker
	CorruptBlobs(ctx context.Context) (leaks []check.Leak, read int, err error)
	List(ctx context.Context, o image.ListOptions) ([]imagetypes.Summary, error)
	DiskUsage(ctx context.Context) (imagetypes.DiskUsage, error)
	StoreUsage(ctx context.Context, c *du.Counter) (image.StoreUsage, error)
}

type volumes interface {
	leaker
	Usage(ctx context.Context) ([]volumetypes.Volume, error)
	Overhead(ctx context.Context, c *du.Counter) (records, leftovers int64, err error)
}

type builds interface {
	leaker
	Runs(id string) bool
	DiskUsage(ctx context.Context) ([]buildtypes.CacheRecord, error)
	Counts() build.Counts
}

type counter interface {
	Count() (published uint64, listeners int)
}

type networks interface {
	leaker
	Warnings() []string
	// Firewalls are the warnings that are no finding of Leaks.
	Firewalls() []string
}

type runtimes interface {
	Leaks(ctx context.Context, runs func(id string) bool) ([]check.Leak, error)
}

// Options are what a Service is told and whom it asks.
type Options struct {
	Containers containers // *container.Service
	Images     images     // *image.Service
	Volumes    volumes    // *volume.Service
	Builds     builds     // *build.Service
	Networks   networks   // *network.Service
	Runtime    runtimes   // *native.Runtime; may be nil
	Remote     *remote.Resolver
	Bus        counter // *event.Bus

	// ID is the engine's identity, from ID.
	ID       string
	DataRoot string
	// CgroupDriver is cgroupfs or systemd.
	CgroupDriver string
	ExecRoot     string
	// Version is the program's.
	Version string
	// MinVersion of the API; empty means api.MinVersion.
	MinVersion   string
	Experimental bool
	// Shim is the path of the runtime's program.
	Shim         string
	AddressPools []system.NetworkAddressPool
	// Live is what Configure may replace.
	Live Live
	// LogDriver is that of containers that ask for none.
	LogDriver string
	// Warnings about the configuration, for `info`.
	Warnings []string
	// SecurityOptions are the engine's, as info shows them: "name=seccomp,profile=builtin".
	SecurityOptions []string
	Log             *slog.Logger
}

// Service answers what concerns every noun at once.
type Service struct {
	o    Options
	log  *slog.Logger
	live atomic.Pointer[Live]

	infos, versions, releases metric.Timer
}

// Live is what the daemon's configuration may change while it runs.
type Live struct {
	Debug, LiveRestore bool
	// Labels are the engine's own, as "key=value".
	Labels []string
	// Runtimes are the programs of other OCI runtimes, by name.
	Runtimes       map[string]outside.Binary
	DefaultRuntime string
	// CDI finds devices that vendors describe.
	CDI oci.CDI
}

// Configure replaces what Options said of these.
func (s *Service) Configure(l Live) { s.live.Store(&l) }

// New makes a Service. It reads nothing before it is asked.
func New(o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MinVersion == "" {
		o.MinVersion = api.MinVersion
	}
	s := &Service{o: o, log: o.Log}
	s.Configure(o.Live)
	return s
}
