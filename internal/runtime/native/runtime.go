// Package native is the project's own container runtime: it compiles an OCI
// document into a small plan, makes the cgroup, and hands both to a shim, one
// small process per container, which isolates and runs the container's process
// and outlives the daemon.
package native

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"muelle/internal/linux/cgroup"
	"muelle/internal/linux/seccomp"
	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// Options say where a Runtime finds and keeps things.
type Options struct {
	// ShimPath is the file muelle-shim, joined with muelle-oci or by itself. It is read
	// once, by New: containers run beside a sealed copy of the shim in memory, which no
	// container can overwrite (CVE-2019-5736).
	ShimPath string
	// ShimLabel is SELinux's of that copy, which is the init of containers that want one
	// and that their policy has to let them execute; empty: as the kernel labels memory.
	ShimLabel string
	// ExecRoot is the folder below which every Container.Dir lies.
	ExecRoot string
	// CgroupParent is "muelle" or "muelle-INSTANCE"; shims live in its child "shims".
	CgroupParent string
	// Realtime is what containers that ask for real-time processor time share.
	Realtime cgroup.Realtime
	Log      *slog.Logger
}

// Runtime implements runtime.Runtime.
type Runtime struct {
	log    *slog.Logger
	bootID string
	binary *os.File
	label  string // SELinux's of binary, or empty
	null   *os.File
	stderr *os.File
	shims  *shimsGroup
	share  cgroup.Realtime
	// filters are seccomp programs that were assembled before.
	filters seccomp.Cache

	mu      sync.Mutex
	closing bool
	tasks   map[*task]struct{} // whose connections are served
	served  sync.WaitGroup
}

var _ runtime.Runtime = (*Runtime)(nil)

// New prepares the runtime: it seals the shim's binary and learns the host's cgroups.
func New(o Options) (*Runtime, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.CgroupParent == "" {
		return nil, errors.New("runtime needs a cgroup parent")
	}
	if err := checkKernel(); err != nil {
		return nil, err
	}
	if _, err := cgroup.Hierarchies(); err != nil {
		return nil, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("read boot id: %w", err)
	}
	r := &Runtime{log: o.Log, bootID: string(bytes.TrimSpace(boot)), label: o.ShimLabel, tasks: map[*task]struct{}{}, share: o.Realtime,
		shims: &shimsGroup{path: filepath.Join("/", o.CgroupParent, "shims")}}
	if r.binary, err = sealFile(o.ShimPath, o.ShimLabel); err != nil {
		return nil, err
	}
	if r.null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
		r.binary.Close()
		return nil, err
	}
	// A shim speaks only when it cannot begin at all.
	if err = os.MkdirAll(o.ExecRoot, 0o711); err == nil {
		r.stderr, err = os.OpenFile(filepath.Join(o.ExecRoot, "shim.err"), os.O_WRONLY|os.O_CREATE|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	}
	if err != nil {
		r.binary.Close()
		r.null.Close()
		return nil, fmt.Errorf("prepare exec-root: %w", err)
	}
	return r, nil
}

// How long Close waits for shims that are ending: the last messages of an ended
// container may be on the way to a log service for five seconds. Where containers run on,
// the daemon is soon back and does not wait for those.
const (
	endPatience   = 7 * time.Second
	quickPatience = time.Second
)

// Close releases what New made, and the daemon's cgroup if nothing is in it.
// Containers keep running.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closing = true
	patience, cgroupStays := endPatience, false
	for t := range r.tasks {
		if !t.isDeleted() {
			t.client.conn.Close()
			if !t.hasEnded() {
				patience, cgroupStays = quickPatience, true
			}
		}
	}
	r.mu.Unlock()
	// A shim whose container was deleted ends by itself, unless it still feeds a slow
	// reader: then it outlives this daemon as any other.
	begun := time.Now()
	ended := make(chan struct{})
	go func() { r.served.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(patience):
	}
	if patience -= time.Since(begun); cgroupStays {
		patience = 0
	}
	err := r.shims.close(patience)
	if st, serr := r.stderr.Stat(); serr == nil && st.Size() == 0 {
		os.Remove(r.stderr.Name())
	}
	return errors.Join(err, r.binary.Close(), r.null.Close(), r.stderr.Close())
}

// Start implements runtime.Runtime.
func (r *Runtime) Start(ctx context.Context, c *runtime.Container) (runtime.Task, error) {
	if c.ID == "" || c.Spec == nil || c.Spec.Linux == nil || c.Spec.Linux.CgroupsPath == "" {
		return nil, errors.Join(errdefs.ErrInvalidArgument.WithMessage("container without id, document or cgroup path"), discard(c))
	}
	t, err := r.started(c, func(t *task) error { return r.begin(ctx, t, c) })
	if err != nil {
		return nil, err
	}
	return t, nil
}

// started lets begin make the container in a shim, the prepared one or a new one. After
// an error nothing is left.
func (r *Runtime) started(c *runtime.Container, begin func(*task) error) (*task, error) {
	t, ok := c.Prepared.(*task)
	if ok && (t.id != c.ID || t.dir != c.Dir) {
		return nil, errors.Join(errdefs.ErrInvalidArgument.WithMessage("what was prepared is another container's"), discard(c))
	}
	if !ok {
		var err error
		if t, err = r.newShim(c.ID, c.Dir, c.Spec.Linux.CgroupsPath, 0); err != nil {
			return nil, err
		}
	}
	if err := begin(t); err != nil {
		return nil, errors.Join(err, t.Discard())
	}
	return t, nil
}

func discard(c *runtime.Container) error {
	if c.Prepared == nil {
		return nil
	}
	return c.Prepared.Discard()
}

// newShim starts a shim that is told nothing yet. After an error nothing is left.
func (r *Runtime) newShim(id, dir, cgroupsPath string, descriptors int) (*task, error) {
	g, err := cgroup.Open(cgroupsPath)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, shimapi.RootDir), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make mount point: %w", err)
	}
	l, err := r.launch(id, dir, descriptors)
	if err != nil {
		r.clearDir(dir)
		return nil, err
	}
	return r.newTask(id, dir, g, l), nil
}

// Prepare implements runtime.Runtime: a shim, and while that comes up the cgroup, where it
// is not one below a scope that the shim has to be in first.
func (r *Runtime) Prepare(id, dir, cgroupsPath string, descriptors int) (runtime.Prepared, error) {
	t, err := r.newShim(id, dir, cgroupsPath, descriptors)
	if err != nil {
		return nil, err
	}
	if err := t.group.Make(); err != nil {
		return nil, errors.Join(err, t.Discard())
	}
	return t, nil
}

// begin makes the cgroup and lets the shim make the container.
func (r *Runtime) begin(ctx context.Context, t *task, c *runtime.Container) error {
	if err := t.group.Enclose(ctx, t.shim.pid); err != nil {
		return err
	}
	if err := r.grant(t.group, c.Spec.Linux.Resources); err != nil {
		return err
	}
	if err := t.group.Create(c.Spec.Linux.Resources); err != nil {
		return err
	}
	p, err := r.compile(c, t.group, false)
	if err != nil {
		return err
	}
	return r.send(ctx, t, c, p)
}

// grant gives a group's parents the real-time processor time that it asks for a part of.
func (r *Runtime) grant(g *cgroup.Group, limits *specs.LinuxResources) error {
	if limits == nil || limits.CPU == nil || limits.CPU.RealtimeRuntime == nil {
		return nil
	}
	return g.GrantRealtime(r.share)
}

// send lets the shim carry a plan out and connects what is attached.
func (r *Runtime) send(ctx context.Context, t *task, c *runtime.Container, p *plan) error {
	defer p.release()
	var attached []*attachment
	for _, s := range c.Attach {
		a, err := newAttachment(s)
		if err != nil {
			cancelAll(attached)
			return err
		}
		attached = append(attached, a)
		p.start.Attach = append(p.start.Attach, a.message(""))
		p.fds = append(p.fds, a.remote()...)
	}
	hold, fds, err := holdMessage(c.Held)
	if err != nil {
		cancelAll(attached)
		return err
	}
	p.start.Held, p.fds = hold.Held, append(p.fds, fds...)
	p.start.IDMaps = len(p.idmaps)
	p.fds = append(p.fds, p.idmaps...)
	a, err := t.client.callSent(ctx, shimapi.TypeStart, &p.start, p.fds, c.Sent)
	if err != nil {
		cancelAll(attached)
		return err
	}
	t.setState(&a.reply.State)
	for _, one := range attached {
		one.run(context.WithoutCancel(ctx), t.ended)
	}
	return nil
}

// holdMessage describes descriptors to hold, and lists them.
func holdMessage(list []runtime.Held) (m shimapi.Hold, fds []int, err error) {
	m.Held, fds = make([]shimapi.Held, 0, len(list)), make([]int, 0, len(list))
	for _, h := range list {
		if h.There {
			continue
		}
		fd, err := rawFD(h.File)
		if err != nil {
			return m, nil, fmt.Errorf("hold %s: %w", h.Name, err)
		}
		m.Held = append(m.Held, heldMessage(h))
		fds = append(fds, fd)
	}
	return m, fds, nil
}

func heldMessage(h runtime.Held) shimapi.Held {
	m := shimapi.Held{Name: h.Name, Farewell: h.Farewell}
	if h.RelayTo.IsValid() {
		m.Relay, m.RelayPort = h.RelayTo.Addr().Unmap().AsSlice(), h.RelayTo.Port()
		m.Datagram, m.Messages = h.Datagram, h.Messages
	}
	return m
}

// rawFD gives a file's descriptor without making it blocking, as File.Fd does.
func rawFD(f *os.File) (fd int, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	err = rc.Control(func(p uintptr) { fd = int(p) })
	return fd, err
}

// clearDir removes the runtime's files from a container's folder.
func (r *Runtime) clearDir(dir string) error {
	var errs []error
	for _, name := range []string{shimapi.SocketFile, shimapi.StateFile, shimapi.ExitFile, "shim.log", shimapi.StateFile + ".tmp", shimapi.ExitFile + ".tmp", shimapi.BundleFile} {
		if err := unix.Unlink(filepath.Join(dir, name)); err != nil && err != unix.ENOENT {
			errs = append(errs, fmt.Errorf("remove %s: %w", name, err))
		}
	}
	if err := unix.Rmdir(filepath.Join(dir, shimapi.RootDir)); err != nil && err != unix.ENOENT {
		errs = append(errs, fmt.Errorf("remove mount point: %w", err))
	}
	return errors.Join(errs...)
}

// Clean implements runtime.Runtime.
func (r *Runtime) Clean(ctx context.Context, id, dir, cgroupsPath string) error {
	// The record of the run knows better where the container is: its parent group may
	// have been one of its own, or of a daemon with another driver.
	if st, err := readState(dir); err == nil && st.CgroupsPath != "" {
		cgroupsPath = st.CgroupsPath
	}
	r.killShim(dir)
	g, err := cgroup.Open(cgroupsPath)
	if err != nil {
		return err
	}
	if g.Exists() {
		if err := g.Kill(10 * time.Second); err != nil {
			return err
		}
	}
	err = g.Remove()
	r.stopped(id, dir)
	return errors.Join(err, r.clearDir(dir))
}

// killShim ends the shim of a folder whose record is of this boot.
func (r *Runtime) killShim(dir string) {
	st, err := readState(dir)
	if err != nil || st.BootID != r.bootID || st.ShimPid <= 1 || startTime(st.ShimPid) != st.ShimStart {
		return
	}
	unix.Kill(st.ShimPid, unix.SIGKILL)
}
