package container

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/api"
	"muelle/internal/container/rootfs"
	"muelle/internal/id"
	"muelle/internal/image"
	"muelle/internal/runtime"
)

// toolsAt is where a debug session sees its tools. It is a directory that the kernel
// makes in every /proc, so nothing need be made in the container's files for it, and what
// it hides from the session, and from nobody else, are statistics of file systems.
const toolsAt = "/proc/fs"

// defaultPath is the PATH of an image that says nothing.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// debugSession is what an exec has that brings its own tools.
type debugSession struct {
	img  *image.Image // has the tools
	path string       // of the programs in it
}

// DebugCreate prepares a session with tools in a running container. It is started,
// attached to and inspected as an exec is, and ends with its client.
func (s *Service) DebugCreate(ctx context.Context, ref string, r api.DebugRequest) (string, error) {
	c, err := s.find(ref)
	if err != nil {
		return "", err
	}
	if _, err := c.execTask(ref); err != nil {
		return "", err
	}
	img, err := s.o.Images.Get(ctx, r.Image)
	if errdefs.IsNotFound(err) {
		return "", errdefs.ErrNotFound.WithMessage(fmt.Sprintf("No such image: %s, which is to have the tools: name another with --image", r.Image))
	}
	if err != nil {
		return "", err
	}
	cfg := ctypes.ExecCreateRequest{
		Cmd: r.Cmd, Env: r.Env, User: r.User, WorkingDir: r.WorkingDir, Tty: r.Tty, AttachStdin: r.Stdin,
		AttachStdout: true, AttachStderr: true, Privileged: !r.Confined, ConsoleSize: r.ConsoleSize,
	}
	if len(cfg.Cmd) == 0 {
		cfg.Cmd = []string{"sh"}
	}
	if cfg.User == "" {
		cfg.User = "0:0"
	}
	x := &exec{id: id.New(), c: c, cfg: cfg, done: make(chan struct{}), debug: &debugSession{img: img, path: pathOf(img.Config.Config.Env)}}
	s.addExec(x)
	s.execEvent(c, events.ActionExecCreate, x.id, cfg.Cmd)
	return x.id, nil
}

// toolsUser holds the layers of the tools while the session may run.
func (x *exec) toolsUser() string { return "debug " + x.id }

// pathOf gives the PATH of an environment.
func pathOf(env []string) string {
	for _, kv := range env {
		if path, ok := strings.CutPrefix(kv, "PATH="); ok && path != "" {
			return path
		}
	}
	return defaultPath
}

// openTools opens the tools, read-only. Their layers are held until the exec ends.
func (s *Service) openTools(ctx context.Context, x *exec) (*rootfs.Root, error) {
	lower, err := s.o.Images.Lower(ctx, x.debug.img, x.toolsUser())
	if err != nil {
		return nil, err
	}
	return rootfs.Open(rootfs.Options{Lower: lower, ReadOnly: true, Programs: true})
}

// prepare makes an exec a debug session. The tools come first in its PATH: what the
// container calls by the same names is not to be trusted.
func (d *debugSession) prepare(p *specs.Process, ro *runtime.ExecOptions, tools *rootfs.Root) {
	ro.Tools, ro.ToolsAt = tools.File(), toolsAt
	var dirs []string
	for dir := range strings.SplitSeq(d.path, ":") {
		if strings.HasPrefix(dir, "/") {
			dirs = append(dirs, toolsAt+dir)
		}
	}
	path := strings.Join(append(dirs, pathOf(p.Env)), ":")
	p.Env = append(slices.DeleteFunc(slices.Clone(p.Env), func(kv string) bool { return strings.HasPrefix(kv, "PATH=") }), "PATH="+path)
}

// endDebug ends a session whose client has gone.
func (s *Service) endDebug(x *exec) error {
	x.c.mu.Lock()
	proc := x.proc
	x.c.mu.Unlock()
	err := proc.Signal(s.ctx, syscall.SIGKILL)
	return errIgnored(err, errdefs.IsFailedPrecondition)
}

func (s *Service) releaseTools(x *exec) {
	if x.debug != nil {
		s.o.Images.Release(x.toolsUser())
	}
}
