package container

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	ctypes "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

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

// targetAt is where the container's files are where the tools are the root directory.
const targetAt = "/target"

// scratchSize bounds what a session may change beside the tools: it is in memory.
const scratchSize = "256m"

// defaultPath is the PATH of an image that says nothing.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// debugSession is what an exec has that brings its own tools.
type debugSession struct {
	img    *image.Image // has the tools
	path   string       // of the programs in it
	asRoot bool         // the tools are the root directory
	own    bool         // the container is there for the session only
}

// DebugCreate prepares a session with tools in a container, or in an image. It is
// started, attached to and inspected as an exec is, and ends with its client. Of what
// does not run a container of the session's own has the files, and goes with it.
func (s *Service) DebugCreate(ctx context.Context, ref string, r api.DebugRequest) (string, error) {
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
	x := &exec{id: id.New(), cfg: cfg, done: make(chan struct{}), debug: &debugSession{img: img, path: pathOf(img.Config.Config.Env)}}
	switch r.Root {
	case "tools":
		x.debug.asRoot = true
	case "container":
	case "":
		if x.debug.asRoot, err = s.needsRoot(ctx, x); err != nil {
			return "", err
		}
	default:
		return "", invalid("root of a debug session: %q is neither container nor tools", r.Root)
	}
	if x.debug.asRoot {
		if cfg.User, err = numeric(cfg.User); err != nil {
			return "", err
		}
		if x.cfg.User = cfg.User; cfg.WorkingDir == "" {
			x.cfg.WorkingDir = targetAt
		}
	}
	if x.c, x.debug.own, err = s.debugged(ctx, ref, r.Network); err != nil {
		return "", err
	}
	s.addExec(x)
	s.execEvent(x.c, events.ActionExecCreate, x.id, cfg.Cmd)
	if x.debug.own {
		s.background(func() { s.endUnclaimed(x) })
	}
	return x.id, nil
}

// numeric refuses names of users: where the tools are the root, nobody could tell whose
// names are meant.
func numeric(user string) (string, error) {
	for part := range strings.SplitSeq(user, ":") {
		if _, err := strconv.ParseUint(part, 10, 32); err != nil {
			return "", invalid("user %q: with the tools as the root directory a user is a number", user)
		}
	}
	return user, nil
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
	o := rootfs.Options{Lower: lower, ReadOnly: !x.debug.asRoot, Programs: true}
	if x.debug.asRoot {
		o.Scratch = scratchSize
	}
	root, err := rootfs.Open(o)
	if err != nil || !x.debug.asRoot {
		return root, err
	}
	for _, dir := range []string{targetAt, "/proc", "/dev", "/sys"} {
		fd, err := root.MkdirAll(dir)
		if err != nil {
			root.Close()
			return nil, fmt.Errorf("make %s beside the tools: %w", dir, err)
		}
		unix.Close(fd)
	}
	return root, nil
}

// needsRoot tells whether the program of a session finds its loader and libraries only
// where the tools are the root directory: it is dynamically linked, or a script.
func (s *Service) needsRoot(ctx context.Context, x *exec) (bool, error) {
	defer s.o.Images.Release(x.toolsUser())
	lower, err := s.o.Images.Lower(ctx, x.debug.img, x.toolsUser())
	if err != nil {
		return false, err
	}
	root, err := rootfs.Open(rootfs.Options{Lower: lower, ReadOnly: true})
	if err != nil {
		return false, err
	}
	defer root.Close()
	for dir := range strings.SplitSeq(x.debug.path, ":") {
		name := x.cfg.Cmd[0]
		if !strings.Contains(name, "/") {
			name = path.Join("/", dir, name)
		}
		static, err := isStatic(root, name)
		if err == nil {
			return !static, nil
		}
	}
	return false, nil // it is the container's own, or the start tells
}

// isStatic tells whether a program needs no other file. It reads headers only, of an
// image that a stranger may have made.
func isStatic(root *rootfs.Root, name string) (bool, error) {
	const limit = 64 << 20
	data, err := root.ReadFile(name, limit)
	if err != nil {
		return false, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return false, nil
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false, nil
		}
	}
	return true, nil
}

// prepare makes an exec a debug session. The tools come first in its PATH: what the
// container calls by the same names is not to be trusted.
func (d *debugSession) prepare(p *specs.Process, ro *runtime.ExecOptions, tools *rootfs.Root) {
	ro.Tools, ro.ToolsAt = tools.File(), toolsAt
	if d.asRoot {
		ro.Target = targetAt
		p.Env = append(slices.DeleteFunc(slices.Clone(p.Env), isPath), "PATH="+d.path)
		return
	}
	var dirs []string
	for dir := range strings.SplitSeq(d.path, ":") {
		if strings.HasPrefix(dir, "/") {
			dirs = append(dirs, toolsAt+dir)
		}
	}
	list := strings.Join(append(dirs, pathOf(p.Env)), ":")
	p.Env = append(slices.DeleteFunc(slices.Clone(p.Env), isPath), "PATH="+list)
}

func isPath(kv string) bool { return strings.HasPrefix(kv, "PATH=") }

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
