package native

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"muelle/internal/runtime"
	"muelle/internal/shimapi"
)

// process is one exec.
type process struct {
	t     *task
	id    string
	pid   int
	ended chan struct{}
	once  sync.Once
	exit  runtime.Exit
}

// Exec implements runtime.Task.
func (t *task) Exec(ctx context.Context, spec *specs.Process, o runtime.ExecOptions) (runtime.Process, error) {
	// Of a container that another runtime makes the shim has no control groups. Its way
	// into its own may have become one that forgets limits.
	return t.exec(ctx, spec, o, o.Tools != nil || t.group.Forgotten())
}

func (t *task) exec(ctx context.Context, spec *specs.Process, o runtime.ExecOptions, enter bool) (runtime.Process, error) {
	if spec == nil || o.ID == "" {
		return nil, errdefs.ErrInvalidArgument.WithMessage("exec without process or id")
	}
	var err error
	m := &shimapi.Exec{ID: o.ID, OpenStdin: o.OpenStdin, Unconfined: o.Privileged, Width: o.Width, Height: o.Height, Record: o.Record}
	if m.Process, err = runtimeProcess(spec, o.Privileged); err != nil {
		return nil, err
	}
	if !enter {
		return t.execute(ctx, o, m, nil)
	}
	entry, err := t.group.Entry()
	if err != nil {
		return nil, err
	}
	defer entry.Close()
	var into []int
	for _, f := range entry.Tasks {
		into = append(into, int(f.Fd()))
	}
	if m.Tasks = len(entry.Tasks); entry.Into != nil {
		m.Into, into = true, append(into, int(entry.Into.Fd()))
	}
	return t.execute(ctx, o, m, into)
}

// execute lets the shim start an exec and connects it; into are the descriptors of its
// control groups, where the message has any.
func (t *task) execute(ctx context.Context, o runtime.ExecOptions, m *shimapi.Exec, into []int) (runtime.Process, error) {
	c, err := t.running()
	if err != nil {
		return nil, err
	}
	p := &process{t: t, id: o.ID, ended: make(chan struct{})}
	t.mu.Lock()
	if _, ok := t.execs[o.ID]; ok {
		t.mu.Unlock()
		return nil, errdefs.ErrAlreadyExists.WithMessage("exec " + o.ID + " runs already")
	}
	t.execs[o.ID] = p
	t.mu.Unlock()

	var a *attachment
	var fds []int
	if o.Streams != nil {
		if a, err = newAttachment(o.Streams); err != nil {
			t.forget(o.ID)
			return nil, err
		}
		m.Attach = []shimapi.Attach{a.message(o.ID)}
		fds = a.remote()
	}
	reply, err := callExec(ctx, c, m, slices.Concat(fds, into), o)
	if err != nil {
		t.forget(o.ID)
		if a != nil {
			a.cancel()
		}
		return nil, err
	}
	p.pid = reply.reply.Pid
	if a != nil {
		a.run(context.WithoutCancel(ctx), p.ended)
	}
	return p, nil
}

func callExec(ctx context.Context, c *client, m *shimapi.Exec, fds []int, o runtime.ExecOptions) (*answer, error) {
	if o.Tools == nil {
		return c.call(ctx, shimapi.TypeExec, m, fds)
	}
	d := &shimapi.Debug{Exec: *m, At: o.ToolsAt, Target: o.Target, Tasks: m.Tasks, Into: m.Into}
	d.Exec.Tasks, d.Exec.Into = 0, false
	conn, err := o.Tools.SyscallConn()
	if err != nil {
		return nil, err
	}
	var a *answer
	var cerr error
	err = conn.Control(func(tree uintptr) {
		a, cerr = c.call(ctx, shimapi.TypeDebug, d, append(fds, int(tree)))
	})
	if cerr != nil && strings.Contains(cerr.Error(), shimapi.UnknownRequest) {
		cerr = errdefs.ErrNotImplemented.WithMessage("the container was started by an older Muelle that could not debug: start it again, or use exec")
	}
	return a, errors.Join(err, cerr)
}

// Execs implements runtime.Task.
func (t *task) Execs(ctx context.Context) ([]runtime.Exec, error) {
	a, err := t.do(ctx, shimapi.TypeExecs, &shimapi.Empty{}, nil)
	if err != nil {
		return nil, err
	}
	out := make([]runtime.Exec, 0, len(a.reply.Execs))
	for _, x := range a.reply.Execs {
		t.mu.Lock()
		p := t.execs[x.ID]
		if p == nil {
			p = &process{t: t, id: x.ID, pid: x.Pid, ended: make(chan struct{})}
			if !x.Exit.Ended {
				t.execs[x.ID] = p
			}
		}
		t.mu.Unlock()
		if x.Exit.Ended {
			p.end(exitOf(&x.Exit))
		}
		out = append(out, runtime.Exec{ID: x.ID, Record: x.Record, Process: p})
	}
	return out, nil
}

func (t *task) forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.execs, id)
}

// runtimeProcess translates an exec's process; a privileged one has every
// capability that this machine's root may give.
func runtimeProcess(spec *specs.Process, privileged bool) (shimapi.Process, error) {
	out, err := translate(spec)
	if err != nil || !privileged {
		return out, err
	}
	all := ownBounding()
	out.Bounding = all
	if out.UID == 0 {
		out.Effective, out.Permitted = all, all
	}
	return out, nil
}

func (p *process) end(e runtime.Exit) {
	p.once.Do(func() {
		p.exit = e
		close(p.ended)
	})
}

// Pid implements runtime.Process.
func (p *process) Pid() int {
	select {
	case <-p.ended:
		return 0
	default:
		return p.pid
	}
}

// Wait implements runtime.Process.
func (p *process) Wait(ctx context.Context) (runtime.Exit, error) {
	select {
	case <-p.ended:
		return p.exit, nil
	case <-ctx.Done():
		return runtime.Exit{}, ctx.Err()
	}
}

// Signal implements runtime.Process.
func (p *process) Signal(ctx context.Context, sig syscall.Signal) error {
	_, err := p.t.do(ctx, shimapi.TypeSignal, &shimapi.Signal{Process: p.id, Signal: int(sig)}, nil)
	return err
}

// Resize implements runtime.Process.
func (p *process) Resize(ctx context.Context, width, height uint16) error {
	_, err := p.t.do(ctx, shimapi.TypeResize, &shimapi.Resize{Process: p.id, Width: width, Height: height}, nil)
	return err
}
