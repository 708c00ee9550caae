package native

import (
	"context"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/linux/cgroup"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// OutsideTask is a container that another OCI runtime makes beside a shim of ours.
type OutsideTask interface {
	runtime.Task
	// ShimPid is the shim's process, below whose /proc/PID/fd/DirFD the container's
	// folder has a short name.
	ShimPid() int
	// ExecBeside is Exec by the shim, without the other runtime, which may do what that
	// does not: leave out the container's seccomp filter.
	ExecBeside(ctx context.Context, p *specs.Process, o runtime.ExecOptions) (runtime.Process, error)
	// ExecOutside is Exec by a command of the other runtime.
	ExecOutside(ctx context.Context, p *specs.Process, o runtime.ExecOptions, cmd shimapi.Command) (runtime.Process, error)
}

var _ OutsideTask = (*task)(nil)

// Part is a path below a mount's source, which the shim mounts on a path of the
// host, for the other runtime alone to bind.
type Part struct {
	runtime.Mount
	Subpath, Destination string
}

// StartOutside is Start by another OCI runtime, whose calls commands gives, with the
// shim's pid. The shim mounts Rootfs on the folder RootDir of the container's folder,
// for that runtime alone; everything else of the document is the other runtime's.
func (r *Runtime) StartOutside(ctx context.Context, c *runtime.Container, parts []Part, commands func(shim int) shimapi.Outside) (OutsideTask, error) {
	t, err := r.started(c, func(t *task) error {
		p, err := r.outsidePlan(c, t.group, commands(t.shim.pid), parts)
		if err != nil {
			return err
		}
		return r.send(ctx, t, c, p)
	})
	if err != nil {
		return nil, err
	}
	return t, nil
}

// outsidePlan is what the shim does itself for such a container.
func (r *Runtime) outsidePlan(c *runtime.Container, g *cgroup.Group, out shimapi.Outside, parts []Part) (*plan, error) {
	p := &plan{filters: &r.filters, start: shimapi.Start{
		BootID: r.bootID, ID: c.ID, CgroupsPath: g.Path(), Root: filepath.Join(c.Dir, shimapi.RootDir),
		OpenStdin: c.OpenStdin, StdinOnce: c.StdinOnce, Width: c.ConsoleWidth, Height: c.ConsoleHeight,
		Log: c.Log, OOMFile: g.OOMFile(), ProcsFile: g.ProcsFile(), Outside: out,
		Process: shimapi.Process{Terminal: c.Spec.Process.Terminal, UID: c.Spec.Process.User.UID}, Init: c.Init,
	}}
	for _, m := range parts {
		one, err := mount(m.Destination, m.Type, m.Source, m.Options)
		if err != nil {
			return nil, err
		}
		one.Subpath = m.Subpath
		p.start.Mounts = append(p.start.Mounts, one)
	}
	if err := p.root(c, g); err != nil {
		return nil, err
	}
	p.start.SharedPID = true
	for _, ns := range c.Spec.Linux.Namespaces {
		if ns.Type == "pid" && ns.Path == "" {
			p.start.SharedPID = false
		}
	}
	return p, nil
}

// ShimPid implements OutsideTask.
func (t *task) ShimPid() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state.ShimPid
}

// ExecBeside implements OutsideTask.
func (t *task) ExecBeside(ctx context.Context, p *specs.Process, o runtime.ExecOptions) (runtime.Process, error) {
	return t.exec(ctx, p, o, true)
}

// ExecOutside implements OutsideTask.
func (t *task) ExecOutside(ctx context.Context, p *specs.Process, o runtime.ExecOptions, cmd shimapi.Command) (runtime.Process, error) {
	if o.ID == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("exec without id")
	}
	return t.execute(ctx, o, &shimapi.Exec{ID: o.ID, OpenStdin: o.OpenStdin, Width: o.Width, Height: o.Height, Record: o.Record,
		Process: shimapi.Process{Terminal: p.Terminal, UID: p.User.UID}, Outside: cmd}, nil)
}
